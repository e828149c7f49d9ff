// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Task: plans for tasks, delays, locks, names, and tasks that vCenter no longer
// knows.

package vsphere

import (
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// taskPlan is what the simulator adds to a task started by a method of
// govmomi's simulator or of ours.
type taskPlan struct {
	ctx       *simulator.Context
	method    string                       // as the client named it
	entity    types.ManagedObjectReference // what the task is shown on
	names     []string                     // names that an injected fault may use
	before    func() types.BaseMethodFault // may fail the task before it does anything
	after     func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault)
	ownLocks  bool // the task takes the locks it needs itself
	usesFiles bool // the task works on a datastore's files
	nested    bool // the task is part of another, to which injected faults and delays applied

	descriptionID string // where govmomi's simulator has another than vCenter
}

// tasks contains the plans of calls that are about to start their task, by the
// object that the task will be created on.
type tasks struct {
	mu      sync.Mutex
	plans   map[types.ManagedObjectReference]*taskPlan
	unknown map[types.ManagedObjectReference]bool // tasks that were forgotten
}

// start runs a method that starts one task on ref. Calls on one object must not
// overlap: the caller holds its lock, or is the only one to use it.
func (t *tasks) start(ref types.ManagedObjectReference, plan *taskPlan, method func() soap.HasFault) soap.HasFault {
	if plan.entity.Value == "" {
		plan.entity = ref
	}
	t.expectTask(ref, plan)
	defer func() {
		t.mu.Lock()
		delete(t.plans, ref)
		t.mu.Unlock()
	}()
	return method()
}

// expectTask is for a task that is started later.
func (t *tasks) expectTask(ref types.ManagedObjectReference, plan *taskPlan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plans[ref] = plan
}

func (t *tasks) take(ref types.ManagedObjectReference) *taskPlan {
	t.mu.Lock()
	defer t.mu.Unlock()
	plan := t.plans[ref]
	delete(t.plans, ref)
	return plan
}

// prepareTask is called when a task is registered, before it runs.
func (s *Simulator) prepareTask(task *simulator.Task) {
	if task.Execute == nil || task.Info.Entity == nil {
		return
	}
	ref := *task.Info.Entity
	task.Info.Name = methodNamed(ref, task.Info.Name)
	plan := s.tasks.take(ref)
	execute := task.Execute
	if plan == nil {
		task.Execute = func(t *simulator.Task) (types.AnyType, types.BaseMethodFault) { return recoverTask(execute, t) }
		if ref.Type == "FileManager" {
			// The removal of a VM starts a file task and does not wait for it.
			// Run immediately, it uses s.files while the removal holds it; a
			// later start could wait for the next removal, which holds s.files
			// then and needs the file manager's lock.
			result, fault := recoverTask(execute, task)
			task.Execute = func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return result, fault }
		}
		return
	}
	entity := plan.entity
	if plan.method != "" {
		task.Info.Name = plan.method
	}
	task.Info.Entity = &entity
	if entity != ref {
		s.showRecent(plan.ctx, entity, task.Reference())
	}
	task.Info.EntityName = s.names.of(entity.Value)
	op := operationOf(plan.ctx)
	task.Info.Reason = &types.TaskReasonUser{UserName: op.user}
	if plan.descriptionID != "" {
		task.Info.DescriptionId = plan.descriptionID
	}
	if plan.method != "" && op.origin == fromVCenter && !(plan.nested && op.hasEvents()) {
		s.postTask(plan.ctx, task)
	}
	if !plan.nested && s.faults.take("vanish", plan.method, entity.Value, append(plan.names, s.names.of(entity.Value))...) != nil {
		s.tasks.markUnknown(task.Reference())
	}
	task.Execute = func(t *simulator.Task) (result types.AnyType, fault types.BaseMethodFault) {
		// An injected fault refers to the call's VM, whatever object the task
		// is on.
		var injected *injectedFault
		var delay time.Duration
		if !plan.nested {
			injected = s.faults.take("task", plan.method, entity.Value, append(plan.names, s.names.of(entity.Value))...)
			delay = s.options.TaskDelay
		}
		if injected != nil {
			delay += injected.delay()
		}
		if delay > 0 {
			if there := withoutLock(plan.ctx, entity, func() { time.Sleep(delay) }); !there {
				endUnlocked(plan.ctx, t, nil, &types.ManagedObjectNotFound{Obj: entity})
			}
		}
		if injected != nil && injected.Fault != "" {
			return nil, injected.fault()
		}
		if plan.before != nil {
			if fault := plan.before(); fault != nil {
				return nil, fault
			}
		}
		work := func() {
			if plan.usesFiles {
				s.files.Lock()
				defer s.files.Unlock()
			}
			result, fault = recoverTask(execute, t)
			if plan.after != nil {
				result, fault = plan.after(result, fault)
			}
			if fault == nil && !plan.nested {
				result = s.replaceResult(plan, entity, result)
			}
			if fault == nil && op.reconfigured != nil {
				s.recordEvent(op, op.reconfigured)
				op.reconfigured = nil
			}
		}
		if plan.ownLocks {
			if there := withoutLock(plan.ctx, entity, work); !there {
				endUnlocked(plan.ctx, t, result, fault)
			}
		} else {
			work()
		}
		return result, fault
	}
}

