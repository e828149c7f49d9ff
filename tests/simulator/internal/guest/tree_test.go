// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRestoreKeepsOpenFiles keeps a log open during a restore, like the script
// that is run again.
func TestRestoreKeepsOpenFiles(t *testing.T) {
	want, have := filepath.Join(t.TempDir(), "want"), filepath.Join(t.TempDir(), "have")
	for directory, content := range map[string]string{want: "once\n", have: "once\ntwice\n"} {
		if err := os.Mkdir(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(directory+"/log", []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.WriteFile(want+"/kind", nil, 0o600), os.Mkdir(have+"/kind", 0o700), // another kind of file
		os.Link(want+"/log", want+"/hard"), os.Symlink("to", want+"/link"), os.Symlink("elsewhere", have+"/link"),
		unix.Mkfifo(want+"/fifo", 0o600), os.WriteFile(have+"/extra", nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.OpenFile(have+"/log", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := restoreTree(want, have); err != nil {
		t.Fatal(err)
	}
	if _, err := log.WriteString("after\n"); err != nil {
		t.Fatal(err)
	}
	if content, _ := os.ReadFile(have + "/log"); string(content) != "once\nafter\n" {
		t.Errorf("the log is %q", content)
	}
	if linkTarget(have+"/link") != "to" || exists(have+"/extra") {
		t.Error("links or extra files are not as wanted")
	}
	for name, mode := range map[string]os.FileMode{"kind": 0o600, "fifo": os.ModeNamedPipe | 0o600} {
		if info, err := os.Lstat(filepath.Join(have, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}
