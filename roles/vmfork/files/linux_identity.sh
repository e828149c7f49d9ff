#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Gives a child an identity of its own. Needs a POSIX shell, root, and VMware Tools.
#
#   linux_identity.sh prepare [ITEMS [NETWORK]]   in the parent, just before the fork point
#   linux_identity.sh renew [ITEMS [NETWORK]]     in a child, right after it
#   linux_identity.sh undo                        in the parent, if it does not reach the fork point after prepare
#
# ITEMS is "auto" (everything the guest has) or names from the lists below, separated by commas; NETWORK is one name. In
# a child, the config params vmfork.identity and vmfork.network take precedence. guide_identity.rst lists the others.
#
# An item is "ok" only if its effect was read back, "absent" if the guest does not have it or nothing was requested,
# and "failed" otherwise. The result is published as guestinfo.vmfork.identity. Exit codes: 0, 90 if an item failed or
# the result could not be published, 2 for wrong arguments.
#
# Environment: VMFORK_TOOLS (program that reads and writes guestinfo), VMFORK_WAIT (seconds to wait for the network).
# shellcheck disable=SC2015,SC2046,SC2059,SC2086,SC2317,SC2329 # words are split on purpose, and items are functions
set -uf
umask 022
export LC_ALL=C
ITEMS='clock random machine_id leases adapters hostname network ssh_host_keys boot_id agents services announce'
NETWORKS='auto networkd netplan networkmanager ifupdown wicked ip none'
STATE=/run/vmfork-identity # in memory, from prepare to renew: what ran in the parent, its addresses, and settings
OURS=vmfork-ethernet # marks what this script adds to the guest's configuration

# --- VMware Tools ----------------------------------------------------------------------------------------------------
has() { command -v "$1" >/dev/null 2>&1; }
printable() { tr -c '[:print:]' ' ' | cut -c "1-$1"; }
one_line() { set -- $1; printf '%s' "$*"; }
rpc() {
  case ${tools##*/} in *rpctool*) "$tools" "$1" ;; *) "$tools" --cmd "$1" ;; esac 2>/dev/null </dev/null
}

# param NAME: print a config param of this child, as one line.
param() {
  value=$(rpc "info-get guestinfo.fork.$1") || return 0
  one_line "$(printf '%s' "$value" | tr -c '[:print:]' ' ')"
}
param_list() { param "$1" | tr ',' ' '; }
base64_line() { printf '%s' "$1" | base64 2>/dev/null | tr -d '\n'; }

# --- Results ---------------------------------------------------------------------------------------------------------
explain() { why="${why:+$why; }$1"; }
failed() { status=failed; explain "$1"; }
absent() { [ "$status" = failed ] || status=absent; explain "$1"; }
# attempt COMMAND...: run it; on failure, error is the last line of what it printed.
attempt() {
  error=$("$@" 2>&1 </dev/null) && return 0
  error=$(printf '%s' "${error:-$1 failed}" | tail -n 1 | printable 120)
  return 1
}
# is_left_out ITEM: with the network none, only cloud-init may change the network, and it needs the child's adapters.
is_left_out() {
  case "$network $1 $items " in
    "none network "*" cloud_init "*) absent "switched off" ;;
    "none leases "*" cloud_init "* | "none adapters "*" cloud_init "*) return 1 ;;
    "none leases "* | "none adapters "* | "none network "*) [ ! -e $STATE/undo ] && absent "switched off" ||
      failed "the network was taken down in the parent; set it to none there, too" ;;
    *) return 1 ;;
  esac
}
renew_item() {
  status=ok why=
  is_left_out "$1" ||
    case " $ITEMS ${ON_REQUEST:-} " in *" $1 "*) "renew_$1" ;; *) failed "unknown to this version of the script" ;; esac
  results="${results:+$results,}$1=$status"
  [ "$status" != failed ] || code=90
  [ "$status" != ok ] || return 0
  why=$(printf '%s' "$why" | printable 300)
  reasons="${reasons:+$reasons
}$1: $why"
  echo "$1: $status: $why"
}
digest() {
  id=$(cat /etc/machine-id "$DBUS_ID" 2>/dev/null | head -n 1)
  if [ -n "$id" ]; then printf '%s' "$id" | sha256sum | cut -d ' ' -f 1; else echo -; fi
}
# public_keys: print the SSH host keys without their comments; vmfork_child accepts no other types.
public_keys() {
  for key in $(host_keys); do cut -d ' ' -f 1,2 "$key.pub" 2>/dev/null | head -n 1; done |
    grep -E '^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)) ' | sort -u | head -n 16
}

publish() {
  keys=$(base64_line "$(public_keys)") explained=$(base64_line "$reasons")
  report="$1 1 items:$2 machine_id:$(digest) keys:${keys:--} why:${explained:--}"
  rpc "info-set guestinfo.vmfork.identity $report" >/dev/null && return
  echo "report: failed: VMware Tools did not accept the result"
  code=90
}

# --- Files -----------------------------------------------------------------------------------------------------------
# files PATTERN...: print the existing files; the names are matched, never evaluated.
files() {
  set +f
  for pattern in "$@"; do
    IFS=
    for file in $pattern; do [ ! -e "$file" ] && [ ! -h "$file" ] || printf '%s\n' "$file"; done
    unset IFS
  done
  set -f
}
# remove_files PATTERN...: remove them; fails if one remains.
remove_files() {
  files "$@" | while IFS= read -r file; do rm -rf "$file" 2>/dev/null; done
  error="$(files "$@" | head -n 1) cannot be removed"
  [ -z "$(files "$@")" ]
}
# write_file PATH MODE CONTENT: write a file in place, which keeps its owner, mode and labels, and read it back.
write_file() {
  [ -e "$1" ] || { mkdir -p "${1%/*}" && (umask 077; : >"$1") && chmod "$2" "$1"; } 2>/dev/null
  { printf '%s\n' "$3" >"$1"; } 2>/dev/null || { error="$1 cannot be written"; return 1; }
  ! has restorecon || restorecon "$1" >/dev/null 2>&1
  [ "$(cat "$1" 2>/dev/null)" = "$3" ] || { error="$1 does not have what was written to it"; return 1; }
}
new_uuid() { cat /proc/sys/kernel/random/uuid; }
# processes REGEXP: print /proc/PID of those whose name matches.
processes() { (set +f; grep -lsxE "$1" /proc/[0-9]*/comm) | sed 's,/comm$,,'; }

