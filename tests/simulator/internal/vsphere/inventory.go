// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The inventory at start-up and on request: VMs, folders, networks, port
// groups.

package vsphere

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
	"vmforksim/internal/vimfault"
)

// guestID is the operating system of every created VM.
const guestID = types.VirtualMachineGuestOsIdentifierOtherLinux64Guest

// buildWorkers is the number of VMs created in parallel.
const buildWorkers = 16

// modelMu prevents simulators of one process from building at the same time:
// govmomi's models write to templates that they share.
var modelMu sync.Mutex

// newVM describes a VM to create.
type newVM struct {
	name    string
	folder  *simulator.Folder
	pool    types.ManagedObjectReference
	host    types.ManagedObjectReference
	powerOn bool
}

// build creates the inventory: that of govmomi's model, with VMs that have
// guests.
func (s *Simulator) build() error {
	s.model = simulator.VPX()
	s.model.ClusterHost = s.options.Hosts
	s.model.Cluster = min(s.model.Cluster, s.options.Hosts)
	s.model.Machine = 0
	s.model.Datacenter = max(1, s.options.Datacenters)
	s.model.OpaqueNetwork = s.options.Opaque
	if err := s.create(s.model, "VMware vCenter Server"); err != nil {
		return err
	}
	s.service = s.model.Service
	if s.service.ServeMux == nil {
		s.service.ServeMux = http.NewServeMux()
	}
	s.ctx = s.service.Context
	registry := s.registry()
	registry.Handler = s.dispatch
	registry.AddHandler(registryObserver{s})
	for _, object := range registry.AllReference("Task") { // those that made the inventory
		if task, ok := object.(*simulator.Task); ok && task.Info.Entity != nil {
			task.Info.Name = methodNamed(*task.Info.Entity, task.Info.Name)
		}
	}
	s.subscribeToEvents()
	s.registerGuestManagers()
	s.showHostCertificates()
	for _, group := range registry.All(portGroupType) {
		s.ports.publish(group.Reference())
	}
	s.connectOpaqueNetworks(s.background())
	s.showNetworks(s.background())
	s.showVCenterAddress(s.background(), "vcenter.vmforksim.test", "127.0.0.1")
	pools := registry.Get(*s.content().IpPoolManager).(*simulator.IpPoolManager)
	pools.DestroyIpPool(&types.DestroyIpPool{Id: 1}) // a new vCenter has none
	if err := s.startESX(); err != nil {
		return err
	}
	return s.addDefaults()
}

// create creates the objects of a model, as a product of the requested version.
func (s *Simulator) create(model *simulator.Model, product string) error {
	about := &model.ServiceContent.About
	about.ApiVersion = s.options.APIVersion
	about.Version = fmt.Sprintf("%d.%d.%d", s.version[0], s.version[1], s.version[2])
	about.FullName = fmt.Sprintf("%s %s (simulated)", product, about.Version)
	model.DelayConfig.Delay = int(s.options.Delay / time.Millisecond)
	modelMu.Lock()
	defer modelMu.Unlock()
	return model.Create()
}

// showHostCertificates shows the certificate of the ESXi side on every host.
func (s *Simulator) showHostCertificates() {
	ctx := s.background()
	certificate := types.ByteSlice(pemOf(s.hosts))
	for _, entity := range s.registry().All("HostSystem") {
		host := entity.(*simulator.HostSystem)
		ctx.WithLock(host, func() {
			config := *host.Config // the template is shared between hosts
			config.Certificate = certificate
			host.Config = &config
			host.Summary.Config.SslThumbprint = thumbprintOf(s.hosts)
		})
	}
}

// addDefaults creates the VMs of the command line, with vcsim's names.
func (s *Simulator) addDefaults() error {
	entities := s.registry().All("")
	slices.SortFunc(entities, func(a, b mo.Entity) int {
		return strings.Compare(a.Entity().Name, b.Entity().Name)
	})
	var vms []newVM
	for _, entity := range entities {
		var resource *mo.ComputeResource
		prefix := ""
		switch found := entity.(type) {
		case *mo.ComputeResource:
			resource, prefix = found, found.Name+"_VM"
		case *simulator.ClusterComputeResource:
			resource, prefix = &found.ComputeResource, found.Name+"_RP0_VM"
		default:
			continue
		}
		for i := range s.options.VMs {
			if len(resource.Host) == 0 {
				break
			}
			folder := s.registry().Get(s.datacenterOf(resource).VmFolder).(*simulator.Folder)
			vms = append(vms, newVM{
				name: fmt.Sprintf("%s%d", prefix, i), folder: folder, pool: *resource.ResourcePool,
				host: resource.Host[i%len(resource.Host)], powerOn: true,
			})
		}
	}
	workers := buildWorkers
	if len(vms) < 2*buildWorkers {
		workers = 1 // few: let their managed object IDs follow their names
	}
	_, err := s.addVMs(vms, workers)
	return err
}

