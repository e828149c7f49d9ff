// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHostCannotBeChanged tries to change the host as root of a guest.
func TestHostCannotBeChanged(t *testing.T) {
	before, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	bait := filepath.Join(t.TempDir(), "bait") // a file that any user of the host could write
	if err := os.WriteFile(bait, []byte("untouched"), 0o666); err != nil {
		t.Fatal(err)
	}
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), newHypervisor())
	for _, attempt := range []string{
		"touch /usr/forbidden",
		"touch /usr/bin/forbidden",
		"echo x >/usr/bin/env",
		"rm /usr/bin/env",
		"touch /forbidden",
		"touch /.host/forbidden",
		"echo x >>/.host/guest",
		"touch /.host/tools/forbidden",
		"touch /etc/ssl/certs/forbidden",
		"mount -o remount,rw /",
		"mount -o remount,rw /usr",
		"mount -o remount,bind,rw /usr",
		"mount -o remount,rw /usr/bin",
		"mount -o remount,bind,rw /.host/guest",
		"umount /usr/bin",
		"umount -l /usr",
		"umount /etc",
		"umount /",
		"mkdir /tmp/b && mount --rbind /usr /tmp/b && mount -o remount,bind,rw /tmp/b",
		"mkdir /tmp/c && mount --bind /usr /tmp/c && touch /tmp/c/forbidden",
		"unshare -m sh -c 'mount -o remount,rw,bind /usr && touch /usr/forbidden'",
		"unshare -Urm sh -c 'umount /usr/bin'",
		"mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk",
		"chmod 600 /dev/null",
		"echo 1 >/proc/sys/vm/drop_caches",
		"echo x >/proc/sysrq-trigger",
		"echo 1 >/sys/class/net/lo/mtu",
		"ls " + bait,
		"echo touched >" + bait,
		"echo touched >/proc/1/root" + bait,
		"echo touched >/proc/1/cwd/" + bait,
		"nsenter -t 1 -m -- touch /usr/forbidden",
		"kill -9 1; sleep 0.1; test ! -d /proc/1", // init does not hear it
		"date -s 2001-01-01",
	} {
		if code, output := shell(t, m, "root", attempt); code == 0 {
			t.Errorf("guest root could: %s\n%s", attempt, output)
		}
	}
	must(t, m, "hostname changed-by-guest")
	if after, _ := os.Hostname(); after != before {
		t.Errorf("the host is now called %q", after)
	}
	if content, _ := os.ReadFile(bait); string(content) != "untouched" {
		t.Error("the host's file was changed")
	}
	if visible := must(t, m, "ls -A / | tr '\\n' ' '"); strings.Contains(visible, "work") || strings.Contains(visible, "old") {
		t.Errorf("visible in the guest: %s", visible)
	}
}

func TestGuestRootIsNobodyOnTheHost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only a simulator that is root has other users")
	}
	p := newPlatform(t, Namespaces)
	m := boot(t, p, parentSpec(), newHypervisor())
	for user, want := range map[string]int{"root": firstID, "ann": firstID + firstAccount} {
		must(t, m, "touch /tmp/"+user+" && chown "+user+" /tmp/"+user)
		var stat unix.Stat_t
		if err := unix.Stat(p.inStore(diskPath("vm-1")+"/tmp/"+user), &stat); err != nil {
			t.Fatal(err)
		}
		ids, err := hostIDs()
		if err != nil {
			t.Fatal(err)
		}
		if got := int(stat.Uid) - ids.inside + firstID; got != want {
			t.Errorf("a file of guest %s belongs to %d on the host, not %d", user, got, want)
		}
	}
}

func TestMachinesAreApart(t *testing.T) {
	p := newPlatform(t, Namespaces)
	one := boot(t, p, parentSpec(), newHypervisor())
	other := boot(t, p, Spec{ID: "vm-2", Hostname: "other", NICs: []NIC{{Name: "eth0", MAC: "00:50:56:00:00:02"}}}, newHypervisor())
	must(t, one, "touch /etc/mine /tmp/mine /dev/shm/mine; hostname renamed; sleep 1000 >/dev/null 2>&1 &")
	if got := must(t, other, "hostname; ls /etc/mine /tmp/mine /dev/shm/mine 2>/dev/null; ps ax | grep -c '[s]leep 1000'; true"); got != "other\n0" {
		t.Errorf("the other machine sees %q", got)
	}
	if code, output := shell(t, other, "root", "find / -xdev -name mine; ls -d /machines /*/machines 2>/dev/null"); strings.TrimSpace(output) != "" {
		t.Errorf("found (%d): %s", code, output)
	}
}