# --- Services --------------------------------------------------------------------------------------------------------
# service_is WORD SERVICE: is it active, or enabled?
service_is() {
  if has systemctl; then systemctl -q "is-$1" "$2" >/dev/null 2>&1 </dev/null
  elif [ "$1" = enabled ]; then [ -n "$(files "/etc/runlevels/*/$2")" ]
  else rc-service -q "$2" status >/dev/null 2>&1 </dev/null
  fi
}
control() { if has systemctl; then attempt systemctl "$1" "$2"; else attempt rc-service -q "$2" "$1"; fi; }
# restart SERVICE: fails if it is not active afterwards. restart_active SERVICE...: restart those that are active.
restart() { control restart "$1" && service_is active "$1" || failed "$1 did not restart: $error"; }
restart_active() {
  for unit in "$@"; do ! service_is active "$unit" || { restarted="$restarted $unit"; restart "$unit"; }; done
}

# --- Clock and random numbers ----------------------------------------------------------------------------------------
# Two programs replace what the kernel may refuse: vmfork-set-clock SECONDS, and vmfork-add-entropy, which reads base64.
set_clock() { if has vmfork-set-clock; then vmfork-set-clock "$1"; else date -u -s "@$1"; fi; }

# The hardware clock is the ESXi host's. The config param is the time of the request, which is long ago if somebody has
# powered the child on again. The clock must not be behind either, and is set back only if both say so.
renew_clock() {
  requested=$(param vmfork.clock)
  case $requested in '' | 0* | *[!0-9]* | ?????????????*) requested=0 ;; esac
  least=$(date +%s) hardware=0
  ! attempt hwclock --hctosys || hardware=$(date +%s)
  [ $((requested + hardware)) -gt 0 ] || { absent "no hardware clock, and no time in the config params"; return; }
  [ $hardware -lt $((requested - 5)) ] || [ $hardware -gt $((requested + 600)) ] || least=$requested
  [ "$least" -gt "$requested" ] || least=$requested
  [ "$(date +%s)" -ge $((least - 5)) ] || attempt set_clock "$least" || failed "$error"
  now=$(date +%s)
  [ "$now" -ge $((least - 5)) ] || failed "the clock is behind the time of the request"
  [ "$now" -le $((requested + 600)) ] || [ "$now" -le $((hardware + 60)) ] ||
    failed "the clock is ahead of the time of the request, and the hardware clock does not confirm it"
}

# RNDADDENTROPY with 8 bits per byte, then RNDRESEEDCRNG, which kernels before 4.14 do not have (exit code 3).
ENTROPY_PYTHON='
import fcntl, os, struct, sys
data = getattr(sys.stdin, "buffer", sys.stdin).read()
device = os.open("/dev/urandom", os.O_WRONLY)
fcntl.ioctl(device, 0x40085203, struct.pack("ii", 8 * len(data), len(data)) + data)
try: fcntl.ioctl(device, 0x5207)
except (IOError, OSError) as error: sys.exit(3 if error.errno in (22, 25) else str(error))
'
# shellcheck disable=SC2016
ENTROPY_PERL='
sub refused { print STDERR "$!\n"; exit 1 }
my $data = join "", <STDIN>;
open(my $device, ">", "/dev/urandom") or refused;
defined ioctl($device, 0x40085203, my $add = pack("ii", 8 * length($data), length($data)) . $data) or refused;
exit(defined ioctl($device, 0x5207, 0) ? 0 : $! == 22 || $! == 25 ? 3 : refused);
'
add_entropy() {
  ! has vmfork-add-entropy || { vmfork-add-entropy; return; }
  for program in python3 /usr/libexec/platform-python python; do
    ! has "$program" || { base64 -d | "$program" -c "$ENTROPY_PYTHON"; return; }
  done
  ! has perl || { base64 -d | perl -e "$ENTROPY_PERL"; return; }
  return 4
}

# The value is a secret: it is on no command line and in no output.
renew_random() {
  entropy=$(param vmfork.entropy)
  [ -n "$entropy" ] || { absent "no entropy in the config params"; return; }
  [ ${#entropy} -ge 44 ] || { failed "less than 32 bytes of entropy"; return; }
  error=$(printf '%s\n' "$entropy" | add_entropy 2>&1)
  case $? in
    0) ;;
    3) absent "entropy was added and credited, but this kernel cannot reseed on request" ;;
    4) absent "neither python3 nor perl" ;;
    *) failed "$(printf '%s' "$error" | tail -n 1 | printable 120)" ;;
  esac
  entropy=
}

# --- Names and keys of the system ------------------------------------------------------------------------------------
DBUS_ID=/var/lib/dbus/machine-id
renew_machine_id() {
  renewed='' id=$(new_uuid | tr -cd '0-9a-f')
  [ ${#id} = 32 ] || { failed "the kernel gave no UUID"; return; }
  for path in /etc/machine-id "$DBUS_ID"; do
    # A link to the other file is kept, and so is one that leads nowhere.
    [ -f "$path" ] || continue
    write_file "$path" 0444 "$id" || failed "$error"
    renewed=yes
  done
  [ -n "$renewed" ] || absent "no /etc/machine-id"
}

# host_keys: print the existing keys of OpenSSH; sshd does without configured ones that do not exist.
host_keys() {
  {
    files '/etc/ssh/ssh_host_*_key'
    awk 'tolower($1) == "hostkey" { print $2 }' /dev/null $(files /etc/ssh/sshd_config '/etc/ssh/sshd_config.d/*.conf')
  } | tr -d '"' | sort -u | while read -r key; do [ ! -f "$key" ] || echo "$key"; done
}
# replace_key PRIVATE_KEY: the new key exists before the old one is touched. OpenSSH no longer has keys of the type DSA.
replace_key() {
  case $1 in *_dsa_key) remove_files "$1" "$1.pub" || failed "$error"; return ;; esac
  type=$(ssh-keygen -l -f "$1" 2>/dev/null </dev/null | sed -n 's/.*(\([A-Z0-9]*\))$/\1/p' | tr '[:upper:]' '[:lower:]')
  [ -n "$type" ] || { failed "the type of $1 is unknown"; return; }
  before=$(cut -d ' ' -f 2 "$1.pub" 2>/dev/null)
  rm -f "$scratch/key" "$scratch/key.pub"
  attempt ssh-keygen -q -t "$type" -N '' -C '' -f "$scratch/key" || { failed "$1: $error"; return; }
  write_file "$1" 0600 "$(cat "$scratch/key")" && write_file "$1.pub" 0644 "$(cat "$scratch/key.pub")" ||
    { failed "$error"; return; }
  remove_files "$1-cert.pub" || failed "$error" # certifies the parent's key
  after=$(ssh-keygen -y -f "$1" 2>/dev/null </dev/null | cut -d ' ' -f 2)
  [ -n "$after" ] && [ "$after" != "$before" ] && [ "$after" = "$(cut -d ' ' -f 2 "$1.pub")" ] ||
    failed "$1 is not a new key"
}

renew_ssh_host_keys() {
  [ -z "$(files '/etc/dropbear/dropbear_*_host_key')" ] || failed "the host keys of dropbear are not renewed"
  [ -n "$(host_keys)" ] || { absent "no SSH host keys"; return; }
  has ssh-keygen || { failed "no ssh-keygen; the parent's keys remain"; return; }
  scratch=$(mktemp -d) || { failed "no temporary directory"; return; }
  for key in $(host_keys); do replace_key "$key"; done
  rm -rf "$scratch"
  restart_sshd
}
restart_sshd() {
  running=$(ssh_servers)
  restart_active sshd ssh
  for pid in $running; do
    stack=$(stack_of "$pid")
    [ -n "$stack" ] || continue # it has ended; without a service, sshd starts on demand
    kill -HUP "$pid"
    wait_for has_moved "$pid" "$stack" || failed "sshd (process $pid) did not read the new keys"
  done
}
# ssh_servers: print the process IDs of sshd, without those of sessions, whose titles are no paths.
ssh_servers() {
  for process in $(processes sshd); do
    case $(tr '\000' ' ' <"$process/cmdline") in /* | *'[listener]'*) echo "${process#/proc/}" ;; esac
  done 2>/dev/null
}
# At a hangup, sshd executes itself again, which moves its stack, and reads its keys.
stack_of() { cut -d ' ' -f 28 "/proc/$1/stat" 2>/dev/null; }
has_moved() { now=$(stack_of "$1"); [ -n "$now" ] && [ "$now" != "$2" ]; }
BOOT_ID=/proc/sys/kernel/random/boot_id
renew_boot_id() {
  # Seeds for the next boot, and the host's own key for credentials unless something is encrypted with it.
  set -- /var/lib/random-seed '/var/lib/*/random-seed' '/var/lib/seedrng/*'
  [ -n "$(files '/etc/credstore.encrypted/*')" ] || set -- "$@" /var/lib/systemd/credential.secret
  remove_files "$@" || failed "$error"
  before=$(cat $BOOT_ID 2>/dev/null) || { absent "no $BOOT_ID"; return; }
  write_file "$STATE/boot_id" 0444 "$(new_uuid)" || { failed "$error"; return; }
  if [ "$(cat $BOOT_ID)" = "$before" ]; then # else it is mounted already
    # With another label, services that SELinux confines could not read it.
    ! grep -qs 1 /sys/fs/selinux/enforce || attempt chcon --reference=$BOOT_ID "$STATE/boot_id" ||
      { absent "SELinux: $error"; return; }
    attempt mount --bind "$STATE/boot_id" $BOOT_ID || { failed "$error"; return; }
  fi
  [ "$(cat $BOOT_ID)" != "$before" ] && [ "$(cat $BOOT_ID)" = "$(cat $STATE/boot_id)" ] ||
    failed "$BOOT_ID is the parent's"
}
is_name() {
  case $1 in '' | [.-]* | *[.-] | *..* | *[!A-Za-z0-9.-]*) return 1 ;; esac
  [ ${#1} -le 253 ] && [ "$(printf '%s' "${1%%.*}" | wc -c)" -le 63 ]
}

renew_hostname() {
  name=$(param hostname) fqdn=$(param fqdn)
  case $name in *.*) fqdn=${fqdn:-$name} ;; esac
  name=${name:-$fqdn} name=${name%%.*}
  [ -n "$name" ] || { absent "no hostname in the config params"; return; }
  is_name "$name" && { [ -z "$fqdn" ] || is_name "$fqdn"; } || { failed "the host name is not valid"; return; }
  attempt hostnamectl set-hostname "$name" || attempt hostname "$name" # the kernel is asked below
  [ "$(cat /etc/hostname 2>/dev/null)" = "$name" ] || write_file /etc/hostname 0644 "$name" || failed "$error"
  [ "$(cat /proc/sys/kernel/hostname)" = "$name" ] || failed "the host name was not set: $error"
  [ -e /etc/hosts ] || return 0
  # Let the guest resolve its own name, which `hostname --fqdn` needs, instead of the parent's.
  others=$(grep -v '^127\.0\.1\.1[[:space:]]' /etc/hosts)
  write_file /etc/hosts 0644 "${others:+$others
}127.0.1.1 ${fqdn:+$fqdn }$name" || failed "$error"
}

# --- Adapters --------------------------------------------------------------------------------------------------------
# adapters: print "DEVICE INTERFACE" of each adapter, in the order of vSphere. Virtual hardware labels them since
# version 10; the order of the devices is another one from the fifth adapter on.
adapters() {
  for link in $(files '/sys/class/net/*/device'); do
    interface=$(basename "${link%/device}")
    [ "$(cat "/sys/class/net/$interface/type" 2>/dev/null)" = 1 ] || continue
    label=$(sed -n 's/^Ethernet\([0-9][0-9]*\)$/\1/p' "$link/label" 2>/dev/null)
    device=$(readlink -f "$link") && echo "${label:-99} $device $interface"
  done | sort -k 1,1n -k 2 | cut -d ' ' -f 2-
}
interfaces() { adapters | cut -d ' ' -f 2; }
interface_of() { adapters | while read -r device interface; do [ "$device" != "$1" ] || echo "$interface"; done; }
mac_of() { tr 'A-F' 'a-f' <"/sys/class/net/$1/address" 2>/dev/null; }
# wait_for COMMAND...: until it succeeds
wait_for() {
  left=$wait
  until "$@"; do [ "$left" -gt 0 ] && sleep 1 || return 1; left=$((left - 1)); done
}
is_gone() { [ -z "$(interface_of "$1")" ]; }
is_there() { [ -n "$(interface_of "$1")" ]; }
# replace_mac OLD NEW: in the configuration: udev rules, links, profiles.
CONFIGURED_MACS='/etc/udev/rules.d/*net*.rules /etc/systemd/network/* /run/systemd/network/* /etc/netplan/*.yaml
  /etc/network/interfaces /etc/network/interfaces.d/* /etc/sysconfig/network-scripts/ifcfg-*
  /etc/sysconfig/network/ifcfg-* /etc/NetworkManager/system-connections/*'
replace_mac() {
  [ -n "$1" ] && [ -n "$2" ] && [ "$1" != "$2" ] || return 0
  files $CONFIGURED_MACS >$STATE/files
  while IFS= read -r file; do
    [ -f "$file" ] && grep -qi "$1" "$file" || continue
    write_file "$file" 0600 "$(sed "s/$1/$2/gI" "$file")" || failed "$error"
  done <$STATE/files
}
# rebind DEVICE INTERFACE: let the driver read the MAC from the hardware again.
rebind() {
  driver=$(readlink -f "$1/driver") || { failed "$2 has no driver"; return; }
  ip link set dev "$2" down 2>/dev/null
  if [ -w "$driver/unbind" ]; then { echo "${1##*/}" >"$driver/unbind"; } 2>/dev/null
  else attempt modprobe -r "${driver##*/}" || { failed "$2: $error"; return; }
  fi
  wait_for is_gone "$1" || { failed "the driver of $2 did not release it"; return; }
  if [ -w "$driver/bind" ]; then { echo "${1##*/}" >"$driver/bind"; } 2>/dev/null
  else attempt modprobe "${driver##*/}" || failed "$2: $error"
  fi
  wait_for is_there "$1" || { failed "$2 did not come back"; return; }
  ! has udevadm || udevadm settle --timeout="$wait" >/dev/null 2>&1 # it gets its name
}

