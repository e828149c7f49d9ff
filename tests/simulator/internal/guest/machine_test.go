// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPrograms(t *testing.T) {
	p := newPlatform(t, Namespaces)
	h := newHypervisor()
	m := boot(t, p, parentSpec(), h)

	started := time.Now()
	pid, err := m.Start(Program{Path: "/bin/sh", Arguments: "-c 'exit 7' >/tmp/output 2>&1", User: "root"})
	if err != nil {
		t.Fatal(err)
	}
	end := receiveFrom(t, h.ended, "the end")
	if end.PID != pid || end.ExitCode != 7 || end.Name != "sh" || end.Owner != "root" || end.Ended.Before(started) ||
		end.CommandLine != `"/bin/sh" -c 'exit 7' >/tmp/output 2>&1` {
		t.Errorf("ended: %+v", end)
	}
	if got := m.Processes(pid); len(got) != 1 || got[0] != end {
		t.Errorf("listed after its end: %+v", got)
	}
	if _, err := m.Files("root").Stat("/tmp/output"); err != nil {
		t.Error(err)
	}

	pid, err = m.Start(Program{Path: "/bin/sleep", Arguments: "1000", User: "root"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(m.Processes(), func(p Process) bool { return p.PID == pid && p.Ended.IsZero() }) {
		t.Error("a running program is not listed")
	}
	if got := m.Processes(pid, 99999); len(got) != 1 || got[0].PID != pid {
		t.Errorf("asked for one process: %+v", got)
	}
	if err := m.Terminate(pid, "bob"); !errors.Is(err, os.ErrPermission) && !errors.Is(err, ErrOnlyRoot) {
		t.Errorf("bob ends root's process: %v", err)
	}
	if err := m.Terminate(pid, "root"); err != nil {
		t.Error(err)
	}
	if end := receiveFrom(t, h.ended, "the terminated program"); end.PID != pid || end.ExitCode != 128+15 {
		t.Errorf("terminated: %+v", end)
	}
	if err := m.Terminate(1, "root"); !errors.Is(err, os.ErrPermission) {
		t.Errorf("ending the init: %v", err)
	}
	if err := m.Terminate(99999, "root"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ending what is not there: %v", err)
	}

	for name, test := range map[string]struct {
		program Program
		want    error
	}{
		"no program":     {Program{Path: "/nowhere/at/all", User: "root"}, os.ErrNotExist},
		"not executable": {Program{Path: "/etc/hosts", User: "root"}, os.ErrPermission},
		"directory":      {Program{Path: "/etc", User: "root"}, os.ErrPermission},
		"no directory":   {Program{Path: "/bin/true", User: "root", Directory: "/nowhere"}, os.ErrNotExist},
		"no account":     {Program{Path: "/bin/true", User: "carol"}, ErrNoAccount},
	} {
		if _, err := m.Start(test.program); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProgramEnvironment(t *testing.T) {
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), nil)
	run := func(program Program) string {
		t.Helper()
		program.Path, program.Arguments = "/bin/sh", "-c 'pwd; id -un; env | grep -v -e ^_= -e ^PWD= -e ^OLDPWD= -e ^SHLVL= | sort; readlink /proc/self/fd/0'"
		_, output, err := m.Run(program)
		if err != nil {
			t.Fatal(err)
		}
		return string(output)
	}
	usual := "HOME=/root\nLANG=C.UTF-8\nLOGNAME=root\nPATH=" + defaultPath + "\nSHELL=/bin/bash\nUSER=root\n"
	if got, want := run(Program{User: "root"}), "/root\nroot\n"+usual+"/dev/null\n"; got != want {
		t.Errorf("root's environment is %q, not %q", got, want)
	}
	if got, want := run(Program{User: "root", Directory: "/var/log", Env: []string{"A=b c"}}), "/var/log\nroot\nA=b c\n/dev/null\n"; got != want {
		t.Errorf("a given environment is %q, not %q", got, want)
	}
	if os.Geteuid() == 0 {
		if got := run(Program{User: "ann"}); !strings.HasPrefix(got, "/home/ann\nann\nHOME=/home/ann\n") {
			t.Errorf("ann's environment is %q", got)
		}
	} else if _, err := m.Start(Program{Path: "/bin/true", User: "ann"}); !errors.Is(err, ErrOnlyRoot) {
		t.Errorf("an account that the host cannot give: %v", err)
	}
}

func TestTools(t *testing.T) {
	h := newHypervisor()
	large := strings.Repeat("x", 1<<20)
	h.answer = func(call Call) Answer {
		switch {
		case call.Command == "info-get guestinfo.key":
			return Answer{OK: true, Text: "value"}
		case strings.HasPrefix(call.Command, "info-set guestinfo.large "):
			return Answer{OK: strings.HasSuffix(call.Command, " "+large)}
		case call.Command == "info-get guestinfo.large":
			return Answer{OK: true, Text: large}
		}
		return Answer{Text: "No value found"}
	}
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), h)
	for _, test := range []struct {
		script string
		code   int
		output string
	}{
		{"vmtoolsd --cmd 'info-get guestinfo.key'", 0, "value"},
		{"vmtoolsd --cmd='info-get guestinfo.key' 2>/dev/null", 0, "value"},
		{"/usr/bin/vmware-rpctool 'info-get guestinfo.key'", 0, "value"},
		{"vmware-rpctool 'info-get guestinfo.none' 2>/dev/null", 1, ""},
		{"vmware-rpctool 'info-get guestinfo.none' 2>&1 >/dev/null", 1, "No value found"},
		{"vmtoolsd --version", 0, "VMware Tools daemon, version " + toolsVersion},
		{"vmware-toolbox-cmd -v", 0, toolsVersion},
		{"vmware-toolbox-cmd nonsense 2>/dev/null", 64, ""},
		{"test $(vmtoolsd --cmd 'info-get guestinfo.large' | wc -c) = 1048577", 0, ""},
	} {
		if code, output := shell(t, m, "root", test.script); code != test.code || output != test.output {
			t.Errorf("%s: exit code %d, output %.100q", test.script, code, output)
		}
	}
	// A word of a command line is limited to 128 kB, so a large value is set in
	// a script.
	must(t, m, `test "$(head -c 100000 /dev/zero | tr '\0' x | wc -c)" = 100000 && vmtoolsd --cmd "info-set guestinfo.some $(head -c 100000 /dev/zero | tr '\0' x)" || true`)

	pid, err := m.Start(Program{Path: "/bin/sh", Arguments: "-c '(sleep 0; vmware-rpctool marker) & wait'", User: "root"})
	if err != nil {
		t.Fatal(err)
	}
	for receiveFrom(t, h.ended, "the program").PID != pid {
	}
	h.mu.Lock()
	last := h.calls[len(h.calls)-1]
	h.mu.Unlock()
	if last != (Call{Command: "marker", Program: pid}) {
		t.Errorf("the call was %+v", last)
	}

	m.SetTools(false)
	if code, output := shell(t, m, "root", "command -v vmtoolsd vmware-rpctool; vmware-toolbox-cmd -v"); code != 127 {
		t.Errorf("without Tools: exit code %d, %s", code, output)
	}
	m.SetTools(true)
	must(t, m, "vmtoolsd --cmd 'info-get guestinfo.key'")
}

