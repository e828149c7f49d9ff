// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package rules

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of rules into docs/simulator.md")

const (
	pagePath    = "../../../../docs/simulator.md"
	rulesBegin  = "<!-- rules: written by TestSimulatorPage -->\n"
	rulesEnd    = "<!-- end of rules -->"
	tableHeader = "\n| rule | statement | choices | source |\n| --- | --- | --- | --- |\n"
)

// rulesTable returns the rules as a Markdown table.
func rulesTable() string {
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`)
	table := strings.Builder{}
	table.WriteString(tableHeader)
	for _, rule := range Table {
		choices := "`" + strings.Join(rule.Choices, "`, `") + "`"
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", rule.Name, cell.Replace(rule.Statement), choices, cell.Replace(rule.Source))
	}
	return table.String() + "\n"
}

func TestSimulatorPage(t *testing.T) {
	content, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, hasBegin := strings.Cut(string(content), rulesBegin)
	table, after, hasEnd := strings.Cut(rest, rulesEnd)
	if !hasBegin || !hasEnd {
		t.Fatalf("%s lacks the lines around the table of rules", pagePath)
	}
	if *update {
		if err := os.WriteFile(pagePath, []byte(before+rulesBegin+rulesTable()+rulesEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != rulesTable() {
		t.Errorf("the rules in %s are not those of rules.go; add -update to this test to write them", pagePath)
	}
	source, err := os.ReadFile("../vsphere/control.go")
	if err != nil {
		t.Fatal(err)
	}
	requests := regexp.MustCompile(`handle\("([A-Z]+ /vmforksim/[^"]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(requests) < 20 {
		t.Fatalf("only %d requests of the control endpoint were found", len(requests))
	}
	for _, request := range requests {
		if !regexp.MustCompile("`" + regexp.QuoteMeta(request[1]) + "[?`]").MatchString(before) {
			t.Errorf("%s does not describe the request %s", pagePath, request[1])
		}
	}
}
