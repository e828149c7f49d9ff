// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The API versions: published names, comparison, and the order in
// vimServiceVersions.xml.

package vsphere

import (
	"strconv"
	"strings"
)

// The versions of the vim25 API as published, oldest first. Their names are
// what a client puts behind "urn:vim25/" in its SOAPAction.
var publishedVersions = []string{
	"2.5", "2.5u2", "2.5u2server", "4.0", "4.1", "5.0", "5.1", "5.5", "6.0", "6.5",
	"6.7", "6.7.1", "6.7.2", "6.7.3", "6.8.7", "6.9.1",
	"7.0.0.0", "7.0.0.2", "7.0.1.0", "7.0.1.1", "7.0.2.0", "7.0.2.1", "7.0.3.0", "7.0.3.1", "7.0.3.2",
	"8.0.0.0", "8.0.0.1", "8.0.0.2", "8.0.1.0", "8.0.2.0", "8.0.3.0", "8.0.3.1",
	"9.0.0.0", "9.1.0.0", "9.1.1.0",
}

// apiVersion is a version as numbers: "8.0.3.0" is {8, 0, 3, 0}.
type apiVersion [4]int

func parseVersion(text string) apiVersion {
	var version apiVersion
	for i, part := range strings.SplitN(text, ".", len(version)) {
		if end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			part = part[:end] // "5u2" counts as 5
		}
		version[i], _ = strconv.Atoi(part)
	}
	return version
}

// atLeast compares numerically: 10.0 is newer than 9.9.
func (v apiVersion) atLeast(other ...int) bool {
	for i, number := range other {
		if v[i] != number {
			return v[i] > number
		}
	}
	return true
}

// isPublished reports whether the name is that of a published version.
func isPublished(name string) bool {
	for _, version := range publishedVersions {
		if version == name {
			return true
		}
	}
	return false
}

// priorVersions are the published versions older than the given one, newest
// first, as vimServiceVersions.xml lists them.
func priorVersions(name string) []string {
	current := parseVersion(name)
	var prior []string
	for i := len(publishedVersions) - 1; i >= 0; i-- {
		version := publishedVersions[i]
		number := parseVersion(version)
		if version != name && current.atLeast(number[:]...) {
			prior = append(prior, version)
		}
	}
	return prior
}
