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
# ITEMS is "auto" (everything the guest has) or names from the list below, separated by commas. NETWORK is auto,
# networkd, netplan, networkmanager, ifupdown, wicked, ip or none. In a child, the config params vmfork.identity and
# vmfork.network take precedence. Other config params are read where they are needed; guide_identity.rst lists them.
#
# An item is "ok" only if its effect was read back, "absent" if the guest does not have it or nothing was requested,
# and "failed" otherwise. The result is published as guestinfo.vmfork.identity. Exit codes: 0, 90 if an item failed or
# the result could not be published, 2 for wrong arguments.
#
# Environment: VMFORK_TOOLS (program that reads and writes guestinfo), VMFORK_SET_CLOCK (called with the seconds since
# the epoch), VMFORK_ADD_ENTROPY (gets base64 on its standard input), VMFORK_WAIT (seconds to wait for the network).
# shellcheck disable=SC2015,SC2046,SC2086,SC2317,SC2329 # words are split on purpose, and items are functions
set -uf
umask 022
export LC_ALL=C

ITEMS='clock random machine_id leases adapters hostname network ssh_host_keys boot_id agents services announce'
# Kept in memory from prepare to renew: what ran in the parent, and its addresses.
STATE=/run/vmfork-identity
# Names of the files that this script adds to the guest's configuration.
OURS=vmfork-ethernet

# --- VMware Tools ----------------------------------------------------------------------------------------------------
has() { command -v "$1" >/dev/null 2>&1; }

rpc() {
  case ${tools##*/} in
    *rpctool*) "$tools" "$1" ;;
    *) "$tools" --cmd "$1" ;;
  esac 2>/dev/null </dev/null
}

# param NAME: print a config param of this child, as one line.
param() {
  value=$(rpc "info-get guestinfo.fork.$1") || return 0
  case $value in *[![:print:]]*) value=$(printf '%s' "$value" | tr -c '[:print:]' ' ') ;; esac
  set -- $value
  printf '%s' "$*"
}

param_list() { param "$1" | tr ',' ' '; }
base64_line() { base64 2>/dev/null | tr -d '\n'; }

# --- Results ---------------------------------------------------------------------------------------------------------
failed() { status=failed why="${why:+$why; }$1"; }
absent() {
  [ "$status" = failed ] || status=absent
  why="${why:+$why; }$1"
}

# attempt COMMAND...: run it; on failure, error is the last line of what it printed.
attempt() {
  error=$("$@" 2>&1 </dev/null) && return 0
  error=$(printf '%s' "${error:-$1 failed}" | tail -n 1 | tr -c '[:print:]' ' ' | cut -c 1-120)
  return 1
}

renew_item() {
  status=ok why=
  case " $ITEMS ${ON_REQUEST:-} " in
    *" $1 "*) "renew_$1" ;;
    *) failed "unknown to this version of the script" ;;
  esac
  results="${results:+$results,}$1=$status"
  [ "$status" != failed ] || code=90
  [ "$status" != ok ] || return 0
  why=$(printf '%s' "$why" | tr -c '[:print:]' ' ' | cut -c 1-300)
  reasons="${reasons:+$reasons
}$1: $why"
  echo "$1: $status: $why"
}

digest() {
  for path in /etc/machine-id "$DBUS_ID"; do
    [ ! -s "$path" ] || { tr -d '\n' <"$path" | sha256sum | cut -d ' ' -f 1; return; }
  done
  echo -
}

# public_keys: print the SSH host keys without their comments; vmfork_child accepts no other types.
public_keys() {
  for key in $(host_keys); do
    [ ! -f "$key.pub" ] || cut -d ' ' -f 1,2 "$key.pub" 2>/dev/null | head -n 1
  done | grep -E '^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)) ' | sort -u | head -n 16
}

publish() {
  keys=$(printf '%s' "$(public_keys)" | base64_line)
  explained=$(printf '%s' "$reasons" | base64_line)
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
    set -- $pattern
    unset IFS
    for file in "$@"; do
      if [ -e "$file" ] || [ -h "$file" ]; then printf '%s\n' "$file"; fi
    done
  done
  set -f
}

# write_file PATH MODE CONTENT: write a file in place, which keeps its owner, mode and labels, and read it back.
write_file() {
  mkdir -p "${1%/*}" 2>/dev/null
  [ -e "$1" ] || { (umask 077; : >"$1") && chmod "$2" "$1"; } 2>/dev/null
  { printf '%s\n' "$3" >"$1"; } 2>/dev/null || { error="$1 cannot be written"; return 1; }
  ! has restorecon || restorecon "$1" >/dev/null 2>&1
  [ "$(cat "$1" 2>/dev/null)" = "$3" ] || { error="$1 does not have what was written to it"; return 1; }
}

# remove_files PATTERN...: remove them; fails if one remains.
remove_files() {
  while IFS= read -r found; do
    [ -n "$found" ] || continue
    rm -rf "$found" 2>/dev/null
    if [ -e "$found" ] || [ -h "$found" ]; then error="$found cannot be removed"; return 1; fi
  done <<FILES
$(files "$@")
FILES
}

new_uuid() { cat /proc/sys/kernel/random/uuid; }

