// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Simulations of commands that a sandbox cannot have. Each has the effects
// visible from outside, and is recorded.

package guest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var simulatedCommands = map[string]program{
	"systemctl":   recorded(systemctl),
	"service":     recorded(service),
	"hostnamectl": recorded(hostnamectl),
	"modprobe":    recorded(modprobe),
	"rmmod":       recorded(modprobe),
	"lsmod":       recorded(lsmod),
	"hwclock":     recorded(hwclock),
	"dhclient":    recorded(dhclient),
	"ifup":        recorded(ifupdown),
	"ifdown":      recorded(ifupdown),
	"timedatectl": recorded(noOperation),
	"networkctl":  recorded(noOperation),
	// The identity script calls these instead of what a sandbox refuses.
	"vmfork-set-clock":   recorded(noOperation),
	"vmfork-add-entropy": recorded(noOperation),
	"udevadm":            recorded(noOperation),
	"reboot":             recorded(halt),
	"poweroff":           recorded(halt),
	"halt":               recorded(halt),
	"shutdown":           recorded(shutdown),
	"sudo":               sudo,
	"ip":                 ip,
}

// optionalCommands are simulated only where the host has no such program.
var optionalCommands = map[string]bool{"ip": true}

// recorded reports the call to the simulator before the command runs.
func recorded(run program) program {
	return func(words []string) int {
		if err := ask("record", words, nil); err != nil {
			return fail(words[0], err)
		}
		return run(words)
	}
}

func noOperation([]string) int { return 0 }

// arguments returns the words that are not options.
func arguments(words []string) []string {
	var plain []string
	for _, word := range words[1:] {
		if !strings.HasPrefix(word, "-") {
			plain = append(plain, word)
		}
	}
	return plain
}

func systemctl(words []string) int {
	plain := arguments(words)
	if len(plain) == 0 {
		return 0
	}
	verb, units := plain[0], plain[1:]
	switch verb {
	case "reboot", "poweroff", "halt":
		return endGuest(words, verb)
	case "is-active", "is-enabled":
		if !slices.Contains(words, "-q") && !slices.Contains(words, "--quiet") {
			for range units {
				fmt.Println(map[string]string{"is-active": "active", "is-enabled": "enabled"}[verb])
			}
		}
	case "is-system-running":
		fmt.Println("running")
	case "status":
		for _, unit := range units {
			fmt.Printf("● %s\n     Loaded: loaded\n     Active: active (running)\n", unit)
		}
	case "start", "restart", "reload-or-restart", "try-restart", "stop":
		for _, unit := range units {
			if code := unitAction(words[0], unit, verb); code != 0 {
				return code
			}
		}
	}
	return 0
}

// endGuest restarts the guest or powers it off: everything that runs ends, and
// the contents of /run are lost. A halted guest stays powered on.
func endGuest(words []string, how string) int {
	if !isRoot(words[0] + ": Operation not permitted") {
		return 1
	}
	if how == "halt" {
		return 0
	}
	if err := ask(how, words, nil); err != nil {
		return fail(words[0], err)
	}
	return 0
}

// endOptions are the options of halt(8) and shutdown(8) that define how the
// guest ends.
var endOptions = map[string]string{"--halt": "halt", "-H": "halt", "--poweroff": "poweroff", "-P": "poweroff", "--reboot": "reboot", "-r": "reboot"}

// halt also implements reboot and poweroff.
func halt(words []string) int {
	how := words[0]
	for _, word := range words[1:] {
		switch {
		case word == "-w" || word == "--wtmp-only":
			return 0
		case word == "-p":
			how = "poweroff"
		case endOptions[word] != "":
			how = endOptions[word]
		}
	}
	return endGuest(words, how)
}

// shutdown acts when its time is now. A later time is never reached.
func shutdown(words []string) int {
	how := "poweroff"
	for _, word := range words[1:] {
		if endOptions[word] != "" {
			how = endOptions[word]
		}
	}
	plain := arguments(words)
	if len(plain) == 0 || plain[0] != "now" && plain[0] != "+0" {
		return 0
	}
	return endGuest(words, how)
}

func service(words []string) int {
	if plain := arguments(words); len(plain) >= 2 {
		return unitAction(words[0], plain[0], plain[1])
	}
	return 0
}

// unitAction does for the network services what their units do.
func unitAction(name, unit, verb string) int {
	unit = strings.TrimSuffix(unit, ".service")
	switch unit {
	case "networking", "network", "systemd-networkd", "NetworkManager":
		daemon := unit == "systemd-networkd" || unit == "NetworkManager"
		if verb == "status" || verb == "stop" && daemon { // without it the interfaces stay as they are
			return 0
		}
		if !isRoot(name + ": Access denied") {
			return 4 // no permission, see LSB
		}
		act := configureNetwork
		if verb == "stop" {
			act = stopNetwork
		}
		if err := act(""); err != nil {
			return fail(name, err)
		}
	}
	return 0
}

