// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// SessionManager: listing and ending sessions.

package vsphere

import (
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// sessions lists and kills clients' sessions.
type sessions struct {
	sim  *Simulator
	mu   sync.Mutex
	seen map[string]*simulator.Session
	dead map[string]bool
}

type sessionInfo struct {
	Key        string    `json:"key"`
	User       string    `json:"user"`
	LastActive time.Time `json:"last_active"`
}

// remember records a session's objects, whose waiting calls must end with it.
func (s *sessions) remember(session *simulator.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[session.Key] = session
}

// end removes a session whose client logs out.
func (s *sessions) end(session *simulator.Session) {
	s.mu.Lock()
	delete(s.seen, session.Key)
	s.mu.Unlock()
	s.sim.endCollectors(session)
}

// endCollectors ends the waiting calls of a session.
func (s *Simulator) endCollectors(session *simulator.Session) {
	for _, object := range session.AllReference("PropertyCollector") {
		if collector, ok := object.(*simulator.PropertyCollector); ok {
			s.collectors.remove(collector)
		}
	}
	for _, object := range session.AllReference("EventHistoryCollector") {
		s.events.removeCollector(object.Reference())
	}
}

func (s *sessions) killed(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead[key]
}

func (s *sessions) list() []sessionInfo {
	manager := s.sim.content().SessionManager
	view := s.sim.ctx.Session.Get(*manager).(*simulator.SessionManager)
	list := []sessionInfo{}
	for _, session := range view.SessionList {
		list = append(list, sessionInfo{session.Key, session.UserName, session.LastActiveTime})
	}
	return list
}

// userOf returns the user of a session; "" if there is no such session.
func (s *sessions) userOf(key string) string {
	for _, session := range s.list() {
		if session.Key == key {
			return session.User
		}
	}
	return ""
}

// kill ends the sessions of a user, or all, and returns them.
func (s *sessions) kill(user string) []sessionInfo {
	ended := []sessionInfo{}
	for _, session := range s.list() {
		if user == "" || session.User == user {
			s.drop(session.Key)
			ended = append(ended, session)
		}
	}
	return ended
}

// drop ends a session that its client still considers valid.
func (s *sessions) drop(key string) {
	s.mu.Lock()
	s.dead[key] = true
	objects := s.seen[key]
	delete(s.seen, key)
	s.mu.Unlock()
	s.sim.registry().SessionManager().TerminateSession(s.sim.background(), &types.TerminateSession{SessionId: []string{key}})
	if objects != nil {
		s.sim.endCollectors(objects)
	}
}