# --- Services --------------------------------------------------------------------------------------------------------
# service_is WORD SERVICE: is it active, or enabled?
service_is() {
  if has systemctl; then systemctl -q "is-$1" "$2" >/dev/null 2>&1 </dev/null
  elif [ "$1" = enabled ]; then [ -n "$(files "/etc/runlevels/*/$2")" ]
  else rc-service -q "$2" status >/dev/null 2>&1 </dev/null
  fi
}

control() { if has systemctl; then attempt systemctl "$1" "$2"; else attempt rc-service -q "$2" "$1"; fi; }

# restart_active SERVICE...: restart those that are active; fails if one is not active afterwards.
restart_active() {
  for service in "$@"; do
    service_is active "$service" || continue
    restarted="$restarted $service"
    control restart "$service" && service_is active "$service" && continue
    failed "$service did not restart: $error"
  done
}

# --- Clock and random numbers ----------------------------------------------------------------------------------------
# helper VARIABLE_VALUE NAME: print the replacement of a command: that of the environment, or a program of this name.
helper() { if [ -n "$1" ]; then echo "$1"; else command -v "$2" 2>/dev/null; fi; }
set_date() { date -u -s "@$1"; }

# The hardware clock is the ESXi host's. The config param is the time of the request, so the clock may be ahead of it.
renew_clock() {
  wanted=$(param vmfork.clock)
  is_number "$wanted" || wanted=
  attempt hwclock --hctosys || [ -n "$wanted" ] || absent "no hardware clock, and no time in the config params"
  [ -n "$wanted" ] || return 0
  [ "$(date +%s)" -lt $((wanted - 5)) ] || return 0
  set_clock=$(helper "${VMFORK_SET_CLOCK:-}" vmfork-set-clock)
  attempt "${set_clock:-set_date}" "$wanted" || failed "$error"
  [ "$(date +%s)" -ge $((wanted - 5)) ] || failed "the clock is behind the time of the fork"
}

# RNDADDENTROPY with 8 bits per byte, then RNDRESEEDCRNG, which kernels before 4.14 do not have (exit code 3).
ENTROPY_PYTHON='
import base64, fcntl, os, struct, sys
data = base64.b64decode(sys.stdin.read())
device = os.open("/dev/urandom", os.O_WRONLY)
fcntl.ioctl(device, 0x40085203, struct.pack("ii", 8 * len(data), len(data)) + data)
try:
    fcntl.ioctl(device, 0x5207)
except (IOError, OSError) as error:
    sys.exit(3 if error.errno in (22, 25) else str(error))
'
# shellcheck disable=SC2016
ENTROPY_PERL='
use strict;
sub refused { print STDERR "$!\n"; exit 1 }
(my $text = join "", <STDIN>) =~ tr{A-Za-z0-9+/}{}cd;
$text =~ tr{A-Za-z0-9+/}{ -_}; # uuencoded, which perl decodes without a module
my $data = join "", map { unpack "u", chr(32 + int(length($_) * 3 / 4)) . $_ } $text =~ /(.{1,60})/g;
open(my $device, ">", "/dev/urandom") or refused;
defined ioctl($device, 0x40085203, my $add = pack("ii", 8 * length($data), length($data)) . $data) or refused;
exit 0 if defined ioctl($device, 0x5207, 0);
exit 3 if $! == 22 || $! == 25;
refused;
'

add_entropy() {
  program=$(helper "${VMFORK_ADD_ENTROPY:-}" vmfork-add-entropy)
  if [ -n "$program" ]; then "$program"; return; fi
  for program in python3 /usr/libexec/platform-python python; do
    ! has "$program" || { "$program" -c "$ENTROPY_PYTHON"; return; }
  done
  ! has perl || { perl -e "$ENTROPY_PERL"; return; }
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
    *) failed "$(printf '%s' "${error##*
}" | cut -c 1-120)" ;;
  esac
  entropy=
}

# --- Names and keys of the system ------------------------------------------------------------------------------------
DBUS_ID=/var/lib/dbus/machine-id
renew_machine_id() {
  renewed='' id=$(new_uuid | tr -d '-')
  case $id in *[!0-9a-f]*) id= ;; esac
  [ ${#id} = 32 ] || { failed "the kernel gave no UUID"; return; }
  for path in /etc/machine-id "$DBUS_ID"; do
    # A link to the other file is kept, and so is one that leads nowhere.
    [ -f "$path" ] || continue
    write_file "$path" 0444 "$id" || failed "$error"
    renewed=yes
  done
  [ -n "$renewed" ] || absent "no /etc/machine-id"
}

host_keys() {
  {
    files '/etc/ssh/ssh_host_*_key'
    for config in $(files /etc/ssh/sshd_config '/etc/ssh/sshd_config.d/*.conf'); do
      awk 'tolower($1) == "hostkey" { gsub(/"/, "", $2); print $2 }' "$config"
    done
  } | sort -u
}

# key_type PRIVATE_KEY: print the type as ssh-keygen takes it.
key_type() {
  ssh-keygen -l -f "$1" 2>/dev/null </dev/null | sed -n 's/.*(\([A-Z0-9]*\))$/\1/p' | tr '[:upper:]' '[:lower:]'
}

# replace_key PRIVATE_KEY: the new key exists before the old one is touched.
replace_key() {
  case $1 in *_dsa_key) type=dsa ;; *) type=$(key_type "$1") ;; esac # newer ones cannot read DSA
  [ -n "$type" ] || { failed "the type of $1 is unknown"; return; }
  before=$(cut -d ' ' -f 2 "$1.pub" 2>/dev/null)
  rm -f "$scratch/key" "$scratch/key.pub"
  if ! attempt ssh-keygen -q -t "$type" -N '' -C '' -f "$scratch/key"; then
    [ "$type" = dsa ] || { failed "$1: $error"; return; }
    remove_files "$1" "$1.pub" || failed "$error" # OpenSSH no longer has this type
    return
  fi
  write_file "$1" 0600 "$(cat "$scratch/key")" && write_file "$1.pub" 0644 "$(cat "$scratch/key.pub")" ||
    { failed "$error"; return; }
  remove_files "$1-cert.pub" || failed "$error" # certifies the parent's key
  after=$(ssh-keygen -y -f "$1" 2>/dev/null </dev/null | cut -d ' ' -f 2)
  [ -n "$after" ] && [ "$after" != "$before" ] && [ "$after" = "$(cut -d ' ' -f 2 "$1.pub")" ] ||
    failed "$1 is not a new key"
}

renew_ssh_host_keys() {
  [ -z "$(files '/etc/dropbear/dropbear_*_host_key')" ] || failed "the host keys of dropbear are not renewed"
  [ -d /etc/ssh ] && [ -n "$(host_keys)" ] || { absent "no SSH host keys"; return; }
  has ssh-keygen || { failed "no ssh-keygen; the parent's keys remain"; return; }
  scratch=$(mktemp -d) || { failed "no temporary directory"; return; }
  for key in $(host_keys); do
    # Configured keys that do not exist are not created: sshd does without them, too.
    [ ! -f "$key" ] || replace_key "$key"
  done
  rm -rf "$scratch"
  restart_sshd
}

# Without a running service, sshd starts on demand and reads the keys then.
restart_sshd() {
  restarted=''; restart_active sshd
  [ -n "$restarted" ] || restart_active ssh
  [ -n "$restarted" ] || [ ! -s /run/sshd.pid ] || kill -HUP "$(cat /run/sshd.pid)" 2>/dev/null || return 0
}

BOOT_ID=/proc/sys/kernel/random/boot_id
renew_boot_id() {
  # Seeds for the next boot, and the host's own key for credentials unless something is encrypted with it.
  set -- /var/lib/random-seed '/var/lib/*/random-seed' '/var/lib/seedrng/*'
  [ -n "$(files '/etc/credstore.encrypted/*')" ] || set -- "$@" /var/lib/systemd/credential.secret
  remove_files "$@" || failed "$error"
  before=$(cat $BOOT_ID 2>/dev/null) || { absent "no $BOOT_ID"; return; }
  write_file "$STATE/boot_id" 0444 "$(new_uuid)" || { failed "$error"; return; }
  if [ "$(cat $BOOT_ID)" = "$before" ]; then # else it is mounted already
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
  name=$(param hostname)
  fqdn=$(param fqdn)
  case $name in *.*) fqdn=${fqdn:-$name} ;; esac
  name=${name:-$fqdn}
  name=${name%%.*}
  [ -n "$name" ] || { absent "no hostname in the config params"; return; }
  is_name "$name" && { [ -z "$fqdn" ] || is_name "$fqdn"; } || { failed "the host name is not valid"; return; }
  attempt hostnamectl set-hostname "$name" || attempt hostname "$name" # the kernel is asked below
  [ "$(cat /etc/hostname 2>/dev/null)" = "$name" ] || write_file /etc/hostname 0644 "$name" || failed "$error"
  [ "$(cat /proc/sys/kernel/hostname)" = "$name" ] || failed "the host name was not set: $error"
  [ ! -e /etc/hosts ] || write_hosts || failed "$error"
}

# Let the guest resolve its own name, which `hostname --fqdn` needs, instead of the parent's.
write_hosts() {
  others=$(grep -v '^127\.0\.1\.1[[:space:]]' /etc/hosts)
  write_file /etc/hosts 0644 "${others:+$others
}127.0.1.1 ${fqdn:+$fqdn }$name"
}

# --- Adapters --------------------------------------------------------------------------------------------------------
# adapters: print "DEVICE INTERFACE" of each adapter, in the order of vSphere. Virtual hardware labels them since
# version 10; the order of the devices is another one from the fifth adapter on.
adapters() {
  for link in $(files '/sys/class/net/*/device'); do
    interface=${link%/device}
    interface=${interface##*/}
    [ "$(cat "/sys/class/net/$interface/type" 2>/dev/null)" = 1 ] || continue
    label=$(sed -n 's/^Ethernet\([0-9][0-9]*\)$/\1/p' "$link/label" 2>/dev/null)
    device=$(readlink -f "$link") && echo "${label:-99} $device $interface"
  done | sort -k 1,1n -k 2 | cut -d ' ' -f 2-
}

interfaces() { adapters | cut -d ' ' -f 2; }
interface_of() { adapters | while read -r device interface; do [ "$device" != "$1" ] || echo "$interface"; done; }
mac_of() { tr 'A-F' 'a-f' <"/sys/class/net/$1/address" 2>/dev/null; }

wanted_mac() { param "ethernet$1.address" | tr 'A-F' 'a-f' | grep -x '[0-9a-f:]\{17\}'; }

wait_for() {
  left=$wait
  until "$@"; do
    [ "$left" -gt 0 ] || return 1
    left=$((left - 1))
    sleep 1
  done
}

is_gone() { [ -z "$(interface_of "$1")" ]; }
is_there() { [ -n "$(interface_of "$1")" ]; }
# MAC addresses in the configuration: udev rules, links, profiles.
CONFIGURED_MACS='/etc/udev/rules.d/*net*.rules /etc/systemd/network/* /run/systemd/network/* /etc/netplan/*.yaml
  /etc/network/interfaces /etc/network/interfaces.d/* /etc/sysconfig/network-scripts/ifcfg-*
  /etc/sysconfig/network/ifcfg-* /etc/NetworkManager/system-connections/*'
replace_mac() {
  [ -n "$1" ] && [ -n "$2" ] && [ "$1" != "$2" ] || return 0
  while IFS= read -r file; do
    [ -f "$file" ] && grep -qi "$1" "$file" || continue
    write_file "$file" 0600 "$(sed "s/$1/$2/gI" "$file")" || failed "$error"
  done <<FILES
$(files $CONFIGURED_MACS)
FILES
}

# rebind DEVICE INTERFACE: let the driver read the MAC from the hardware again.
rebind() {
  driver=$(readlink -f "$1/driver") || { failed "$2 has no driver"; return; }
  ip link set dev "$2" down 2>/dev/null
  if [ -w "$driver/unbind" ] && [ -w "$driver/bind" ]; then
    { echo "${1##*/}" >"$driver/unbind"; } 2>/dev/null
    wait_for is_gone "$1" || { failed "the driver of $2 did not release it"; return; }
    { echo "${1##*/}" >"$driver/bind"; } 2>/dev/null
  else
    attempt modprobe -r "${driver##*/}" || { failed "$2: $error"; return; }
    is_gone "$1" || { failed "the driver of $2 did not release it"; return; }
    attempt modprobe "${driver##*/}" || failed "$2: $error"
  fi
  wait_for is_there "$1" || { failed "$2 did not come back"; return; }
  ! has udevadm || udevadm settle --timeout="$wait" >/dev/null 2>&1 # it gets its name
}

