// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"os"
	"strings"
	"testing"

	"vmforksim/internal/unprivileged"
)

func TestUnprivileged(t *testing.T) {
	unprivileged.Run(t, "TestPlainForks", "TestForkHasEveryEffectOnce", "TestPrograms", "TestProgramEnvironment", "TestFilesWithRights")
}

func TestPlainIsRefusedAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	if _, err := NewPlatform(Options{Kind: Plain, Directory: t.TempDir()}); err == nil {
		t.Fatal("plain guests run as root")
	}
}

func TestPlainForks(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("refused as root")
	}
	p := newPlatform(t, Plain)
	h := newHypervisor()
	m, snapshot := freezeWith(t, p, h, "touch $HOME/doomed", `#!/bin/sh -e
mkdir $HOME/once
rm $HOME/doomed
echo line >>$HOME/appended
hostnamectl set-hostname quiesced
vmtoolsd --cmd 'vmfork-begin -1 -1'
echo more >>$HOME/appended
modprobe -r vmxnet3; modprobe vmxnet3
systemctl restart x
`)
	if got := m.State(); got.Hostname != "quiesced" || got.Interfaces[0].Addresses[0] != "192.0.2.7/24" {
		t.Errorf("the parent's state is %+v", got)
	}
	child := newHypervisor()
	c := fork(t, p, childSpec(1), snapshot, child)
	if end := receiveFrom(t, child.ended, "the program's end"); end.ExitCode != 0 {
		t.Errorf("exit code %d", end.ExitCode)
	}
	if got := must(t, c, "cat $HOME/appended; ls $HOME | tr '\\n' ' '"); strings.Join(strings.Fields(got), " ") != "line more appended fork.sh once" {
		t.Errorf("the child has %q", got)
	}
	if got := strings.Join(child.record(), ","); got != "modprobe -r vmxnet3,modprobe vmxnet3,systemctl restart x" {
		t.Errorf("recorded: %s", got)
	}
	if state := c.State(); state.Hostname != "quiesced" || state.Interfaces[0].MAC != childSpec(1).NICs[0].MAC {
		t.Errorf("the child's state is %+v", state)
	}
}
