# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity script for Windows, as far as it can be tested without PowerShell: its text, and its contract.

A grammar of PowerShell parses it. Commands and their parameters are compared with a list that was written by hand,
mostly from memory: it finds misspelled names, but does not prove that Windows PowerShell 5.1 has them all. The regular
expressions of the script, which mean the same in Python, are compared with what the modules accept.
"""

from __future__ import annotations

import ipaddress
import ntpath
import re
import typing as t
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_powershell
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity_report
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.quiesce import KEYS
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import runner, windows
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.families import WINDOWS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "roles/vmfork/files/windows_identity.ps1").read_text()
PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))

CMDLETS = {
    "ConvertFrom-Json": "",
    "ConvertTo-Json": "Compress Depth",
    "Copy-Item": "Destination Force LiteralPath",
    "Disable-NetAdapter": "Confirm Name",
    "Enable-NetAdapter": "Confirm Name",
    "ForEach-Object": "",
    "Get-ChildItem": "ErrorAction File Force Path",
    "Get-CimInstance": "ClassName",
    "Get-Content": "ErrorAction LiteralPath TotalCount",
    "Get-DnsClientGlobalSetting": "",
    "Get-DnsClientServerAddress": "InterfaceIndex",
    "Get-Item": "ErrorAction ErrorVariable Force LiteralPath Path",
    "Get-ItemProperty": "ErrorAction LiteralPath Name",
    "Get-NetAdapter": "ErrorAction Physical",
    "Get-NetAdapterHardwareInfo": "ErrorAction Name",
    "Get-NetIPAddress": "ErrorAction InterfaceIndex PolicyStore",
    "Get-NetIPInterface": "ErrorAction InterfaceIndex",
    "Get-NetRoute": "AddressFamily DestinationPrefix ErrorAction InterfaceIndex PolicyStore Protocol",
    "Get-Service": "ErrorAction Name",
    "Join-Path": "",
    "New-Item": "ItemType Path",
    "New-NetIPAddress": "AddressFamily IPAddress InterfaceIndex PrefixLength",
    "New-NetRoute": "DestinationPrefix InterfaceIndex NextHop",
    "New-Object": "",
    "Remove-Item": "ErrorAction Force LiteralPath Recurse",
    "Remove-ItemProperty": "LiteralPath Name",
    "Remove-NetIPAddress": "Confirm InputObject",
    "Remove-NetRoute": "Confirm InputObject",
    "Restart-NetAdapter": "Confirm Name",
    "Restart-Service": "Force Name WarningAction",
    "Select-Object": "First Unique",
    "Select-String": "ErrorAction Path Pattern",
    "Set-Date": "Date",
    "Set-DnsClientGlobalSetting": "SuffixSearchList",
    "Set-DnsClientServerAddress": "InterfaceIndex ServerAddresses",
    "Set-ItemProperty": "LiteralPath Name Value",
    "Set-NetIPInterface": "AddressFamily Dhcp InterfaceIndex",
    "Sort-Object": "",
    "Split-Path": "Leaf Parent",
    "Start-Service": "Name WarningAction",
    "Start-Sleep": "Milliseconds",
    "Test-Path": "LiteralPath",
    "Where-Object": "",
    "Write-Host": "",
    "Write-VolumeCache": "DriveLetter",
}
"""Cmdlet → the parameters of it that the script may use."""


def nodes(kind: str, of: tree_sitter.Node | None = None) -> t.Iterator[tree_sitter.Node]:
    todo = [of or PARSER.parse(TEXT.encode()).root_node]
    while todo:
        node = todo.pop()
        todo += reversed(node.children)
        if node.type == kind:
            yield node


def text_of(node: tree_sitter.Node | None) -> str:
    assert node is not None
    return (node.text or b"").decode()


FUNCTIONS = {text_of(node.children[1]): node for node in nodes("function_statement")}


def pattern(function: str, containing: str) -> str:
    """Return a regular expression in single quotes from a function."""
    found = [text for text in re.findall(r"'([^']*)'", text_of(FUNCTIONS[function])) if containing in text]
    assert len(found) == 1
    return str(found[0])


# --- the text ---------------------------------------------------------------------------------------------------------


def test_text_is_powershell() -> None:
    root = PARSER.parse(TEXT.encode()).root_node
    assert [text_of(node)[:60] for node in nodes("ERROR", root)] == []
    assert not root.has_error
    assert PARSER.parse(TEXT.replace("} catch", "catch").encode()).root_node.has_error


def test_no_syntax_of_newer_powershell() -> None:
    """Windows PowerShell 5.1 has no ternary operator, null coalescing or pipeline chains.

    It reads text without a byte order mark in the code page of the system.
    """
    code = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#"))
    assert not re.search(r"\?\?|&&|\|\||\?\.|-Parallel|\s\?\s|^using |clean \{", code)
    assert TEXT.isascii()


def test_text_is_short() -> None:
    lines = TEXT.splitlines()
    assert len(lines) < 620
    assert [line for line in lines if len(line) > 120 or line != line.rstrip()] == []
    long = {name: node.end_point[0] - node.start_point[0] + 1 for name, node in FUNCTIONS.items()}
    assert {name: size for name, size in long.items() if size >= 40} == {}


def test_every_command_exists_with_its_parameters() -> None:
    used = set()
    for command in nodes("command"):
        name = text_of(command.children[0])
        if name == "&":
            continue
        given = {text_of(parameter)[1:] for parameter in nodes("command_parameter", command)}
        inner = {
            text_of(p)[1:] for c in nodes("command", command) if c != command for p in nodes("command_parameter", c)
        }
        used.add(name)
        if name in CMDLETS:
            assert given - inner <= set(CMDLETS[name].split()), text_of(command)
        else:
            assert name in FUNCTIONS, text_of(command)
            parameters = {text_of(node)[1:] for node in nodes("variable", parameter_list(FUNCTIONS[name]))}
            assert {word.lower() for word in given - inner} <= {word.lower() for word in parameters}, text_of(command)
    assert set(CMDLETS) - used == set(), "not used"
    called = {f"Update-{item}" for item in identity_report.ITEMS} | {f"Invoke-{step}" for step in STEPS}
    assert set(FUNCTIONS) - used == called - {"Invoke-Undo"}, "not used, or not called by its name"


def parameter_list(function: tree_sitter.Node) -> tree_sitter.Node:
    return next(nodes("function_parameter_declaration", function), PARSER.parse(b"").root_node)


def arity(function: tree_sitter.Node) -> int:
    return sum(1 for _node in nodes("script_parameter", parameter_list(function)))


def test_calls_have_no_more_arguments_than_their_functions() -> None:
    """PowerShell ignores those that are too many. A parenthesis after a name is a common error: F(1, 2) passes one."""
    calls = 0
    for command in nodes("command"):
        name = text_of(command.children[0])
        if name in FUNCTIONS:
            elements = [
                child
                for part in command.children[1:]
                for child in (part.children if part.type == "command_elements" else [part])
                if child.type not in ("command_argument_sep", "redirection")
            ]
            assert len(elements) <= arity(FUNCTIONS[name]), text_of(command)
            assert not re.match(rf"{name}\([^)]*,", text_of(command)), text_of(command)
            calls += 1
    assert calls > 100


SCOPES = "script", "env", "global"
AUTOMATIC = {"_", "true", "false", "null", "matches", "erroractionpreference", "progresspreference", "pscommandpath"}


def names_in(node: tree_sitter.Node, kind: str = "variable") -> t.Iterator[str]:
    for variable in nodes(kind, node):
        name = text_of(variable).lower().strip("$@{}")
        if not name.startswith("env:"):
            yield name.removeprefix("script:")


def assigned(node: tree_sitter.Node) -> set[str]:
    found = {name for left in nodes("left_assignment_expression", node) for name in names_in(left)}
    found |= {next(names_in(loop)) for loop in nodes("foreach_statement", node)}
    return found | set(names_in(parameter_list(node)))


def test_every_variable_has_a_value() -> None:
    """A variable without one is empty, not an error."""
    shared = set(AUTOMATIC) | {"step", "items", "network"}
    for node in PARSER.parse(TEXT.encode()).root_node.children[-1].children:
        if node.type != "function_statement":
            shared |= assigned(node)
    shared |= set(re.findall(r"\$script:(\w+)", TEXT.lower()))
    for name, function in FUNCTIONS.items():
        unknown = set(names_in(function)) - assigned(function) - shared
        assert unknown == set(), name


def test_constructs_that_run_text_are_not_used() -> None:
    code = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")).lower()
    for word in ("invoke-expression", "iex", "add-type", "scriptblock]::create", "invoke-command", "start-process"):
        assert not re.search(rf"(?<![\w-]){re.escape(word)}\b", code), word
    # Functions are called by name for items and steps alone, which are compared with lists before.
    assert [text_of(c)[:20] for c in nodes("command") if text_of(c).startswith("&")] == [
        "& $action",
        '& "Update-$name"',
        "& $condition",
        '& "Invoke-$Step"',
    ]
    assert "if ($AllItems -cnotcontains $name) { throw" in text_of(FUNCTIONS["Update-Item"])


def test_arguments_are_quoted_as_in_the_runner() -> None:
    """Its tests run the expressions."""
    made = windows.files(runner.Job(post_clone="x"), WINDOWS, "n", "freeze", KEYS)["runner.ps1"]
    assert text_of(FUNCTIONS["Format-Argument"]) in made.decode().replace("\r\n", "\n")


# --- the contract with the modules ------------------------------------------------------------------------------------

STEPS = ("Prepare", "Renew", "Undo")


def test_items_are_those_of_the_modules() -> None:
    listed = re.search(r"^\$AllItems = ((?:'\w+',?\s+)+)", TEXT, re.M)
    assert listed is not None
    assert tuple(re.findall(r"\w+", listed[1])) == identity_report.ITEMS
    assert {f"Update-{item}" for item in identity_report.ITEMS} <= set(FUNCTIONS)


def test_report_has_the_parts_that_are_parsed() -> None:
    body = text_of(FUNCTIONS["Publish-Report"])
    parts = re.findall(r'"(\w+):\$', body)
    written = identity_report.Report({"clock": "ok"}).text("nonce").split()
    assert [word.partition(":")[0] for word in written[2:]] == parts
    assert "$words = $nonce, '1'," in body
    assert f"'info-set {guestinfo.IDENTITY} '" in body
    assert f"Publish-Report '{identity_report.PARENT}' '-'" in TEXT
    for status in (identity_report.OK, identity_report.ABSENT, identity_report.FAILED):
        assert f"'{status}'" in TEXT
    assert "'{0}={1}' -f $name, $status" in text_of(FUNCTIONS["Update-Item"])


def test_reports_are_within_their_limits() -> None:
    longest = re.search(r"\[Math\]::Min\((\d+),", text_of(FUNCTIONS["Invoke-Step"]))
    assert longest is not None
    assert len(identity_report.ITEMS) * int(longest[1]) * 4 / 3 < identity_report.LONGEST_REPORT / 4
    assert f"-First {identity_report.MOST_KEYS})" in text_of(FUNCTIONS["Get-PublicKeys"])


def test_config_params_are_those_of_the_modules() -> None:
    read = set(re.findall(r"Get-Param(?:List)? '(vmfork\.\w+)'", TEXT))
    wanted = {
        guestinfo.IDENTITY_PARAM,
        guestinfo.NETWORK_PARAM,
        guestinfo.CLOCK_PARAM,
        guestinfo.REMOVE_PARAM,
        guestinfo.RESTART_PARAM,
        guestinfo.NONCE_PARAM,
    }
    assert read == wanted
    assert f"'info-get {guestinfo.PARAMS}' + $name" in text_of(FUNCTIONS["Get-Param"])
    assert guestinfo.ENTROPY_PARAM not in TEXT, "Windows cannot use it, so the secret is not read"


def test_nothing_is_ok_without_a_confirmation() -> None:
    """Each item is read back, or says why it is absent."""
    for item in identity_report.ITEMS:
        body = text_of(FUNCTIONS[f"Update-{item}"])
        confirms = re.search(r"Set-Failed|throw|Set-Value|Restart-Running|Confirm-Network", body)
        assert confirms or re.fullmatch(r"function Update-\w+ \{ Set-Absent '[^']+' \}", body), item
    for helper in (
        "Set-Value",
        "Remove-Values",
        "Remove-Files",
        "Restart-Running",
        "Switch-Adapters",
        "Confirm-Network",
    ):
        assert "Set-Failed" in text_of(FUNCTIONS[helper]), helper


def in_order(function: str, *parts: str) -> None:
    text = text_of(FUNCTIONS[function])
    places = [text.index(part) for part in parts]
    assert places == sorted(places), text


def test_network_is_down_before_the_fork_point_and_set_before_it_is_confirmed() -> None:
    in_order("Invoke-Prepare", "Publish-Report", "Save-State", "Clear-Network $adapter", "Switch-Adapters $false")
    in_order("Set-Network", "Get-NetIPInterface", "Clear-Network", "Add-Network")
    network = text_of(FUNCTIONS["Update-network"])
    assert network.index("Get-Wishes") < network.index("Switch-Adapters $true") < network.index("Set-Network")
    assert network.index("Set-Network") < network.index("Confirm-Network")


def test_network_of_the_parent_outlasts_a_restart() -> None:
    """A parent is powered off at its fork point, and what prepare changed is stored in Windows."""
    assert "Volatile" not in TEXT
    in_order("Save-State", "Copy-Item", "/sc onstart", "CreateSubKey", ".Flush()", "Write-VolumeCache")
    assert "-File $UndoScript undo" in text_of(FUNCTIONS["Save-State"])
    in_order("Remove-State", "$StateKey", "/delete")
    in_order("Invoke-Prepare", "Invoke-Undo", "$status -ne 'ok') { return }", "'an adapter is disabled", "Save-State")
    assert "Remove-State" not in text_of(FUNCTIONS["Invoke-Prepare"]), "a state that was not restored is kept"
    in_order("Invoke-Renew", "Update-Item", "if ($code -eq 0 -and $status -eq 'ok') { Remove-State }")


def test_undo_restores_each_adapter_and_keeps_the_state_if_one_fails() -> None:
    in_order("Invoke-Undo", "Switch-Adapters $true", "$is_parent", "foreach", "catch", "'ok') { Remove-State")
    in_order("Restore-Network", "Add-Network", "Wait-Until", "Get-Lacking", "Set-Failed")
    in_order("Add-Network", "Wait-Until", "try", "New-NetIPAddress", "catch", "Set-Failed")
    in_order("Switch-Adapters", "try", "Enable-NetAdapter", "catch", "Set-Failed")
    calls = [text_of(c).partition(" ")[0] for c in nodes("command") if text_of(c).startswith("New-Net")]
    assert sorted(calls) == ["New-NetIPAddress", "New-NetRoute"], "in Add-Network alone"


def test_child_does_not_get_the_addresses_of_its_parent() -> None:
    undo = text_of(FUNCTIONS["Invoke-Undo"])
    assert "-in '', [string](Get-Value \"HKLM:\\$StateKey\" 'nonce')" in undo
    assert "if ($is_parent) { Restore-Network $one }" in undo
    assert "$key.SetValue('nonce', (Get-Param 'vmfork.nonce'))" in text_of(FUNCTIONS["Save-State"])


def test_network_that_was_taken_down_is_brought_up_and_compared_for_any_items() -> None:
    in_order("Invoke-Renew", "@(Get-Saved) -and $names -notcontains 'network'", "$names += 'network'", "Update-Item")


def test_network_none_leaves_the_network_alone() -> None:
    """Unless the parent's was taken down: then the child would have none."""
    of_network = "$is_off = $Network -eq 'none' -and $name -in 'leases', 'adapters', 'network'"
    in_order(
        "Update-Item", of_network, "if ($is_off -and @(Get-Saved)) { throw", "if ($is_off) { Set-Absent", "Update-$name"
    )
    in_order("Invoke-Prepare", "if ($Network -eq 'none' -or", "-contains $_ })) { return }", "Save-State")


