// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The counter of API calls behind /vmforksim/calls.

package vsphere

import (
	"maps"
	"sync"
)

// calls counts requests of clients: SOAP requests by the name of their element,
// others by HTTP method and path. A method called through the Managed Object
// Browser is also counted as mob:Method.
type calls struct {
	mu    sync.Mutex
	count callCount
}

type callCount struct {
	Total   int            `json:"total"`
	Methods map[string]int `json:"methods"`
	HTTP    map[string]int `json:"http"`
}

func newCalls() *calls {
	c := &calls{}
	c.reset()
	return c
}

func (c *calls) soap(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count.Total++
	c.count.Methods[method]++
}

func (c *calls) http(request string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count.Total++
	c.count.HTTP[request]++
}

// mob counts a method called by a page. The request for the page is counted
// separately, so the total is that of requests.
func (c *calls) mob(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count.Methods["mob:"+method]++
}

func (c *calls) read() callCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	return callCount{Total: c.count.Total, Methods: maps.Clone(c.count.Methods), HTTP: maps.Clone(c.count.HTTP)}
}

// reset sets the counters to zero and returns their previous values.
func (c *calls) reset() callCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.count
	c.count = callCount{Methods: map[string]int{}, HTTP: map[string]int{}}
	return before
}