renew_adapters() {
  found=$(adapters)
  [ -n "$found" ] || { absent "no network adapter"; return; }
  has ip || { failed "no program ip"; return; }
  number=0
  while read -r device interface; do
    before=$(mac_of "$interface")
    wanted=$(wanted_mac $number)
    replace_mac "$before" "$wanted" # rules that name interfaces apply as soon as one appears
    [ -n "$wanted" ] && [ "$wanted" = "$before" ] || rebind "$device" "$interface"
    now=$(interface_of "$device")
    after=$(mac_of "$now")
    replace_mac "$before" "$after"
    [ -z "$wanted" ] || [ "$wanted" = "$after" ] || failed "$interface has the MAC $after instead of $wanted"
    # The kernel then announces the IPv6 addresses by itself.
    { echo 1 >"/proc/sys/net/ipv6/conf/$now/ndisc_notify"; } 2>/dev/null
    number=$((number + 1))
  done <<FOUND
$found
FOUND
}

# --- Leases and managers of the network ------------------------------------------------------------------------------
MANAGERS='systemd-networkd.socket systemd-networkd NetworkManager wickedd dhcpcd connman'
# stop_managers: stop what might use the parent's identity on the network, and remember it.
stop_managers() {
  for service in $MANAGERS; do
    service_is active "$service" || continue
    control stop "$service" || failed "$service did not stop: $error"
    echo "$service" >>$STATE/stopped
  done
  for comm in $(files '/proc/[0-9]*/comm'); do
    case $(cat "$comm" 2>/dev/null) in
      dhclient | udhcpc | dhcpcd)
        # dhcpcd shows its state instead of its arguments.
        tr '\000' ' ' <"${comm%comm}cmdline" | sed 's/^dhcpcd: .*/dhcpcd/; s/$/\n/' >>$STATE/clients
        pid=${comm#/proc/}; kill "${pid%/comm}" 2>/dev/null ;;
    esac
  done
}

