# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe a guest for its OVF environment.

Private to the collection. A program in the guest asks VMware Tools for
guestinfo.ovfEnv and reports by its exit code what it found. That needs only
vCenter, and no value leaves the guest. ``full`` also fetches the document,
from the ESXi host.

VMware Tools' exit code is 1 both for a missing value and for one that may not
be read (open-vm-tools, rpctool.c and cmdLine.c). Only its text shows which.
"""

from __future__ import annotations

import base64
import shlex
import typing as t
from dataclasses import replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import families, family, operations, posix
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.family import Family
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.windows import literal
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import document
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import GuestView
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

PATHS = (*family.PATHS, "guest.toolsRunningStatus")
"""Properties of a VM that are needed to probe its guest."""

PATIENCE = 60
"""Maximum number of seconds for one guest, within the timeout of the task."""

LIMIT = 4 * 1024 * 1024
"""Maximum size of a fetched document in bytes; VMware Tools carries far less."""

STDERR_LIMIT = 2048
"""Maximum size of VMware Tools' fetched error output in bytes."""

HARMLESS = ("", "No value found", "Permission denied", "Failed sending message to VMware.", "NULL")
"""Lines of the error output that are shown (open-vm-tools, rpctool.c; the first two come from the ESXi host)."""

OUTCOMES: dict[str, tuple[str, str | None]] = {
    "own": ("xml", "own"),
    "other": ("xml", "other"),
    "nobody": ("xml", "none"),
    "no_value": ("no_value", None),
    "denied": ("permission_denied", None),
    "cleared": ("cleared", None),
    "non_xml": ("non_xml", None),
    "failed": ("error", None),
    "missing": ("tool_missing", None),
    "unreadable": ("xml", None),
}
"""Outcome of the program in the guest → ``state`` and ``bears_id`` of a GuestView."""

FIRST_CODE = 40
"""Exit code of the first outcome: above what shells and VMware Tools use, and below 128."""

TOOL_CODES = 20
"""Added to the exit codes of the second tool."""

CODES = {name: FIRST_CODE + number for number, name in enumerate(OUTCOMES)}


COMMAND = "info-get guestinfo.ovfEnv"

_POSIX_SCRIPT = r"""
LC_ALL=C; export LC_ALL
outcome=$missing; add=0; said=
look() {
  said=$("$@" 2>/dev/null) && return 0
  said=$("$@" 2>&1) && return 0
  case $?:$said in
    12[67]:*) ;;
    *'No value found'*) outcome=$no_value; return 0 ;;
    *'Permission denied'*) outcome=$denied; return 1 ;;
  esac
  [ $outcome = $denied ] || outcome=$failed
  return 1
}
strip() { rest=${rest#"${rest%%[!"$blank"]*}"}; }
word() { name=${rest%%[!A-Za-z0-9._:-]*}; rest=${rest#"$name"}; }
classify() {
  blank=$(printf ' \t\r\n.'); blank=${blank%.}; mark=$(printf '\357\273\277')
  rest=$said; before=
  while [ "$rest" != "$before" ]; do
    before=$rest; strip; rest=${rest#"$mark"}
  done
  case ${rest%"${rest##*[!"$blank"]}"} in '' | NULL) outcome=$cleared; return ;; esac
  before=
  while [ "$rest" != "$before" ]; do
    before=$rest; strip
    case $rest in '<?'*'?>'*) rest=${rest#*'?>'} ;; '<!--'*'-->'*) rest=${rest#*'-->'} ;; esac
  done
  outcome=$non_xml
  case $rest in '<'*) rest=${rest#<} ;; *) return ;; esac
  word; root=$name
  case $root in Environment | ?*:Environment) outcome=$unreadable ;; *) return ;; esac
  bound=' '; names=' '; bearer=; given=
  while strip; do
    case $rest in '>'* | '/>'*) break ;; esac
    word; strip
    case $names in *" $name "*) return 0 ;; esac
    names="$names$name "
    case $name$rest in =*) return 0 ;; *=*) rest=${rest#=}; strip ;; esac
    case $rest in
      '"'*'"'*) value=${rest#?}; value=${value%%'"'*}; rest=${rest#?*'"'} ;;
      "'"*"'"*) value=${rest#?}; value=${value%%"'"*}; rest=${rest#?*"'"} ;;
      *) return 0 ;;
    esac
    case $value in *'<'* | *'&'[!A-Za-z#]*) return 0 ;; esac
    case $rest in [!"$blank"/\>]*) return 0 ;; esac
    case $name in
      xmlns | xmlns:*) [ -z "$value" ] || bound="$bound$name=$value " ;;
      vCenterId | *:vCenterId) [ -z "$bearer" ] || value=; bearer=$name; given=$value ;;
    esac
  done
  case $root in *:*) name=xmlns:${root%%:*} ;; *) name=xmlns ;; esac
  case $bound in *" $name=$schema "*) ;; *" $name="*) return 0 ;; *) [ $name = xmlns ] || return 0 ;; esac
  case $bearer in *:*)
    name=xmlns:${bearer%%:*}
    case $bound in *" $name=$schema "* | *" $name=$vmware "*) ;; *" $name="*) given= ;; *) return 0 ;; esac
  esac
  case $rest in '/>'* | *"</$root>"* | *"</$root"["$blank"]*) ;; *) return 0 ;; esac
  case $given in '') outcome=$nobody ;; "$id") outcome=$own ;; *) outcome=$other ;; esac
}
for tool in "$first" "$second"; do
  program=$(command -v "$tool" 2>/dev/null) && [ -x "$program" ] || continue
  case $tool in "$second") add=$more; set -- "$program" "$flag" ;; *) set -- "$program" ;; esac
  if look "$@" "$command"; then
    [ $outcome = $no_value ] || classify
    break
  fi
done
if [ $tell = yes ]; then
  case $outcome in
    $no_value | $denied | $failed | $missing) printf '%s' "$said" >&2 ;;
    *) printf '%s' "$said" ;;
  esac
fi
exit $((outcome + add))
""".strip()

