// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package unprivileged runs tests as a user other than root, if root runs the
// tests and the simulator behaves differently for other users.
package unprivileged

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const nobody = 65534

// Run runs tests of the same package in a process of an unprivileged user. It
// does so only as root: other users run those tests in any case.
func Run(t *testing.T, names ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("already run by an unprivileged user")
	}
	directory, err := os.MkdirTemp("", "unprivileged-") // the test's own directory may be closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	program := filepath.Join(directory, "tests")
	if err := copyProgram("/proc/self/exe", program); err != nil {
		t.Fatal(err)
	}
	// The program of the guests, which lies beside the tests that have one.
	if self, err := os.Executable(); err != nil {
		t.Fatal(err)
	} else if err := copyProgram(self+"-guest", program+"-guest"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.Chown(directory, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	tests := exec.Command(program, "-test.v", "-test.run=^("+strings.Join(names, "|")+")$")
	tests.Dir = directory
	tests.Env = append(os.Environ(), "TMPDIR="+directory, "HOME="+directory)
	tests.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	output, err := tests.CombinedOutput()
	if _, why, forbidden := strings.Cut(string(output), "cannot run here: "); forbidden {
		why, _, _ = strings.Cut(why, "\n")
		t.Skip("an unprivileged user cannot have guests on this host: " + why)
	}
	for _, name := range names {
		if err != nil || !strings.Contains(string(output), "\n--- PASS: "+name+" ") {
			t.Fatalf("%s as an unprivileged user: %v\n%s", name, err, output)
		}
	}
}

func copyProgram(from, target string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	copied, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer copied.Close()
	_, err = io.Copy(copied, source)
	return err
}