func TestSimulatedCommands(t *testing.T) {
	h := newHypervisor()
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), h)
	must(t, m, "systemctl restart chronyd && service cron stop && /sbin/hwclock --hctosys && /sbin/lsmod | grep -q vmxnet3")
	must(t, m, "hostnamectl set-hostname renamed && test $(hostname) = renamed && test $(cat /etc/hostname) = renamed && hostnamectl | grep -q renamed")
	want := []string{"systemctl restart chronyd", "service cron stop", "hwclock --hctosys", "lsmod", "hostnamectl set-hostname renamed", "hostnamectl"}
	if got := h.record(); !slices.Equal(got, want) {
		t.Errorf("recorded: %q, not %q", got, want)
	}
	// The guest may use another MAC; the driver knows the hardware's.
	must(t, m, "ip link set eth0 down && ip link set eth0 address 00:50:56:ff:ff:ff && rmmod vmxnet3")
	must(t, m, "! ip -4 addr show eth0 | grep inet; modprobe vmxnet3 && grep -qx 00:50:56:00:00:01 /sys/class/net/eth0/address")
	must(t, m, "ip addr flush dev eth0 && ip addr add 198.51.100.9/24 dev eth0 && dhclient eth0 && ! ip addr show eth0 | grep -q 198.51")
	must(t, m, "dhclient eth0 && ip addr show eth0 | grep -q 192.0.2.7/24 && dhclient -r eth0 && ! ip addr show eth0 | grep -q 192.0.2.7")
}

