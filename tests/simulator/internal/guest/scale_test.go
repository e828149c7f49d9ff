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
)

// TestManyForks runs 200 children at once, made by eight at a time, and tells
// what they cost.
func TestManyForks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const many, atOnce = 200, 8
	p := newPlatform(t, Namespaces)
	h := newHypervisor()
	_, snapshot := freezeWith(t, p, h, "", "#!/bin/sh\nhostname quiesced\nvmtoolsd --cmd 'vmfork-begin -1 -1'\nhostname child; exec sleep 1000\n")
	begun := time.Now()
	numbers := make(chan int)
	machines := make([]*Machine, many)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for number := range numbers {
				child := Spec{ID: fmt.Sprintf("vm-%d", 100+number), NICs: []NIC{{Name: "eth0", MAC: fmt.Sprintf("00:50:56:00:02:%02x", number)}}}
				m, err := p.Fork(child, snapshot, newHypervisor())
				if err != nil {
					t.Error(err)
					continue
				}
				machines[number] = m
			}
		})
	}
	for number := range many {
		numbers <- number
	}
	close(numbers)
	workers.Wait()
	t.Logf("%d forks in %s", many, time.Since(begun))
	if t.Failed() {
		return
	}
	inits, memory := guestMemory(t, p)
	t.Logf("%d inits, %d kB each that no other has", inits, memory/max(inits, 1))
	if inits < many {
		t.Errorf("%d inits, not %d", inits, many)
	}
	begun = time.Now()
	var stops sync.WaitGroup
	for _, m := range machines {
		stops.Go(func() {
			if err := m.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	stops.Wait()
	t.Logf("stopped in %s", time.Since(begun))
	if inits, _ := guestMemory(t, p); inits != 1 { // the parent's
		t.Errorf("%d inits are left", inits)
	}
}

// guestMemory counts the warden's children and their anonymous memory.
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