func TestDiskStaysAndVolatileGoes(t *testing.T) {
	p := newPlatform(t, Namespaces)
	m := boot(t, p, parentSpec(), newHypervisor())
	must(t, m, "for d in etc var root home run tmp dev/shm; do echo x >/$d/file; done; hostnamectl set-hostname kept")
	must(t, m, "sleep 1000 >/dev/null 2>&1 &")
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.CopyDisk("vm-1", "vm-3"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"vm-1", "vm-3"} {
		again := boot(t, p, Spec{ID: id, Hostname: "ignored"}, nil)
		if got := must(t, again, "hostname; ls /etc/file /var/file /root/file /home/file /run/file /tmp/file /dev/shm/file 2>/dev/null; true"); got !=
			"kept\n/etc/file\n/home/file\n/root/file\n/var/file" {
			t.Errorf("%s has %q", id, got)
		}
		if err := again.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.RemoveDisk("vm-1"); err != nil {
		t.Fatal(err)
	}
	if got := must(t, boot(t, p, Spec{ID: "vm-1", Hostname: "new"}, nil), "hostname; ls /etc/file 2>/dev/null; true"); got != "new" {
		t.Errorf("after its disk was removed: %q", got)
	}
}

func TestWithoutOverlays(t *testing.T) {
	p, err := NewPlatform(Options{Kind: Namespaces, Directory: t.TempDir(), Log: logger{t}, noOverlay: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	h := newHypervisor()
	m := boot(t, p, parentSpec(), h)
	must(t, m, "vmtoolsd --version && /usr/bin/vmware-rpctool x || systemctl restart x && /sbin/modprobe x && awk 'BEGIN { exit 0 }' && test -h /usr/bin/env")
	if want := []string{"systemctl restart x", "modprobe x"}; !slices.Equal(h.record(), want) {
		t.Errorf("recorded: %q, not %q", h.record(), want)
	}
	for _, attempt := range []string{"touch /usr/bin/x", "touch /.host/programs/usr/bin/x", "mount -o remount,bind,rw /usr/bin"} {
		if code, _ := shell(t, m, "root", attempt); code == 0 {
			t.Errorf("guest root could: %s", attempt)
		}
	}
}

// TestNothingIsLeftBehind kills the simulator in the middle of its work.
func TestNothingIsLeftBehind(t *testing.T) {
	directory := t.TempDir()
	simulator := exec.Command(os.Args[0])
	simulator.Env = append(os.Environ(), killedVariable+"="+directory)
	output, err := simulator.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	simulator.Stderr = os.Stderr
	if err := simulator.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 200)
	n, err := output.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pids := strings.Fields(string(line[:n])) // of the supervisor and the init
	var gone []unix.PollFd
	for _, pid := range pids {
		number, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatalf("not a process: %q", pid)
		}
		fd, err := unix.PidfdOpen(number, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		gone = append(gone, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	if len(gone) < 2 {
		t.Fatalf("only %v", pids)
	}
	if err := simulator.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = simulator.Wait()
	for i := range gone {
		for {
			n, err := unix.Poll(gone[i:i+1], int(patience.Milliseconds()))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || n != 1 {
				t.Fatalf("process %s outlives the simulator", pids[i])
			}
			break
		}
	}
	left, err := filepath.Glob(directory + "/*/*")
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// killedVariable makes the test program a simulator with one machine in the
// directory it names, which waits to be killed.
const killedVariable = "GUEST_TEST_SIMULATOR"

func simulatorToBeKilled(directory string) {
	p, err := NewPlatform(Options{Kind: Namespaces, Directory: directory, Log: os.Stderr})
	if err != nil {
		panic(err)
	}
	m, err := p.Boot(parentSpec(), nil)
	if err != nil {
		panic(err)
	}
	if _, err := m.Start(Program{Path: "/bin/sleep", Arguments: "1000", User: "root"}); err != nil {
		panic(err)
	}
	children, err := os.ReadFile("/proc/" + strconv.Itoa(p.process.Process.Pid) + "/task/" + strconv.Itoa(p.process.Process.Pid) + "/children")
	if err != nil {
		panic(err)
	}
	all := strconv.Itoa(p.process.Process.Pid) + " " + string(children)
	tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(p.process.Process.Pid) + "/task/*/children")
	for _, task := range tasks {
		more, _ := os.ReadFile(task)
		all += " " + string(more)
	}
	os.Stdout.WriteString(all)
	select {}
}