// TestReboot reboots from within the guest: the hypervisor is notified, and the
// guest starts again.
func TestReboot(t *testing.T) {
	p := newPlatform(t, Namespaces)
	for _, command := range []string{"reboot", "systemctl reboot", "shutdown -r now", "/sbin/reboot -f"} {
		h := newHypervisor()
		m := boot(t, p, parentSpec(), h)
		before := must(t, m, "touch /run/lost /tmp/lost /root/kept; cat /proc/sys/kernel/random/boot_id")
		if again := must(t, m, "cat /proc/sys/kernel/random/boot_id"); again != before || len(before) != 36 {
			t.Errorf("the boot ID is %q, then %q", before, again)
		}
		must(t, m, command)
		receiveFrom(t, h.rebooted, command)
		if err := m.Stop(); err != nil {
			t.Fatal(err)
		}
		m = boot(t, p, parentSpec(), h)
		if after := must(t, m, "test -e /root/kept -a ! -e /run/lost -a ! -e /tmp/lost && cat /proc/sys/kernel/random/boot_id"); after == before {
			t.Errorf("after %s the boot ID is still %s", command, after)
		}
		if err := m.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEndOfGuest checks that every command that ends a guest reports how, and
// works only for root.
func TestEndOfGuest(t *testing.T) {
	h := newHypervisor()
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), h)
	for command, want := range map[string]string{
		"poweroff": "off", "systemctl poweroff": "off", "halt -p": "off", "shutdown -h now": "off", "shutdown now": "off", "shutdown -P +0": "off", "reboot -p": "off",
		"systemctl reboot --no-wall": "reboot", "shutdown -r now": "reboot", "halt --reboot": "reboot",
		"halt": "", "systemctl halt": "", "shutdown -H now": "", "shutdown -h +5": "", "shutdown -c": "", "poweroff -w": "", "su bob -c poweroff": "",
	} {
		shell(t, m, "root", command)
		got := ""
		select {
		case <-h.off:
			got = "off"
		case <-h.rebooted:
			got = "reboot"
		default:
		}
		if got != want {
			t.Errorf("%s: %q, not %q", command, got, want)
		}
	}
	if os.Geteuid() == 0 {
		if code, output := shell(t, m, "bob", "poweroff 2>&1"); code != 1 || output != "poweroff: Operation not permitted" || len(h.off) > 0 {
			t.Errorf("%d %s", code, output)
		}
	}
}

// TestInitScripts stops and starts the network of a guest as scripts for
// systems without systemd do.
func TestInitScripts(t *testing.T) {
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), newHypervisor())
	must(t, m, "/etc/init.d/networking stop && ip -4 addr show eth0 | grep 192.0.2.7") // not configured by the guest
	must(t, m, "printf 'iface eth0 inet static\\n address 198.51.100.9\\n netmask 255.255.255.0\\n gateway 198.51.100.1\\n' >>/etc/network/interfaces")
	must(t, m, "/etc/init.d/networking start && ip -4 addr show eth0 | grep 198.51.100.9/24 && ip route | grep 'default via 198.51.100.1'")
	must(t, m, "systemctl stop systemd-networkd && ip -4 addr show eth0 | grep 198.51.100.9/24")
	must(t, m, "/etc/init.d/networking stop && ! ip -4 addr show eth0 | grep inet && test $(cat /sys/class/net/eth0/operstate) = down && ip addr show lo | grep 127.0.0.1")
	must(t, m, "/etc/init.d/networking restart && ip -4 addr show eth0 | grep 198.51.100.9/24")
	must(t, m, "cd /etc/sysconfig/network-scripts && for end in .bak .orig .rpmsave '~'; do printf 'DEVICE=eth0\\nIPADDR=203.0.113.9\\nPREFIX=24\\n' >ifcfg-eth0$end; done")
	must(t, m, "service network restart && ip -4 addr show eth0 | grep 198.51.100.9/24")
}