func hostnamectl(words []string) int {
	static, err := os.Hostname()
	if err != nil {
		return fail(words[0], err)
	}
	plain := arguments(words)
	switch {
	case len(plain) == 2 && (plain[0] == "set-hostname" || plain[0] == "hostname"):
		if slices.Contains(words, "--pretty") {
			return 0
		}
		if !isRoot("Could not set static hostname: Access denied") {
			return 1
		}
		return setHostname(words, plain[1])
	case len(plain) == 1 && plain[0] == "hostname", slices.Contains(words, "--static"), slices.Contains(words, "--transient"):
		fmt.Println(static)
	case len(plain) == 0 || plain[0] == "status":
		machineID, _ := os.ReadFile("/etc/machine-id")
		fmt.Printf(" Static hostname: %s\n      Machine ID: %s\n  Virtualization: vmware\n", static, strings.TrimSpace(string(machineID)))
	default:
		fmt.Fprintf(os.Stderr, "Unknown command verb %s.\n", plain[0])
		return 1
	}
	return 0
}

func setHostname(words []string, name string) int {
	if onHostNetwork() { // the init keeps the name
		if err := ask("hostname", []string{name}, nil); err != nil {
			return fail(words[0], err)
		}
		return 0
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fail(words[0], err)
	}
	if err := os.WriteFile("/etc/hostname", []byte(name+"\n"), 0o644); err != nil {
		return fail(words[0], err)
	}
	return 0
}

// modprobe also implements rmmod. An adapter without a driver has no interface;
// one whose driver is loaded has the MAC of the hardware, which after a fork
// differs from the one that the guest remembers.
func modprobe(words []string) int {
	remove := words[0] == "rmmod" || slices.Contains(words, "-r") || slices.Contains(words, "--remove")
	plain := arguments(words)
	if len(plain) == 0 {
		fmt.Fprintf(os.Stderr, "%s: ERROR: missing module name\n", words[0])
		return 1
	}
	if !isRoot(fmt.Sprintf("%s: ERROR: %s: Operation not permitted", words[0], plain[0])) {
		return 1
	}
	if !remove {
		plain = plain[:1] // parameters follow
	}
	verb := "load"
	if remove {
		verb = "remove"
	}
	for _, module := range plain {
		if err := ask("driver", []string{verb, module}, nil); err != nil {
			return fail(words[0], err)
		}
	}
	return 0
}

// hardware are the adapters that the VM has.
func hardware() ([]NIC, error) {
	var nics []NIC
	err := ask("hardware", nil, &nics)
	return nics, err
}

func lsmod([]string) int {
	modules := []string{"vmw_vsock_vmci_transport", "vmw_balloon", "vmw_vmci", "vmw_pvscsi"}
	nics, err := hardware()
	if err != nil {
		return fail("lsmod", err)
	}
	for _, nic := range nics {
		if module := nic.driver(); nic.Name != "" && !slices.Contains(modules, module) {
			modules = append(modules, module)
		}
	}
	fmt.Println("Module                  Size  Used by")
	for _, module := range modules {
		fmt.Printf("%-22s %6d  0\n", module, 65536)
	}
	return 0
}

func hwclock(words []string) int {
	if len(words) == 1 || words[1] == "-r" || words[1] == "--show" {
		fmt.Println(time.Now().Format("2006-01-02 15:04:05.000000-07:00"))
	}
	return 0
}

// dhclient requests the address that the network has for an adapter, or with -r
// releases it.
func dhclient(words []string) int {
	if !isRoot("dhclient: Operation not permitted") {
		return 1
	}
	nics, err := hardware()
	if err != nil {
		return fail(words[0], err)
	}
	if onHostNetwork() {
		return 0
	}
	release := slices.Contains(words, "-r") || slices.Contains(words, "-x")
	wanted := arguments(words)
	for _, nic := range nics {
		if nic.Name == "" || len(wanted) > 0 && !slices.Contains(wanted, nic.Name) {
			continue
		}
		if nic.Address == "" && !release {
			fmt.Fprintf(os.Stderr, "%s: No DHCPOFFERS received.\n", nic.Name)
			if slices.Contains(words, "-1") {
				return 2
			}
			continue
		}
		if err := lease(nic, release); err != nil {
			return fail(words[0], err)
		}
	}
	return 0
}

// lease releases the previous address of the adapter, as dhclient-script does:
// after a fork that is the parent's.
func lease(nic NIC, release bool) error {
	link, err := netlink.LinkByName(nic.Name)
	if err != nil {
		return err
	}
	addresses, err := ignoreInterrupted(netlink.AddrList(link, netlink.FAMILY_V4))
	if err != nil {
		return err
	}
	for _, address := range addresses {
		if !release && address.IPNet.String() == nic.Address {
			continue
		}
		if err := netlink.AddrDel(link, &address); err != nil && err != unix.EADDRNOTAVAIL {
			return err
		}
	}
	if release {
		return nil
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	return addAddress(link, addressState{CIDR: nic.Address})
}