_WINDOWS_SCRIPT = r"""
$ErrorActionPreference = 'SilentlyContinue'
try { [Console]::OutputEncoding = New-Object Text.UTF8Encoding $false } catch { }
$outcome = $missing; $add = 0; $said = ''
$tag = '^<(?<prefix>[\w.-]+:)?Environment(?:[ \t\r\n]+(?<key>[\w.:-]+)[ \t\r\n]*=[ \t\r\n]*' +
  '(?:"(?<value>[^"<]*)"|''(?<value>[^''<]*)''))*[ \t\r\n]*(?<end>/?>)'
:tools foreach ($tool in $first, $second) {
  foreach ($directory in $directories) {
    $program = Join-Path $directory $tool
    if (-not (Test-Path -LiteralPath $program)) { continue }
    $words = @($command)
    if ($tool -eq $second) { $words = @($flag, $command); $add = $more }
    $said = (& $program $words 2>$null) -join "`n"
    if ($LASTEXITCODE -ne 0) { $said = (& $program $words 2>&1 | ForEach-Object { "$_" }) -join "`n" }
    if ($LASTEXITCODE -ne 0) {
      if ($said -match 'No value found') { $outcome = $no_value; break tools }
      if ($said -match 'Permission denied') { $outcome = $denied } elseif ($outcome -ne $denied) { $outcome = $failed }
      break
    }
    $text = $said -replace '^[ \t\r\n\uFEFF]+|[ \t\r\n]+$', ''
    $xml = $text -replace '^(<\?[\s\S]*?\?>|<!--[\s\S]*?-->|[ \t\r\n]+)+', ''
    $root = [regex]::Match($xml, $tag)
    $prefix = $root.Groups['prefix'].Value
    if ($text -ceq '' -or $text -ceq 'NULL') { $outcome = $cleared; break tools }
    if ($xml -cnotmatch '^<([\w.-]+:)?Environment(?![\w.:-])') { $outcome = $non_xml; break tools }
    $outcome = $unreadable
    if (-not $root.Success) { break tools }
    $given = New-Object Collections.Hashtable ([StringComparer]::Ordinal); $bearers = @()
    for ($at = 0; $at -lt $root.Groups['key'].Captures.Count; $at++) {
      $key = $root.Groups['key'].Captures[$at].Value
      if ($given.ContainsKey(":$key")) { break tools }
      $given[":$key"] = $root.Groups['value'].Captures[$at].Value
      if ($key -cmatch '^(.+:)?vCenterId$') { $bearers += $key }
    }
    $space = $given[':xmlns']
    if ($prefix) { $space = $given[":xmlns:$($prefix.TrimEnd(':'))"] } elseif (-not $space) { $space = $schema }
    if ($space -cne $schema) { break tools }
    $end = "</${prefix}Environment" + '[ \t\r\n]*>'
    if ($root.Groups['end'].Value -cne '/>' -and $xml -cnotmatch $end) { break tools }
    $value = ''
    if ($bearers.Count -eq 1) { $value = $given[":$($bearers[0])"] }
    if ($value -and $bearers[0].Contains(':')) {
      $space = $given[":xmlns:$($bearers[0].Split(':')[0])"]
      if (-not $space) { break tools }
      if ($space -cne $schema -and $space -cne $vmware) { $value = '' }
    }
    if (-not $value) { $outcome = $nobody } elseif ($value -ceq $id) { $outcome = $own } else { $outcome = $other }
    break tools
  }
}
if ($into) {
  $name = 'document'
  if ($outcome -in $no_value, $denied, $failed, $missing) { $name = 'stderr' }
  [IO.File]::WriteAllText("$into\$name", $said)
}
exit ($outcome + $add)
""".strip()


