# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generate the runner for guests with a POSIX shell: Linux, nested ESXi, macOS.

Private to the collection. The guest needs sh and VMware Tools. It also needs
tail and base64 to report the end of a script's output, and awk if a child has
secrets (otherwise the output is left out), and setsid to end all processes of a
script (otherwise only the script itself is ended).
"""

from __future__ import annotations

import gzip
import io
import shlex
import tarfile
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.family import Family
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import (
    ALIVE,
    LEADS,
    MARK,
    STAGES,
    Identity,
    Job,
    Keys,
    Package,
    Program,
    chunks,
)

SHELL = "/bin/sh"


def refusal(job: Job) -> str | None:
    """Return why a guest of this family cannot do the job."""
    try:
        shlex.split(job.interpreter or "")
    except ValueError as error:
        return f"interpreter {job.interpreter} is not a valid command: {error}. Correct it."
    return None


def files(job: Job, family: Family, nonce: str, freeze_command: str, keys: Keys) -> dict[str, bytes]:
    """Return the files of the runner's directory in the guest."""
    # The runner is first: it identifies a directory that an interrupted upload left behind as ours.
    result = {"runner": _runner(job, family, nonce, freeze_command, keys).encode()}
    if job.identity is not None:
        result["identity"] = job.identity.text.encode()
    return {**result, **{name: text.encode() for name, text in job.scripts.items() if text is not None}}


def start(family: Family, directory: str) -> Program:
    """Return the command that starts the runner in a directory."""
    return SHELL, shlex.quote(f"{directory}/runner")


def privatize(directory: str) -> Program | None:
    """Return the command that protects a directory that VMware Tools created. ``None``: it is already protected."""
    return None


def pack(contents: t.Mapping[str, bytes]) -> list[str]:
    """Return files as guestinfo values."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return chunks(packed.getvalue())


def unpack(package: Package, job: Job, family: Family, nonce: str, keys: Keys) -> Program:
    """Return the command that reads packed files in the guest, clears them in guestinfo, and starts the runner."""
    settings = {
        "nonce": nonce,
        "key": keys.payload,
        "key_quiesce": keys.quiesce,
        "count": str(len(package.chunks)),
        "directory": package.directory,
        "mark": MARK,
        "alive": ALIVE,
        **_tools(job, family),
    }
    line = "; ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    exits = f"exit_unpack={STAGES['unpack']}; exit_tools={STAGES['tools']}"
    text = f"{line}; {exits}\n{environment(family)}\n{_TOOLS}\n{_UNPACK}"
    return SHELL, f"-c {shlex.quote(text)}"


def environment(family: Family) -> str:
    """Return shell commands that set the environment in which VMware Tools' programs are found and can run."""
    lines = [f"PATH=${{PATH:+$PATH:}}{shlex.quote(':'.join(family.directories))}; export PATH"]
    if family.libraries:
        libraries = shlex.quote(family.libraries)
        lines.append(f"LD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}; export LD_LIBRARY_PATH")
    return "\n".join(lines)


def _tools(job: Job, family: Family) -> dict[str, str]:
    return {"tools": job.tools_path or "", "tool_names": " ".join(family.tool_names)}