// addBulk creates many VMs, distributed over the hosts.
func (s *Simulator) addBulk(count int, pattern, folderPath string, powerOn bool) ([]string, error) {
	if count <= 0 {
		return []string{}, nil
	}
	if count > 1 && !strings.Contains(pattern, "%") {
		return nil, fmt.Errorf("name %q needs a number's place such as %%04d", pattern)
	}
	folder, err := s.findFolder(folderPath)
	if err != nil {
		return nil, err
	}
	hosts := s.hostsIn(s.datacenterOf(folder))
	vms := make([]newVM, count)
	for i := range vms {
		host := hosts[i%len(hosts)]
		parent := s.registry().Get(*host.Parent)
		var pool types.ManagedObjectReference
		switch resource := parent.(type) {
		case *mo.ComputeResource:
			pool = *resource.ResourcePool
		case *simulator.ClusterComputeResource:
			pool = *resource.ResourcePool
		}
		name := pattern
		if strings.Contains(pattern, "%") {
			name = fmt.Sprintf(pattern, i)
		}
		vms[i] = newVM{name: name, folder: folder, pool: pool, host: host.Self, powerOn: powerOn}
	}
	return s.addVMs(vms, buildWorkers)
}

// addVMs creates VMs in parallel and returns their managed object IDs in order.
// They take no space: their disks are thin, and nothing is written to them.
func (s *Simulator) addVMs(vms []newVM, side int) ([]string, error) {
	defer s.keepFreeSpace()()
	moids := make([]string, len(vms))
	errs := make([]error, len(vms))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(side, len(vms)) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for i := range next {
				moids[i], errs[i] = s.addVM(vms[i])
			}
		}()
	}
	for i := range vms {
		next <- i
	}
	close(next)
	workers.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", vms[i].name, err)
		}
	}
	return moids, nil
}

// keepFreeSpace returns a function that gives the datastores the free space
// that they have now: vcsim takes the whole size of each new disk from it.
func (s *Simulator) keepFreeSpace() func() {
	ctx := s.background()
	free := map[*simulator.Datastore]int64{}
	for _, entity := range ctx.Map.All("Datastore") {
		store := entity.(*simulator.Datastore)
		ctx.WithLock(store, func() { free[store] = store.Summary.FreeSpace })
	}
	return func() {
		for store, space := range free {
			ctx.WithLock(store, func() { store.Summary.FreeSpace, store.Info.GetDatastoreInfo().FreeSpace = space, space })
		}
	}
}

func (s *Simulator) addVM(vm newVM) (string, error) {
	ctx := s.background()
	c := s.newCreation(ctx, vm.folder)
	if fault := c.reserve(vm.name); fault != nil {
		c.abandon()
		return "", fmt.Errorf("%s", vimfault.Text(fault))
	}
	spec := types.VirtualMachineConfigSpec{
		GuestId: string(guestID), NumCPUs: 1, MemoryMB: 512,
		Files:        &types.VirtualMachineFileInfo{VmPathName: "[LocalDS_0]"},
		DeviceChange: standardDevices(s.network(s.datacenterOf(vm.folder))),
		ExtraConfig:  defaultExtraConfig(vm.name),
	}
	ref, fault := c.create(spec, vm.pool, &vm.host, func(made *simulator.VirtualMachine) {
		s.showRuntime(ctx, made)
		s.showGuest(ctx, made, guest.State{})
	})
	if fault != nil {
		c.abandon()
		return "", fmt.Errorf("%s", vimfault.Text(fault))
	}
	if vm.powerOn {
		startOperation(ctx, operation{origin: fromVCenter, user: s.options.Username})
		if fault := s.powerOnAndWait(ctx, ref, fromVCenter); fault != nil {
			return "", fmt.Errorf("%s", vimfault.Text(fault))
		}
	}
	return ref.Value, nil
}