// showRecent lists a task among the recent ones of the object that it is shown
// on: govmomi's simulator lists it on the object it was created on.
func (s *Simulator) showRecent(ctx *simulator.Context, entity, task types.ManagedObjectReference) {
	object, ok := ctx.Map.Get(entity).(mo.Entity)
	if !ok {
		return
	}
	ctx.WithLock(object, func() {
		recent := append(slices.Clone(object.Entity().RecentTask), task)
		ctx.Update(object, []types.PropertyChange{{Name: "recentTask", Val: recent[max(0, len(recent)-recentTasks):]}})
	})
}

// recentTasks is the number of tasks that an object lists.
const recentTasks = 200

// recoverTask prevents a panic in a task, which nothing could catch, from
// ending the process.
func recoverTask(execute func(*simulator.Task) (types.AnyType, types.BaseMethodFault), task *simulator.Task) (result types.AnyType, fault types.BaseMethodFault) {
	defer func() {
		if recovered := recover(); recovered != nil {
			result, fault = nil, vimfault.WithText(&types.SystemError{Reason: fmt.Sprint(recovered)}, fmt.Sprintf("A general system error occurred: %v", recovered))
		}
	}()
	return execute(task)
}

// withoutLock releases the lock that a task holds on its object while f runs:
// locks are counted per context, and the first of the two releases only undoes
// what this function acquired. It reports whether the object still exists; its
// lock is removed with it.
func withoutLock(ctx *simulator.Context, ref types.ManagedObjectReference, f func()) (there bool) {
	release := ctx.Map.AcquireLock(ctx, ref)
	release()
	release()
	defer func() {
		release := ctx.Map.AcquireLock(ctx, ref)
		if there = ctx.Map.Get(ref) != nil; !there {
			release()
		}
	}()
	f()
	return
}

// endUnlocked ends a task whose object was removed in the meantime, and the
// task's goroutine, which would otherwise release a lock that nobody holds.
func endUnlocked(ctx *simulator.Context, task *simulator.Task, result types.AnyType, fault types.BaseMethodFault) {
	changes := []types.PropertyChange{
		{Name: "info.completeTime", Val: time.Now()},
		{Name: "info.state", Val: types.TaskInfoStateSuccess},
		{Name: "info.result", Val: result},
	}
	if fault != nil {
		changes = append(changes[:1],
			types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateError},
			types.PropertyChange{Name: "info.error", Val: types.LocalizedMethodFault{Fault: fault, LocalizedMessage: vimfault.Text(fault)}})
	}
	ctx.Map.AtomicUpdate(ctx, task, changes)
	runtime.Goexit()
}

