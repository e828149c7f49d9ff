// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"crypto/tls"
	"net/url"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
)

// A client that comes to a host directly can tell.
func TestESXEndpoint(t *testing.T) {
	b := start(t, func(o *Options) { o.ESXListen = "127.0.0.1:0"; o.APIVersion = "7.0.2.0" })
	address, _ := url.Parse(b.sim.ESXURL())
	for password, right := range map[string]bool{"pass": true, "wrong": false} {
		address.User = url.UserPassword("user", password)
		client, err := govmomi.NewClient(b.ctx, address, true)
		if (err == nil) != right {
			t.Errorf("login with %q: %v", password, err)
		}
		if err != nil {
			continue
		}
		if about := client.ServiceContent.About; about.ApiType != "HostAgent" || about.ApiVersion != "7.0.2.0" || about.FullName != "VMware ESXi 7.0.2 (simulated)" {
			t.Errorf("%+v", about)
		}
		if vm, err := object.NewSearchIndex(client.Client).FindByInventoryPath(b.ctx, "/ha-datacenter/vm/ha-host_VM0"); err != nil || vm == nil {
			t.Errorf("%v %v", vm, err)
		}
	}
	if about := b.client.ServiceContent.About; about.ApiType != "VirtualCenter" {
		t.Errorf("vCenter: %+v", about)
	}
	certificate := func(address string) string {
		u, _ := url.Parse(address)
		conn, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return string(conn.ConnectionState().PeerCertificates[0].Raw)
	}
	if certificate(b.sim.ESXURL()) == certificate(b.sim.URL()) {
		t.Error("host and vCenter have the same certificate")
	}
}