func TestSudo(t *testing.T) {
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), newHypervisor())
	must(t, m, "test $(sudo -n id -u) = 0")
	if os.Geteuid() != 0 {
		return // there are no other accounts
	}
	for _, test := range []struct {
		user, script string
		code         int
		output       string
	}{
		{"ann", "id -u; sudo -n id -u", 0, "1000\n0"},
		{"ann", "echo input | sudo --non-interactive -- cat", 0, "input"},
		{"ann", "sudo sh -c 'echo error >&2; exit 9' 2>&1", 9, "error"},
		{"ann", "sudo A=b env | grep -e ^A= -e ^HOME= -e ^SUDO_USER= | sort", 0, "A=b\nHOME=/root\nSUDO_USER=ann"},
		{"ann", "cd /var && sudo -H -S -n -u root /bin/sh -c 'pwd; id -un'", 0, "/var\nroot"},
		{"ann", "sudo -n -u bob id -un", 0, "bob"},
		{"ann", "sudo -n nonsense 2>&1", 1, "sudo: nonsense: command not found"},
		{"ann", "sudo -n vmtoolsd --version >/dev/null", 0, ""},
		{"bob", "sudo -n true 2>&1", 1, "sudo: a password is required"},
		{"bob", "cat /root/x 2>/dev/null", 1, ""},
		{"bob", "hostnamectl set-hostname x 2>&1", 1, "Could not set static hostname: Access denied"},
		{"bob", "rmmod vmxnet3 2>&1", 1, "rmmod: ERROR: vmxnet3: Operation not permitted"},
	} {
		if code, output := shell(t, m, test.user, test.script); code != test.code || output != test.output {
			t.Errorf("%s: %s: exit code %d, output %q", test.user, test.script, code, output)
		}
	}
}

// TestSudoIsEnded checks that only root can end a program through the sudo that
// runs it.
func TestSudoIsEnded(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("there are no other accounts")
	}
	h := newHypervisor()
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), h)
	must(t, m, `echo 'trap "echo ended >/tmp/result; exit 9" 15; : >/tmp/runs; while :; do sleep 0.1; done' >/tmp/script`)
	pid, err := m.Start(Program{Path: "/usr/bin/sudo", Arguments: "-n sh /tmp/script", User: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	must(t, m, "until [ -e /tmp/runs ]; do sleep 0.1; done")
	if err := m.Terminate(pid, "ann"); !errors.Is(err, os.ErrPermission) {
		t.Errorf("ann ends sudo: %v", err)
	}
	if code, output := shell(t, m, "ann", fmt.Sprintf("sudo -n kill %d", pid)); code != 0 {
		t.Errorf("sudo kill: exit code %d, output %q", code, output)
	}
	end := receiveFrom(t, h.ended, "the end of sudo")
	for end.PID != pid {
		end = receiveFrom(t, h.ended, "the end of sudo")
	}
	if end.ExitCode != 9 {
		t.Errorf("sudo ended with %d", end.ExitCode)
	}
	if got := must(t, m, "cat /tmp/result"); got != "ended" {
		t.Errorf("the result is %q", got)
	}
}

// TestSudoFreezes freezes from a program that sudo started.
func TestSudoFreezes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("there are no other accounts")
	}
	p := newPlatform(t, Namespaces)
	h := newHypervisor()
	m := boot(t, p, parentSpec(), h)
	m.Forkable(true)
	pid, err := m.Start(Program{Path: "/bin/sh", Arguments: "-c 'sudo vmtoolsd --cmd \"vmfork-begin -1 -1\"; echo $? $(id -un) >/tmp/result'", User: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	snapshot := receiveFrom(t, h.frozen, "the freeze")
	if call := h.calls[0]; call.UID != 0 || call.Program != pid {
		t.Errorf("the call was %+v", call)
	}
	child := newHypervisor()
	c := fork(t, p, childSpec(1), snapshot, child)
	receiveFrom(t, child.ended, "the program's end")
	if got := must(t, c, "cat /tmp/result"); got != "0 ann" {
		t.Errorf("the result is %q", got)
	}
}

func TestChangesAreReported(t *testing.T) {
	h := newHypervisor()
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), h)
	until := func(what string, is func(State) bool) {
		t.Helper()
		for !is(receiveFrom(t, h.changed, what)) {
		}
	}
	must(t, m, "hostname first")
	until("the host name", func(s State) bool { return s.Hostname == "first" })
	must(t, m, "ip addr add 198.51.100.9/24 dev eth0")
	until("the address", func(s State) bool { return slices.Contains(s.Interfaces[0].Addresses, "198.51.100.9/24") })
	must(t, m, "ip link set eth0 down; ip link set eth0 address 00:50:56:00:00:99")
	until("the MAC", func(s State) bool { return s.Interfaces[0].MAC == "00:50:56:00:00:99" && !s.Interfaces[0].Up })
	if state := m.State(); len(state.Interfaces) != 1 || state.Hostname != "first" {
		t.Errorf("the state is %+v", state)
	}
}

