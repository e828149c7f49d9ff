// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Stopping and continuing all processes of a guest except its init.

package guest

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// stopAll returns when nothing in the guest is running. A stop takes effect
// when a thread leaves the kernel, and only the parent is notified, so the
// threads are polled until all are stopped. A thread in an uninterruptible wait
// stops right after it.
func (t processTable) stopAll() error {
	// Twice: a process that is started during the first pass is only found by
	// the second.
	for still := 0; still < 2; still++ {
		running := false
		err := t.signalAll(unix.SIGSTOP, func(pid int) bool {
			runs := !isStopped(pid)
			running = running || runs
			return runs
		})
		if err != nil {
			return err
		}
		if running {
			still = -1
			time.Sleep(200 * time.Microsecond)
		}
	}
	return nil
}

func (t processTable) continueAll() error { return t.signalAll(unix.SIGCONT, isStopped) }

func (t processTable) killAll() error {
	return t.signalAll(unix.SIGKILL, func(int) bool { return true })
}

// signalAll sends a signal to every wanted process below the init.
func (t processTable) signalAll(signal unix.Signal, wanted func(pid int) bool) error {
	pids, err := processIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if isDescendant(pid) && wanted(pid) {
			_ = unix.Kill(pid, signal) // it may be gone
		}
	}
	return nil
}

// isDescendant reports whether this process is an ancestor of another.
func isDescendant(pid int) bool {
	for pid > 1 {
		stat, err := readStat(pid)
		if err != nil {
			return false
		}
		if pid = stat.parent; pid == os.Getpid() {
			return true
		}
	}
	return false
}

// isStopped reports whether every thread of a process is stopped or ended.
func isStopped(pid int) bool {
	directory := filepath.Join("/proc", strconv.Itoa(pid), "task")
	threads, _ := names(directory)
	for _, thread := range threads {
		text, err := os.ReadFile(filepath.Join(directory, thread, "stat"))
		if err != nil {
			continue
		}
		if stat, err := parseStat(string(text)); err == nil && stat.state != 'T' && stat.state != 't' && stat.state != 'Z' && stat.state != 'X' {
			return false
		}
	}
	return true
}
