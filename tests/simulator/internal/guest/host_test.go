// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestChooseIDs(t *testing.T) {
	for name, test := range map[string]struct {
		idMap string
		want  idRange
	}{
		"a host":                   {"         0          0 4294967295\n", idRange{firstID, 65536}},
		"a container with a range": {"0 100000 65536\n", idRange{32768, 32768}},
		"a container with two":     {"0 1000 1\n1 100000 65536\n", idRange{32769, 32768}},
		"an unprivileged user's":   {"0 1000 1\n", idRange{}},
	} {
		got, err := chooseIDs(test.idMap)
		if got != test.want || (err != nil) != (test.want.size == 0) {
			t.Errorf("%s: %+v %v, not %+v", name, got, err, test.want)
		}
	}
}

func TestErrorNamesTheSetting(t *testing.T) {
	for path, want := range map[string]string{
		"/proc/sys/kernel/unprivileged_userns_clone":             "the sysctl kernel.unprivileged_userns_clone is 0",
		"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "the sysctl kernel.apparmor_restrict_unprivileged_userns is 1",
		"/proc/sys/user/max_user_namespaces":                     "the sysctl user.max_user_namespaces is 0",
		"":                                                       "CAP_SYS_ADMIN",
	} {
		got := blockingSetting(func(asked string) string {
			if asked == path {
				return want[len(want)-1:]
			}
			return "7"
		})
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
	if err := explainRefusal(&os.PathError{Op: "mount proc", Path: "proc", Err: unix.EPERM}); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "mount proc") {
		t.Errorf("explained: %v", err)
	}
	if err := explainRefusal(os.ErrNotExist); err != os.ErrNotExist {
		t.Errorf("what no setting forbids is explained: %v", err)
	}
}