start_managers() {
  [ -e $STATE/stopped ] || return 0
  while read -r service; do
    control start "$service" || failed "$service did not start: $error"
  done <$STATE/stopped
  rm -f $STATE/stopped
}

LEASES='/var/lib/dhclient/*.lease* /var/lib/dhcp/*.lease* /var/lib/dhcp3/*.lease* /var/lib/dhcpcd/*.lease*
  /var/lib/dhcpcd/*/*.lease* /var/lib/dhcpcd/duid /etc/dhcpcd.duid /var/lib/dhcpcd5/*.lease* /var/lib/udhcpc/*
  /var/lib/NetworkManager/*.lease /var/lib/NetworkManager/secret_key /var/lib/NetworkManager/timestamps
  /run/systemd/netif/leases/* /var/lib/systemd/network/* /var/lib/wicked/lease-*.xml /var/lib/wicked/duid.xml
  /var/lib/wicked/iaid.xml /run/wicked/leaseinfo.* /run/dhclient*.lease /run/udhcpc*.lease'
# The managers start again after the adapters have their MAC addresses.
renew_leases() {
  stop_managers
  remove_files $LEASES || failed "$error"
  [ "$status" = failed ] || [ -n "$(adapters)" ] || absent "no network adapter"
}

# --- Network: what is wanted -----------------------------------------------------------------------------------------
is_number() { case $1 in '' | *[!0-9]*) return 1 ;; esac; [ ${#1} -le 12 ]; }
is_ipv6() { case $1 in *:*) return 0 ;; esac; return 1; }

family_of() { if is_ipv6 "$1"; then echo -6; else echo -4; fi; }

is_address() {
  case $1 in
    '' | *[!0-9A-Fa-f.:]*) return 1 ;;
    *:*) case $1 in *:*:*) return 0 ;; esac; return 1 ;;
  esac
  printf '%s\n' "$1" | awk -F . '
    { bad = NF != 4; for (n = 1; n <= NF; n++) if ($n !~ /^[0-9][0-9]?[0-9]?$/ || $n > 255) bad = 1; exit bad }'
}

# prefix_of MASK: print the prefix length of a netmask; a prefix length stays as it is.
prefix_of() {
  case $1 in *.*) is_address "$1" || return 1 ;; *) is_number "$1" && [ "$1" -le 128 ] && echo "$1"; return ;; esac
  printf '%s\n' "$1" | awk -F . '{
    for (n = 1; n <= 4; n++) for (bit = 128; bit >= 1; bit /= 2)
      if (int($n / bit) % 2) { if (ended) exit 1; ones++ } else ended = 1
    print ones + 0 }'
}

# with_prefix ADDRESS DEFAULT: print ADDRESS/LENGTH.
with_prefix() {
  address=${1%%/*}
  is_address "$address" || return 1
  case $1 in */*) length=${1#*/} ;; *) length=$2 ;; esac
  length=$(prefix_of "$length") || return 1
  is_ipv6 "$address" || [ "$length" -le 32 ] || return 1
  echo "$address/$length"
}

