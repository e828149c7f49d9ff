// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

// freezeWith boots a fork parent, runs a script that freezes it, and returns
// the snapshot.
func freezeWith(t *testing.T, p *Platform, h *hypervisor, prepare, script string) (*Machine, *Snapshot) {
	t.Helper()
	m := boot(t, p, parentSpec(), h)
	m.Forkable(true)
	if prepare != "" {
		must(t, m, prepare)
	}
	writeScript(t, m, "/root/fork.sh", script)
	if _, err := m.Start(Program{Path: "/root/fork.sh", Arguments: "one 'two three'", User: "root", Directory: "/var"}); err != nil {
		t.Fatal(err)
	}
	return m, receiveFrom(t, h.frozen, "the freeze")
}

func writeScript(t testing.TB, m *Machine, path, script string) {
	t.Helper()
	if err := m.Files("root").Write(path, -1, 0o755, true, strings.NewReader(script)); err != nil {
		t.Fatal(err)
	}
}

func childSpec(number int) Spec {
	return Spec{ID: fmt.Sprintf("vm-%d", 100+number), NICs: []NIC{{Name: "eth0", MAC: fmt.Sprintf("00:50:56:00:01:%02x", number)}}}
}

func fork(t testing.TB, p *Platform, spec Spec, snapshot *Snapshot, h *hypervisor) *Machine {
	t.Helper()
	m, err := p.Fork(spec, snapshot, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// preFreeze has effects of every kind, and fails if any of them existed before.
const preFreeze = `#!/bin/sh -e
exec >>/var/log/fork.log 2>&1
echo begin "$@" in "$PWD"
mkdir /run/once
mkdir /var/lib/once
echo line >>/etc/appended
mv /etc/moved-from /etc/moved-to
rm /root/doomed
ln -s target /tmp/link
sed -i s/before/after/ /etc/edited
hostnamectl set-hostname quiesced
systemctl stop chronyd
ip addr del 192.0.2.7/24 dev eth0
ip addr add 198.51.100.1/24 dev eth0
ip route add 203.0.113.0/24 via 198.51.100.254
vmtoolsd --cmd "info-set guestinfo.before $$"
echo frozen
vmtoolsd --cmd 'vmfork-begin -1 -1'
echo returned $? as $(hostname)
systemctl start chronyd
hostnamectl set-hostname "$(vmtoolsd --cmd 'info-get guestinfo.fork.hostname')"
touch /run/finished
`

func TestForkHasEveryEffectOnce(t *testing.T) {
	p := newPlatform(t, Namespaces)
	parent := newHypervisor()
	parent.answer = func(call Call) Answer { return Answer{OK: true, Freeze: call.Command == freezeCommand} }
	owner := "bob"
	if os.Geteuid() != 0 {
		owner = "root" // there is no other
	}
	_, snapshot := freezeWith(t, p, parent, "echo x >/etc/moved-from; echo x >/root/doomed; echo before >/etc/edited; "+
		"touch -d @1000 /etc/old; chown "+owner+" /etc/old; chmod 4751 /etc/old", preFreeze)
	if want := []string{"hostnamectl set-hostname quiesced", "systemctl stop chronyd"}; !slices.Equal(parent.record(), want) {
		t.Errorf("recorded in the parent: %q, not %q", parent.record(), want)
	}
	var all sync.WaitGroup
	for number := range 4 {
		all.Go(func() {
			name := fmt.Sprintf("child-%d", number)
			h := newHypervisor()
			h.answer = func(call Call) Answer {
				switch {
				case strings.HasPrefix(call.Command, "info-set"):
					if !call.Replay {
						t.Error("info-set comes from before the fork point")
					}
					return Answer{OK: true}
				case call.Command == "info-get guestinfo.fork.hostname" && !call.Replay:
					return Answer{OK: true, Text: name}
				}
				t.Errorf("call %+v", call)
				return Answer{}
			}
			m, err := p.Fork(childSpec(number), snapshot, h)
			if err != nil {
				t.Error(err)
				return
			}
			defer m.Stop()
			if end := receiveFrom(t, h.ended, "the program's end"); end.ExitCode != 0 {
				t.Errorf("exit code %d", end.ExitCode)
			}
			got := must(t, m, `cat /etc/appended /etc/edited; ls /root; ls -l /tmp/link | sed 's/.*-> //'; ls -d /etc/moved-* /run/once /var/lib/once /run/finished
				stat -c '%a %U %Y' /etc/old; cat /var/log/fork.log; ip -4 -o addr show eth0 | awk '{print $4}'; ip route; hostname; cat /sys/class/net/eth0/address`)
			want := strings.Join([]string{
				"line", "after", "fork.sh", "target", "/etc/moved-to", "/run/finished", "/run/once", "/var/lib/once", "4751 " + owner + " 1000",
				"begin one two three in /var", "", "frozen", "", "returned 0 as quiesced",
				"198.51.100.1/24", "198.51.100.0/24 dev eth0 proto kernel scope link src 198.51.100.1 ",
				"203.0.113.0/24 via 198.51.100.254 dev eth0 ", name, parentSpec().NICs[0].MAC,
			}, "\n")
			if got != want {
				t.Errorf("the child is\n%s\nnot\n%s", got, want)
			}
			if want := []string{"systemctl start chronyd", "hostnamectl set-hostname " + name}; !slices.Equal(h.record(), want) {
				t.Errorf("recorded in the child: %q, not %q", h.record(), want)
			}
		})
	}
	all.Wait()
}

func TestChildEqualsParentAtFreeze(t *testing.T) {
	p := newPlatform(t, Namespaces)
	h := newHypervisor()
	parent, snapshot := freezeWith(t, p, h, "", `#!/bin/sh
echo $$-$(cat /proc/sys/kernel/random/uuid) >/etc/random
mkdir -p /var/lib/$(cat /proc/sys/kernel/random/uuid)
vmtoolsd --cmd 'vmfork-begin -1 -1'
sleep 1000
`)
	for number := range 2 {
		fork(t, p, childSpec(number), snapshot, newHypervisor())
		if difference := diskDifference(t, p, "vm-1", childSpec(number).ID); difference != "" {
			t.Errorf("the disks differ:\n%s", difference)
		}
	}
	want := parent.State()
	for i := range want.Interfaces {
		want.Interfaces[i].Addresses = slices.DeleteFunc(want.Interfaces[i].Addresses, func(a string) bool { return strings.HasPrefix(a, "fe80") })
	}
	got := fork(t, p, childSpec(7), snapshot, newHypervisor()).State()
	for i := range got.Interfaces {
		got.Interfaces[i].Addresses = slices.DeleteFunc(got.Interfaces[i].Addresses, func(a string) bool { return strings.HasPrefix(a, "fe80") })
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the child's state is %+v, not %+v", got, want)
	}
	for _, m := range []error{parent.Terminate(2, "root"), parent.Files("root").Remove("/etc/hosts")} {
		if !errors.Is(m, ErrFrozen) {
			t.Errorf("a frozen parent answers %v", m)
		}
	}
}

func TestReplayFails(t *testing.T) {
	for name, test := range map[string]struct {
		forkable bool
		again    string // what runs in the child
		says     string
	}{
		"program ends":        {true, "/bin/false", "exit code 1"},
		"program is gone":     {true, "/root/gone", "no such file"},
		"program is not kept": {false, "/root/fork.sh", "cannot be run again"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlatform(t, Namespaces)
			h := newHypervisor()
			m := boot(t, p, parentSpec(), h)
			m.Forkable(test.forkable)
			writeScript(t, m, "/root/fork.sh", "#!/bin/sh\nhostname quiesced\necho kept >/etc/kept\nvmtoolsd --cmd 'vmfork-begin -1 -1'\n")
			if _, err := m.Start(Program{Path: "/root/fork.sh", User: "root"}); err != nil {
				t.Fatal(err)
			}
			snapshot := receiveFrom(t, h.frozen, "the freeze")
			snapshot.Program.Path, snapshot.Program.Arguments = test.again, ""
			child := newHypervisor()
			c := fork(t, p, childSpec(1), snapshot, child)
			if err := receiveFrom(t, child.failed, "the failure"); !strings.Contains(err.Error(), test.says) {
				t.Errorf("the failure is %q", err)
			}
			if got := must(t, c, "hostname; cat /etc/kept"); got != "quiesced\nkept" {
				t.Errorf("the child is %q", got)
			}
			if got := c.State().Interfaces[0].MAC; got != parentSpec().NICs[0].MAC {
				t.Errorf("its MAC is %s", got)
			}
		})
	}
}

// diskDifference compares the disks of two machines from the host.
func diskDifference(t testing.TB, p *Platform, one, other string) string {
	t.Helper()
	list := func(id string) map[string]string {
		all := map[string]string{}
		root := p.inStore(diskPath(id))
		err := walk(root, func(path string, info os.FileInfo) error {
			text := fmt.Sprint(info.Mode(), info.Sys().(interface{}) != nil, info.ModTime().UnixNano(), linkTarget(path))
			if info.Mode().IsRegular() {
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				text += fmt.Sprint(info.Size(), string(content))
			}
			all[strings.TrimPrefix(path, root)] = text
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	a, b := list(one), list(other)
	var different []string
	for path, text := range a {
		if b[path] != text {
			different = append(different, fmt.Sprintf("%s: %.200q, %.200q", path, text, b[path]))
		}
	}
	for path := range b {
		if _, ok := a[path]; !ok {
			different = append(different, path+" is only in the child")
		}
	}
	slices.Sort(different)
	return strings.Join(different, "\n")
}

func walk(path string, visit func(string, os.FileInfo) error) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if err := visit(path, info); err != nil || !info.IsDir() {
		return err
	}
	entries, err := names(path)
	if err != nil {
		return err
	}
	for _, name := range entries {
		if err := walk(path+"/"+name, visit); err != nil {
			return err
		}
	}
	return nil
}

// TestForkOfAnEndedGuest checks that a child keeps its parent's boot ID, and
// does not reboot because its parent requested it before the fork point.
func TestForkOfAnEndedGuest(t *testing.T) {
	p := newPlatform(t, Namespaces)
	h := newHypervisor()
	_, snapshot := freezeWith(t, p, h, "true", `#!/bin/sh -e
cat /proc/sys/kernel/random/boot_id >/root/boot_id
reboot
poweroff
vmtoolsd --cmd 'vmfork-begin -1 -1'
cmp /proc/sys/kernel/random/boot_id /root/boot_id
`)
	if len(h.rebooted) != 1 || len(h.off) != 1 {
		t.Errorf("the parent asked for %d reboots and %d power-offs", len(h.rebooted), len(h.off))
	}
	child := newHypervisor()
	fork(t, p, childSpec(1), snapshot, child)
	if end := receiveFrom(t, child.ended, "the program's end"); end.ExitCode != 0 || len(child.rebooted) != 0 || len(child.off) != 0 {
		t.Errorf("exit code %d, %d reboots, %d power-offs", end.ExitCode, len(child.rebooted), len(child.off))
	}
}
