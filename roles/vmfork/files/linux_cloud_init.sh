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
CLOUD=/var/lib/cloud

# owns_network: does cloud-init set up the network, and not the item network?
owns_network() {
  case "$network $items " in "none "*) return 0 ;; *" network "*) return 1 ;; esac
}

# cloud_config: print what keeps cloud-init from undoing the other items, and from reading data again at the next boot:
# the config params are removed by then, and VMware Tools show the parent's data.
cloud_config() {
  echo 'manual_cache_clean: true'
  case " $items " in *" hostname "*) echo 'preserve_hostname: true' ;; esac
  case " $items " in *" ssh_host_keys "*) echo 'ssh_deletekeys: false' ;; esac
  owns_network || echo 'network: {config: disabled}'
}

# decoded: print value as cloud-init would decode it.
decoded() {
  case $encoding in
    base64 | b64) printf '%s' "$value" | base64 -d ;;
    gzip+base64 | gz+b64) printf '%s' "$value" | base64 -d | gzip -dc ;;
    *) printf '%s' "$value" ;;
  esac
}

# is_parents KEY: did cloud-init of the parent read the same value?
is_parents() {
  case $1 in userdata) copy=user-data.txt ;; vendordata) copy=vendor-data.txt ;; *) return 1 ;; esac
  [ "$(decoded)" = "$(cat "$CLOUD/instance/$copy")" ]
} 2>/dev/null

# find_value KEY: set value and encoding to those of this child. Without a config param, VMware Tools show the parent's
# value, or one that Instant Clone has set. It counts unless the metadata are a config param, or the parent has read it.
find_value() {
  encoding=$(param "$1.encoding")
  value=$(rpc "info-get guestinfo.fork.$1") && [ -n "$value" ] && return
  [ -z "$(param metadata)" ] && value=$(rpc "info-get guestinfo.$1") || return
  encoding=$(rpc "info-get guestinfo.$1.encoding")
  ! is_parents "$1"
}

# export_data: cloud-init prefers the environment to what VMware Tools show. The data may be secrets, and every user of the
# guest could read a command line.
export_data() {
  export VMX_GUESTINFO=1 VMX_GUESTINFO_METADATA='{}' # so that it asks for no key
  ! find_value metadata || export VMX_GUESTINFO_METADATA="$value" VMX_GUESTINFO_METADATA_ENCODING="$encoding"
  ! find_value userdata || export VMX_GUESTINFO_USERDATA="$value" VMX_GUESTINFO_USERDATA_ENCODING="$encoding"
  ! find_value vendordata || export VMX_GUESTINFO_VENDORDATA="$value" VMX_GUESTINFO_VENDORDATA_ENCODING="$encoding"
}

# stage ARGUMENT...: its output may contain secrets, and processes that the user data start keep it open.
stage() {
  cloud-init "$@" >/dev/null 2>&1 </dev/null && return
  failed "cloud-init $* failed, see /var/log/cloud-init.log"
  return 1
}

# find_data: as at boot. `cloud-init clean` would also run the scripts in /etc/cloud/clean.d, and that of Ubuntu's
# installer removes the configuration of the network.
find_data() {
  remove_files $CLOUD/instance $CLOUD/instances $CLOUD/data $CLOUD/sem || { failed "$error"; return 1; }
  for word in $(files '/usr/lib*/cloud-init/ds-identify'); do attempt "$word" --force; done
  stage init --local
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
  id=$(cat $CLOUD/data/instance-id 2>/dev/null)
  [ -n "$id" ] && [ "$id" != "$parents_id" ] ||
    failed "the instance-id is the parent's; set one in metadata"
}

run_stages() {
  # Of several files in this directory, the last one takes precedence.
  write_file /etc/cloud/cloud.cfg.d/zzzz-vmfork.cfg 0644 "$(cloud_config)" || { failed "$error"; return; }
  export_data
  find_data
  # What the user data start would inherit them.
  for word in METADATA USERDATA VENDORDATA; do unset "VMX_GUESTINFO_$word" "VMX_GUESTINFO_${word}_ENCODING"; done
  unset VMX_GUESTINFO
  [ "$status" = ok ] || return
  start_network
  stage init && stage modules --mode=config && stage modules --mode=final || return
  confirm_instance
  restart_sshd # the user data may have SSH host keys
}

renew_cloud_init() {
  has cloud-init || { absent "no cloud-init"; return; }
  # Before the first renewal, everything is the parent's.
  [ -e $STATE/instance-id ] || cat $CLOUD/data/instance-id 2>/dev/null >$STATE/instance-id
  parents_id=$(cat $STATE/instance-id)
  run_stages
}