def command_line(guest: Family, moid: str, become: str = "none", into: str | None = None) -> str:
    """Return the arguments for the family's shell.

    :param become: ``sudo`` asks as root.
    :param into: directory in the guest for the files ``document`` and ``stderr``; ``None``: nothing is written.
    """
    (first, _none), (second, flag) = guest.tools
    words = {"id": moid, "command": COMMAND, "first": first, "second": second, "flag": flag}
    words |= {"schema": document.NAMESPACE, "vmware": document.VMWARE_NAMESPACE}
    numbers = {**CODES, "more": TOOL_CODES}
    if guest.is_windows:
        settings = [f"${name} = {literal(value)}" for name, value in {**words, "into": into or ""}.items()]
        settings += [f"${name} = {number}" for name, number in numbers.items()]
        settings.append(f"$directories = {', '.join(map(literal, guest.directories))}")
        script = "\n".join([*settings, _WINDOWS_SCRIPT])
        # Base64 contains nothing that Windows or PowerShell could interpret as a quote.
        encoded = base64.b64encode(script.encode("utf-16-le")).decode()
        return f"-NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand {encoded}"
    settings = [f"{name}={shlex.quote(value)}" for name, value in words.items()]
    settings += [f"{name}={number}" for name, number in numbers.items()]
    settings.append(f"tell={'yes' if into else 'no'}")
    script = "\n".join([*settings, posix.environment(guest), _POSIX_SCRIPT])
    line = f"{guest.shell} -c {shlex.quote(script)}"
    if become == "sudo":
        line = f'become=; [ "$(id -u)" = 0 ] || become="sudo -n"; $become {line}'
    if into:
        # The login user must own the files to fetch them, even if the program runs as root.
        line = f"umask 077; {{ {line}; }} >{shlex.quote(f'{into}/document')} 2>{shlex.quote(f'{into}/stderr')}"
    return f"-c {shlex.quote(line)}"


def read_code(guest: Family, code: int) -> GuestView:
    """Return the meaning of the program's exit code."""
    for number, (tool, _flag) in enumerate(guest.tools):
        for name, (state, owner) in OUTCOMES.items():
            if code == CODES[name] + number * TOOL_CODES:
                asked = None if name == "missing" else tool.removesuffix(".exe")
                return GuestView(state, tool=asked, exit_code=code, bears_id=owner)
    return GuestView("error", exit_code=code)


def look(
    session: Session,
    deadline: Deadline,
    vm: t.Any,
    name: str,
    login: GuestLogin,
    method: str,
    values: t.Mapping[str, t.Any],
) -> GuestView:
    """Probe one running guest; failures are part of the answer and not raised.

    :param method: ``exit_code`` or ``full``, which falls back to ``exit_code`` if the document cannot be fetched.
    :param values: the VM's properties :data:`PATHS`.
    :raises _errors.ConnectionFailed: vCenter no longer accepts the login.
    """
    what = f"Could not probe the guest of VM {name}"
    patience = Deadline(min(PATIENCE, round(deadline.remaining, 1)))
    try:
        if values.get("guest.toolsRunningStatus") == "guestToolsNotRunning":
            return GuestView("tools_not_running", method, error=_errors.sentence(what, "VMware Tools is not running"))
        kind = families.of(values)
        guest = operations.Guest(session, patience, vm, name, login, kind, otherwise="use guest_probe=exit_code")
        ask = _full if method == "full" else _exit_code
        return ask(guest, kind, vm._GetMoId(), login, what)
    except _errors.Error as trouble:
        error = _errors.explained(what, trouble)
        state = _state(error)
        if state is None:
            raise error from trouble
        return GuestView(state, method, error=error.sentence)