// taskChanged adds to a failed task the message that vCenter shows.
func (s *Simulator) taskChanged(ctx *simulator.Context, task *mo.Task, changes []types.PropertyChange) {
	for _, change := range changes {
		if change.Name != "info.error" || task.Info.Error == nil {
			continue
		}
		fault := task.Info.Error.Fault
		if text := vimfault.Text(fault); task.Info.Error.LocalizedMessage != text {
			ctx.Update(task, []types.PropertyChange{{
				Name: "info.error",
				Val:  types.LocalizedMethodFault{Fault: fault, LocalizedMessage: text},
			}})
		}
	}
}

// waitTask waits for a task of govmomi's simulator.
func waitTask(ctx *simulator.Context, ref types.ManagedObjectReference) (types.AnyType, types.BaseMethodFault) {
	task := ctx.Map.Get(ref).(*simulator.Task)
	task.Wait()
	if task.Info.Error != nil {
		return nil, task.Info.Error.Fault
	}
	return task.Info.Result, nil
}

// waitBody waits for the task that a method started.
func waitBody(ctx *simulator.Context, body soap.HasFault) (types.AnyType, types.BaseMethodFault) {
	if fault := body.Fault(); fault != nil {
		return nil, fault.VimFault().(types.BaseMethodFault)
	}
	ref := reflect.ValueOf(body).Elem().FieldByName("Res").Elem().FieldByName("Returnval").Interface()
	return waitTask(ctx, ref.(types.ManagedObjectReference))
}

// startTask starts a task of ours. The work takes the locks it needs itself.
func (s *Simulator) startTask(ctx *simulator.Context, vm mo.Reference, id, method string, names []string, work func() (types.AnyType, types.BaseMethodFault)) *taskResponse {
	task := simulator.CreateTask(vm, id, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return work() })
	plan := &taskPlan{ctx: ctx, method: method, names: names, ownLocks: true}
	var ref types.ManagedObjectReference
	s.tasks.start(vm.Reference(), plan, func() soap.HasFault {
		ref = task.Run(ctx)
		return nil
	})
	return &taskResponse{Returnval: ref}
}

// A restarted vCenter does not know its earlier tasks (rule forgotten_tasks).
// Their operations on the hosts continue.

// markUnknown makes a task unknown to clients.
func (t *tasks) markUnknown(ref types.ManagedObjectReference) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unknown[ref] = true
}

// isUnknown reports whether an object is a task that clients must not find.
func (t *tasks) isUnknown(ref types.ManagedObjectReference) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unknown[ref]
}

// anyUnknown reports whether reads must omit something.
func (t *tasks) anyUnknown() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.unknown) > 0
}

// controlTasks forgets all current tasks, as a restart of vCenter does.
// Sessions are kept; DELETE /vmforksim/sessions ends them.
func (s *Simulator) controlTasks(*http.Request) (any, error) {
	forgotten := []string{}
	for _, task := range s.registry().AllReference("Task") {
		ref := task.Reference()
		s.tasks.markUnknown(ref)
		forgotten = append(forgotten, ref.Value)
	}
	slices.Sort(forgotten)
	return map[string]any{"forgotten": forgotten}, nil
}

// methodNamed returns the method of a task of govmomi's simulator. Its own name
// for it, such as PowerOn or CreateVm, is not a method of the API, and pyVmomi
// cannot parse a TaskInfo with an unknown name.
func methodNamed(entity types.ManagedObjectReference, name string) string {
	suffix := map[string]string{"VirtualMachine": "VM", "VirtualApp": "VApp"}[entity.Type]
	known := strings.ReplaceAll(name, "Vm", "VM")
	for _, candidate := range []string{name, name + "_Task", known + "_Task", name + suffix + "_Task"} {
		if isMethod(candidate) {
			return candidate
		}
	}
	return name
}

// isMethod reports whether the API has a method of this name.
func isMethod(name string) bool {
	request, ok := types.TypeFunc()(name)
	if !ok {
		return false
	}
	_, ok = request.FieldByName("This")
	return ok
}
