// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Command vmforksim is a simulated vCenter whose VMs can be forked.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"vmforksim/internal/guest"
	"vmforksim/internal/vsphere"
)

func main() {
	if guest.Main() {
		return
	}
	// Hundreds of simulators run in the tests, each for seconds: they need less
	// processor time with more memory. GOGC takes precedence.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "vmforksim:", err)
		os.Exit(1)
	}
}

// milliseconds parses a duration whose unit may be omitted.
func milliseconds(target *time.Duration) func(string) error {
	return func(text string) (err error) {
		if _, number := strconv.Atoi(text); number == nil {
			text += "ms"
		}
		*target, err = time.ParseDuration(text)
		return err
	}
}

func run() error {
	options := vsphere.Options{Log: os.Stderr}
	var exitAfter time.Duration
	flag.StringVar(&options.Listen, "l", "127.0.0.1:0", "address to listen on")
	flag.StringVar(&options.ESXListen, "esx-l", "", "address of an ESXi endpoint: the API of one host and its VMs, without vCenter")
	flag.StringVar(&options.ESXHost, "esx-host", "DC0_H0", "the host that the ESXi endpoint is")
	flag.IntVar(&options.VMs, "vm", 2, "VMs per resource pool")
	flag.IntVar(&options.Hosts, "host", 3, "hosts in the cluster; without hosts there is no cluster")
	flag.IntVar(&options.Datacenters, "dc", 1, "datacenters, each with all of that")
	flag.IntVar(&options.Opaque, "opaque-networks", 0, "opaque networks per datacenter")
	flag.StringVar(&options.APIVersion, "api-version", "8.0.3.0", "version of the vSphere API; from 6.7 on with Instant Clone")
	flag.StringVar(&options.HiddenMethods, "hidden-methods", "auto", "the unpublished fork methods: on, off, or auto, which is on before API version 6.7")
	flag.Func("delay", "delay of every call: milliseconds, or such as 1s", milliseconds(&options.Delay))
	flag.Func("task-delay", "delay of every task: milliseconds, or such as 1s", milliseconds(&options.TaskDelay))
	flag.DurationVar(&options.ClockOffset, "clock-offset", 0, "how far vCenter's clock is ahead, such as -2h for one that is behind")
	flag.StringVar(&options.Guest, "guest", "ns", "kind of the guests: ns (Linux namespaces), plain (no isolation) or none")
	flag.StringVar(&options.Username, "username", "user", "vCenter user")
	flag.StringVar(&options.Password, "password", "pass", "vCenter password")
	flag.StringVar(&options.GuestUsername, "guest-username", "root", "user in the guests; anybody but root needs a simulator that runs as root, or -guest plain")
	flag.StringVar(&options.GuestPassword, "guest-password", "vmforksim-guest-pw", "password of every guest user")
	flag.DurationVar(&exitAfter, "exit-after", 10*time.Minute, "exit after this time; 0 is never")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	log.SetOutput(os.Stderr)

	// A signal always ends the program in order: it stops the guests and
	// removes temporary files.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	var timeout <-chan time.Time
	if exitAfter > 0 {
		timeout = time.After(exitAfter)
	}
	simulator, err := vsphere.Start(options)
	if err != nil {
		return err
	}
	defer simulator.Close()
	ready := "vmforksim ready " + simulator.URL()
	if url := simulator.ESXURL(); url != "" {
		ready += " esx " + url
	}
	fmt.Println(ready)
	select {
	case <-signals:
	case <-timeout:
	}
	return nil
}
