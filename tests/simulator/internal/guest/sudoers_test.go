// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"os"
	"testing"
)

func TestSudoersAllow(t *testing.T) {
	call := sudoCall{caller: "ann", target: "root", groups: []string{"staff"}, path: "/bin/sh"}
	for sudoers, allows := range map[string]bool{
		"":                                                        false,
		"ann ALL=(ALL:ALL) NOPASSWD: ALL":                         true,
		"ann ALL=(ALL) NOPASSWD:ALL":                              true,
		"ann ALL=NOPASSWD: ALL":                                   true,
		"%staff ALL=(ALL) NOPASSWD: ALL":                          true,
		"ALL ALL=(ALL) NOPASSWD: ALL":                             true,
		"%wheel ALL=(ALL) NOPASSWD: ALL":                          false,
		"bob ALL=(ALL) NOPASSWD: ALL":                             false,
		"ann ALL=(ALL) ALL":                                       false,
		"ann ALL=(ALL) PASSWD: ALL":                               false,
		"ann otherhost=(ALL) NOPASSWD: ALL":                       false,
		"ann ALL=(bob) NOPASSWD: ALL":                             false,
		"ann ALL=(root) NOPASSWD: ALL":                            true,
		"ann ALL=(root) NOPASSWD: /bin/ls":                        false,
		"ann ALL=(root) NOPASSWD: /bin/ls, /bin/sh":               true,
		"ann ALL=(root) NOPASSWD: /bin/":                          true,
		"ann ALL=(ALL) NOPASSWD: !/bin/sh":                        false,
		"# ann ALL=(ALL) NOPASSWD: ALL":                           false,
		"nonsense":                                                false,
		"ann ALL=(ALL) NOPASSWD: ALL\nann ALL=(ALL) ALL":          false,
		"ann ALL=(ALL) ALL\nann ALL=(ALL) NOPASSWD: ALL":          true,
		"Defaults requiretty\nann ALL=(ALL) NOPASSWD: ALL":        false,
		"Defaults env_reset\nann ALL=(ALL) NOPASSWD: SETENV: ALL": true,
	} {
		if got := call.allows(sudoers); got != allows {
			t.Errorf("%q: %v", sudoers, got)
		}
	}
}

// TestSudoersCount checks that the files on the guest's disk decide who may use
// sudo.
func TestSudoersCount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("there are no other accounts")
	}
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), newHypervisor())
	for _, test := range []struct {
		prepare, user, script string
		code                  int
	}{
		{"true", "ann", "sudo -n true", 0},
		{"true", "bob", "sudo -n true", 1},
		{"echo 'bob ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/bob", "bob", "sudo -n true", 0},
		{"mv /etc/sudoers.d/bob /etc/sudoers.d/bob.off", "bob", "sudo -n true", 1},
		{"mv /etc/sudoers.d/bob.off /etc/sudoers.d/bob~", "bob", "sudo -n true", 1},
		{"mkdir /etc/more; mv /etc/sudoers.d/bob~ /etc/more/bob; echo '#includedir /etc/more' >>/etc/sudoers", "bob", "sudo -n true", 0},
		{"rm -r /etc/more; printf 'bob ALL=(ALL) \\\\\\n NOPASSWD: ALL\\n' >/etc/sudoers.d/bob", "bob", "sudo -n true", 0},
		{"echo 'bob ALL=NOPASSWD: ALL' >/etc/sudoers.d/bob", "bob", "sudo -n true && ! sudo -n -u ann true 2>/dev/null", 0},
		{"echo 'bob ALL=(root) NOPASSWD: /usr/bin/id' >/etc/sudoers.d/bob", "bob", "sudo -n id -u && ! sudo -n true 2>/dev/null && ! sudo -n sh -c id 2>/dev/null", 0},
		{"sed -i s/NOPASSWD:// /etc/sudoers", "ann", "sudo -n true", 1},
		{"rm /etc/sudoers", "ann", "sudo -n true", 1},
	} {
		must(t, m, test.prepare)
		if code, output := shell(t, m, test.user, test.script); code != test.code {
			t.Errorf("after %s, %s: %s: exit code %d, output %q", test.prepare, test.user, test.script, code, output)
		}
	}
}
