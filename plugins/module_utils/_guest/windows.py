# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generate the runner for guests with PowerShell: Windows.

Private to the collection. The guest needs Windows PowerShell 5.1, which is part
of Windows 10 and Windows Server 2016, and VMware Tools. No signal can be sent
there; the runner ends when a file or directory named ``stop`` appears in its
own directory.
"""

from __future__ import annotations

import io
import ntpath
import re
import subprocess
import typing as t
import zipfile

from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.family import Family
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import (
    ALIVE,
    LEADS,
    MARK,
    STAGES,
    STOP,
    Identity,
    Job,
    Keys,
    Package,
    Program,
    chunks,
)

SHELL = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"

OPTIONS = ("-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass")

_INTERPRETERS = {
    "cmd": ("call", ".cmd"),
    "powershell": (" ".join([SHELL, *OPTIONS, "-File"]), ".ps1"),
}
"""Interpreter → the command that runs a script in a command line of cmd, and the suffix that its file needs."""

_IDENTITY = "identity.ps1"

_FILE = ("-File", r"\s[-/](f\w*|c|com\w*)(\s|$)")

_PROGRAMS = {
    "cmd": (".cmd", "/c", r"/[ckr](\s|$)"),
    "powershell": (".ps1", *_FILE),
    "pwsh": (".ps1", *_FILE),
    "cscript": (".vbs", "", ""),
    "wscript": (".vbs", "", ""),
}
"""Program → the suffix that a script's file needs, the switch that must precede the script's path (without it, cmd runs
nothing and PowerShell 5.1 treats the path as a command), and how to recognize that a command line has the switch."""

_CMD = re.compile(r"@*\s*(echo\s+off|rem|setlocal)(\s|$)|@+\s*echo\b|::", re.IGNORECASE)
"""Beginning of a script for cmd; no PowerShell script begins like this."""


def refusal(job: Job) -> str | None:
    """Return why a guest of this family cannot do the job."""
    if job.become != "none":
        return (
            f"guest_become={job.become} is not supported for Windows guests. Remove it, and log in as an administrator."
        )
    if job.identity is not None and (refused := _identity_refusal(job.identity)):
        return refused
    if (job.interpreter or "").count('"') % 2:
        return f"interpreter {job.interpreter} is not a valid command: No closing quotation. Correct it."
    for name, script in job.scripts.items():
        first = (script or "").split("\n", 1)[0]
        if first.startswith("#!") and "/" in first and job.interpreter is None:
            return (
                f"{name if name == 'script' else f'{name}_script'} begins with {first}, and the guest is Windows. Use "
                "a script for PowerShell or cmd, or set interpreter."
            )
    return None


def _identity_refusal(identity: Identity) -> str | None:
    if identity.text.startswith("#!"):
        first = identity.text.split("\n", 1)[0]
        return (
            f"identity_script begins with {first}, and the guest is Windows. Use windows_identity.ps1 of the role "
            "vmfork.vsphere.vmfork, which is experimental."
        )
    if identity.network not in ("auto", "none"):
        return f"identity_network={identity.network} is not for Windows guests. Use auto or none."
    if "cloud_init" in identity.items.split(","):
        return "the item cloud_init of identity_items is not for Windows guests. Remove it."
    return None


def files(job: Job, family: Family, nonce: str, freeze_command: str, keys: Keys) -> dict[str, bytes]:
    """Return the files of the runner's directory in the guest."""
    # The runner is first, as in POSIX guests.
    result = {"runner.ps1": _file(_runner(job, family, nonce, freeze_command, keys), ".ps1")}
    if job.identity is not None:
        result[_IDENTITY] = _file(job.identity.text, ".ps1")
    for name, script in job.scripts.items():
        if script is not None:
            _command, extension = _interpreter(job, script)
            result[name + extension] = _file(script, extension)
    return result


def start(family: Family, directory: str) -> Program:
    """Return the command that starts the runner in a directory."""
    return SHELL, command_line([*OPTIONS, "-File", family.join(directory, "runner.ps1")])


def privatize(directory: str) -> Program | None:
    r"""Return the command that protects a directory that VMware Tools created, which inherits rights from its parent.

    SYSTEM, Administrators and the owner keep their rights, by their well-known security identifiers.
    """
    allowed = [f"*{sid}:(OI)(CI)F" for sid in ("S-1-5-18", "S-1-5-32-544", "S-1-3-4")]
    words = [directory, "/inheritance:r", "/grant:r", *allowed]
    return r"C:\Windows\System32\icacls.exe", command_line(words)


