// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The users who can log in, and their denied privileges.

package vsphere

import (
	"slices"
	"sync"
)

// user is someone who can log in to vCenter.
type user struct {
	Name     string   `json:"name"`
	Password string   `json:"password"`
	Deny     []string `json:"deny"`
	DenyOn   []string `json:"deny_on"` // managed object IDs; empty means everywhere
}

// users are the users who can log in. A user has every privilege that is not
// denied, unless there are permission entries for the user in vCenter.
type users struct {
	mu     sync.Mutex
	byName map[string]user
}

func newUsers(name, password string) *users {
	return &users{byName: map[string]user{name: {Name: name, Password: password}}}
}

func (u *users) put(added user) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.byName[added.Name] = added
}

func (u *users) valid(name, password string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	known, ok := u.byName[name]
	return ok && password != "" && known.Password == password
}

func (u *users) denied(name, privilege, moid string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	known := u.byName[name]
	return slices.Contains(known.Deny, privilege) && (len(known.DenyOn) == 0 || slices.Contains(known.DenyOn, moid))
}

func (u *users) known(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, known := u.byName[name]
	return known
}
