// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guestsVariable says how many guests TestManyGuests has at once. From the
// repository's top, 200 of them and what they cost are shown by
//
//	VMFORKSIM_GUESTS=200 make simulator-test ARGS="-race=false -v -count=1 -run ManyGuests"
//
// The race detector would take ten times as much.
const guestsVariable = "VMFORKSIM_GUESTS"

// TestManyGuests boots and forks many guests, eight at a time, and prints their
// cost.
func TestManyGuests(t *testing.T) {
	many, atOnce := 50, 8
	if asked := os.Getenv(guestsVariable); asked != "" {
		var err error
		if many, err = strconv.Atoi(asked); err != nil {
			t.Fatal(err)
		}
	}
	p := newPlatform(t, Namespaces)
	h := newHypervisor()
	_, snapshot := freezeWith(t, p, h, "", "#!/bin/sh\nhostname quiesced\nvmtoolsd --cmd 'vmfork-begin -1 -1'\nhostname child; exec sleep 1000\n")
	spec := func(number int) Spec {
		return Spec{
			ID: fmt.Sprintf("vm-%d", 100+number), Hostname: "booted",
			NICs: []NIC{{Name: "eth0", MAC: fmt.Sprintf("00:50:56:00:%02x:%02x", number>>8, number&0xff), Address: fmt.Sprintf("10.0.%d.%d/8", number>>8, number&0xff)}},
		}
	}
	for _, way := range []struct {
		name  string
		start func(number int) (*Machine, error)
	}{
		{"boot", func(number int) (*Machine, error) { return p.Boot(spec(number), newHypervisor()) }},
		{"fork", func(number int) (*Machine, error) { return p.Fork(spec(number), snapshot, newHypervisor()) }},
	} {
		t.Run(way.name, func(t *testing.T) {
			machines := make([]*Machine, many)
			begun := time.Now()
			sideBySide(many, atOnce, func(number int) {
				var err error
				if machines[number], err = way.start(number); err != nil {
					t.Error(err)
				}
			})
			if t.Failed() {
				return
			}
			started := time.Since(begun)
			inits, memory := guestMemory(t, p)
			if inits != many+1 { // with the parent's
				t.Errorf("%d inits, not %d", inits, many+1)
			}
			begun = time.Now()
			sideBySide(many, many, func(number int) {
				if err := machines[number].Stop(); err != nil {
					t.Error(err)
				}
			})
			t.Logf("%d guests by %s: %.1f s to start, %.1f s to stop; %d MB for their inits, %d MB for their disks",
				many, way.name, started.Seconds(), time.Since(begun).Seconds(), memory>>10, diskMemory(t, p)>>20)
			if inits, _ := guestMemory(t, p); inits != 1 {
				t.Errorf("%d inits are left", inits)
			}
		})
	}
}

// sideBySide runs a function for every number below many, some of them in
// parallel.
func sideBySide(many, atOnce int, do func(number int)) {
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for number := range numbers {
				do(number)
			}
		})
	}
	for number := range many {
		numbers <- number
	}
	close(numbers)
	workers.Wait()
}

// diskMemory returns the size of the disks of all machines in bytes.
func diskMemory(t *testing.T, p *Platform) uint64 {
	t.Helper()
	var disks unix.Statfs_t
	if err := unix.Statfs(p.inStore(diskDirectory), &disks); err != nil {
		t.Fatal(err)
	}
	return (disks.Blocks - disks.Bfree) * uint64(disks.Bsize)
}

// guestMemory counts the supervisor's children and their anonymous memory.
func guestMemory(t *testing.T, p *Platform) (inits, kilobytes int) {
	t.Helper()
	directories, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, directory := range directories {
		pid, _ := strconv.Atoi(filepath.Base(directory))
		stat, err := readStat(pid)
		if err != nil || stat.parent != p.process.Process.Pid {
			continue
		}
		inits++
		text, _ := os.ReadFile(directory + "/status")
		for _, line := range strings.Split(string(text), "\n") {
			if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
				size, _ := strconv.Atoi(strings.Fields(rest)[0])
				kilobytes += size
			}
		}
	}
	return inits, kilobytes
}
