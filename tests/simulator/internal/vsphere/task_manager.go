// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// TaskManager: tasks by event chain.

package vsphere

import (
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// taskManager overrides methods of the task manager. govmomi's keeps its last
// 1,000 tasks and does not filter them by chain; ours are kept as long as their
// events.
type taskManager struct {
	*simulator.TaskManager
	sim *Simulator
}

// CreateCollectorForTasks creates a collector of the tasks of some chains;
// every other filter is govmomi's.
func (m *taskManager) CreateCollectorForTasks(ctx *simulator.Context, req *types.CreateCollectorForTasks) soap.HasFault {
	if len(req.Filter.EventChainId) == 0 {
		return m.TaskManager.CreateCollectorForTasks(ctx, req)
	}
	c := &taskCollector{}
	c.Self.Type = "TaskHistoryCollector"
	c.Filter = req.Filter
	for _, event := range m.sim.events.since(0) {
		if task, ok := event.(*types.TaskEvent); ok && slices.Contains(req.Filter.EventChainId, task.ChainId) {
			c.left = append(c.left, task.Info)
		}
	}
	ref := ctx.Session.Put(c).Reference()
	return &methods.CreateCollectorForTasksBody{Res: &types.CreateCollectorForTasksResponse{Returnval: ref}}
}

// taskCollector lets a client read tasks page by page.
type taskCollector struct {
	mo.TaskHistoryCollector

	mu   sync.Mutex
	left []types.TaskInfo // oldest first
}

func (c *taskCollector) ReadNextTasks(req *types.ReadNextTasks) soap.HasFault {
	if req.MaxCount <= 0 {
		return &methods.ReadNextTasksBody{Fault_: soapFaultOf(&types.InvalidArgument{InvalidProperty: "maxCount"})}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	count := min(int(req.MaxCount), maxEvents, len(c.left))
	page := c.left[:count:count]
	c.left = c.left[count:]
	return &methods.ReadNextTasksBody{Res: &types.ReadNextTasksResponse{Returnval: page}}
}

func (c *taskCollector) DestroyCollector(ctx *simulator.Context, _ *types.DestroyCollector) soap.HasFault {
	ctx.Session.Remove(ctx, c.Self)
	return &methods.DestroyCollectorBody{Res: &types.DestroyCollectorResponse{}}
}