def _runner(job: Job, family: Family, nonce: str, freeze_command: str, keys: Keys) -> str:
    settings = {
        **job.settings(nonce, freeze_command, keys),
        **_tools(job, family),
        "become": job.become,
        "mark": MARK,
        "temporary": family.temporary,
        "alive": ALIVE,
        "leads": LEADS,
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    for name, script in job.scripts.items():
        command = ":" if script is None else f'exec $own_group {_command(script, job.interpreter)} "$directory/{name}"'
        lines.append(f"run_{name}() {{ {command}; }}")
    for step in ("prepare", "renew", "undo"):
        command = ":" if job.identity is None else _identity_command(job.identity, step)
        lines.append(f"run_{step}() {{ {command}; }}")
    exits = [f"exit_{stage}={code}" for stage, code in STAGES.items()]
    steps = "fork_by_itself" if job.script is not None else "fork_between"
    return "\n".join([_HEAD, environment(family), *lines, *exits, _TOOLS, _BODY, f"main {steps}; exit", ""])


def _identity_command(identity: Identity, step: str) -> str:
    program = f'exec $own_group {_command(identity.text)} "$directory/identity"'
    return f"{program} {shlex.join(identity.arguments(step))}"


def _command(script: str, interpreter: str | None = None) -> str:
    """Return the command that starts a script with its interpreter, since its directory may forbid execution."""
    if interpreter:
        return shlex.join(shlex.split(interpreter))
    first = script.split("\n", 1)[0].strip()
    words = first[2:].split(None, 1) if first.startswith("#!") else []
    return shlex.join(words or [SHELL])


_HEAD = f"""#!/bin/sh
# {MARK}: pre-quiesce script, fork point, post-clone script.
umask 077
directory=$(cd "${{0%/*}}" && pwd) || exit 70
"""

_TOOLS = r"""
find_tools() {
  for candidate in "$tools" $tool_names; do
    [ -n "$candidate" ] && tools=$(command -v "$candidate" 2>/dev/null) || continue
    [ -f "$tools" ] && [ -x "$tools" ] && return 0
  done
  return 1
}
rpc() {
  case ${tools##*/} in
    *rpctool*) "$tools" "$1" ;;
    *) "$tools" --cmd "$1" ;;
  esac
}
is_blank() {
  case $(rpc "info-get $1" 2>/dev/null) in *[![:space:]]*) return 1 ;; esac
}
# Some VMware Tools refuse an empty value, or keep the old one: then the value becomes a space.
blank() {
  rpc "info-set $1 " >/dev/null 2>&1 && is_blank "$1" || rpc "info-set $1  " >/dev/null 2>&1
  is_blank "$1"
}
""".strip()

_UNPACK = r"""
umask 077
find_tools || exit $exit_tools
mkdir "$directory" || exit $exit_unpack
trap 'rm -rf "$directory"; exit $exit_unpack' 1 2 15
# These identify a directory that an interrupted unpacking left behind as ours, and one in use as alive.
printf '#!/bin/sh\n# %s\n' "$mark" >"$directory/runner"
echo $$ >"$directory/$alive"
decode=-D # for older macOS, which does not know -d
[ "$(echo YQ== | base64 -d 2>/dev/null)" != a ] || decode=-d
chunk=0
while [ $chunk -lt $count ]; do
  rpc "info-get $key.$chunk" 2>"$directory/output" || break
  blank "$key.$chunk" || : >"$directory/kept"
  chunk=$((chunk + 1))
done | base64 $decode 2>/dev/null | gzip -dc 2>/dev/null | (cd "$directory" && tar -xf - 2>/dev/null)
[ ! -e "$directory/kept" ] || echo 'VMware Tools could not clear guestinfo' >"$directory/output"
# Only the runner from the archive has a third line.
if ! { read -r line && read -r line && read -r line; } <"$directory/runner" || [ -e "$directory/kept" ]; then
  text=$( (tail -c 2048 "$directory/output" | base64 | tr -d '\n') 2>/dev/null)
  rm -rf "$directory"
  rpc "info-set $key_quiesce $nonce unpack $exit_unpack $text" >/dev/null 2>&1
  exit $exit_unpack
fi
trap - 1 2 15
exec /bin/sh "$directory/runner"
""".strip()

_BODY = r"""
publish() { rpc "info-set $1 $2" >/dev/null 2>&1; }

# Set output to the end of the script's output, and remove our files.
take_output() {
  output=$( (tail -c 2048 "$directory/output" | hide_secrets | base64 | tr -d '\n') 2>/dev/null)
  cd / && rm -rf "$directory"
}

# The same as _fork/output_mask.py, with bytes instead of characters. No secret contains the character \001.
hide_secrets() {
  [ -n "$secrets" ] || { cat; return; }
  { printf '%s.' "$secrets"; LC_ALL=C tr -d '\000\001'; } | LC_ALL=C awk '
    function hide(part,  at, found) {
      gsub(/["\047\\\r\n]/, "", part)
      if (length(part) < 4) return
      for (at = 1; found = index(substr(plain, at), part); at += found)
        cover(place[at + found - 1], place[at + found + length(part) - 2])
      for (at = 2; at <= length(part) - 3; at++)
        if (index(plain, substr(part, at)) == 1) {
          cover(1, place[length(part) - at + 1])
          return
        }
    }
    # The forms of _encodings.py; for JSON and shells, the part that remains without quotes and backslashes.
    function hide_all(part,  before, form) {
      if (length(part) < 8) return
      hide(part)
      for (before = 0; before < 3; before++) {
        form = base64(part, before)
        if (length(form) < 8) continue
        hide(form)
        if (gsub(/[+]/, "-", form) + gsub(/\//, "_", form)) hide(form)
      }
      if ((form = url(part, "", "%%%02X")) != part) {
        hide(form)
        hide(url(part, "", "%%%02x"))
        hide(url(part, "/", "%%%02X"))
        hide(url(part, "/", "%%%02x"))
        hide(url(part, "!()*\047", "%%%02X"))
        hide(url(part, "+", "%%%02X"))
        hide(url(part, "+", "%%%02x"))
      }
      form = part
      if (gsub(/\n/, "n", form) + gsub(/\r/, "r", form) + gsub(/\t/, "t", form)) hide(form)
      form = part
      if (gsub(/&/, "\\&amp;", form) + gsub(/</, "\\&lt;", form) + gsub(/>/, "\\&gt;", form)) hide(form)
      if (gsub(/"/, "\\&quot;", form)) hide(form)
      if (gsub(/\047/, "\\&apos;", form)) hide(form)
    }
    function base64(part, before,  at, value, bits, code, out) {
      for (at = 1 - before; at <= length(part); at++) {
        value = value * 256 + (at < 1 ? 0 : byte[substr(part, at, 1)])
        for (bits += 8; bits >= 6; value -= code * power[bits]) {
          bits -= 6
          code = int(value / power[bits])
          out = out substr(alphabet, code + 1, 1)
        }
      }
      return substr(out, int((before * 8 + 5) / 6) + 1)
    }
    # If kept contains +, spaces are encoded as +.
    function url(part, kept, format,  at, char, out) {
      for (at = 1; at <= length(part); at++) {
        char = substr(part, at, 1)
        if (char == " " && kept == "+") char = "+"
        else if (char !~ /[A-Za-z0-9_.~-]/ && (char == "+" || !index(kept, char))) char = sprintf(format, byte[char])
        out = out char
      }
      return out
    }
    function cover(from, to) { for (; from <= to; from++) hidden[from] = 1 }
    BEGIN {
      RS = "\001"
      for (code = 1; code < 256; code++) byte[sprintf("%c", code)] = code
      # awk in busybox may lack the operator for powers.
      for (power[0] = code = 1; code < 16; code++) power[code] = power[code - 1] * 2
      letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
      alphabet = letters tolower(letters) "0123456789+/"
    }
    { record[NR] = $0 }
    END {
      text = substr(record[NR], 2)
      for (at = 1; at <= length(text); at++)
        if ((char = substr(text, at, 1)) !~ /["\047\\\r\n]/) {
          plain = plain char
          place[length(plain)] = at
        }
      for (item = 1; item < NR; item++) {
        hide_all(record[item])
        for (count = split(record[item], line, /[\r\n]+/); count; count--)
          if (line[count] != record[item]) hide_all(line[count])
      }
      for (at = 1; at <= length(text); at++)
        if (!(at in hidden)) printf "%s", substr(text, at, 1)
        else if (!((at - 1) in hidden)) printf "@MASK@"
    }'
}

# end_early STAGE EXIT_CODE OWN_EXIT_CODE: end without a fork, and report why.
end_early() {
  trap : 1 2 15 # so that the parent gets its network back; unlike '', commands do not inherit this
  [ -z "$preparing" ] || (run_undo) >>"$directory/output" 2>&1 </dev/null
  take_output
  # Keep the record of another runner, which may be about to reach the fork point.
  case $(rpc "info-get $key_scripts" 2>/dev/null) in *"$nonce"*) blank "$key_scripts" ;; esac
  publish "$key_quiesce" "$nonce $1 $2 $output"
  exit "$3"
}

child_nonce() { rpc "info-get $key_nonce" 2>/dev/null; }

# Read the secrets, to mask them in the output. Set lost to a secret that no longer exists.
learn_secrets() {
  learned=yes
  secret_keys=$(rpc "info-get $key_secret_keys" 2>/dev/null)
  for key in $secret_keys; do
    secret=$(rpc "info-get $key" 2>/dev/null)
    case $secret in *[![:space:]]*) ;; *) lost=$key ;; esac
    secrets=$secrets$secret$(printf '\001')
  done
}

# Clear the secrets, and report that only if all of them are gone.
clear_secrets() {
  [ -n "$secret_keys" ] || return 0
  for key in $secret_keys; do
    blank "$key" || return 0
  done
  publish "$key_secrets" "$(child_nonce) cleared"
}

# in_child EXIT_CODE: clean up in a child, report the end of its script, and exit.
in_child() {
  if [ -z "$learned" ]; then
    # A secret that was removed after the script could read it cannot be masked, so the output is not reported.
    learn_secrets
    [ -z "$lost" ] || : >"$directory/output"
  fi
  take_output
  vmware-toolbox-cmd info update network >/dev/null 2>&1
  clear_secrets
  blank "$key_scripts" # the parent is at the fork point, but the child is not
  publish "$key_post_clone" "$(child_nonce) $1 $output"
  exit "$1"
}

# run COMMAND: in the background, so that signals are handled while it runs, and in its own process group.
run() {
  own_group=$(command -v setsid)
  "$1" >"$directory/output" 2>&1 </dev/null &
  running=$!
  wait "$running"
}

# End the script and all its processes. Otherwise it might reach the fork point after the task has ended.
stop() {
  trap '' 1 2 15
  [ -n "$running" ] || return 0
  for signal in TERM KILL; do
    # A process group. The first form is that of POSIX shells; busybox knows only the second one.
    kill -s $signal -- "-$running" 2>/dev/null || kill -s $signal "-$running" 2>/dev/null ||
      kill -s $signal "$running" 2>/dev/null || return 0
    [ $signal = KILL ] || sleep 1
  done
}

# is_alive DIRECTORY: whether a runner is running there, by the process ID in its directory.
is_alive() {
  pid=$(cat "$1/$alive" 2>/dev/null) && kill -0 "$pid" 2>/dev/null || return 1
  line=$(tr '\000' ' ' 2>/dev/null <"/proc/$pid/cmdline") || line=$(ps -o args= -p "$pid" 2>/dev/null) || return 0
  case $line in *"$1"*) ;; *) return 1 ;; esac # the runner, or the shell that unpacks it
}

# Exit, because another runner brings the VM to the fork point, and this one would continue in every child.
yield_to_other() {
  take_output
  publish "$key_quiesce" "$nonce busy 1 $output"
  exit $exit_busy
}

# Remove directories that a killed runner or an interrupted upload left. Otherwise every child would inherit them.
remove_leftovers() {
  echo $$ >"$directory/$alive"
  for other in "${directory%/*}"/vmfork.* "$temporary"/vmfork.*; do
    [ -d "$other" ] && [ ! -h "$other" ] && [ "$other" != "$directory" ] || continue
    rmdir "$other" 2>/dev/null && continue # empty, from before the upload
    head -n 2 "$other/runner" 2>/dev/null | grep -qF "$mark" || continue
    if ! is_alive "$other"; then
      rm -rf "$other"
    elif [ -e "$other/$leads" ] || [ "$pid" -lt $$ ]; then
      yield_to_other
    fi
  done
  : >"$directory/$leads"
  is_blank "$key_scripts" || blank "$key_scripts" # the record of a killed runner
}

announce() {
  publish "$key_quiesced_at" "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  publish "$key_scripts" "$record"
}

# Run two scripts, and call the fork point between them. The identity script is the first on both sides.
fork_between() {
  preparing=yes
  run run_prepare || end_early prepare $? $exit_prepare
  run run_pre_quiesce || end_early pre_quiesce $? $exit_pre_quiesce
  announce
  inherited=$(rpc "info-get $key_secret_keys" 2>/dev/null) # if the parent is a child itself
  trap '' 1 2 15 # otherwise every child would receive a stop request that arrives now
  rpc "$freeze" >"$directory/output" 2>&1 || end_early freeze $? $exit_freeze
  # A child that was powered off and on resumes here; its earlier reports are not for this run.
  for key in "$key_post_clone" "$key_identity"; do
    is_blank "$key" || blank "$key"
  done
  learn_secrets
  if [ -n "$lost" ] && [ "$secret_keys" != "$inherited" ]; then
    echo "$lost was removed before the script began, so it was not run. Remove this child and create it again." \
      >"$directory/output"
    in_child 1
  fi
  trap 'stop; in_child 143' 1 2 15
  run run_renew || in_child $?
  run run_post_clone
  in_child $?
}

# Run one script that calls the fork point itself. A changed nonce shows that this is a child. If a child is powered off
# and on, its earlier report must be removed by the one who powers it on: vmfork_child does so, other tools do not.
fork_by_itself() {
  before=$(child_nonce)
  trap 'stop
    [ "$(child_nonce)" != "$before" ] && in_child 143
    end_early terminated 143 $exit_terminated' 1 2 15
  announce
  run run_script
  code=$?
  [ "$(child_nonce)" != "$before" ] && in_child $code
  end_early script $code $exit_script
}

main() {
  running= preparing= learned= secrets= lost=
  : >"$directory/output"
  find_tools || { take_output; exit $exit_tools; }
  export VMFORK_TOOLS="$tools"
  if [ "$(id -u)" != 0 ]; then
    [ "$become" = sudo ] || end_early not_root 1 $exit_not_root
    sudo -n true >"$directory/output" 2>&1 </dev/null || end_early become $? $exit_become
    exec sudo -n /bin/sh "$0"
  fi
  trap 'stop; end_early terminated 143 $exit_terminated' 1 2 15
  remove_leftovers
  "$1"
}
""".strip().replace("@MASK@", MASK)