renew_adapters() {
  adapters >$STATE/adapters
  [ -s $STATE/adapters ] || { absent "no network adapter"; return; }
  has ip || { failed "no program ip"; return; }
  number=0
  while read -r device interface; do
    before=$(mac_of "$interface")
    wanted=$(param "ethernet$number.address" | tr 'A-F' 'a-f' | grep -x '[0-9a-f:]\{17\}')
    replace_mac "$before" "$wanted" # rules that name interfaces apply as soon as one appears
    [ -n "$wanted" ] && [ "$wanted" = "$before" ] || rebind "$device" "$interface"
    now=$(interface_of "$device")
    after=$(mac_of "$now")
    replace_mac "$before" "$after"
    [ -z "$wanted" ] || [ "$wanted" = "$after" ] || failed "$interface has the MAC $after instead of $wanted"
    ! grep -qsx "$after" $STATE/macs || failed "$interface has the parent's MAC $after"
    # The kernel then announces the IPv6 addresses by itself.
    { echo 1 >"/proc/sys/net/ipv6/conf/$now/ndisc_notify"; } 2>/dev/null
    number=$((number + 1))
  done <$STATE/adapters
}

# --- Leases and managers of the network ------------------------------------------------------------------------------
# stop_managers: stop what might use the parent's identity on the network, and remember it.
stop_managers() {
  : >>$STATE/stopped
  for service in systemd-networkd.socket systemd-networkd NetworkManager wickedd dhcpcd connman; do
    service_is active "$service" && echo "$service" >>$STATE/stopped || continue
    control stop "$service" || failed "$service did not stop: $error"
  done
  for process in $(processes 'dhclient|udhcpc|dhcpcd'); do
    # dhcpcd shows its state instead of its arguments.
    tr '\000' ' ' <"$process/cmdline" | sed 's/^dhcpcd: .*/dhcpcd/; s/$/\n/' >>$STATE/clients
    kill "${process#/proc/}" 2>/dev/null
  done
  mask_ifup mask
}
# mask_ifup VERB: on Debian, an adapter that comes back would get the parent's address.
mask_ifup() {
  ! has systemctl || for interface in $(configured); do
    attempt systemctl --runtime "$1" "ifup@$interface.service" || failed "$interface: $error"
  done
}
start_managers() {
  [ -e $STATE/stopped ] || return 0
  mask_ifup unmask
  while read -r service; do control start "$service" || failed "$service did not start: $error"; done <$STATE/stopped
  rm -f $STATE/stopped
}

