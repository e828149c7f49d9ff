// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmforksim/internal/guest"
)

// asProgram makes this test binary the program under test.
const asProgram = "VMFORKSIM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if guest.Main() {
		return
	}
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

var bothReady = regexp.MustCompile(`^vmforksim ready https://127\.0\.0\.1:\d+/sdk esx https://127\.0\.0\.1:\d+/sdk$`)

// The program leaves no file behind, however it ends, unless it is killed.
func TestNothingIsLeftBehind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // after the parallel tests
	ready := func(t *testing.T, lines *bufio.Scanner, _ string) {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), "vmforksim ready https://127.0.0.1:") {
			t.Errorf("the first line is %q", lines.Text())
		}
	}
	both := func(t *testing.T, lines *bufio.Scanner, _ string) {
		if !lines.Scan() || !bothReady.MatchString(lines.Text()) {
			t.Errorf("the first line is %q", lines.Text())
		}
	}
	begun := func(t *testing.T, _ *bufio.Scanner, temporary string) {
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if files, _ := os.ReadDir(temporary); len(files) > 0 {
				return
			}
		}
		t.Error("no file was made")
	}
	for name, test := range map[string]struct {
		arguments []string
		until     func(t *testing.T, lines *bufio.Scanner, temporary string)
		signal    syscall.Signal
		succeeds  bool
	}{
		"terminated":         {until: ready, signal: syscall.SIGTERM, succeeds: true},
		"interrupted":        {until: ready, signal: syscall.SIGINT, succeeds: true},
		"both sides":         {arguments: []string{"-esx-l", "127.0.0.1:0"}, until: both, signal: syscall.SIGTERM, succeeds: true},
		"ended at start":     {until: begun, signal: syscall.SIGTERM, succeeds: true},
		"ended by itself":    {arguments: []string{"-exit-after", "1s"}, until: ready, succeeds: true},
		"address is taken":   {arguments: []string{"-l", taken.Addr().String()}},
		"plain and refused":  {arguments: []string{"-guest", "neither"}},
		"no such API":        {arguments: []string{"-api-version", "5.0.0.1"}},
		"ESXi side is taken": {arguments: []string{"-esx-l", taken.Addr().String()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			temporary := t.TempDir()
			program := exec.Command(os.Args[0], append([]string{"-host", "1", "-vm", "1"}, test.arguments...)...)
			program.Env = append(os.Environ(), asProgram+"=yes", "TMPDIR="+temporary)
			output, err := program.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stderr strings.Builder
			program.Stderr = &stderr
			if err := program.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(time.Minute, func() { _ = program.Process.Signal(syscall.SIGABRT) }) // Go then prints where it hangs
			defer timer.Stop()
			lines := bufio.NewScanner(output)
			if test.until != nil {
				test.until(t, lines, temporary)
			}
			if test.signal != 0 {
				if err := program.Process.Signal(test.signal); err != nil {
					t.Error(err)
				}
			}
			for lines.Scan() {
			}
			if err := program.Wait(); (err == nil) != test.succeeds {
				t.Errorf("it ended with %v and stderr: %s", err, stderr.String())
			}
			if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v; stderr: %s", left, err, stderr.String())
			}
		})
	}
}