func TestFiles(t *testing.T) {
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), nil)
	f := m.Files("root")
	read := func(path string) string {
		t.Helper()
		content, size, err := f.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		text, err := io.ReadAll(content)
		if err != nil || int64(len(text)) != size {
			t.Errorf("%s: %d bytes announced, %d read: %v", path, size, len(text), err)
		}
		return string(text)
	}
	check := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", what, err, want)
		}
	}
	directory, err := f.MakeTemporary("", "pre ", ".d", true)
	if err != nil || !strings.HasPrefix(directory, "/tmp/pre ") || !strings.HasSuffix(directory, ".d") {
		t.Fatalf("temporary directory %q: %v", directory, err)
	}
	check("write", f.Write(directory+"/a", 5, 0o640, false, strings.NewReader("hello and more")), nil)
	if got := read(directory + "/a"); got != "hello" {
		t.Errorf("read %q", got)
	}
	check("write over", f.Write(directory+"/a", 1, 0, false, strings.NewReader("x")), os.ErrExist)
	check("short content", f.Write(directory+"/b", 5, 0, false, strings.NewReader("x")), io.ErrUnexpectedEOF)
	check("overwrite", f.Write(directory+"/a", 2, 0, true, strings.NewReader("hi")), nil)
	if info, err := f.Stat(directory + "/a"); err != nil || info.Mode != 0o640 || info.Size != 2 || info.Path != directory+"/a" {
		t.Errorf("stat: %+v %v", info, err)
	}
	check("move onto", f.Move(directory+"/a", directory+"/b", false), os.ErrExist)
	check("move over", f.Move(directory+"/a", directory+"/b", true), nil)
	check("move across", f.Move(directory+"/b", "/root/moved", false), nil)
	check("move across onto", f.Move("/etc/hostname", "/root/moved", false), os.ErrExist)
	if got := read("/root/moved"); got != "hi" {
		t.Errorf("moved %q", got)
	}
	check("mkdir", f.MakeDirectory("/tmp/x/y", false), os.ErrNotExist)
	check("mkdir -p", f.MakeDirectory("/tmp/x/y", true), nil)
	check("mkdir again", f.MakeDirectory("/tmp/x/y", true), os.ErrExist)
	check("rmdir full", f.Remove("/tmp/x"), os.ErrExist) // ENOTEMPTY is one of its kind
	check("chmod", f.Chmod("/tmp/x", 0o711), nil)
	must(t, m, "ln -s /root/moved /tmp/x/link; mkfifo /tmp/x/fifo; test $(stat -c %a /tmp/x) = 711")
	listed, err := f.List("/tmp/x")
	if err != nil || len(listed) != 3 || listed[1].Path != "link" || listed[1].Target != "/root/moved" || !listed[2].Mode.IsDir() {
		t.Errorf("list: %+v %v", listed, err)
	}
	_, _, err = f.Read("/tmp/x/fifo")
	if err == nil {
		t.Error("a fifo can be read")
	}
	check("remove all", f.RemoveAll("/tmp/x"), nil)
	check("remove nothing", f.RemoveAll("/tmp/x"), os.ErrNotExist)
	_, err = f.Stat("/tmp/x")
	check("stat", err, os.ErrNotExist)
}