def pack(contents: t.Mapping[str, bytes]) -> list[str]:
    """Return files as guestinfo values."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return chunks(packed.getvalue())


def unpack(package: Package, job: Job, family: Family, nonce: str, keys: Keys) -> Program:
    """Return the command that reads packed files in the guest, clears them in guestinfo, and starts the runner."""
    settings = {
        "nonce": nonce,
        "key": keys.payload,
        "key_quiesce": keys.quiesce,
        "directory": package.directory,
        "stop_name": STOP,
        "mark": MARK,
    }
    lines = [
        *(f"${name} = {literal(value)}" for name, value in settings.items()),
        f"$count = {len(package.chunks)}",
        _candidates(job, family),
        *(f"$exit_{stage} = {STAGES[stage]}" for stage in ("unpack", "tools", "terminated")),
    ]
    text = "\n".join([*lines, _TOOLS, _UNPACK])
    return SHELL, command_line([*OPTIONS, "-Command", text])


def command_line(words: t.Iterable[str]) -> str:
    """Return arguments as one line that programs on Windows split again, by the rules of CommandLineToArgvW."""
    return subprocess.list2cmdline(words)


def literal(value: str) -> str:
    """Return a string as a PowerShell literal. Typographic quotes must be doubled there like plain ones."""
    return "'" + re.sub("['\u2018\u2019\u201a\u201b]", r"\g<0>\g<0>", value) + "'"


def _candidates(job: Job, family: Family) -> str:
    paths = [family.join(directory, name) for directory in family.directories for name in family.tool_names]
    given = [job.tools_path] if job.tools_path else []
    return f"$candidates = @({', '.join(literal(path) for path in (*given, *paths))})"


def _runner(job: Job, family: Family, nonce: str, freeze_command: str, keys: Keys) -> str:
    lines = [f"${name} = {literal(value)}" for name, value in job.settings(nonce, freeze_command, keys).items()]
    for name, script in job.scripts.items():
        command, extension = ("", "") if script is None else _interpreter(job, script)
        lines.append(f"$run_{name} = @({literal(command)}, {literal(name + extension)})")
    for step in ("prepare", "renew", "undo"):
        words = ("", "") if job.identity is None else (_INTERPRETERS["powershell"][0], _IDENTITY)
        given = "" if job.identity is None else " ".join(job.identity.arguments(step))
        lines.append(f"$run_{step} = @({', '.join(literal(word) for word in (*words, given))})")
    exits = [f"{stage} = {code}" for stage, code in STAGES.items()]
    steps = "Invoke-ByItself" if job.script is not None else "Invoke-Between"
    lines += [f"$exits = @{{ {'; '.join(exits)} }}", _candidates(job, family)]
    names = {"stop_name": STOP, "alive_name": ALIVE, "leads_name": LEADS, "mark": MARK, "temporary": family.temporary}
    lines += [f"${name} = {literal(value)}" for name, value in names.items()]
    return "\n".join([_HEAD, *lines, _TOOLS, _BODY, f"Invoke-Main {{ {steps} }}", ""])


def _interpreter(job: Job, script: str) -> tuple[str, str]:
    """Return the command that runs a script, and the suffix of its file name."""
    if job.interpreter is None:
        return _INTERPRETERS["cmd" if _CMD.match(script.lstrip()) else "powershell"]
    command = job.interpreter.strip()
    if command.lower().removesuffix(".exe") in _INTERPRETERS:
        return _INTERPRETERS[command.lower().removesuffix(".exe")]
    program = re.sub(r'((?:"[^"]*"|[^\s"])*).*', r"\1", command, flags=re.DOTALL)
    name = ntpath.basename(program.replace('"', "")).lower().removesuffix(".exe")
    extension, switch, settled = _PROGRAMS.get(name, ("", "", ""))
    if not re.search(settled, command.removeprefix(program), re.IGNORECASE):
        command = f"{command} {switch}"
    return command, extension


def _file(text: str, extension: str) -> bytes:
    """Return a script as a file. PowerShell 5.1 recognizes UTF-8 by its byte order mark; cmd cannot read the mark, and
    needs Windows line ends. Windows Script Host recognizes UTF-16 by its mark, and does not know UTF-8.
    """
    text = text.replace("\n", "\r\n")
    if extension == ".vbs":
        return ("\ufeff" + text).encode("utf-16-le")
    return text.encode("utf-8-sig" if extension == ".ps1" else "utf-8")


_HEAD = f"""# {MARK}: pre-quiesce script, fork point, post-clone script.
$ErrorActionPreference = 'Stop'
$directory = Split-Path -Parent $PSCommandPath"""

_TOOLS = r"""
function Find-Tools {
  foreach ($candidate in $candidates) {
    if (Test-Path -LiteralPath $candidate -PathType Leaf) { return $candidate }
  }
}

