// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

func configureNetwork(only string) error           { return nil }
func ifupdown(words []string) int                  { return 0 }
func ip(words []string) int                        { return 0 }