# The managers start again after the adapters have their MAC addresses.
LEASES='/var/lib/dhc*/*.lease* /var/lib/dhcpcd/*/*.lease* /var/lib/dhcpcd/duid /etc/dhcpcd.duid /var/lib/udhcpc/*
  /var/lib/NetworkManager/*.lease /var/lib/NetworkManager/secret_key /var/lib/NetworkManager/timestamps
  /run/systemd/netif/leases/* /var/lib/systemd/network/* /var/lib/wicked/lease-*.xml /var/lib/wicked/duid.xml
  /var/lib/wicked/iaid.xml /run/wicked/leaseinfo.* /run/dhclient*.lease /run/udhcpc*.lease'
renew_leases() {
  stop_managers
  remove_files $LEASES || failed "$error"
  [ "$status" = failed ] || [ -n "$(adapters)" ] || absent "no network adapter"
}

# --- Network: what is wanted -----------------------------------------------------------------------------------------
is_ipv6() { case $1 in *:*) return 0 ;; esac; return 1; }
family_of() { if is_ipv6 "$1"; then echo -6; else echo -4; fi; }
# is_prefix ADDRESS/LENGTH: whether it is one, as ip understands it.
is_prefix() {
  case $1 in *[!0-9A-Fa-f.:/]* | */*/*) return 1 ;; *.*.*.*/* | *:*/*) ;; *) return 1 ;; esac
  ip -o address show to "$1" >/dev/null 2>&1
}
is_address() { is_prefix "$1/32"; }
# prefix_of MASK: print the prefix length of a netmask; a prefix length stays as it is.
prefix_of() {
  case $1 in *.*) is_address "$1" || return 1 ;; *) echo "$1"; return ;; esac
  printf '%s\n' "$1" | awk -F . '{ for (n = 1; n <= 4; n++) for (bit = 128; bit >= 1; bit /= 2)
      if (int($n / bit) % 2) { if (ended) exit 1; ones++ } else ended = 1
    print ones + 0 }'
}
# with_prefix ADDRESS[/MASK] DEFAULT_MASK: print ADDRESS/LENGTH.
with_prefix() {
  case $1 in */*) set -- "${1%%/*}" "${1#*/}" ;; esac
  length=$(prefix_of "$2") && is_prefix "$1/$length" && echo "$1/$length"
}
# read_wishes NUMBER: set addresses, gateways, dns, search, and routes ("DESTINATION,GATEWAY"); fails if not valid.
read_wishes() {
  if [ "$1" = 0 ]; then prefix=; else prefix=ethernet$1.; fi
  addresses='' netmask=$(param "${prefix}netmask")
  for word in $(param_list "${prefix}ipaddress"); do
    if is_ipv6 "$word"; then default=64; else default=${netmask:-24}; fi
    addresses="$addresses $(with_prefix "$word" "$default")" || { error="${prefix}ipaddress or netmask"; return 1; }
  done
  for word in gateway dns search routes; do
    [ -n "$addresses" ] || [ -z "$(param "$prefix$word")" ] ||
      { error="$prefix$word (without ${prefix}ipaddress)"; return 1; }
  done
  [ -n "$addresses" ] || return 0
  gateways=$(param_list "${prefix}gateway") dns=$(param_list "${prefix}dns") search=$(param_list "${prefix}search")
  for word in $gateways $dns; do is_address "$word" || { error="${prefix}gateway or dns"; return 1; }; done
  for word in $search; do is_name "$word" || { error=${prefix}search; return 1; }; done
  read_routes "$(param "${prefix}routes")" || { error=${prefix}routes; return 1; }
}
# read_routes "DESTINATION via GATEWAY, ..."
read_routes() {
  routes='' destination=''
  for word in $gateways; do routes="$routes $(if is_ipv6 "$word"; then echo ::/0; else echo 0.0.0.0/0; fi),$word"; done
  for word in $(printf '%s' "$1" | tr ',' ' '); do
    case $word in
      via) ;;
      */*) [ -z "$destination" ] && destination=$(with_prefix "$word" 0) || return 1 ;;
      *) [ -n "$destination" ] && is_address "$word" || return 1
        routes="$routes $destination,$word" destination= ;;
    esac
  done
  [ -z "$destination" ]
}
ipv4_of() { printf '%s\n' $1 | grep -v :; }
ipv6_of() { printf '%s\n' $1 | grep :; }
# lines PREFIX WORDS, numbered NAME WORDS: print a line for each word.
lines() { for word in $2; do printf '%s%s\n' "$1" "$word"; done; }
numbered() { lines '' "$2" | awk -v name="$1" '{ print name NR "=" $0 }'; }
# each_route FORMAT: print a line for each route; the format takes its destination and its gateway.
each_route() { for route in $routes; do printf "$1\n" "${route%,*}" "${route#*,}"; done; }
# listed NAME WORDS SEPARATOR: print them as one line, unless there are none.
listed() { [ -z "$2" ] || printf '%s%s\n' "$1" "$(one_line "$2" | tr ' ' "$3")"; }
# ip_commands INTERFACE: print the arguments of ip that set the addresses and routes. run_ip takes such lines.
ip_commands() {
  echo "link set dev $1 up"
  for word in $addresses; do echo "address replace $word dev $1"; done
  for route in $routes; do
    echo "$(family_of "$route") route replace ${route%,*} via ${route#*,} dev $1${metric:+ metric $metric}"
  done
}
run_ip() { while read -r words; do attempt ip $words || failed "ip $words: $error"; done; }

# --- Network: the files of each manager ------------------------------------------------------------------------------
# static_MANAGER NUMBER INTERFACE writes the configuration; apply_MANAGER makes it effective. settings_MANAGER
# INTERFACE prints, in the parent, what the written configuration must keep: neither addresses, routes nor DNS servers.
settings() { cat "$STATE/settings-$1" 2>/dev/null; }
settings_networkd() {
  file=$(sed -n 's/^NETWORK_FILE=//p' "/run/systemd/netif/links/$(cat "/sys/class/net/$1/ifindex")" 2>/dev/null)
  [ -z "$file" ] || awk '/^\[/ { kept = /^\[Link\]/ } kept && !/^MACAddress/' "$file"
}
# The name sorts before those of netplan and cloud-init, and the first matching file counts.
static_networkd() {
  text=$(
    printf '[Match]\nMACAddress=%s\n\n' "$(mac_of "$2")"
    settings "$2"
    printf '\n[Network]\nDHCP=no\nConfigureWithoutCarrier=yes\n'
    lines Address= "$addresses"
    lines DNS= "$dns"
    listed Domains= "$search" ' '
    each_route '\n[Route]\nDestination=%s\nGateway=%s'
  )
  write_file "/etc/systemd/network/05-$OURS$1.network" 0644 "$text"
}
apply_networkd() {
  restart systemd-networkd
  for interface in $(interfaces); do ip link set dev "$interface" up 2>/dev/null; done
}
settings_networkmanager() {
  profile=$(nmcli -g GENERAL.CON-UUID device show "$1" 2>/dev/null) && [ -n "$profile" ] || return 0
  for setting in connection.zone 802-3-ethernet.mtu ipv4.route-metric ipv6.route-metric; do
    echo "$setting=$(nmcli -g "$setting" connection show uuid "$profile" 2>/dev/null)"
  done | grep -vE '=(|auto|-1)$'
}
kept_setting() { settings "$2" | sed -n "s/^$1\\.//p"; }
# keyfile_family INTERFACE 4|6 METHOD_WITHOUT_ADDRESSES
keyfile_family() {
  printf '\n[ipv%s]\n' "$2"
  own=$("ipv${2}_of" "$addresses")
  [ -n "$own" ] || { echo "method=$3"; return; }
  echo method=manual
  numbered address "$own"
  numbered route "$("ipv${2}_of" "$routes")"
  listed dns= "$("ipv${2}_of" "$dns")" ';'
  listed dns-search= "$search" ';'
  kept_setting "ipv$2" "$1"
}
static_networkmanager() {
  text=$(
    printf '[connection]\nid=%s\nuuid=%s\ntype=ethernet\nautoconnect-priority=999\n' "$OURS$1" "$(new_uuid)"
    kept_setting connection "$2"
    printf '\n[ethernet]\nmac-address=%s\n' "$(mac_of "$2" | tr 'a-f' 'A-F')"
    kept_setting 802-3-ethernet "$2"
    keyfile_family "$2" 4 disabled
    keyfile_family "$2" 6 auto
  )
  write_file "/etc/NetworkManager/system-connections/$OURS$1.nmconnection" 0600 "$text"
}
apply_networkmanager() {
  restart NetworkManager
  for profile in $(files "/etc/NetworkManager/system-connections/$OURS*.nmconnection"); do
    # Without a cable this fails now, and happens when there is one.
    attempt nmcli -w "$wait" connection up id "$(basename "$profile" .nmconnection)"
  done
}
INTERFACES='/etc/network/interfaces /etc/network/interfaces.d/*'
# stanzas IS_OWN INTERFACE FILE...: print the lines of interfaces(5) that configure an interface (1), or the others (0).
stanzas() {
  is_own=$1 name=$2
  shift 2
  awk -v is_own="$is_own" -v name="$name" '
    $1 ~ /^(iface|mapping|auto|allow-[a-z]*|source|source-directory|no-auto-down|no-scripts|rename|template)$/ {
      is_inside = $1 == "iface" && $2 == name }
    (is_inside && !/^[[:space:]]*#/) == is_own' "$@" /dev/null
}
# kept_options INTERFACE: print the options that are not about addresses, such as mtu and post-up.
kept_options() {
  stanzas 1 "$1" $(files $INTERFACES) | grep -vE "^[[:space:]]*(iface|address|netmask|broadcast|network|gateway|\
pointopoint|scope|dns-[a-z]*|hostname|lease[a-z]*|vendor|client|autoconf|accept_ra|dhcp|request_prefix|privext|\
dad-[a-z]*|ll-[a-z]*|preferred-lifetime)[[:space:]]|# $OURS\$" | awk 'NF && !seen[$0]++'
}
# The commands are those that each ifup understands, for any number of addresses.
static_ifupdown() {
  metric=$(stanzas 1 "$2" $(files $INTERFACES) | awk '$1 == "metric" { print $2; exit }')
  stanza=$(
    printf 'iface %s inet manual\n' "$2"
    ip_commands "$2" | sed "s/.*/    up ip & # $OURS/"
    echo "    down ip address flush dev $2 scope global # $OURS"
    listed '    dns-nameservers ' "$dns" ' '
    listed '    dns-search ' "$search" ' '
    kept_options "$2"
  )
  for file in $(files $INTERFACES); do
    [ -f "$file" ] || continue
    text=$(stanzas 0 "$2" "$file")
    [ "$text" = "$(cat "$file")" ] || write_file "$file" 0644 "$text" || return 1
  done
  started='' file=/etc/network/interfaces
  grep -qsE "^[[:space:]]*(auto|allow-).*[[:space:]]$2([[:space:]]|\$)" $(files $INTERFACES) || started="auto $2"
  write_file $file 0644 "$(cat $file; printf '\n%s\n\n%s\n' "$started" "$stanza")"
}
configured() { for name in $(interfaces); do [ -z "$(stanzas 1 "$name" $(files $INTERFACES))" ] || echo "$name"; done; }
apply_ifupdown() {
  for interface in $(configured); do
    attempt ifdown --force "$interface" || attempt ifdown -f "$interface" || attempt ifdown "$interface"
    ip address flush dev "$interface" scope global 2>/dev/null
    attempt ifup "$interface" || failed "ifup $interface: $error"
  done
}
# kept_variables FILE: print the variables of an ifcfg file that are not about addresses, such as MTU and ZONE.
kept_variables() {
  grep -vE "^[[:space:]]*(BOOTPROTO|STARTMODE|ONBOOT|DEVICE|IPADDR|NETMASK|PREFIX|GATEWAY|BROADCAST|NETWORK|DNS|DOMAIN|\
PEERDNS|DHC|IPV6ADDR|IPV6INIT|IPV6_|REMOTE_|LABEL|SCOPE)[A-Z0-9_]*=" "$1" 2>/dev/null
}
static_wicked() {
  directory=/etc/sysconfig/network
  text=$(
    printf "BOOTPROTO='static'\nSTARTMODE='auto'\n"
    numbered IPADDR_ "$addresses"
    kept_variables "$directory/ifcfg-$2"
  )
  write_file "$directory/ifcfg-$2" 0644 "$text" || return 1
  text=$(each_route "%s %s - $2" | sed 's,^0[.]0[.]0[.]0/0 ,default ,; s,^::/0 ,default ,')
  write_file "$directory/ifroute-$2" 0644 "$text" || return 1
  [ -n "$servers$domains" ] && [ -f $directory/config ] || return 0
  text=$(sed "s/^\(NETCONFIG_DNS_STATIC_SERVERS=\).*/\1\"$servers\"/
    s/^\(NETCONFIG_DNS_STATIC_SEARCHLIST=\).*/\1\"$domains\"/" $directory/config)
  write_file $directory/config 0644 "$text"
}
apply_wicked() {
  restart wickedd
  for interface in $(interfaces); do
    [ -e "/etc/sysconfig/network/ifcfg-$interface" ] || continue
    attempt wicked --timeout "$wait" ifup "$interface" # without a cable or a DHCP server this fails
  done
  ! has netconfig || attempt netconfig update -f || failed "netconfig: $error"
}
# No manager: the addresses last until the next boot.
static_ip() {
  ip address flush dev "$2" scope global 2>/dev/null
  ip_commands "$2" >$STATE/commands
  run_ip <$STATE/commands
  [ ! -e "/etc/sysconfig/network-scripts/ifcfg-$2" ] || [ "$manager" != ip ] ||
    failed "ifcfg-$2 would bring back the parent's network at the next boot; use NetworkManager, or network none"
}
apply_ip() {
  for interface in $(interfaces); do
    [ -z "$(ip -o address show dev "$interface" scope global)" ] && was_addressed "$interface" || continue
    attempt ip link set dev "$interface" up || failed "$interface: $error"
    attempt dhclient -nw "$interface" || attempt udhcpc -b -i "$interface" || attempt dhcpcd -b "$interface"
  done
}