# Quote an argument as programs parse their command line; PowerShell 5.1 itself would lose quotes in it.
function Format-Argument([string]$text) {
  '"' + (($text -replace '(\\*)"', '$1$1\"') -replace '(\\+)$', '$1$1') + '"'
}

# Send a command to VMware Tools. The result has the exit code, the output, and the error output.
function Send-Rpc([string]$command) {
  $arguments = Format-Argument $command
  if ((Split-Path -Leaf $tools) -notlike '*rpctool*') { $arguments = '--cmd ' + $arguments }
  $start = New-Object Diagnostics.ProcessStartInfo $tools, $arguments
  $start.UseShellExecute = $false
  $start.CreateNoWindow = $true
  $start.RedirectStandardOutput = $true
  $start.RedirectStandardError = $true
  $process = [Diagnostics.Process]::Start($start)
  $said = $process.StandardError.ReadToEndAsync()
  $text = $process.StandardOutput.ReadToEnd()
  $process.WaitForExit()
  @{ code = $process.ExitCode; text = $text; said = $said.Result }
}

function Publish-Value([string]$key, [string]$value) { [void](Send-Rpc ('info-set ' + $key + ' ' + $value)) }

function Read-Value([string]$key) {
  $answer = Send-Rpc ('info-get ' + $key)
  if ($answer.code -eq 0) { $answer.text.Trim() } else { '' }
}

# Some VMware Tools refuse an empty value, or keep the old one: then the value becomes a space.
function Clear-Value([string]$key) {
  Publish-Value $key ''
  if (Read-Value $key) { Publish-Value $key ' ' }
}
""".strip()

_UNPACK = r"""
$ErrorActionPreference = 'Stop'
$tools = Find-Tools
if (-not $tools) { exit $exit_tools }
# A stop request that arrived before the directory existed has created it.
if (Test-Path -LiteralPath (Join-Path $directory $stop_name)) {
  Remove-Item -LiteralPath $directory -Recurse -Force -ErrorAction SilentlyContinue
  Publish-Value $key_quiesce ($nonce + ' terminated 143 ')
  exit $exit_terminated
}
if (Test-Path -LiteralPath $directory) { exit $exit_unpack }
try {
  $rights = New-Object Security.AccessControl.DirectorySecurity
  $rights.SetAccessRuleProtection($true, $false)
  foreach ($sid in 'S-1-5-18', 'S-1-5-32-544', 'S-1-3-4') {
    $who = New-Object Security.Principal.SecurityIdentifier $sid
    $words = $who, 'FullControl', 'ContainerInherit, ObjectInherit', 'None', 'Allow'
    $rights.AddAccessRule((New-Object Security.AccessControl.FileSystemAccessRule $words))
  }
  [void][IO.Directory]::CreateDirectory($directory, $rights)
  # This identifies a directory that an interrupted unpacking left behind as ours.
  [IO.File]::WriteAllText((Join-Path $directory 'runner.ps1'), '# ' + $mark)
  $text = New-Object Text.StringBuilder
  for ($chunk = 0; $chunk -lt $count; $chunk++) {
    $answer = Send-Rpc ('info-get ' + $key + '.' + $chunk)
    if ($answer.code -ne 0) { throw $answer.said }
    [void]$text.Append($answer.text.Trim())
    Clear-Value ($key + '.' + $chunk)
    if (Read-Value ($key + '.' + $chunk)) { throw 'VMware Tools could not clear guestinfo' }
  }
  $bytes = New-Object IO.MemoryStream (, [Convert]::FromBase64String($text.ToString()))
  Add-Type -AssemblyName System.IO.Compression
  $archive = New-Object IO.Compression.ZipArchive $bytes
  foreach ($entry in $archive.Entries) {
    $from = $entry.Open()
    $to = [IO.File]::Create((Join-Path $directory $entry.Name))
    $from.CopyTo($to)
    $to.Dispose()
  }
} catch {
  $text = [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes([string]$_))
  Remove-Item -LiteralPath $directory -Recurse -Force -ErrorAction SilentlyContinue
  Publish-Value $key_quiesce ($nonce + ' unpack ' + $exit_unpack + ' ' + $text)
  exit $exit_unpack
}
& (Join-Path $directory 'runner.ps1')
exit $LASTEXITCODE
""".strip()

_BODY = r"""
# Return the end of the script's output, and remove our files.
function Get-Output {
  $text = ''
  try {
    $stream = New-Object IO.FileStream $output, 'Open', 'Read', 'ReadWrite'
    $bytes = New-Object byte[] ([Math]::Min(2048, $stream.Length))
    [void]$stream.Seek(-$bytes.Length, 'End')
    [void]$stream.Read($bytes, 0, $bytes.Length)
    $stream.Dispose()
    if ($secrets) { $bytes = [Text.Encoding]::UTF8.GetBytes((Hide-Secrets ([Text.Encoding]::UTF8.GetString($bytes)))) }
    $text = [Convert]::ToBase64String($bytes)
  } catch { }
  if ($alive) { $alive.Dispose() }
  Remove-Item -LiteralPath $directory -Recurse -Force -ErrorAction SilentlyContinue
  $text
}

