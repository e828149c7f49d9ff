// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The network adapters in a guest's /sys: /sys/class/net/*/device leads to a
// PCI device, and that to its driver, whose files bind and unbind work.
//
// No program can answer a write to a file of a tmpfs. But a lease makes an
// open for writing wait until the init agrees. So the shell's sequence
//
//	echo DEVICE > unbind
//	echo DEVICE > bind
//
// has this effect: what was written to unbind is done at the latest before bind
// is opened, and that open ends when all that was unbound is bound again. If
// what is then written names less, the rest is unbound again.

package guest

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	busDirectory     = "/sys/bus"
	classDirectory   = "/sys/class/net"
	kernelLinks      = "/sys/devices/virtual/net" // the kernel's own view
	devicesDirectory = busDirectory + "/pci/devices"
	driversDirectory = busDirectory + "/pci/drivers"
)

// shownLink is an interface as shown in /sys/class/net.
type shownLink struct{ index, adapter int }

// slotNumber is the number after ens in the name of an interface: the number of
// the PCI slot.
var slotNumber = regexp.MustCompile(`^ens(\d+)$`)

// buses are the PCI buses of the first adapters in vSphere, by slot number.
var buses = map[int]string{160: "03", 192: "0b", 224: "13", 256: "1b"}

// pciAddress returns the PCI address of an adapter.
func pciAddress(adapter int, nic NIC) string {
	slots := []int{192, 224, 256, 160}
	slot := slots[(adapter-1)%len(slots)]
	if found := slotNumber.FindStringSubmatch(nic.Name); found != nil {
		slot, _ = strconv.Atoi(found[1])
	}
	bus, known := buses[slot]
	if !known {
		bus = fmt.Sprintf("%02x", 0x40+adapter)
	}
	if slots := (adapter - 1) / len(slots); slots > 0 {
		return fmt.Sprintf("0000:%s:00.%d", bus, slots)
	}
	return "0000:" + bus + ":00.0"
}

// makeDeviceFiles puts the adapters into /sys. The caller holds the lock.
func (n *namespaces) makeDeviceFiles() error {
	for _, directory := range []string{busDirectory, classDirectory} {
		if err := mount("adapters", directory, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755,size=1m"); err != nil {
			return err
		}
	}
	n.shown = map[string]shownLink{}
	opened := make(chan os.Signal, 1)
	signal.Notify(opened, unix.SIGIO)
	n.driver = &driverFiles{n: n}
	for i, card := range n.cards {
		address, driver := pciAddress(i+1, card.nic), filepath.Join(driversDirectory, card.nic.driver())
		device := filepath.Join(devicesDirectory, address)
		if err := os.MkdirAll(device, 0o755); err != nil {
			return err
		}
		for name, text := range map[string]string{"vendor": "0x15ad\n", "device": "0x07b0\n", "class": "0x020000\n"} {
			if err := writeFile(filepath.Join(device, name), text, 0o444); err != nil {
				return err
			}
		}
		if err := n.driver.add(driver); err != nil {
			return err
		}
	}
	n.driver.serve(opened)
	return nil
}

// showLinks updates /sys/class/net. The caller holds the lock.
func (n *namespaces) showLinks() error {
	links, err := ignoreInterrupted(netlink.LinkList())
	if err != nil {
		return err
	}
	now := map[string]shownLink{}
	for _, link := range links {
		shown := shownLink{index: link.Attrs().Index}
		shown.adapter = 1 + slices.IndexFunc(n.cards, func(c card) bool { return c.bound && c.index == shown.index })
		now[link.Attrs().Name] = shown
	}
	for name, shown := range n.shown {
		if now[name] != shown {
			err = errors.Join(err, os.RemoveAll(filepath.Join(classDirectory, name)))
			delete(n.shown, name)
		}
	}
	for name, shown := range now {
		if _, known := n.shown[name]; known {
			continue
		}
		if failed := n.showLink(name, shown.adapter); failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		n.shown[name] = shown
	}
	for i, card := range n.cards {
		err = errors.Join(err, n.showDevice(i+1, card))
	}
	return err
}