# --- Network: which manager, and the confirmation --------------------------------------------------------------------
manager_is() { service_is active "$1" || service_is enabled "$1"; }
# find_manager: print which of the static_ functions fits this guest.
find_manager() {
  if [ "$network" = auto ] && [ -s $STATE/network ]; then cat $STATE/network; return; fi
  case $network in auto | netplan) ;; *) echo "$network"; return ;; esac
  yaml=$(files '/etc/netplan/*.yaml')
  if [ "$network" = netplan ] || { has netplan && [ -n "$yaml" ]; }; then
    if grep -q 'renderer: *NetworkManager' $yaml /dev/null; then echo networkmanager; else echo networkd; fi
  elif has ifup && [ -n "$(configured)" ]; then echo ifupdown
  elif has nmcli && manager_is NetworkManager; then echo networkmanager
  elif has wicked && manager_is wickedd; then echo wicked
  elif manager_is systemd-networkd; then echo networkd
  elif has ifup && [ -f /etc/network/interfaces ]; then echo ifupdown
  else echo ip
  fi
}
# was_addressed INTERFACE: did it have an address in the parent, as far as that is known?
was_addressed() { [ ! -e $STATE/addresses ] || grep -q "^$1 " $STATE/addresses; }
# on_interface INTERFACE ADDRESS: print the address as the kernel has it: its prefix length, scope and flags.
on_interface() { ip -o address show dev "$1" to "${2%/*}" | sed -n '1s/^.* inet6* //p'; }
# has_wishes INTERFACE: are the addresses and routes effective? Set lacking to the first that is not.
has_wishes() {
  for word in $addresses; do
    lacking="the address $word"
    case $(on_interface "$1" "$word") in
      *dadfailed*) lacking="$lacking for itself: another machine has it, too"; return 1 ;;
      *"/${word#*/} "*tentative*) ! has_cable "$1" || return 1 ;; # without one, it stays so
      *"/${word#*/} "*) ;;
      *) return 1 ;;
    esac
  done
  for route in $routes; do
    lacking="the route to ${route%,*} via ${route#*,}"
    family=$(family_of "$route")
    gateway=$(ip "$family" route get "${route#*,}" oif "$1" 2>/dev/null | awk '{ print $1; exit }')
    ip "$family" route show exact "${route%,*}" | grep -q "via $gateway dev $1 " || return 1
  done
}
# has_address INTERFACE: of each family that it had in the parent, since IPv6 is often there before IPv4.
has_address() {
  families=$(sed -n "/^$1 .*:/s/.*/-6/p; /^$1 .*[.]/s/.*/-4/p" $STATE/addresses 2>/dev/null | sort -u)
  for family in ${families:--o}; do
    ip -o "$family" address show dev "$1" scope global | grep -qv tentative || return 1
  done
}
has_cable() { [ "$(cat "/sys/class/net/$1/carrier" 2>/dev/null)" = 1 ]; }
confirm_adapter() {
  read_wishes "$1" || return 0 # reported before
  if [ -n "$addresses" ]; then
    if ! has_cable "$2" && [ "$manager" = networkmanager ]; then static_ip "$1" "$2"; fi
    wait_for has_wishes "$2" || failed "$2 does not have $lacking"
    ! has_cable "$2" || confirm_dns
  elif was_addressed "$2"; then
    lacking="$2 got no address within $wait s"
    if ! has_cable "$2"; then absent "$2 has no cable"
    elif ! wait_for has_address "$2"; then [ -e $STATE/addresses ] && failed "$lacking" || absent "$lacking"; fi
  fi
  [ -e $STATE/addresses ] || return 0
  while read -r interface word; do
    case " $addresses " in *" ${word%/*}/"*) continue ;; esac
    [ -z "$(on_interface "$2" "$word")" ] ||
      failed "$2 has the parent's address ${word%/*}; set ipaddress, or use DHCP with a pool without this address"
  done <$STATE/addresses
}
RESOLVERS='/etc/resolv.conf /run/systemd/resolve/resolv.conf /run/NetworkManager/resolv.conf /run/netconfig/resolv.conf'
has_dns() { for word in $dns; do grep -qis "^nameserver  *$word *\$" $RESOLVERS || return 1; done; }
collect_dns() { servers=$(one_line "$servers $dns") domains=$(one_line "$domains $search"); }
# If nothing manages resolv.conf, it is a file, and ours to write.
confirm_dns() {
  [ -n "$dns" ] || return 0
  [ -h /etc/resolv.conf ] || has_dns || write_file /etc/resolv.conf 0644 "$(
    lines 'nameserver ' "$servers"
    listed 'search ' "$domains" ' '
  )" || failed "$error"
  wait_for has_dns || failed "resolv.conf does not have the DNS servers"
}
# each_adapter COMMAND: run it with the number and the interface of each adapter.
each_adapter() {
  number=0
  for interface in $(interfaces); do "$1" $number "$interface"; number=$((number + 1)); done
}
configure_adapter() {
  read_wishes "$1" || { failed "the config param $error is not valid"; return; }
  [ -n "$addresses" ] || return 0
  collect_dns
  "static_$manager" "$1" "$2" || failed "$error"
}

