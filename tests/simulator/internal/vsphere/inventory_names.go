// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The index of VM names per folder, and the escaping of names.

package vsphere

import (
	"net/url"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/rules"
)

// nameIndex is an index of the VMs that clients can see, by folder and name.
// govmomi's simulator searches the objects themselves, which panics on a VM
// that is being created.
type nameIndex struct {
	rules    *rules.Rules
	mu       sync.Mutex
	vms      map[string]nameKey                         // by moid
	refs     map[nameKey][]types.ManagedObjectReference // by the folded name
	reserved map[nameKey]bool
}

type nameKey struct {
	folder types.ManagedObjectReference
	name   string
}

// folded returns the key shared by all names that differ only in case.
func (p nameKey) folded() nameKey { return nameKey{p.folder, strings.ToLower(p.name)} }

func newNameIndex(rules *rules.Rules) *nameIndex {
	return &nameIndex{
		rules:    rules,
		vms:      map[string]nameKey{},
		refs:     map[nameKey][]types.ManagedObjectReference{},
		reserved: map[nameKey]bool{},
	}
}

// same reports whether vCenter treats two names as equal.
func (n *nameIndex) same(one, other string) bool {
	return one == other || n.rules.Is("names_differing_in_case", "same") && strings.EqualFold(one, other)
}

// of returns the name of a VM, "" for an unknown one.
func (n *nameIndex) of(moid string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.vms[moid].name
}

// visible reports whether a VM can be seen by clients.
func (n *nameIndex) visible(ref types.ManagedObjectReference) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.vms[ref.Value]
	return ok
}

// find looks a VM up in a folder.
func (n *nameIndex) find(folder types.ManagedObjectReference, name string) (types.ManagedObjectReference, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at(nameKey{folder, name})
}

// at is find for callers that hold the mutex. A VM with exactly this name is
// preferred.
func (n *nameIndex) at(at nameKey) (found types.ManagedObjectReference, ok bool) {
	for _, ref := range n.refs[at.folded()] {
		name := n.vms[ref.Value].name
		if name == at.name {
			return ref, true
		}
		if n.same(name, at.name) {
			found, ok = ref, true
		}
	}
	return found, ok
}

// reserve keeps a name for a VM that is being created.
func (n *nameIndex) reserve(folder types.ManagedObjectReference, name string) types.BaseMethodFault {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := nameKey{folder, name}
	if ref, ok := n.at(at); ok {
		return &types.DuplicateName{Name: name, Object: ref}
	}
	for other := range n.reserved {
		if other.folder == folder && n.same(other.name, name) {
			return &types.DuplicateName{Name: name, Object: folder}
		}
	}
	n.reserved[at] = true
	return nil
}

func (n *nameIndex) release(folder types.ManagedObjectReference, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.reserved, nameKey{folder, name})
}

// put adds a VM, or moves it to another folder.
func (n *nameIndex) put(ref, folder types.ManagedObjectReference, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop(ref)
	n.enter(ref, nameKey{folder, name})
}

func (n *nameIndex) enter(ref types.ManagedObjectReference, at nameKey) {
	n.vms[ref.Value] = at
	n.refs[at.folded()] = append(n.refs[at.folded()], ref)
}

// rename handles a change of the property name.
func (n *nameIndex) rename(ref types.ManagedObjectReference, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, ok := n.vms[ref.Value]; ok {
		n.drop(ref)
		n.enter(ref, nameKey{at.folder, name})
	}
}

func (n *nameIndex) remove(ref types.ManagedObjectReference) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop(ref)
}

func (n *nameIndex) drop(ref types.ManagedObjectReference) {
	if at, ok := n.vms[ref.Value]; ok {
		delete(n.vms, ref.Value)
		left := slices.DeleteFunc(n.refs[at.folded()], func(other types.ManagedObjectReference) bool { return other == ref })
		if n.refs[at.folded()] = left; len(left) == 0 {
			delete(n.refs, at.folded())
		}
	}
}

// maxNameLength counts the characters of the unescaped name.
const maxNameLength = 80

// inventoryName converts a requested name into the one in the inventory: /, \
// and % are escaped unless they already are.
func inventoryName(name string) (string, types.BaseMethodFault) {
	var escaped strings.Builder
	for i := 0; i < len(name); i++ {
		switch c := name[i]; c {
		case '/':
			escaped.WriteString("%2f")
		case '\\':
			escaped.WriteString("%5c")
		case '%':
			if len(name) > i+2 {
				if sequence := strings.ToLower(name[i : i+3]); sequence == "%2f" || sequence == "%5c" || sequence == "%25" {
					escaped.WriteString(sequence)
					i += 2
					continue
				}
			}
			escaped.WriteString("%25")
		default:
			escaped.WriteByte(c)
		}
	}
	plain, err := url.PathUnescape(escaped.String())
	if err != nil || plain == "" || !utf8.ValidString(plain) || utf8.RuneCountInString(plain) > maxNameLength ||
		strings.ContainsFunc(plain, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", &types.InvalidName{Name: name}
	}
	return escaped.String(), nil
}

// fileName converts a VM's name into one for its directory.
func fileName(name string) string {
	safe := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\%[]:*?"<>|'`, r) || r < ' ' {
			return '_'
		}
		return r
	}, name)
	if strings.HasPrefix(safe, ".") || strings.HasSuffix(safe, ".vmx") {
		safe = "_" + strings.ReplaceAll(safe, ".", "_")
	}
	for len(safe) > 160 { // leaves room for suffixes within the file system's 255 bytes
		_, size := utf8.DecodeLastRuneInString(safe)
		safe = safe[:len(safe)-size]
	}
	return safe
}