# addresses_of PARAM: print the valid addresses of a list; fails if one is not.
addresses_of() {
  for word in $(param_list "$1"); do
    is_address "$word" || return 1
    echo "$word"
  done
}

# read_wishes NUMBER: set addresses, gateways, dns, search, and routes ("DESTINATION,GATEWAY"); fails if not valid.
read_wishes() {
  if [ "$1" = 0 ]; then prefix=; else prefix=ethernet$1.; fi
  addresses='' netmask=$(param "${prefix}netmask")
  for word in $(param_list "${prefix}ipaddress"); do
    default=${netmask:-24}
    ! is_ipv6 "$word" || default=64
    addresses="$addresses $(with_prefix "$word" "$default")" || { error="${prefix}ipaddress or netmask"; return 1; }
  done
  for word in gateway dns search routes; do
    [ -n "$addresses" ] || [ -z "$(param "$prefix$word")" ] ||
      { error="$prefix$word (without ${prefix}ipaddress)"; return 1; }
  done
  [ -n "$addresses" ] || return 0
  gateways=$(addresses_of "${prefix}gateway") || { error=${prefix}gateway; return 1; }
  dns=$(addresses_of "${prefix}dns") || { error=${prefix}dns; return 1; }
  search=$(param_list "${prefix}search")
  for word in $search; do is_name "$word" || { error=${prefix}search; return 1; }; done
  read_routes "$(param "${prefix}routes")" || { error=${prefix}routes; return 1; }
}