def test_routes_of_dhcp_are_not_static() -> None:
    in_order("Get-StaticRoutes", "$_.Dhcp -eq 'Disabled'", "Get-NetRoute")


def test_mac_address_is_not_ok_if_nothing_is_known_to_compare_it_with() -> None:
    in_order("Update-adapters", "if (-not $wanted -and -not $saved) { Set-Absent", "$is_own =")


# --- its regular expressions ------------------------------------------------------------------------------------------

FORM, *TOO_GENERAL = re.findall(r"'([^']*)'", text_of(FUNCTIONS["Test-Removable"]))


def is_removable(path: str) -> bool:
    """Return what Test-Removable returns. PowerShell ignores the case, too."""
    return bool(re.match(FORM, path, re.I)) and not any(re.match(text, path, re.I) for text in TOO_GENERAL)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (r"C:\ProgramData\agent\id", True),
        (r"C:\ProgramData\agent\*.id", False),
        (r"d:\agent\data\*.id", True),
        (r"C:\Program?Files\edr\host-id", True),
        (r"C:\Program?Files?(x86)\edr\host-id", True),
        (r"C:\ProgramData\agent", False),
        (r"C:\ProgramData\agent\..\x", False),
        (r"d:\agent\*.id", False),
        (r"C:\*\*", False),
        (r"C:\[a-z]*\x", False),
        (r"C:\Windows\*", False),
        (r"c:\windows\Temp\x", False),
        (r"C:\Windows.\Temp\x", False),
        (r"C:\ProgramData\*", False),
        (r"C:\ProgramData\agent*\id", False),
        (r"C:\Users\*\x", False),
        (r"C:\PROGRA~1\edr\host-id", False),
        (r"C:\agent", False),
        ("C:\\", False),
        (r"C:\agent\..\Windows", False),
        (r"C:\agent\.", False),
        (r"C:\agent\..", False),
        (r"\\server\share\x", False),
        (r"C:agent\x", False),
        (r"C:\agent\x:stream", False),
        ("/opt/edr/id", False),
    ],
)
def test_paths_of_agents(path: str, expected: bool) -> None:
    """The module accepts the same Windows paths as the script."""
    assert is_removable(path) is expected
    wanted = {"items": [], "network": "auto", "agents_remove": [path], "agents_restart": []}
    if expected or path.startswith("/"):
        assert identity_report.wanted(wanted) is not None
    else:
        with pytest.raises(_errors.BadInput):
            identity_report.wanted(wanted)