# The same as _fork/output_mask.py.
function Hide-Secrets([string]$text) {
  $quoting = '["''\\\r\n]*'
  $whole = @($secrets) + @($secrets | ForEach-Object { $_ -split '[\r\n]+' }) | Where-Object { $_.Length -ge 8 }
  $parts = @($whole) + @($whole | ForEach-Object { Get-Forms $_ } | Where-Object { $_.Length -ge 8 }) |
    Select-Object -Unique
  foreach ($part in ($parts | Sort-Object -Property Length -Descending)) {
    $letters = @(($part -replace '["''\\\r\n]', '').ToCharArray() | ForEach-Object { [regex]::Escape([string]$_) })
    if ($letters.Count -lt 4) { continue }
    $text = $text -creplace ($letters -join $quoting), '@MASK@'
    for ($rest = [Math]::Min($letters.Count - 1, 2048); $rest -ge 4; $rest--) {
      $cut = '\A' + $quoting + ($letters[-$rest..-1] -join $quoting)
      if ($text -cmatch $cut) {
        $text = $text -creplace $cut, '@MASK@'
        break
      }
    }
  }
  $text
}

# The forms of _encodings.py; for JSON and shells, the part that remains without quotes and backslashes.
function Get-Forms([string]$part) {
  $part -creplace '\n', 'n' -creplace '\r', 'r' -creplace '\t', 't'
  $part.Replace('&', '&amp;').Replace('<', '&lt;').Replace('>', '&gt;')
  [Security.SecurityElement]::Escape($part)
  $bytes = [Text.Encoding]::UTF8.GetBytes($part)
  foreach ($content in $bytes, [Text.Encoding]::Unicode.GetBytes($part)) {
    foreach ($before in 0, 1, 2) {
      $first = [int][Math]::Ceiling($before * 8 / 6)
      $last = [int][Math]::Floor(($before + $content.Length) * 8 / 6)
      $form = [Convert]::ToBase64String((New-Object byte[] $before) + $content).Substring($first, $last - $first)
      $form
      $form.Replace('+', '-').Replace('/', '_')
    }
  }
  foreach ($kept in '', '/', '!()*''', ' ') {
    foreach ($format in '%{0:X2}', '%{0:x2}') {
      -join ($bytes | ForEach-Object {
        $char = [string][char]$_
        if ($char -eq ' ' -and $kept -eq ' ') { '+' }
        elseif ($char -cmatch '[A-Za-z0-9_.~-]' -or ($_ -lt 128 -and $kept.Contains($char))) { $char }
        else { $format -f $_ }
      })
    }
  }
}

# Exit codes of Windows may be negative; reports contain them as unsigned numbers.
function Format-Code([long]$code) { $code -band 4294967295 }

# End without a fork, and report why.
function Exit-Early([string]$stage, [long]$code) {
  $script:ending = $true
  if ($preparing) {
    $script:preparing = $false
    [void](Invoke-Script $run_undo '>>') # the parent gets its network back
  }
  $text = Get-Output
  # Keep the record of another runner, which may be about to reach the fork point.
  if ((Read-Value $key_scripts).Contains($nonce)) { Clear-Value $key_scripts }
  Publish-Value $key_quiesce ('{0} {1} {2} {3}' -f $nonce, $stage, (Format-Code $code), $text)
  exit $exits[$stage]
}