# read_routes "DESTINATION via GATEWAY, ..."
read_routes() {
  routes='' destination=''
  for word in $gateways; do
    if is_ipv6 "$word"; then routes="$routes ::/0,$word"; else routes="$routes 0.0.0.0/0,$word"; fi
  done
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
one_line() { printf '%s' "$*" | tr -s ' \n' '  ' | sed 's/^ //; s/ $//'; }

# --- Network: the files of each manager ------------------------------------------------------------------------------
# static_MANAGER NUMBER INTERFACE writes the configuration; apply_MANAGER makes it effective.

# The name sorts before those of netplan and cloud-init, and the first matching file counts.
static_networkd() {
  text=$(
    printf '[Match]\nMACAddress=%s\n\n[Network]\nDHCP=no\nConfigureWithoutCarrier=yes\n' "$(mac_of "$2")"
    lines Address= "$addresses"
    lines DNS= "$dns"
    [ -z "$search" ] || echo "Domains=$(one_line "$search")"
    for route in $routes; do
      printf '\n[Route]\nDestination=%s\nGateway=%s\n' "${route%,*}" "${route#*,}"
    done
  )
  write_file "/etc/systemd/network/05-$OURS$1.network" 0644 "$text"
}

apply_networkd() {
  ! has netplan || attempt netplan generate || failed "netplan: $error"
  control restart systemd-networkd || failed "systemd-networkd did not restart: $error"
  for interface in $(interfaces); do ip link set dev "$interface" up 2>/dev/null; done
}

# keyfile_family 4|6 METHOD_WITHOUT_ADDRESSES
keyfile_family() {
  printf '\n[ipv%s]\n' "$1"
  own=$("ipv${1}_of" "$addresses")
  [ -n "$own" ] || { echo "method=$2"; return; }
  echo method=manual
  numbered address "$own"
  numbered route "$("ipv${1}_of" "$routes")"
  own=$("ipv${1}_of" "$dns")
  [ -z "$own" ] || echo "dns=$(one_line "$own" | tr ' ' ';');"
  [ -z "$search" ] || echo "dns-search=$(one_line "$search" | tr ' ' ';');"
}

static_networkmanager() {
  text=$(
    printf '[connection]\nid=%s\nuuid=%s\ntype=ethernet\n' "$OURS$1" "$(new_uuid)"
    printf 'autoconnect-priority=999\n\n[ethernet]\nmac-address=%s\n' "$(mac_of "$2" | tr 'a-f' 'A-F')"
    keyfile_family 4 disabled
    keyfile_family 6 auto
  )
  write_file "/etc/NetworkManager/system-connections/$OURS$1.nmconnection" 0600 "$text"
}

apply_networkmanager() {
  ! has netplan || attempt netplan generate || failed "netplan: $error"
  control restart NetworkManager || failed "NetworkManager did not restart: $error"
  for profile in $(files "/etc/NetworkManager/system-connections/$OURS*.nmconnection"); do
    profile=${profile##*/}
    # Without a cable this fails now, and happens when there is one.
    attempt nmcli -w "$wait" connection up id "${profile%.nmconnection}"
  done
}

# without_stanza FILE INTERFACE: print interfaces(5) without what configures one interface.
without_stanza() {
  awk -v name="$2" '
    $1 ~ /^(iface|mapping|auto|allow-[a-z]*|source|source-directory|no-auto-down|no-scripts|rename|template)$/ {
      skipped = $1 == "iface" && $2 == name
    }
    !skipped || /^[[:space:]]*#/' "$1"
}

# stanza INTERFACE: the commands are those that each ifup understands, for any number of addresses.
stanza() {
  printf '\n\niface %s inet manual\n    up ip link set dev %s up\n' "$1" "$1"
  for word in $addresses; do echo "    up ip address add $word dev $1"; done
  for route in $routes; do
    echo "    up ip $(family_of "$route") route replace ${route%,*} via ${route#*,} dev $1"
  done
  echo "    down ip address flush dev $1 scope global"
  [ -z "$dns" ] || echo "    dns-nameservers $(one_line "$dns")"
  [ -z "$search" ] || echo "    dns-search $(one_line "$search")"
}

INTERFACES='/etc/network/interfaces /etc/network/interfaces.d/*'
static_ifupdown() {
  for file in $(files $INTERFACES); do
    [ -f "$file" ] || continue
    text=$(without_stanza "$file" "$2")
    [ "$text" = "$(cat "$file")" ] || write_file "$file" 0644 "$text" || return 1
  done
  started=$(files $INTERFACES | xargs cat | awk -v name="$2" '
    $1 ~ /^(auto|allow-)/ { for (n = 2; n <= NF; n++) if ($n == name) found = 1 }
    END { if (!found) print "auto " name }')
  write_file /etc/network/interfaces 0644 "$(cat /etc/network/interfaces)${started:+

$started}$(stanza "$2")"
}

configured() {
  for interface in $(interfaces); do
    cat $(files $INTERFACES) /dev/null 2>/dev/null | awk -v name="$interface" '
      $1 == "iface" && $2 == name { found = 1 }
      END { if (found) print name }'
  done
}

apply_ifupdown() {
  for interface in $(configured); do
    attempt ifdown --force "$interface" || attempt ifdown -f "$interface" || attempt ifdown "$interface"
    ip address flush dev "$interface" scope global 2>/dev/null
    attempt ifup "$interface" || failed "ifup $interface: $error"
  done
}

static_wicked() {
  text=$(
    printf "BOOTPROTO='static'\nSTARTMODE='auto'\n"
    numbered IPADDR_ "$addresses"
  )
  write_file "/etc/sysconfig/network/ifcfg-$2" 0644 "$text" || return 1
  text=$(for route in $routes; do
    word=${route%,*}
    case $word in 0.0.0.0/0 | ::/0) word=default ;; esac
    echo "$word ${route#*,} - $2"
  done)
  write_file "/etc/sysconfig/network/ifroute-$2" 0644 "$text" || return 1
  config=/etc/sysconfig/network/config
  [ -n "$dns$search" ] && [ -f $config ] || return 0
  text=$(sed "s/^NETCONFIG_DNS_STATIC_SERVERS=.*/NETCONFIG_DNS_STATIC_SERVERS=\"$(one_line "$dns")\"/
    s/^NETCONFIG_DNS_STATIC_SEARCHLIST=.*/NETCONFIG_DNS_STATIC_SEARCHLIST=\"$(one_line "$search")\"/" $config)
  write_file $config 0644 "$text"
}

apply_wicked() {
  control restart wickedd || failed "wickedd did not restart: $error"
  for interface in $(interfaces); do
    [ -e "/etc/sysconfig/network/ifcfg-$interface" ] || continue
    attempt wicked --timeout "$wait" ifup "$interface" # without a cable or a DHCP server this fails
  done
  ! has netconfig || attempt netconfig update -f || failed "netconfig: $error"
}

# No manager: the addresses last until the next boot.
static_ip() {
  ip address flush dev "$2" scope global 2>/dev/null
  attempt ip link set dev "$2" up || { failed "$2: $error"; return; }
  for word in $addresses; do attempt ip address add "$word" dev "$2" || failed "$2: $error"; done
  for route in $routes; do
    attempt ip "$(family_of "$route")" route replace "${route%,*}" via "${route#*,}" dev "$2" ||
      failed "route to ${route%,*}: $error"
  done
}

apply_ip() {
  for interface in $(interfaces); do
    [ -z "$(ip -o address show dev "$interface" scope global)" ] || continue
    was_addressed "$interface" || continue
    attempt ip link set dev "$interface" up || failed "$interface: $error"
    attempt dhclient -nw "$interface" || attempt udhcpc -b -i "$interface" || attempt dhcpcd -b "$interface"
  done
}

# --- Network: which manager, and the confirmation --------------------------------------------------------------------
manager_is() { service_is active "$1" || service_is enabled "$1"; }

# find_manager: print which of the static_ functions fits this guest.
find_manager() {
  case $network in
    auto) [ ! -s $STATE/network ] || { cat $STATE/network; return; } ;;
    netplan) ;;
    *) echo "$network"; return ;;
  esac
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