renew_network() {
  [ -n "$(adapters)" ] || { absent "no network adapter"; return; }
  has ip || { failed "no program ip"; return; }
  manager=$(find_manager) metric='' servers='' domains=''
  remove_files "/etc/systemd/network/05-$OURS*" "/etc/NetworkManager/system-connections/$OURS*" || failed "$error"
  [ "$manager" != ip ] || start_managers # what they set is replaced
  each_adapter configure_adapter
  for word in 0 1 2 3 4 5 6 7 8 9; do
    [ "$word" -lt $number ] || [ -z "$(param "ethernet$word.ipaddress")" ] || failed "there is no adapter $word"
  done
  start_managers
  ! has netplan || attempt netplan generate || failed "netplan: $error"
  "apply_$manager"
  each_adapter confirm_adapter
}

# IPv6 addresses are announced by the kernel. Two programs have this name; one of them fails without an answer.
renew_announce() {
  has arping || { absent "no arping"; return; }
  announced=
  for interface in $(interfaces); do
    has_cable "$interface" || continue
    for word in $(ip -o -4 address show dev "$interface" scope global | awk '{ print $4 }'); do
      announced=$(arping -U -c 2 -w 5 -I "$interface" "${word%/*}" 2>&1 </dev/null)
      case $announced in
        *"Sent 2 probe"* | *"2 packets transmitted"*) ;;
        *) failed "arping on $interface: $(printf '%s' "$announced" | tail -n 1 | printable 120)" ;;
      esac
      announced=yes
    done
  done
  [ -n "$announced" ] || absent "no IPv4 address on an adapter with a cable"
}