function Get-ChildNonce { Read-Value $key_nonce }

# Read the secrets, to mask them in the output. Set lost if a secret no longer exists.
function Read-Secrets {
  $script:learned = $true
  $script:secret_keys = @((Read-Value $key_secret_keys) -split ' ' | Where-Object { $_ })
  $script:secrets = @($secret_keys | ForEach-Object { Read-Value $_ } | Where-Object { $_ })
  $script:lost = $secrets.Count -lt $secret_keys.Count
}

# Clear the secrets, and report that only if all of them are gone.
function Clear-Secrets {
  if (-not $secret_keys) { return }
  foreach ($key in $secret_keys) {
    Clear-Value $key
    if (Read-Value $key) { return }
  }
  Publish-Value $key_secrets ((Get-ChildNonce) + ' cleared')
}

# Clean up in a child, report the end of its script, and exit.
function Exit-Child([long]$code) {
  if (-not $learned) {
    # A secret that was removed after the script could read it cannot be masked, so the output is not reported.
    Read-Secrets
    if ($lost) { [IO.File]::WriteAllText($output, '') }
  }
  $text = Get-Output
  try { & (Join-Path (Split-Path -Parent $tools) 'VMwareToolboxCmd.exe') info update network | Out-Null } catch { }
  Clear-Secrets
  Clear-Value $key_scripts # the parent is at the fork point, but the child is not
  Publish-Value $key_post_clone ('{0} {1} {2}' -f (Get-ChildNonce), (Format-Code $code), $text)
  exit ([int]($code -ne 0))
}

# Return whether a stop was requested. Children ignore a request that arrived at the last moment before the fork.
function Test-Stop {
  (Test-Path -LiteralPath (Join-Path $directory $stop_name)) -and ((Get-ChildNonce) -ceq $before)
}

# Run a script, and return its exit code. Code page 65001 is UTF-8, for the script's text and for its output.
function Invoke-Script([string[]]$run, [string]$redirect = '>') {
  if (-not $run[0]) { return 0 }
  $line = 'chcp 65001 >nul & ' + $run[0] + ' "' + (Join-Path $directory $run[1]) + '" ' + $run[2]
  $line += ' ' + $redirect + '"' + $output + '" 2>&1 <nul'
  $start = New-Object Diagnostics.ProcessStartInfo "$env:SystemRoot\System32\cmd.exe", ('/d /s /c "' + $line + '"')
  $start.UseShellExecute = $false
  $start.CreateNoWindow = $true
  $running = [Diagnostics.Process]::Start($start)
  while (-not $running.WaitForExit(500)) {
    if (-not $ending -and (Test-Stop)) { Stop-Script $running.Id }
  }
  $running.ExitCode
}

# End the script and all its processes. Otherwise it might reach the fork point after the task has ended.
function Stop-Script([int]$id) {
  try { & "$env:SystemRoot\System32\taskkill.exe" /f /t /pid $id | Out-Null } catch { }
  Exit-Early 'terminated' 143
}

# Return whether a runner is running in a directory, by the file that it keeps open.
function Test-Alive([string]$where) {
  $path = Join-Path $where $alive_name
  if (-not (Test-Path -LiteralPath $path)) { return $false }
  try {
    [IO.File]::Open($path, 'Open', 'Read', 'None').Dispose()
    $false
  } catch { $true }
}

# Exit, because another runner brings the VM to the fork point, and this one would continue in every child.
function Exit-Busy {
  $text = Get-Output
  Publish-Value $key_quiesce ($nonce + ' busy 1 ' + $text)
  exit $exits['busy']
}

