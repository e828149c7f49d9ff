// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"testing"
)

func TestBoot(t *testing.T) {
	p := newPlatform(t, Namespaces)
	m := boot(t, p, parentSpec(), newHypervisor())
	t.Log(must(t, m, "hostname; id; ls -la / /etc /dev; mount; ip addr; ps ax; cat /sys/class/net/eth0/address; ls /proc | head -3; cat /proc/self/uid_map"))
	t.Log(m.State(), m.Processes())
}