# --- Agents and services ---------------------------------------------------------------------------------------------
# is_removable PATTERN: it has two components, in /usr and /var three, before a component with a wildcard.
is_removable() {
  case $1/ in */../* | */./* | *//* | /bin/* | /boot/* | /dev/* | /lib* | /proc/* | /sbin/* | /sys/*) return 1 ;; esac
  literal=${1%%[*?[]*}
  [ "$literal" = "$1" ] || literal=${literal%/*}
  case $literal in /usr/?*/?* | /var/?*/?*) ;; /usr/* | /var/*) return 1 ;; /?*/?*) ;; *) return 1 ;; esac
}
renew_agents() {
  known=
  # Per line: a service, and the files in which it keeps who it is; not those of a Puppet server's authority (ssl/ca).
  while read -r service patterns; do
    [ -n "$(files $patterns)" ] || continue
    known="$known $service"
    remove_files $patterns || failed "$error"
    restart_active "$service"
  done <<'AGENTS'
rhsmcertd /etc/pki/consumer/*.pem /etc/pki/entitlement/*.pem /etc/sysconfig/rhn/systemid
puppet /etc/puppetlabs/puppet/ssl/[cp]*s/*.pem /var/lib/puppet/ssl/[cp]*s/*.pem
salt-minion /etc/salt/minion_id /etc/salt/pki/minion/minion.p*
chef-client /etc/chef/client.pem
AGENTS
  renew_storage_names
  for word in $(param vmfork.agents_remove); do
    known="$known $word"
    refused=$({ echo "$word"; files "$word"; } | while IFS= read -r path; do is_removable "$path" || echo "$path"; done)
    if [ -n "$refused" ]; then failed "vmfork.agents_remove: $refused is too general, or not absolute"
    else remove_files "$word" || failed "$error"
    fi
  done
  for word in $(param vmfork.agents_restart); do
    known="$known $word"
    case $word in
      *[!A-Za-z0-9@._:-]* | -*) failed "vmfork.agents_restart: $word is not a service" ;;
      *) restart "$word" ;;
    esac
  done
  [ -n "$known" ] || absent "no known agent"
}
# The names of this host for iSCSI and NVMe.
renew_storage_names() {
  if [ -f /etc/iscsi/initiatorname.iscsi ]; then
    known="$known iscsid" name=$(iscsi-iname 2>/dev/null) error="no iscsi-iname"
    [ -n "$name" ] && write_file /etc/iscsi/initiatorname.iscsi 0600 "InitiatorName=$name" || failed "$error"
    restart_active iscsid
  fi
  [ -f /etc/nvme/hostnqn ] || return 0
  known="$known nvme" id=$(new_uuid)
  write_file /etc/nvme/hostnqn 0644 "nqn.2014-08.org.nvmexpress:uuid:$id" || failed "$error"
  [ ! -f /etc/nvme/hostid ] || write_file /etc/nvme/hostid 0644 "$id" || failed "$error"
}

# These keep the old machine ID, host name or time in memory.
renew_services() {
  restarted=
  restart_active systemd-journald rsyslog syslog-ng syslog systemd-timesyncd chronyd chrony ntpd ntp ntpsec rngd haveged
  [ -n "$restarted" ] || absent "none of the known services is active"
}

# --- Parent and child ------------------------------------------------------------------------------------------------
# saved_network: print the arguments of ip that bring back addresses and routes; the kernel adds its own routes.
saved_network() {
  for interface in $(interfaces); do
    [ -z "$(ip -o link show dev "$interface" up)" ] || echo "link set dev $interface up"
    ip -o address show dev "$interface" scope global | sed "s/^.* inet6* */address replace /
      s/ scope .*valid_lft \([0-9]*\)sec preferred_lft \([0-9]*\)sec/ valid_lft \1 preferred_lft \2/
      s/ scope .*//; s/\$/ dev $interface/"
    for family in -4 -6; do
      ip $family route show dev "$interface" | sed "/proto kernel/d; /proto ra/d; s/ linkdown//; s/ dead//
        s/\([0-9]\)sec/\1/; s/^/$family route replace /; s/\$/ dev $interface/"
    done
  done | awk '/ via / { last = last $0 "\n"; next } { print } END { printf "%s", last }'
}