# Remove directories that a killed runner or an interrupted upload left. Otherwise every child would inherit them.
function Remove-Leftovers {
  $script:alive = [IO.File]::Open((Join-Path $directory $alive_name), 'Create', 'Write', 'None')
  foreach ($root in (Split-Path -Parent $directory), $temporary) {
    foreach ($other in @(Get-ChildItem -LiteralPath $root -Directory -Force -ErrorAction SilentlyContinue)) {
      if ($other.Name -notlike 'vmfork.*' -or $other.FullName -eq $directory) { continue }
      if ($other.Attributes -band [IO.FileAttributes]::ReparsePoint) { continue }
      try { [IO.Directory]::Delete($other.FullName); continue } catch { } # empty, from before the upload
      $path = Join-Path $other.FullName 'runner.ps1'
      $first = Get-Content -LiteralPath $path -TotalCount 2 -ErrorAction SilentlyContinue
      if (-not ([string]$first).Contains($mark)) { continue }
      if (Test-Alive $other.FullName) {
        $is_first = [string]::CompareOrdinal($other.FullName, $directory) -lt 0
        if ($is_first -or (Test-Path -LiteralPath (Join-Path $other.FullName $leads_name))) { Exit-Busy }
        continue
      }
      Remove-Item -LiteralPath $other.FullName -Recurse -Force -ErrorAction SilentlyContinue
    }
  }
  [IO.File]::WriteAllText((Join-Path $directory $leads_name), '')
  if (Read-Value $key_scripts) { Clear-Value $key_scripts } # the record of a killed runner
}

function Publish-Announcement {
  $now = [DateTime]::UtcNow.ToString('yyyy-MM-ddTHH:mm:ssZ', [Globalization.CultureInfo]::InvariantCulture)
  Publish-Value $key_quiesced_at $now
  Publish-Value $key_scripts $record
}

# Run two scripts, and call the fork point between them. The identity script is the first on both sides.
function Invoke-Between {
  $script:stage = 'prepare'
  $script:preparing = $true
  $code = Invoke-Script $run_prepare
  if ($code -ne 0) { Exit-Early 'prepare' $code }
  if (Test-Stop) { Exit-Early 'terminated' 143 }
  $script:stage = 'pre_quiesce'
  $code = Invoke-Script $run_pre_quiesce
  if ($code -ne 0) { Exit-Early 'pre_quiesce' $code }
  if (Test-Stop) { Exit-Early 'terminated' 143 }
  Publish-Announcement
  $inherited = Read-Value $key_secret_keys # if the parent is a child itself
  $script:stage = 'freeze'
  $answer = Send-Rpc $freeze
  if ($answer.code -ne 0) {
    [IO.File]::WriteAllText($output, $answer.text + $answer.said)
    Exit-Early 'freeze' $answer.code
  }
  $script:stage = 'post_clone'
  # A child that was powered off and on resumes here; its earlier reports are not for this run.
  foreach ($key in $key_post_clone, $key_identity) {
    if (Read-Value $key) { Clear-Value $key }
  }
  Read-Secrets
  if ($lost -and ($secret_keys -join ' ') -cne $inherited) {
    [IO.File]::WriteAllText($output, 'A secret was removed before the script began, so it was not run. ' +
      'Remove this child and create it again.')
    Exit-Child 1
  }
  $code = Invoke-Script $run_renew
  if ($code -ne 0) { Exit-Child $code }
  Exit-Child (Invoke-Script $run_post_clone)
}

# Run one script that calls the fork point itself. A changed nonce shows that this is a child.
function Invoke-ByItself {
  $script:stage = 'script'
  Publish-Announcement
  $code = Invoke-Script $run_script
  if ((Get-ChildNonce) -cne $before) { Exit-Child $code }
  Exit-Early 'script' $code
}

function Test-Administrator {
  $who = New-Object Security.Principal.WindowsPrincipal ([Security.Principal.WindowsIdentity]::GetCurrent())
  $who.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)
}

function Invoke-Main([scriptblock]$steps) {
  $script:output = Join-Path $directory 'output'
  $script:tools = Find-Tools
  if (-not $tools) {
    [void](Get-Output)
    exit $exits['tools']
  }
  $env:PATH += ';' + (Split-Path -Parent $tools)
  $env:VMFORK_TOOLS = $tools
  $script:before = Get-ChildNonce
  if (-not (Test-Administrator)) { Exit-Early 'not_root' 1 }
  if (Test-Stop) { Exit-Early 'terminated' 143 }
  try { Remove-Leftovers } catch { }
  try { & $steps } catch {
    # Nothing above should fail; if it does, the task must be informed.
    [IO.File]::AppendAllText($output, [string]$_)
    if ($stage -eq 'post_clone' -or (Get-ChildNonce) -cne $before) { Exit-Child 1 }
    Exit-Early $stage 1
  }
}
""".strip().replace("@MASK@", MASK)
