// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// A platform is what machines run on: the hypervisor without its API.

package guest

import "errors"

// Main must be called first in the program's main function. When this process
// is not the simulator but one of a guest's own (its init, a program such as
// vmtoolsd), Main does that work and returns true: the program then ends.
func Main() bool { return false }

// Platform runs machines.
type Platform struct{ options Options }

// NewPlatform prepares the platform. When the host forbids what the kind of
// guest needs, the error names the setting.
func NewPlatform(options Options) (*Platform, error) { return &Platform{options: options}, nil }

var errNotYet = errors.New("guests cannot run yet")

// Boot powers a machine on, and makes its disk when there is none.
func (p *Platform) Boot(spec Spec, backdoor Backdoor) (*Machine, error) { return nil, errNotYet }

// Fork powers a child on and returns when the child is past the fork point,
// or when the program that led there could not be run again (ReplayFailed).
func (p *Platform) Fork(spec Spec, snapshot *Snapshot, backdoor Backdoor) (*Machine, error) {
	return nil, errNotYet
}

// CopyDisk gives the machine toID a copy of the disk of fromID.
func (p *Platform) CopyDisk(fromID, toID string) error { return errNotYet }

// RemoveDisk deletes a disk; that there is none is no error.
func (p *Platform) RemoveDisk(id string) error { return nil }

// Release deletes what a snapshot holds; no child can begin with it any more.
func (p *Platform) Release(snapshot *Snapshot) {}

// Close stops every machine and deletes the platform's directory.
func (p *Platform) Close() error { return nil }
