// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// What a guest's network services do when scripts restart them: they read the
// configuration that the scripts wrote and apply it. The supported settings of
// each format are addresses, a default route, and DHCP.

package guest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkConfig is the configuration of one interface.
type linkConfig struct {
	Name      string
	MAC       string   // instead of the name
	Addresses []string // with prefix length
	Gateway   string
	DHCP      bool
}

// networkFiles are the configuration files and their parsers.
var networkFiles = []struct {
	pattern string
	parse   func(text string) []linkConfig
}{
	{"/etc/systemd/network/*.network", parseNetworkd},
	{"/etc/network/interfaces", parseInterfaces},
	{"/etc/network/interfaces.d/*", parseInterfaces},
	{"/etc/sysconfig/network-scripts/ifcfg-*", parseIfcfg},
}

// parseNetworkd reads systemd.network(5).
func parseNetworkd(text string) []linkConfig {
	var config linkConfig
	for _, line := range strings.Split(text, "\n") {
		key, value, found := strings.Cut(line, "=")
		value = strings.TrimSpace(value)
		if !found || strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		switch strings.TrimSpace(key) {
		case "Name":
			config.Name = value
		case "MACAddress":
			config.MAC = value
		case "Address":
			config.Addresses = append(config.Addresses, withPrefix(value, ""))
		case "Gateway":
			config.Gateway = value
		case "DHCP":
			config.DHCP = value == "yes" || value == "ipv4"
		}
	}
	return []linkConfig{config}
}

// parseInterfaces reads interfaces(5).
func parseInterfaces(text string) []linkConfig {
	var all []linkConfig
	var address, mask string
	end := func() {
		if len(all) > 0 && address != "" {
			last := &all[len(all)-1]
			last.Addresses = append(last.Addresses, withPrefix(address, mask))
		}
		address, mask = "", ""
	}
	inside := false
	for _, line := range strings.Split(text, "\n") {
		word := strings.Fields(line)
		switch {
		case len(word) < 2 || strings.HasPrefix(word[0], "#"):
		case word[0] == "iface" && len(word) >= 4:
			end()
			inside = true
			all = append(all, linkConfig{Name: word[1], DHCP: word[3] == "dhcp"})
		case word[0] == "auto" || strings.HasPrefix(word[0], "allow-") || word[0] == "mapping" || word[0] == "source":
			end()
			inside = false
		case inside && word[0] == "address":
			address = word[1]
		case inside && word[0] == "netmask":
			mask = word[1]
		case inside && word[0] == "gateway":
			all[len(all)-1].Gateway = word[1]
		}
	}
	end()
	return all
}

// parseIfcfg reads the network scripts of Red Hat's systems.
func parseIfcfg(text string) []linkConfig {
	value := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if key, content, found := strings.Cut(strings.TrimSpace(line), "="); found {
			value[key] = strings.Trim(content, `"'`)
		}
	}
	config := linkConfig{Name: value["DEVICE"], Gateway: value["GATEWAY"], DHCP: strings.EqualFold(value["BOOTPROTO"], "dhcp")}
	if address := value["IPADDR"]; address != "" {
		mask := value["NETMASK"]
		if mask == "" {
			mask = value["PREFIX"]
		}
		config.Addresses = []string{withPrefix(address, mask)}
	}
	return []linkConfig{config}
}

// withPrefix returns an address with its prefix length. The mask, "24" or
// "255.255.255.0", follows the address's slash or is given separately. An
// address without a mask is that of a host.
func withPrefix(address, mask string) string {
	if before, after, ok := strings.Cut(address, "/"); ok {
		address, mask = before, after
	}
	if dotted := net.ParseIP(mask).To4(); dotted != nil {
		ones, _ := net.IPMask(dotted).Size()
		return fmt.Sprintf("%s/%d", address, ones)
	}
	if mask != "" {
		return address + "/" + mask
	}
	if strings.Contains(address, ":") {
		return address + "/128"
	}
	return address + "/32"
}

// configureNetwork applies the guest's configuration to one interface, or to
// all that it names.
func configureNetwork(only string) error { return eachConfigured(only, applyLink) }

// stopNetwork takes the configured interfaces down.
func stopNetwork(only string) error {
	return eachConfigured(only, func(config linkConfig) error {
		if config.Name == "" {
			return nil
		}
		return takeDown(config.Name)
	})
}

// eachConfigured calls do with the configuration of one interface, or of all.
func eachConfigured(only string, do func(linkConfig) error) error {
	for _, source := range networkFiles {
		paths, err := filepath.Glob(source.pattern) // sorted
		if err != nil {
			return err
		}
		for _, path := range paths {
			if isBackup(path) {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, config := range source.parse(string(text)) {
				if config.Name == loopback || only != "" && config.Name != only {
					continue
				}
				if err := do(config); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
			}
		}
	}
	return nil
}

// isBackup reports whether a file of Red Hat's network scripts is one that
// /etc/init.d/network does not read.
func isBackup(path string) bool {
	name := filepath.Base(path)
	extension := filepath.Ext(name)
	return strings.HasPrefix(name, "ifcfg-") &&
		(strings.HasSuffix(name, "~") || extension == ".bak" || extension == ".orig" || strings.HasPrefix(extension, ".rpm"))
}

// applyLink applies the configuration of one interface. An interface that does
// not exist or has no configuration is left unchanged.
func applyLink(config linkConfig) error {
	state, _, err := readLinks()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(state.Links, func(l linkState) bool {
		return l.Name == config.Name || config.MAC != "" && strings.EqualFold(l.MAC, config.MAC)
	})
	if at < 0 || len(config.Addresses) == 0 && !config.DHCP {
		return nil
	}
	link := state.Links[at]
	config.Name = link.Name
	link.Up, link.Addresses = true, nil
	if config.DHCP {
		nics, err := hardware()
		if err != nil {
			return err
		}
		for _, nic := range nics {
			if nic.Name == config.Name && nic.Address != "" {
				config.Addresses = append(config.Addresses, nic.Address)
			}
		}
	}
	for _, address := range config.Addresses {
		link.Addresses = append(link.Addresses, addressState{CIDR: address})
	}
	if err := setLink(link); err != nil {
		return err
	}
	if config.Gateway == "" {
		return nil
	}
	return setRoute(routeState{Gateway: config.Gateway, Link: config.Name, Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST})
}

// ifupdown is both ifup and ifdown.
func ifupdown(words []string) int {
	if !isRoot(words[0] + ": Operation not permitted") {
		return 1
	}
	names := arguments(words)
	if slices.Contains(words, "-a") || slices.Contains(words, "--all") {
		names = []string{""}
	}
	for _, name := range names {
		err := configureNetwork(name)
		if words[0] == "ifdown" {
			err = takeDown(name)
		}
		if err != nil {
			return fail(words[0], err)
		}
	}
	return 0
}

// takeDown takes an interface, or all but the loopback, down.
func takeDown(name string) error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		found := link.Attrs()
		if found.Name == loopback || name != "" && found.Name != name {
			continue
		}
		if err := setLink(linkState{Name: found.Name, MAC: found.HardwareAddr.String(), MTU: found.MTU}); err != nil {
			return err
		}
	}
	return nil
}