# on_interface INTERFACE ADDRESS: print the address with its prefix length as the kernel has it.
on_interface() { ip -o address show dev "$1" to "${2%/*}" | awk '{ print $4; exit }'; }

# has_wishes INTERFACE: are the addresses and routes effective? Set lacking to the first that is not.
has_wishes() {
  for word in $addresses; do
    lacking="the address $word"
    found=$(on_interface "$1" "$word")
    [ -n "$found" ] && [ "${found#*/}" = "${word#*/}" ] || return 1
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
    if ! has_cable "$2"; then absent "$2 has no cable"; return; fi
    lacking="$2 got no address within $wait s"
    wait_for has_address "$2" || { [ -e $STATE/addresses ] && failed "$lacking" || absent "$lacking"; }
  fi
  [ -e $STATE/addresses ] || return 0
  while read -r interface word; do
    [ -z "$word" ] || [ -z "$(on_interface "$2" "$word")" ] && continue
    case " $addresses " in *" ${word%/*}/"*) continue ;; esac
    failed "$2 has the parent's address ${word%/*}; set ipaddress, or let the parent use DHCP"
  done <$STATE/addresses
}

RESOLVERS='/etc/resolv.conf /run/systemd/resolve/resolv.conf /run/NetworkManager/resolv.conf
  /run/netconfig/resolv.conf'
has_dns() {
  for word in $dns; do
    grep -qi "^nameserver  *$word *\$" $RESOLVERS 2>/dev/null || return 1
  done
}

# If nothing manages resolv.conf, it is a file, and ours to write.
confirm_dns() {
  [ -n "$dns" ] || return 0
  servers="$servers $dns" domains="$domains $search"
  if [ ! -h /etc/resolv.conf ] && ! has_dns; then
    domains=$(one_line "$domains")
    write_file /etc/resolv.conf 0644 "$(lines 'nameserver ' "$servers")${domains:+
search $domains}" || failed "$error"
  fi
  wait_for has_dns || failed "resolv.conf does not have the DNS servers"
}

renew_network() {
  [ "$network" != none ] || { absent "switched off"; return; }
  [ -n "$(adapters)" ] || { absent "no network adapter"; return; }
  has ip || { failed "no program ip"; return; }
  manager=$(find_manager)
  remove_files "/etc/systemd/network/05-$OURS*" "/etc/NetworkManager/system-connections/$OURS*" || failed "$error"
  [ "$manager" != ip ] || start_managers # what they set is replaced
  number=0
  for interface in $(interfaces); do
    if ! read_wishes $number; then
      failed "the config param $error is not valid"
    elif [ -n "$addresses" ]; then
      "static_$manager" $number "$interface" || failed "$error"
    fi
    number=$((number + 1))
  done
  for word in 0 1 2 3 4 5 6 7 8 9; do
    [ "$word" -lt $number ] || [ -z "$(param "ethernet$word.ipaddress")" ] || failed "there is no adapter $word"
  done
  start_managers
  "apply_$manager"
  number=0 servers='' domains=''
  for interface in $(interfaces); do
    confirm_adapter $number "$interface"
    number=$((number + 1))
  done
}

# IPv6 addresses are announced by the kernel.
renew_announce() {
  has arping || { absent "no arping"; return; }
  announced=
  for interface in $(interfaces); do
    has_cable "$interface" || continue
    for word in $(ip -o -4 address show dev "$interface" scope global | awk '{ print $4 }'); do
      attempt arping -q -U -c 2 -w 5 -I "$interface" "${word%/*}" || failed "arping on $interface: $error"
      announced=yes
    done
  done
  [ -n "$announced" ] || absent "no IPv4 address on an adapter with a cable"
}

