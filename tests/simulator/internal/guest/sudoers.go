// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Who may use sudo without a password, according to the guest's sudoers(5). The
// supported parts of the format are those that guests use: users, %groups and
// ALL, target users, NOPASSWD, commands by their paths, includedir, and
// requiretty. Unsupported lines allow nothing.

package guest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sudoCall is a use of sudo.
type sudoCall struct {
	caller, target string
	groups         []string // of the caller
	path           string   // of the command; "" is any
}

// readSudoers returns the guest's sudoers including the files it includes.
func readSudoers(path func(inGuest string) string, file string) string {
	text, err := os.ReadFile(path(file))
	if err != nil {
		return ""
	}
	var all []string
	for _, line := range strings.Split(strings.ReplaceAll(string(text), "\\\n", " "), "\n") {
		words := strings.Fields(line)
		if len(words) != 2 || words[0] != "@includedir" && words[0] != "#includedir" {
			all = append(all, line)
			continue
		}
		entries, _ := os.ReadDir(path(words[1])) // sorted
		for _, entry := range entries {
			if name := entry.Name(); !strings.Contains(name, ".") && !strings.HasSuffix(name, "~") {
				all = append(all, readSudoers(path, filepath.Join(words[1], name)))
			}
		}
	}
	return strings.Join(all, "\n")
}

// allows reports whether the last line that matches a call lets it run without a
// password and without a terminal.
func (c sudoCall) allows(sudoers string) bool {
	allowed := false
	for _, line := range strings.Split(sudoers, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) >= 2 && words[0] == "Defaults" {
			if slices.Contains(words[1:], "requiretty") {
				return false
			}
			continue
		}
		if len(words) < 2 || !c.isBy(words[0]) {
			continue
		}
		hosts, commands, found := strings.Cut(strings.Join(words[1:], " "), "=")
		if host := strings.TrimSpace(hosts); !found || host != "ALL" {
			continue
		}
		if matches, free := c.runs(commands); matches {
			allowed = free
		}
	}
	return allowed
}

func (c sudoCall) isBy(who string) bool {
	group, isGroup := strings.CutPrefix(who, "%")
	return who == "ALL" || who == c.caller || isGroup && slices.Contains(c.groups, group)
}

// runs reads "(root) NOPASSWD: /bin/a, /bin/b".
func (c sudoCall) runs(commands string) (matches, free bool) {
	becomes := []string{"root"}
	for _, command := range strings.Split(commands, ", ") {
		command = strings.TrimSpace(command)
		if rest, ok := strings.CutPrefix(command, "("); ok {
			users, behind, _ := strings.Cut(rest, ")")
			users, _, _ = strings.Cut(users, ":")
			becomes, command = strings.FieldsFunc(users, func(r rune) bool { return r == ',' || r == ' ' }), strings.TrimSpace(behind)
		}
		for {
			tag, behind, found := strings.Cut(command, ":")
			if !found || strings.ToUpper(tag) != tag || strings.Contains(tag, "/") {
				break
			}
			switch strings.TrimSpace(tag) {
			case "NOPASSWD":
				free = true
			case "PASSWD":
				free = false
			}
			command = strings.TrimSpace(behind)
		}
		if !slices.Contains(becomes, "ALL") && !slices.Contains(becomes, c.target) {
			continue
		}
		name, denied := strings.CutPrefix(command, "!")
		if name != "ALL" && name != c.path && !(strings.HasSuffix(name, "/") && strings.HasPrefix(c.path, name)) {
			continue
		}
		if denied {
			return true, false
		}
		matches = true
		if name == c.path || name == "ALL" {
			return true, free
		}
	}
	return matches, free
}