// showLink creates the directory of an interface: the kernel's files, and a
// link to its adapter.
func (n *namespaces) showLink(name string, adapter int) error {
	directory := filepath.Join(classDirectory, name)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	files, err := names(filepath.Join(kernelLinks, name))
	if err != nil {
		return err
	}
	links := map[string]string{}
	for _, file := range files {
		links[file] = filepath.Join(kernelLinks, name, file)
	}
	if adapter > 0 {
		links["device"] = filepath.Join(devicesDirectory, pciAddress(adapter, n.cards[adapter-1].nic))
	}
	for file, target := range links {
		if err := os.Symlink(target, filepath.Join(directory, file)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// showDevice links a device and its driver while they are bound.
func (n *namespaces) showDevice(adapter int, card card) error {
	address, driver := pciAddress(adapter, card.nic), filepath.Join(driversDirectory, card.nic.driver())
	device := filepath.Join(devicesDirectory, address)
	for path, target := range map[string]string{filepath.Join(device, "driver"): driver, filepath.Join(driver, address): device} {
		var err error
		if card.bound {
			err = os.Symlink(target, path)
		} else {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// driverFiles are the files bind and unbind of the drivers. A single goroutine
// uses them.
type driverFiles struct {
	n       *namespaces
	drivers []*boundFiles
}

// boundFiles are the files of one driver.
type boundFiles struct {
	directory    string
	bind, unbind *leasedFile
	loose        []int // adapters that were unbound here
}

// leasedFile is a file whose opening for writing waits. Each opening gets an
// inode of its own, so that no written text is lost.
type leasedFile struct {
	path    string
	file    *os.File   // with the lease; what the next one opens
	written []*os.File // opened, and not done yet
}

func (d *driverFiles) add(directory string) error {
	for _, known := range d.drivers {
		if known.directory == directory {
			return nil
		}
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	if err := os.Symlink("/sys/module/"+filepath.Base(directory), filepath.Join(directory, "module")); err != nil {
		return err
	}
	files := &boundFiles{directory: directory}
	for name, file := range map[string]**leasedFile{"bind": &files.bind, "unbind": &files.unbind} {
		*file = &leasedFile{path: filepath.Join(directory, name)}
		if err := (*file).renew(); err != nil {
			return err
		}
	}
	d.drivers = append(d.drivers, files)
	return nil
}

// untilClosed is the interval at which open files are checked.
const untilClosed = 2 * time.Millisecond

// serve handles openings, which the kernel reports with SIGIO, and closings.
// The latter are polled while a file is open: the kernel could report them
// through inotify, but allows a user only 128 instances of it for all guests.
func (d *driverFiles) serve(opened <-chan os.Signal) {
	go func() {
		for {
			var closed <-chan time.Time
			if slices.ContainsFunc(d.drivers, func(files *boundFiles) bool { return len(files.bind.written)+len(files.unbind.written) > 0 }) {
				closed = time.After(untilClosed)
			}
			select {
			case <-opened:
				for _, files := range d.drivers {
					d.answer(files)
				}
			case <-closed:
				for _, files := range d.drivers {
					d.answer(files)
					d.finish(files)
				}
			}
		}
	}()
}

// answer lets waiting openings of a driver's file proceed.
func (d *driverFiles) answer(files *boundFiles) {
	if files.unbind.hasWaiting() {
		files.unbind.admitWaiting()
	}
	if files.bind.hasWaiting() {
		d.finish(files)
		_ = d.n.setDriver(files.loose, true) // ends with the guest alone
		files.bind.admitWaiting()
	}
}

// finish applies what was written to the files that are closed by now.
func (d *driverFiles) finish(files *boundFiles) {
	if all := d.named(files.unbind); len(all) > 0 {
		_ = d.n.setDriver(all, false)
		files.loose = append(files.loose, all...)
	}
	if all := d.named(files.bind); len(all) > 0 {
		files.loose = slices.DeleteFunc(files.loose, func(adapter int) bool { return slices.Contains(all, adapter) })
		_ = d.n.setDriver(all, true)
		_ = d.n.setDriver(files.loose, false)
	}
}

// named returns the adapters whose names were written to a file.
func (d *driverFiles) named(f *leasedFile) []int {
	var all []int
	for len(f.written) > 0 {
		file := f.written[0]
		if takeLease(file) != nil {
			break // it is still open
		}
		f.written = f.written[1:]
		text := make([]byte, 256)
		size, _ := file.ReadAt(text, 0)
		file.Close()
		d.n.mu.Lock()
		for i, card := range d.n.cards {
			if pciAddress(i+1, card.nic) == strings.TrimSpace(string(text[:size])) {
				all = append(all, i+1)
			}
		}
		d.n.mu.Unlock()
	}
	return all
}

// takeLease makes openings of a file wait. It fails while the file is open for
// writing.
func takeLease(file *os.File) error {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	return err
}

// renew replaces an opened file with a new one with a lease.
func (f *leasedFile) renew() error {
	path := filepath.Join(busDirectory, "pci", "new")
	if err := writeFile(path, "", 0o200); err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := takeLease(file); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	f.file = file
	return os.Rename(path, f.path)
}

// admitWaiting lets waiting openings of the file proceed.
func (f *leasedFile) admitWaiting() {
	opened := f.file
	_ = f.renew() // fails when the guest's memory is full
	f.written = append(f.written, opened)
	_, _ = unix.FcntlInt(opened.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
}

// hasWaiting reports whether an opening waits.
func (f *leasedFile) hasWaiting() bool {
	left, err := unix.FcntlInt(f.file.Fd(), unix.F_GETLEASE, 0)
	return err == nil && left == unix.F_UNLCK
}