_FAULTS = {
    "NoPermission": "no_permission",
    "GuestComponentsOutOfDate": "ops_not_ready",
    "OperationDisabledByGuest": "ops_not_ready",
    "OperationNotSupportedByGuest": "ops_not_ready",
    "FileNotFound": "tool_missing",
    "CannotAccessFile": "tool_missing",
}
"""Fault of a guest operation → state; the last two mean that the guest has no such shell. Others are an ``error``."""


def _state(error: _errors.Error) -> str | None:
    """Return the state that an error means for a guest; ``None``: the guest is not the cause."""
    if isinstance(error, _errors.GuestLoginFailed):
        return "login_failed"
    if isinstance(error, _errors.LoginFailed):
        return None
    if isinstance(error, _errors.TimedOut):
        return "ops_not_ready"
    if isinstance(error, _errors.ConnectionFailed) and not isinstance(error, _errors.ConnectionLost):
        return None
    return _FAULTS.get(getattr(error, "fault", ""), "error")


def _exit_code(guest: operations.Guest, kind: Family, moid: str, login: GuestLogin, what: str) -> GuestView:
    return _run(guest, kind, command_line(kind, moid, login.become), login, what, "exit_code")


def _full(guest: operations.Guest, kind: Family, moid: str, login: GuestLogin, what: str) -> GuestView:
    try:
        directory = guest.make_directory(None)
    except (_errors.OperationFailed, _errors.GuestFailed) as error:
        return replace(_exit_code(guest, kind, moid, login, what), error=error.sentence)
    left = ""
    try:
        view = _run(guest, kind, command_line(kind, moid, login.become, directory), login, what, "full")
        view = _with_files(guest, view, f"{directory}{kind.separator}", what)
    finally:
        try:
            with guest.clean_up():
                guest.remove_directory(directory)
        except _errors.Error:
            left = f"Remove the directory {directory} in the guest: it may contain the OVF environment."
    return replace(view, error=" ".join(filter(None, (view.error, left)))) if left else view


def _with_files(guest: operations.Guest, view: GuestView, directory: str, what: str) -> GuestView:
    """Add the content of the program's files, or only the reason if the ESXi host is not reachable."""
    if view.exit_code is None or view.state == "tool_missing":
        return view
    try:
        if view.state in ("xml", "cleared", "non_xml"):
            content = guest.download(f"{directory}document", LIMIT)
            found = document.parse(content) if view.state == "xml" else None
            return replace(view, document=found, text=content.decode(errors="replace"))
        stderr = guest.download(f"{directory}stderr", STDERR_LIMIT).decode(errors="replace").strip()
        return replace(view, stderr=stderr)
    except _errors.Error as error:
        return replace(view, method="exit_code", error=_errors.explained(what, error).sentence)


def _run(guest: operations.Guest, kind: Family, arguments: str, login: GuestLogin, what: str, method: str) -> GuestView:
    pid = guest.start(kind.shell, arguments)
    try:
        view = read_code(kind, guest.await_exit(pid))
    except _errors.TimedOut as late:
        with guest.clean_up():
            guest.terminate(pid)
        return GuestView("error", method, error=late.sentence)
    except _errors.Interrupted:
        with guest.clean_up():
            guest.terminate(pid)
        raise
    if view.state == "error":
        why = "VMware Tools did not answer"
        if view.tool is None:
            why = f"the probe ended with exit code {view.exit_code}"
            if login.become == "sudo" and not kind.is_windows:
                why += f", which happens if {login.username} may not use sudo without a password"
        view = replace(view, error=_errors.sentence(what, why))
    return replace(view, method=method)


def _said(text: str | None, mask: Mask) -> str | None:
    """Return the error output of a failed tool. A tool that is not from VMware Tools may print the document."""
    if text is None or mask.level == "none":
        return text
    return "\n".join(line if line.strip() in HARMLESS else MASK for line in text.splitlines())


def facts(view: GuestView, moid: str, mask: Mask) -> dict[str, t.Any]:
    """Return the ``guest`` return value."""
    return {
        "state": view.state,
        "method": view.method,
        "tool": view.tool,
        "exit_code": view.exit_code,
        "stderr": _said(view.stderr, mask),
        "bears_id": view.bears_id,
        "document": None if view.document is None else document.facts(view.document, moid, mask),
        "error": view.error,
    }