# Between the fork point and the renewal, no child may send anything with the parent's addresses.
take_network_down() {
  for interface in $(interfaces); do for upper in $(files "/sys/class/net/$interface/upper_*"); do
    failed "$interface is part of ${upper##*/upper_}, whose addresses are not renewed; set the network to none"
  done; done
  [ "$status" = ok ] || return
  mv $STATE/saved $STATE/undo
  stop_managers
  for interface in $(interfaces); do
    attempt ip address flush dev "$interface" scope global && attempt ip link set dev "$interface" down ||
      failed "$interface: $error"
  done
}

prepare() {
  rm -rf $STATE
  mkdir -m 700 $STATE || { echo "prepare: failed: $STATE cannot be created"; code=90; return; }
  find_manager >$STATE/network
  saved_network >$STATE/saved
  settings=settings_$(cat $STATE/network)
  for interface in $(interfaces); do ! has "$settings" || "$settings" "$interface" >"$STATE/settings-$interface"; done
  for interface in $(interfaces); do mac_of "$interface"; done >$STATE/macs
  sed -n 's/^address replace \([^ ]*\) .*dev \(.*\)/\2 \1/p' $STATE/saved >$STATE/addresses
  publish parent -
  case "$network $items " in "none "*) ;; *" leases "* | *" adapters "* | *" network "*) take_network_down ;; esac
  sync # otherwise each child writes this data to its own disk
  [ $status = ok ] || { echo "prepare: failed: $why"; code=90; }
}

undo() {
  [ -e $STATE/undo ] || return 0
  run_ip <$STATE/undo
  start_managers
  [ ! -e $STATE/clients ] || while read -r words; do ${words:-:} >/dev/null 2>&1 </dev/null & done <$STATE/clients
  rm -f $STATE/undo $STATE/clients
  [ $status = ok ] || { echo "undo: failed: $why"; code=90; }
}

renew() {
  nonce=$(param vmfork.nonce)
  case $nonce in '' | *[!A-Za-z0-9._-]*) nonce=- ;; esac
  [ -d $STATE ] || mkdir -m 700 $STATE
  # What takes the network down also brings it up, and compares its addresses with the parent's.
  case "$(files $STATE/undo) $items " in *" network "*) ;; /* | *" leases "* | *" adapters "*)
    items=$(echo "$items" | sed -E 's/(.*(leases|adapters))?/& network /') ;;
  esac
  for item in $items; do renew_item "$item"; done
  status=ok why=
  start_managers # if the item network has returned early
  [ $status = ok ] || { echo "network: failed: $why"; code=90; }
  publish "$nonce" "${results:--}"
}

main() {
  action=${1:-} items=${2:-auto} network=${3:-auto} code=0 results='' reasons='' restarted='' status=ok why=''
  tools=${VMFORK_TOOLS:-$(command -v vmtoolsd)} wait=${VMFORK_WAIT:-20}
  case $action in
    prepare | undo) ;;
    renew)
      wanted=$(param vmfork.identity) items=${wanted:-$items}
      wanted=$(param vmfork.network) network=${wanted:-$network} ;;
    *) sed -n 's/^# \{0,1\}//; 5,13p' "$0"; exit 2 ;;
  esac
  case " $NETWORKS " in *" $network "*) ;; *) echo "NETWORK must be one of: $NETWORKS"; exit 2 ;; esac
  items=$(printf '%s' "$items" | tr ',' ' ' | tr -cd 'a-z_0-9 ')
  case $items in auto | auto\ *) items=$ITEMS${items#auto} ;; esac
  "$action"
  exit $code
}

main "$@"