# --- Agents and services ---------------------------------------------------------------------------------------------
# Per line: a service, and the files in which it keeps who it is; not those of a Puppet server's authority (ssl/ca).
AGENTS='rhsmcertd /etc/pki/consumer/*.pem /etc/pki/entitlement/*.pem /etc/sysconfig/rhn/systemid
puppet /etc/puppetlabs/puppet/ssl/[cp]*s/*.pem /var/lib/puppet/ssl/[cp]*s/*.pem
salt-minion /etc/salt/minion_id /etc/salt/pki/minion/minion.p*
chef-client /etc/chef/client.pem'

# is_removable PATH: at least two components, and none that leads elsewhere.
is_removable() {
  case $1 in */../* | */.. | */./* | */. | *//* | */) return 1 ;; /?*/?*) ;; *) return 1 ;; esac
}

renew_agents() {
  known='' restarted=''
  while read -r service patterns; do
    [ -n "$(files $patterns)" ] || continue
    known="$known $service"
    remove_files $patterns || failed "$error"
    restart_active "$service"
  done <<KNOWN
$AGENTS
KNOWN
  renew_storage_names
  for word in $(param vmfork.agents_remove); do
    refused=$({ echo "$word"; files "$word"; } | while IFS= read -r path; do is_removable "$path" || echo "$path"; done)
    if [ -n "$refused" ]; then failed "vmfork.agents_remove: will not remove $refused"
    else remove_files "$word" || failed "$error"
    fi
    known="$known $word"
  done
  for word in $(param vmfork.agents_restart); do
    known="$known $word"
    case $word in *[!A-Za-z0-9@._:-]* | -*) failed "vmfork.agents_restart: $word is not a service"; continue ;; esac
    control restart "$word" && service_is active "$word" || failed "$word did not restart: $error"
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
  known="$known nvme"
  id=$(new_uuid)
  write_file /etc/nvme/hostnqn 0644 "nqn.2014-08.org.nvmexpress:uuid:$id" || failed "$error"
  [ ! -f /etc/nvme/hostid ] || write_file /etc/nvme/hostid 0644 "$id" || failed "$error"
}

# These keep the old machine ID, host name or time in memory.
SERVICES='systemd-journald rsyslog syslog-ng syslog systemd-timesyncd chronyd chrony ntpd ntp ntpsec rngd haveged'
renew_services() {
  restarted=
  restart_active $SERVICES
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
  for upper in $(for interface in $(interfaces); do files "/sys/class/net/$interface/upper_*"; done); do
    interface=${upper%/*}
    failed "${interface##*/} is part of ${upper##*/upper_}, whose addresses are not renewed; set the network to none"
  done
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
  { mkdir -p $STATE && chmod 700 $STATE; } || { echo "prepare: failed: $STATE cannot be created"; code=90; return; }
  status=ok why=
  find_manager >$STATE/network.new && mv $STATE/network.new $STATE/network
  saved_network >$STATE/saved
  sed -n 's/^address replace \([^ ]*\) .*dev \(.*\)/\2 \1/p' $STATE/saved >$STATE/addresses
  publish parent -
  case "$network $items " in
    "none "*) ;;
    *" leases "* | *" adapters "* | *" network "*) take_network_down ;;
  esac
  sync # otherwise each child writes this data to its own disk
  [ $status = ok ] || { echo "prepare: failed: $why"; code=90; }
}

undo() {
  [ -e $STATE/undo ] || return 0
  status=ok why=
  while read -r words; do attempt ip $words || failed "ip $words: $error"; done <$STATE/undo
  start_managers
  [ ! -e $STATE/clients ] || while read -r words; do
    [ -z "$words" ] || $words >/dev/null 2>&1 </dev/null &
  done <$STATE/clients
  rm -f $STATE/undo $STATE/clients
  [ $status = ok ] || { echo "undo: failed: $why"; code=90; }
}

renew() {
  nonce=$(param vmfork.nonce)
  case $nonce in '' | *[!A-Za-z0-9._-]*) nonce=- ;; esac
  mkdir -p $STATE && chmod 700 $STATE
  for item in $items; do renew_item "$item"; done
  status=ok why=
  start_managers # if the item network is not wanted
  [ $status = ok ] || { echo "network: failed: $why"; code=90; }
  publish "$nonce" "${results:--}"
}

main() {
  action=${1:-} code=0 results='' reasons=''
  tools=${VMFORK_TOOLS:-$(command -v vmtoolsd)}
  wait=${VMFORK_WAIT:-20}
  items=${2:-auto} network=${3:-auto}
  case $action in
    prepare | undo) ;;
    renew)
      wanted=$(param vmfork.identity); items=${wanted:-$items}
      wanted=$(param vmfork.network); network=${wanted:-$network}
      ;;
    *) sed -n 's/^# \{0,1\}//; 5,13p' "$0"; exit 2 ;;
  esac
  case $network in
    auto | networkd | netplan | networkmanager | ifupdown | wicked | ip | none) ;;
    *) echo "NETWORK must be auto, networkd, netplan, networkmanager, ifupdown, wicked, ip or none."; exit 2 ;;
  esac
  items=$(printf '%s' "$items" | tr ',' ' ' | tr -cd 'a-z_0-9 ')
  case $items in auto | auto\ *) items=$ITEMS${items#auto} ;; esac
  "$action"
  exit $code
}

main "$@"