// network returns the backing of a VM's adapter: the first distributed port
// group of its datacenter.
func (s *Simulator) network(datacenter *simulator.Datacenter) types.BaseVirtualDeviceBackingInfo {
	groups := s.registry().All(portGroupType)
	slices.SortFunc(groups, func(a, b mo.Entity) int { return compareMoids(a.Reference().Value, b.Reference().Value) })
	for _, entity := range groups {
		group := entity.(*simulator.DistributedVirtualPortgroup)
		if s.datacenterOf(group) != datacenter {
			continue
		}
		if group.Config.DistributedVirtualSwitch == nil || strings.Contains(group.Name, "Uplink") {
			continue
		}
		dvs := s.registry().Get(*group.Config.DistributedVirtualSwitch).(*simulator.DistributedVirtualSwitch)
		return &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
			Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: group.Key, SwitchUuid: dvs.Uuid},
		}
	}
	return esx.EthernetCard.Backing
}

// newPortGroup describes a distributed port group to create, with static
// binding.
type newPortGroup struct {
	Name       string `json:"name"`
	Ports      int32  `json:"ports"`
	AutoExpand bool   `json:"auto_expand"`
}

func (s *Simulator) addPortGroup(wanted newPortGroup) error {
	if wanted.Name == "" || wanted.Ports < 0 {
		return errors.New("a port group has a name, and ports")
	}
	first := slices.MinFunc(s.registry().All("DistributedVirtualSwitch"), byMoid)
	owner := &distributedSwitch{first.(*simulator.DistributedVirtualSwitch), s}
	ctx := s.background()
	var body soap.HasFault
	ctx.WithLock(owner.DistributedVirtualSwitch, func() {
		body = owner.AddDVPortgroupTask(ctx, &types.AddDVPortgroup_Task{This: owner.Self, Spec: []types.DVPortgroupConfigSpec{{
			Name: wanted.Name, Type: staticBinding, NumPorts: wanted.Ports, AutoExpand: &wanted.AutoExpand,
		}}})
	})
	if _, fault := waitBody(ctx, body); fault != nil {
		return fmt.Errorf("%s: %s", wanted.Name, vimfault.Text(fault))
	}
	return nil
}

// addNetwork makes a network of the standard switches of all hosts of the first
// datacenter.
func (s *Simulator) addNetwork(name string) error {
	ctx := s.background()
	hosts := s.hostsIn(s.firstDatacenter())
	standard := ctx.Map.Get(*hosts[0].ConfigManager.NetworkSystem).(*simulator.HostNetworkSystem)
	var body soap.HasFault
	ctx.WithLock(standard, func() {
		body = standard.AddPortGroup(ctx, &types.AddPortGroup{This: standard.Self, Portgrp: types.HostPortGroupSpec{Name: name, VswitchName: "vSwitch0"}})
	})
	if fault := body.Fault(); fault != nil {
		return fmt.Errorf("%s: %s", name, vimfault.Text(fault.VimFault().(types.BaseMethodFault)))
	}
	for _, entity := range s.registry().All("Network") {
		if entity.Entity().Name != name {
			continue
		}
		for _, host := range hosts {
			ctx.Map.AppendReference(ctx, host, &host.Network, entity.Reference())
		}
	}
	s.showNetworks(ctx)
	return nil
}

// connectOpaqueNetworks connects the opaque networks to all hosts of their
// datacenters.
func (s *Simulator) connectOpaqueNetworks(ctx *simulator.Context) {
	for _, entity := range s.registry().All("OpaqueNetwork") {
		for _, host := range s.hostsIn(s.datacenterOf(entity)) {
			ctx.Map.AppendReference(ctx, host, &host.Network, entity.Reference())
		}
	}
}

// byMoid sorts entities by age.
func byMoid(a, b mo.Entity) int { return compareMoids(a.Reference().Value, b.Reference().Value) }

// firstDatacenter returns DC0.
func (s *Simulator) firstDatacenter() *simulator.Datacenter {
	return slices.MinFunc(s.registry().All("Datacenter"), byMoid).(*simulator.Datacenter)
}

// datacenterOf returns the datacenter of an entity.
func (s *Simulator) datacenterOf(entity mo.Entity) *simulator.Datacenter {
	for at := entity.Entity().Parent; at != nil; {
		above := s.registry().Get(*at).(mo.Entity)
		if found, ok := above.(*simulator.Datacenter); ok {
			return found
		}
		at = above.Entity().Parent
	}
	return s.firstDatacenter()
}

// hostsIn returns the hosts of a datacenter, oldest first.
func (s *Simulator) hostsIn(datacenter *simulator.Datacenter) (hosts []*simulator.HostSystem) {
	for _, entity := range s.registry().All("HostSystem") {
		if s.datacenterOf(entity) == datacenter {
			hosts = append(hosts, entity.(*simulator.HostSystem))
		}
	}
	slices.SortFunc(hosts, func(a, b *simulator.HostSystem) int { return compareMoids(a.Self.Value, b.Self.Value) })
	return hosts
}