func TestFilesWithRights(t *testing.T) {
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), nil)
	if os.Geteuid() != 0 {
		if _, err := m.Files("bob").Stat("/etc"); !errors.Is(err, ErrOnlyRoot) {
			t.Errorf("an account that the host cannot give: %v", err)
		}
		return
	}
	bob := m.Files("bob")
	if err := bob.Write("/etc/x", 1, 0, true, strings.NewReader("x")); !errors.Is(err, os.ErrPermission) {
		t.Errorf("bob writes /etc: %v", err)
	}
	if _, err := bob.List("/root"); !errors.Is(err, os.ErrPermission) {
		t.Errorf("bob lists /root: %v", err)
	}
	if err := bob.Write("/tmp/bobs", 1, 0, true, strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	if info, err := bob.Stat("/tmp/bobs"); err != nil || info.UID != firstAccount+1 {
		t.Errorf("bob's file: %+v %v", info, err)
	}
	if err := bob.Chown("/tmp/bobs", 0, 0); !errors.Is(err, os.ErrPermission) {
		t.Errorf("bob gives a file away: %v", err)
	}
	if err := m.Files("root").Chown("/tmp/bobs", firstAccount, -1); err != nil {
		t.Error(err)
	}
}

// TestReportOnRequest checks that a report requested by a guest is made before
// the command returns, although nothing changed.
func TestReportOnRequest(t *testing.T) {
	p := newPlatform(t, Namespaces)
	h := newHypervisor()
	m := boot(t, p, parentSpec(), h)
	for range 2 {
		for len(h.changed) > 0 { // a link-local address comes a second after boot
			<-h.changed
		}
		must(t, m, "vmware-toolbox-cmd info update network")
		select {
		case state := <-h.changed:
			if state.Hostname != "golden" || !slices.Contains(state.Interfaces[0].Addresses, "192.0.2.7/24") {
				t.Errorf("reported: %+v", state)
			}
		default:
			t.Fatal("nothing was reported")
		}
	}
	if want := "vmware-toolbox-cmd info update network"; !slices.Equal(h.record(), []string{want, want}) {
		t.Errorf("recorded: %q", h.record())
	}
}

// TestPlug checks that the link of an adapter goes down and up, and that
// changes in between are kept.
func TestPlug(t *testing.T) {
	h := newHypervisor()
	spec := parentSpec()
	spec.NICs[0].Unplugged, spec.NICs[0].Address = true, ""
	m := boot(t, newPlatform(t, Namespaces), spec, h)
	connected := func(want bool) {
		t.Helper()
		must(t, m, fmt.Sprintf("test $(cat /sys/class/net/eth0/carrier) = %d", map[bool]int{false: 0, true: 1}[want]))
		if nic := m.State().Interfaces[0]; !nic.Up || nic.Connected != want {
			t.Errorf("%+v", nic)
		}
	}
	connected(false)
	must(t, m, "dhclient eth0 && ! ip -4 addr show eth0 | grep inet && ip addr add 198.51.100.9/24 dev eth0")
	for _, want := range []bool{true, false} {
		nics := parentSpec().NICs
		nics[0].Unplugged = !want
		if err := m.Plug(nics); err != nil {
			t.Fatal(err)
		}
		for nic := (Interface{Connected: !want}); nic.Connected != want; {
			nic = receiveFrom(t, h.changed, "a report").Interfaces[0]
		}
		connected(want)
		must(t, m, "ip -4 addr show eth0 | grep -q 198.51.100.9")
	}
}
