#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The item cloud_init of linux_identity.sh: cloud-init sets up a child as a new instance, after the other items. The role
# puts this file before linux_identity.sh, whose functions it calls. By hand:
#
#   cat linux_cloud_init.sh linux_identity.sh >identity.sh; sh identity.sh renew auto,cloud_init
#
# The child's data are its config params metadata, userdata and vendordata, each with KEY.encoding as cloud-init takes it.
# shellcheck disable=SC2015,SC2030,SC2031,SC2034,SC2086,SC2154 # words are split on purpose; shared with linux_identity.sh

ON_REQUEST='cloud_init'
CLOUD_ID=/var/lib/cloud/data/instance-id

# owns_network: does cloud-init set up the network, and not the item network?
owns_network() {
  case "$network $items " in "none "*) return 0 ;; *" network "*) return 1 ;; esac
}

# cloud_config: print what keeps cloud-init from undoing the other items, and from reading data again at the next boot:
# VMware Tools have forgotten what was set here by then, and show the parent's.
cloud_config() {
  echo 'manual_cache_clean: true'
  case " $items " in *" hostname "*) echo 'preserve_hostname: true' ;; esac
  case " $items " in *" ssh_host_keys "*) echo 'ssh_deletekeys: false' ;; esac
  owns_network || echo 'network: {config: disabled}'
}

set_data() { rpc "info-set guestinfo.$1 $2" && rpc "info-set guestinfo.$1.encoding $3"; } >/dev/null

# pass_data: set the keys that cloud-init reads. The encoding of the parent's data must not remain.
pass_data() {
  passed=
  for key in metadata userdata vendordata; do
    value=$(rpc "info-get guestinfo.fork.$key") && [ -n "$value" ] || continue
    passed="$passed $key" encoding=$(param "$key.encoding")
    set_data "$key" "$value" "${encoding:----}" || failed "VMware Tools did not accept guestinfo.$key"
  done
}

# forget_data: they may be secrets, and the runner removes only the config params. For cloud-init, --- is nothing.
forget_data() {
  for key in $passed; do set_data "$key" --- --- || failed "guestinfo.$key was not removed"; done
}

# stage ARGUMENT...: its output may contain secrets of the user data.
stage() {
  attempt cloud-init "$@" && return
  failed "cloud-init $* failed, see /var/log/cloud-init.log"
  return 1
}

confirm_cloud_adapter() {
  read_wishes "$1" || { failed "the config param $error is not valid"; return; }
  [ -z "$addresses" ] || collect_dns
  ! has_cable "$2" || confirm_adapter "$1" "$2"
}

# At boot, the network starts between these stages.
start_network() {
  start_managers
  owns_network || return 0
  manager=$(network=auto STATE=/none; find_manager)
  "apply_$manager"
  servers='' domains=''
  each_adapter confirm_cloud_adapter
}

confirm_instance() {
  case $(cat /run/cloud-init/result.json 2>/dev/null) in
    *DataSourceNone*) failed "cloud-init found no data; set metadata" ;;
    *'"errors": []'*) ;;
    *) failed "cloud-init reported errors, see /run/cloud-init/result.json" ;;
  esac
  id=$(cat $CLOUD_ID 2>/dev/null)
  [ -n "$id" ] && [ "$id" != "$parents_id" ] ||
    failed "the instance-id is the parent's; set one in metadata"
}

run_stages() {
  write_file /etc/cloud/cloud.cfg.d/99-vmfork.cfg 0644 "$(cloud_config)" || failed "$error"
  [ "$status" = ok ] && stage clean || return
  for word in $(files '/usr/lib*/cloud-init/ds-identify'); do attempt "$word" --force; done # as at boot
  stage init --local || return
  start_network
  stage init && stage modules --mode=config && stage modules --mode=final || return
  confirm_instance
  restart_sshd # the user data may have SSH host keys
}

renew_cloud_init() {
  has cloud-init || { absent "no cloud-init"; return; }
  # Before the first renewal, everything is the parent's.
  [ -e $STATE/instance-id ] || cat $CLOUD_ID 2>/dev/null >$STATE/instance-id
  parents_id=$(cat $STATE/instance-id)
  trap 'forget_data; exit 90' HUP INT TERM
  pass_data
  run_stages
  forget_data
}