@pytest.mark.parametrize("found", [r"C:\Windows\System32\x", r"C:\Program Files\edr", r"C:\$Recycle.Bin\a\b"])
def test_files_that_a_wildcard_finds_are_checked_too(found: str) -> None:
    assert not is_removable(found)
    assert is_removable(r"C:\Program Files\edr\host-id")
    in_order("Update-agents", "Get-Item", "@($word) + $found", "Test-Removable", "Set-Failed", "Remove-Files")


def test_files_that_cannot_be_listed_are_not_absent() -> None:
    in_order("Remove-Files", "-ErrorVariable problems", "-ne 'ObjectNotFound') { Set-Failed", "Remove-Item")


BYTE = pattern("ConvertTo-Address", "25[0-5]")
ADDRESS = re.search(r'-notmatch "(.*?)`\$"', text_of(FUNCTIONS["ConvertTo-Address"]))


def is_address(text: str) -> bool:
    """Return whether the script hands a text to .NET, which then accepts IPv4 addresses with four numbers."""
    assert ADDRESS is not None
    return re.fullmatch(ADDRESS[1].removeprefix("^").replace("$byte", BYTE), text) is not None


@given(st.ip_addresses())
def test_addresses(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert is_address(str(address))


@given(st.text(st.sampled_from("0123456789abcf.:/ -x")))
@example("010.0.0.1")
@example("1.2.3")
@example("1.2.3.256")
@example("0x1.2.3.4")
@example("fe80::1%4")
def test_texts_that_are_no_ipv4_addresses(text: str) -> None:
    """.NET would read some of them as addresses, for example in octal."""
    if ":" not in text:
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            assert not is_address(text)
        else:
            assert is_address(text)
    else:
        assert not is_address(text) or set(text) <= set("0123456789abcf.:")


KEY = pattern("Get-PublicKeys", "ecdsa")


def test_keys_of_types_that_are_accepted() -> None:
    for kind in ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"):
        assert re.match(KEY, f"{kind} AAAA")
    for line in ("ssh-dss AAAA", "sk-ssh-ed25519@openssh.com AAAA", "@cert-authority * ssh-rsa AAAA", " ssh-rsa AAAA"):
        assert not re.match(KEY, line)


HOST_KEY, FILE = pattern("Update-ssh_host_keys", ']+"'), pattern("Update-ssh_host_keys", "ssh_host_[")


@pytest.mark.parametrize(
    ("line", "is_renewed"),
    [
        ("HostKey __PROGRAMDATA__/ssh/ssh_host_rsa_key", True),
        (r'hostkey "C:\ProgramData\ssh\ssh_host_ed25519_key"', True),
        ("  HostKey=C:/ProgramData/ssh/ssh_host_rsa_key  ", True),
        ("HostKey D:/keys/ssh_host_rsa_key", False),
        ("HostKey ssh_host_rsa_key", False),
        ("HostKey __PROGRAMDATA__/ssh/other", False),
        ("HostKey __PROGRAMDATA__/ssh/sub/ssh_host_rsa_key", False),
    ],
)
def test_host_keys_elsewhere_are_failures(line: str, is_renewed: bool) -> None:
    body = text_of(FUNCTIONS["Update-ssh_host_keys"])
    assert ".Replace('__PROGRAMDATA__', $env:ProgramData).Replace('/', '\\')" in body
    assert "$file -match " + repr(FILE).replace("\\\\", "\\") in body
    assert "-and (Split-Path -Parent $file) -eq $SshDirectory) { continue }" in body
    file = re.sub(HOST_KEY, "", line, flags=re.I).replace("__PROGRAMDATA__", r"C:\ProgramData").replace("/", "\\")
    is_there = ntpath.dirname(file).lower() == r"c:\programdata\ssh"
    assert (bool(re.search(FILE, file, re.I)) and is_there) is is_renewed


def test_host_key_that_fails_does_not_keep_the_others() -> None:
    in_order("Update-ssh_host_keys", "foreach ($key in $keys) { try { Update-HostKey", "catch { Set-Failed", "'sshd'")
    in_order("Update-HostKey", "$type -eq 'dsa'", "return Remove-Files $path", "Invoke-Program $generator")


def test_machine_id_is_renewed_only_if_it_is_named() -> None:
    """The files of private keys are named after it. A child that keeps it does not report it as its own."""
    in_order("Update-machine_id", "$requested -match 'machine_id'", "return Set-Absent", "Set-Value")
    assert "$id = if ($shows_id -and" in text_of(FUNCTIONS["Publish-Report"])
    in_order("Invoke-Renew", "$script:requested =", "Update-Item")
    parent = identity_report.Report(machine_id="1" * 64)
    items = {item: "absent" if item == "machine_id" else "ok" for item in identity_report.ITEMS}
    keys = ("ssh-ed25519 x",)
    seen = identity_report.Seen(True, identity_report.Report(items, ssh_host_keys=keys))
    assert identity_report.objection(identity_report.Wanted(), seen, parent) is None


NAME = pattern("Test-Name", "A-Za-z0-9")


@pytest.mark.parametrize(
    ("name", "is_valid"),
    [
        ("web-01", True),
        ("web-01.example.com", True),
        ("a", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("-a", False),
        ("a-", False),
        ("", False),
        ("a..b", False),
        ("a b", False),
        ("a;b", False),
    ],
)
def test_host_names(name: str, is_valid: bool) -> None:
    assert bool(re.fullmatch(NAME, name)) is is_valid


def test_nonces_and_times_of_the_modules_are_accepted() -> None:
    nonce = pattern("Invoke-Renew", "A-Za-z0-9._-")
    assert re.fullmatch(nonce, guestinfo.new_nonce())
    assert not re.fullmatch(nonce, "a b")
    assert re.fullmatch(pattern("Update-clock", r"\d"), "1767225600")


# --- delivery, and what is said about it ------------------------------------------------------------------------------


def test_runner_delivers_the_script() -> None:
    job = runner.Job(identity=runner.Identity(TEXT))
    assert windows.refusal(job) is None
    made = windows.files(job, WINDOWS, "n", "freeze", KEYS)
    assert made["identity.ps1"].decode("utf-8-sig").replace("\r\n", "\n") == TEXT
    assert len(windows.pack(made)) == 1, "guestinfo takes it in one value"


@pytest.mark.parametrize(
    "path",
    [
        "roles/vmfork/files/windows_identity.ps1",
        "roles/vmfork/README.md",
        "roles/vmfork/meta/argument_specs.yml",
        "docs/docsite/rst/guide_identity.rst",
        "plugins/modules/vmfork_quiesce.py",
    ],
)
def test_it_is_called_experimental(path: str) -> None:
    text = (ROOT / path).read_text()
    assert re.search("windows[^.]*experimental|experimental[^.]*windows", text, re.I), path
