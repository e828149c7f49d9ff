// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestHostNamesOfOtherGuestsChangeNothing watches a network while the host name
// of another guest changes. The kernel wakes up those who watch for every host
// name on the machine, and reading the network each time is expensive.
func TestHostNamesOfOtherGuestsChangeNothing(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the namespaces end with the thread
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWUTS); err != nil {
		t.Skip("only root can create namespaces: ", err)
	}
	changed := make(chan struct{}, 1000)
	// The watching thread keeps its host name; this one is the other guest.
	if err := watchNetwork(func() { changed <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	hostname, err := unix.Open("/proc/sys/kernel/hostname", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(hostname)
	for number := range 100 {
		if err := unix.Sethostname([]byte(fmt.Sprintf("other-%d", number))); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(hostname), Events: unix.POLLPRI}}, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if calls := len(changed); calls > 0 {
		t.Errorf("%d changes after 100 of another guest's host name", calls)
	}
	link, err := netlink.LinkByName(loopback)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	receiveFrom(t, changed, "the change of a link")
}