// showNetworks publishes the networks of the hosts on their clusters, and the
// hosts on the networks.
func (s *Simulator) showNetworks(ctx *simulator.Context) {
	networks := map[types.ManagedObjectReference][]types.ManagedObjectReference{}
	hosts := map[types.ManagedObjectReference][]types.ManagedObjectReference{}
	for _, entity := range s.registry().All("HostSystem") {
		host := entity.(*simulator.HostSystem)
		ctx.WithLock(host, func() {
			for _, ref := range host.Network {
				hosts[ref] = append(hosts[ref], host.Self)
				if known := networks[*host.Parent]; !slices.Contains(known, ref) {
					networks[*host.Parent] = append(known, ref)
				}
			}
		})
	}
	show := func(property string, lists map[types.ManagedObjectReference][]types.ManagedObjectReference) {
		for ref, list := range lists {
			ctx.Map.AtomicUpdate(ctx, ctx.Map.Get(ref), []types.PropertyChange{{Name: property, Val: list}})
		}
	}
	show("network", networks)
	show("host", hosts)
}

// standardDevices returns a disk, a CD drive and a network adapter.
func standardDevices(network types.BaseVirtualDeviceBackingInfo) []types.BaseVirtualDeviceConfigSpec {
	var devices object.VirtualDeviceList
	scsi, _ := devices.CreateSCSIController("pvscsi")
	ide, _ := devices.CreateIDEController()
	cdrom, _ := devices.CreateCdrom(ide.(*types.VirtualIDEController))
	cdrom.Backing = clientDevice()
	disk := devices.CreateDisk(scsi.(types.BaseVirtualController), types.ManagedObjectReference{}, "")
	disk.CapacityInKB = 10 << 20
	disk.StorageIOAllocation = &types.StorageIOAllocationInfo{Limit: types.NewInt64(-1)}
	card := &types.VirtualVmxnet3{}
	card.Key, card.ControllerKey, card.UnitNumber = 4000, 100, types.NewInt32(7) // as the first adapter always has them
	card.Backing = network
	card.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Status: "untried"}
	card.WakeOnLanEnabled = types.NewBool(true)
	devices = append(devices, scsi, cdrom, disk, card)
	changes, _ := devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	return changes
}

// leaseOf returns the address that the network gives an adapter, like a DHCP
// server with a reservation for each: 10.0.0.0/8 has as many addresses as a
// vendor has MACs. An adapter whose MAC leads to no valid host address gets
// none.
func leaseOf(mac string) string {
	octets, err := net.ParseMAC(mac)
	if err != nil || len(octets) != 6 {
		return ""
	}
	switch host := [3]byte(octets[3:]); host {
	case [3]byte{}, [3]byte{255, 255, 255}:
		return ""
	default:
		return fmt.Sprintf("10.%d.%d.%d/8", host[0], host[1], host[2])
	}
}

// findFolder finds a VM folder by its inventory path, such as /DC0/vm/a.
func (s *Simulator) findFolder(path string) (*simulator.Folder, error) {
	index := &searchIndex{SearchIndex: s.registry().SearchIndex(), sim: s}
	body := index.FindByInventoryPath(s.background(), &types.FindByInventoryPath{InventoryPath: path})
	if ref := body.(*methods.FindByInventoryPathBody).Res.Returnval; ref != nil {
		if folder, ok := s.registry().Get(*ref).(*simulator.Folder); ok {
			return folder, nil
		}
	}
	return nil, fmt.Errorf("there is no folder %q", path)
}

// makeFolder creates a folder and its parents.
func (s *Simulator) makeFolder(path string) (*simulator.Folder, error) {
	if folder, err := s.findFolder(path); err == nil {
		return folder, nil
	}
	cut := strings.LastIndex(strings.TrimSuffix(path, "/"), "/")
	if cut <= 0 {
		return nil, fmt.Errorf("there is no folder %q", path)
	}
	parent, err := s.makeFolder(path[:cut])
	if err != nil {
		return nil, err
	}
	ctx := s.background()
	ctx.WithLock(parent, func() {
		body := parent.CreateFolder(ctx, &types.CreateFolder{This: parent.Self, Name: path[cut+1:]})
		if fault := body.Fault(); fault != nil {
			err = fmt.Errorf("%s: %s", path, fault.String)
		}
	})
	if err != nil {
		return nil, err
	}
	return s.findFolder(path)
}
