# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of the runner for Windows: a grammar of PowerShell parses it, and command lines are split as Windows does.

PowerShell is not run here. The parts common to both languages are compared with the runner for sh, which is run.
"""

from __future__ import annotations

import base64
import io
import re
import typing as t
import zipfile

import pytest
import tree_sitter
import tree_sitter_powershell
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import output_mask
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.quiesce import KEYS
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import posix, runner, windows
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.families import LINUX, WINDOWS

PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
DIRECTORY = r"C:\Users\it's me\AppData\Local\Temp\vmfork.1a2b"
FREEZE = "instantclone.freeze"
BOM = "\ufeff"
CMD = r"C:\Windows\System32\cmd.exe"
POWERSHELL = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"
PWSH = r"C:\Program Files\PowerShell\7\pwsh.exe"


def errors(script: str) -> list[str]:
    """Return the parts of a script that the grammar cannot parse."""
    found, todo = [], [PARSER.parse(script.encode()).root_node]
    while todo:
        node = todo.pop()
        todo += node.children
        if node.is_error or node.is_missing:
            found.append(f"line {node.start_point[0] + 1}: {(node.text or b'')[:60]!r}")
    return found


def arguments(line: str) -> list[str]:
    """Return a command line's arguments as CommandLineToArgvW does: backslashes count only before a quote."""
    words: list[str] = []
    word, quoted, there = "", False, False
    for slashes, char in re.findall(r"(\\*)([^\\]|$)", line, re.DOTALL):
        if char == '"':
            word += "\\" * (len(slashes) // 2)
            there = True
            if len(slashes) % 2:
                word += '"'
            else:
                quoted = not quoted
            continue
        word += slashes
        there = there or bool(slashes)
        if char in ("", " ", "\t") and not (quoted and char):
            if there:
                words.append(word)
            word, there = "", False
        else:
            word += char
            there = True
    return words


def value_of_literal(literal: str) -> str:
    """Return the value of a single-quoted string in PowerShell; any kind of single quote ends it, two stand for one."""
    quotes = "'\u2018\u2019\u201a\u201b"
    assert literal[0] == literal[-1] == "'"
    text, rest = "", literal[1:-1]
    while rest:
        if rest[0] in quotes:
            assert rest[1:2] in list(quotes), f"the string ends before {rest!r}"
            rest = rest[1:]
        text, rest = text + rest[0], rest[1:]
    return text


def files(**job: t.Any) -> dict[str, str]:
    made = windows.files(runner.Job(**job), WINDOWS, "run-nonce", FREEZE, KEYS)
    return {name: content.decode() for name, content in made.items()}


def ps_runner(**job: t.Any) -> str:
    return files(**job)["runner.ps1"].removeprefix(BOM).replace("\r\n", "\n")


def unpack(directory: str = DIRECTORY, **job: str) -> str:
    package = runner.Package(["chunk", "chunk"], directory)
    shell, line = windows.unpack(package, runner.Job(**job), WINDOWS, "run-nonce", KEYS)
    assert shell == WINDOWS.shell
    assert len(line) < 32_000 - len(shell), "longer than Windows takes"
    *options, text = arguments(line)
    assert options == [*windows.OPTIONS, "-Command"]
    return text


# --- the text parses --------------------------------------------------------------------------------------------------

JOBS = [{"pre_quiesce": "a", "post_clone": "b"}, {"post_clone": "@echo off"}, {"script": "x", "interpreter": "py -3"}]


@pytest.mark.parametrize("job", JOBS)
def test_script_is_powershell(job: dict[str, str]) -> None:
    assert errors(ps_runner(**job)) == []
    assert errors(unpack(**job)) == []


@pytest.mark.parametrize("broken", ["if ($a) { b", "$x = 'a", "foreach ($x $y) { }", "$x = @('a' 'b')"])
def test_grammar_rejects_invalid_scripts(broken: str) -> None:
    assert errors(broken)
    assert errors(f"{ps_runner(post_clone='x')}\n{broken}")


HOSTILE = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from("'\"\\$`;\u2019\u201b\n& |%")
)


@given(HOSTILE)
@example("\u2019; Remove-Item C:\\ -Recurse; \u2018")
@example('it\'s $env:PATH `n "x" \\')
def test_values_are_quoted(value: str) -> None:
    literal = windows.literal(value)
    assert value_of_literal(literal) == value
    # The grammar knows only the ASCII quote, so it gets a script with no other quotes.
    plain = windows.literal(re.sub("[\u2018-\u201b]", "'", value))
    statement = PARSER.parse(f"$x = {plain}".encode()).root_node
    assert not statement.has_error
    texts = [token.text for token in strings(statement)]
    assert texts == [plain.encode()]


def strings(node: tree_sitter.Node) -> list[tree_sitter.Node]:
    if node.type == "verbatim_string_characters":
        return [node]
    return [found for child in node.children for found in strings(child)]


@given(HOSTILE)
def test_hostile_paths_of_tools(path: str) -> None:
    for text in (ps_runner(post_clone="x", tools_path=path or "x"), unpack(tools_path=path or "x")):
        assert windows.literal(path or "x") in text


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]) | st.sampled_from('"\\ \t'))))
@example(['a"b', "c\\", 'd\\"', "", "e f\\\\"])
def test_command_lines_round_trip(words: list[str]) -> None:
    words = [word.replace("\0", "") for word in words]
    assert arguments(windows.command_line(words)) == words


@given(HOSTILE)
@example('info-set guestinfo.x a "b" c\\')
@example('\\"')
def test_rpc_argument(value: str) -> None:
    """Test the two replacements of Format-Argument, which are the same expressions in Python."""
    body = re.search(r"function Format-Argument\(.*?\n(.*?)\n\}", ps_runner(post_clone="x"), re.DOTALL)
    assert body is not None
    patterns = re.findall(r"-replace '(.*?)', '(.*?)'", body[1])
    assert body[1].strip().startswith("'\"' + ((")
    assert len(patterns) == 2
    text = value
    for pattern, replacement in patterns:
        # In .NET, $ also matches before a final line end, unlike Python's \Z; it only adds backslashes there.
        by = re.sub(r"\$(\d)", r"\\g<\1>", replacement.replace("\\", "\\\\"))
        text = re.sub(pattern, by, text)
    assert arguments(f'--cmd "{text}"') == ["--cmd", value] or value.endswith("\\\n")


# --- content of the runner --------------------------------------------------------------------------------------------


def test_runner_matches_the_one_for_sh() -> None:
    job = runner.Job(pre_quiesce="a", post_clone="b")
    sh = posix.files(job, LINUX, "run-nonce", FREEZE, KEYS)["runner"].decode()
    ps = ps_runner(pre_quiesce="a", post_clone="b")
    settings = job.settings("run-nonce", FREEZE, KEYS)
    for name, value in settings.items():
        assert f"${name} = '{value}'\n" in ps
        assert len(re.findall(rf"\${name}\b", ps)) > 1, f"{name} is not used"
        assert len(re.findall(rf"\${name}\b", sh)) > 0, f"{name} is not used"
    for stage in ("not_root", "prepare", "pre_quiesce", "freeze", "script", "terminated"):
        assert f"Exit-Early '{stage}'" in ps
        assert f"end_early {stage}" in sh
    for when, sh_function, ps_function in (
        ("an early end", "end_early", "Exit-Early"),
        ("a child", "in_child", "Exit-Child"),
    ):
        in_sh = re.search(rf"^{sh_function}\(\) {{\n(.*?)^}}", sh, re.MULTILINE | re.DOTALL)
        in_ps = re.search(rf"^function {ps_function}\(.*?\n(.*?)^}}", ps, re.MULTILINE | re.DOTALL)
        published = [re.findall(r"(?:publish|Publish-Value) \W*(\w+)", body[1]) for body in (in_sh, in_ps) if body]
        assert published[0] == published[1] != [], f"what is published at {when}"
    assert {name: int(code) for name, code in re.findall(r"(\w+) = (\d\d)[; ]", exits(ps))} == runner.STAGES


def assert_in_order(text: str, *parts: str) -> None:
    """Assert that the parts occur in this order."""
    at = -1
    for part in parts:
        at = text.find(part, at + 1)
        assert at >= 0, f"{part} is missing, or not after the parts before it"


def function(text: str, name: str) -> str:
    """Return the body of a PowerShell function."""
    found = re.search(rf"^function {name}\b.*?\n(.*?)^}}", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_record_of_scripts_and_leftovers_are_treated_as_in_sh() -> None:
    """A runner removes what killed runners left, but not what another runner has announced."""
    ps = ps_runner(post_clone="x")
    assert "Publish-Value $key_scripts $record" in function(ps, "Publish-Announcement")
    assert_in_order(function(ps, "Exit-Early"), "if ((Read-Value $key_scripts).Contains($nonce))", "Clear-Value")
    leftovers = function(ps, "Remove-Leftovers")
    assert_in_order(
        leftovers,
        "ReparsePoint",
        "[IO.Directory]::Delete",
        "$mark",
        "Test-Alive $other.FullName",
        "Exit-Busy",
        "Remove-Item",
    )
    assert_in_order(leftovers, "Remove-Item", "$leads_name), ''", "Clear-Value $key_scripts")
    assert_in_order(
        function(ps, "Clear-Value"), "Publish-Value $key ''", "if (Read-Value $key)", "Publish-Value $key ' '"
    )
    assert "$key_scripts" not in function(ps, "Exit-Busy")


def test_unpacking_marks_its_directory_first() -> None:
    text = unpack(post_clone="x")
    assert_in_order(text, "CreateDirectory($directory", "'runner.ps1'), '# ' + $mark)", "Send-Rpc ('info-get '")
    assert f"$mark = '{runner.MARK}'" in text


def test_secrets_are_masked_by_one_rule() -> None:
    sh = posix.files(runner.Job(post_clone="x"), LINUX, "run-nonce", FREEZE, KEYS)["runner"].decode()
    ps = ps_runner(post_clone="x")
    for text, too_short, ignored in (
        (sh, "length(part) < {}", r"""["\047\\\r\n]"""),
        (ps, "$letters.Count -lt {}", r"""["''\\\r\n]"""),
    ):
        assert too_short.format(output_mask.A_REST) in text
        assert output_mask.MASK in text
        assert ignored in text
    assert f"length(part) < {output_mask.LONG_ENOUGH}" in sh
    assert f"$_.Length -ge {output_mask.LONG_ENOUGH}" in ps
    assert set(output_mask.IGNORED) == set("\"'\\\r\n")


def test_script_does_not_start_without_its_secrets() -> None:
    between = function(ps_runner(post_clone="x"), "Invoke-Between")
    assert_in_order(between, "Send-Rpc $freeze", "Read-Secrets", "$lost -and", "Exit-Child 1", "Invoke-Script")


def exits(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("$exits ="))


@pytest.mark.parametrize("job", JOBS)
def test_every_variable_and_function_is_defined(job: dict[str, str]) -> None:
    for text in (ps_runner(**job), unpack(**job)):
        set_ = set(re.findall(r"\$(?:script:)?(\w+) =|\](?:\$)(\w+)[,)]|foreach \(\$(\w+) in", text))
        known = {name for names in set_ for name in names} | {"env", "true", "false", "null", "_", "script", "1"}
        known |= {"PSCommandPath", "ErrorActionPreference", "LASTEXITCODE"}
        assert set(re.findall(r"\$(\w+)", text)) - known == set()
        called = set(
            re.findall(r"\b((?:Exit|Find|Format|Get|Hide|Invoke|Publish|Read|Send|Stop|Test|Clear)-[A-Z]\w+)", text)
        )
        defined = set(re.findall(r"^function ([\w-]+)", text, re.MULTILINE))
        assert called - defined <= {"Test-Path", "Get-ChildItem", "Get-Content"}


def test_no_syntax_of_newer_powershell() -> None:
    """Windows PowerShell 5.1 has no ternary operator, null coalescing or pipeline chains."""
    for text in (ps_runner(post_clone="x"), unpack()):
        assert not re.search(r"\?\?|&&|\|\||\?\.|-Parallel|\s\?\s", text)


@pytest.mark.parametrize(
    ("script", "interpreter", "command", "name"),
    [
        ("Write-Host x", None, "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -File", "script.ps1"),
        ("#!powershell\nx", None, "-File", "script.ps1"),
        ("rem-thing", None, "-File", "script.ps1"),
        ("@{a=1}", None, "-File", "script.ps1"),
        ("@echo off\nhostname", None, "call", "script.cmd"),
        ("@ECHO OFF", None, "call", "script.cmd"),
        (":: cmd\nhostname", None, "call", "script.cmd"),
        ("REM what it does\nhostname", None, "call", "script.cmd"),
        ("@rem x", None, "call", "script.cmd"),
        ("rem", None, "call", "script.cmd"),
        ("\n\r\n  @echo off", None, "call", "script.cmd"),
        ("@setlocal", None, "call", "script.cmd"),
        ("SetLocal EnableDelayedExpansion\nhostname", None, "call", "script.cmd"),
        ("@@echo off", None, "call", "script.cmd"),
        (f"{BOM}@echo off", None, "call", "script.cmd"),
        ("\n\nsetlocal-thing", None, "-File", "script.ps1"),
        ("\n  Write-Host x", None, "-File", "script.ps1"),
        ("hostname", "cmd", "call", "script.cmd"),
        ("hostname", "CMD.exe", "call", "script.cmd"),
        ("@echo off", "powershell", "-File", "script.ps1"),
        ("hostname", "cmd /c", "cmd /c", "script.cmd"),
        ("hostname", "cmd.exe /d/c", "cmd.exe /d/c", "script.cmd"),
        ("hostname", "cmd /v:on", "cmd /v:on /c", "script.cmd"),
        ("hostname", rf'"{CMD}"', rf'"{CMD}" /c', "script.cmd"),
        ("hostname", rf"{CMD} /S /C", rf"{CMD} /S /C", "script.cmd"),
        ("hostname", "pwsh -NoProfile -File", "pwsh -NoProfile -File", "script.ps1"),
        ("hostname", "pwsh", "pwsh -File", "script.ps1"),
        (
            "hostname",
            f"{POWERSHELL} -ExecutionPolicy Bypass",
            f"{POWERSHELL} -ExecutionPolicy Bypass -File",
            "script.ps1",
        ),
        ("hostname", rf'"{PWSH}" -f', rf'"{PWSH}" -f', "script.ps1"),
        ("hostname", rf'"{PWSH}" -NoProfile', rf'"{PWSH}" -NoProfile -File', "script.ps1"),
        ("hostname", "powershell -Command .", "powershell -Command .", "script.ps1"),
        ("x = 1", "cscript //nologo", "cscript //nologo", "script.vbs"),
        ("x = 1", r"C:\Windows\System32\WScript.exe", r"C:\Windows\System32\WScript.exe", "script.vbs"),
        ("print()", r"C:\Python\python.exe", r"C:\Python\python.exe", "script"),
        ("print()", r'"C:\my powershell\python.exe" -u', r'"C:\my powershell\python.exe" -u', "script"),
        ("#!/usr/bin/python\nprint()", "py -3", "py -3", "script"),
    ],
)
def test_interpreter(script: str, interpreter: str | None, command: str, name: str) -> None:
    made = windows.files(runner.Job(script=script, interpreter=interpreter), WINDOWS, "n", FREEZE, KEYS)
    assert set(made) == {"runner.ps1", name}
    line = re.search(r"^\$run_script = @\('(.*)', '(.*)'\)\r$", made["runner.ps1"].decode(), re.MULTILINE)
    assert line is not None
    assert line[1] == command if interpreter and " " in interpreter else line[1].endswith(command)
    assert line[2] == name


def test_script_files() -> None:
    made = files(pre_quiesce="größe\nb\r\n", post_clone="@echo off\nhostname\n")
    assert made["pre_quiesce.ps1"] == f"{BOM}größe\r\nb\r\n"
    assert made["post_clone.cmd"] == "@echo off\r\nhostname\r\n"
    assert made["runner.ps1"].startswith(BOM)


def test_script_files_saved_with_a_byte_order_mark() -> None:
    made = files(pre_quiesce=f"{BOM}größe\n", post_clone=f"{BOM}@echo off\r\n")
    assert made["pre_quiesce.ps1"] == f"{BOM}größe\r\n"
    assert made["post_clone.cmd"] == "@echo off\r\n"


def test_script_file_for_windows_script_host() -> None:
    job = runner.Job(script="' größe\nx = 1", interpreter="cscript //nologo")
    made = windows.files(job, WINDOWS, "n", FREEZE, KEYS)["script.vbs"]
    assert made.startswith(b"\xff\xfe")
    assert made.decode("utf-16") == "' größe\r\nx = 1"


def test_request_to_end_is_read_before_anything_starts() -> None:
    """A file in the directory requests it; VMware Tools create both for a runner that is not unpacked yet."""
    text = unpack(post_clone="x")
    sign, made = text.index("(Join-Path $directory $stop_name)"), text.index("CreateDirectory($directory")
    assert sign < text.index("exit $exit_terminated") < text.index("{ exit $exit_unpack }") < made
    assert f"$stop_name = '{runner.STOP}'" in text
    main = ps_runner(post_clone="x").partition("function Invoke-Main")[2]
    assert main.index("$script:before = ") < main.index("Test-Stop") < main.index("& $steps")


def test_start() -> None:
    shell, line = windows.start(WINDOWS, DIRECTORY)
    assert (shell, arguments(line)) == (WINDOWS.shell, [*windows.OPTIONS, "-File", rf"{DIRECTORY}\runner.ps1"])


def test_chosen_directory_is_private() -> None:
    program = windows.privatize(DIRECTORY)
    assert program is not None
    words = arguments(program[1])
    assert words[:3] == [DIRECTORY, "/inheritance:r", "/grant:r"]
    assert {word.partition(":")[0] for word in words[3:]} == {"*S-1-5-18", "*S-1-5-32-544", "*S-1-3-4"}
    assert posix.privatize("/tmp/x") is None


def test_payload_contains_the_files() -> None:
    contents = {"runner.ps1": b"one", "post_clone.ps1": b"two" * 50_000}
    packed = base64.b64decode("".join(windows.pack(contents)), validate=True)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents
        assert archive.namelist()[0] == "runner.ps1", "by it the directory is known to be ours"
    assert windows.pack(contents) == windows.pack(contents)


def test_unpacking_shows_its_directory_in_its_command_line() -> None:
    package = runner.Package(["x"], r"C:\Windows\Temp\vmfork.1a2b")
    _shell, line = windows.unpack(package, runner.Job(), WINDOWS, "n", KEYS)
    assert package.directory in line


# --- the identity script ----------------------------------------------------------------------------------------------

IDENTITY = runner.Identity("größe\n", "clock,random", "none")


def test_identity_script_has_its_own_interpreter_and_arguments() -> None:
    made = files(post_clone="x", interpreter="py -3", identity=IDENTITY)
    assert made["identity.ps1"] == f"{BOM}größe\r\n"
    for step in ("prepare", "renew", "undo"):
        command = f"{POWERSHELL} {' '.join(windows.OPTIONS)} -File"
        line = f"$run_{step} = @('{command}', 'identity.ps1', '{step} clock,random none')\r\n"
        assert line in made["runner.ps1"]
    assert errors(ps_runner(post_clone="x", identity=IDENTITY)) == []


def test_without_identity_script() -> None:
    made = files(post_clone="x")
    assert set(made) == {"runner.ps1", "post_clone.ps1"}
    assert "$run_renew = @('', '', '')\r\n" in made["runner.ps1"]


def test_identity_script_is_the_first_on_both_sides() -> None:
    """As in the runner for sh, where this is run."""
    between = function(ps_runner(identity=IDENTITY), "Invoke-Between")
    assert_in_order(
        between, "$script:preparing = $true", "$run_prepare", "Exit-Early 'prepare' $code", "$run_pre_quiesce"
    )
    assert_in_order(between, "Exit-Child 1", "$run_renew", "if ($code -ne 0) { Exit-Child $code }", "$run_post_clone")
    assert "$env:VMFORK_TOOLS = $tools" in function(ps_runner(identity=IDENTITY), "Invoke-Main")


def test_parent_gets_its_network_back_after_an_early_end() -> None:
    """A stop request must not end the script that does so, which would run it again."""
    text = ps_runner(identity=IDENTITY)
    early = function(text, "Exit-Early")
    assert_in_order(early, "$script:ending = $true", "if ($preparing)", "= $false", "$run_undo '>>'", "Get-Output")
    assert "if (-not $ending -and (Test-Stop))" in function(text, "Invoke-Script")


# --- what a guest cannot do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (
            runner.Job(identity=runner.Identity("#!/bin/sh\nx")),
            "identity_script begins with #!/bin/sh, and the guest is",
        ),
        (runner.Job(identity=runner.Identity("x", network="netplan")), "identity_network=netplan is not for Windows"),
        (
            runner.Job(identity=runner.Identity("x", "auto,cloud_init")),
            "the item cloud_init of identity_items is not for",
        ),
        (runner.Job(identity=runner.Identity("x", network="none"), interpreter="cmd"), None),
        (runner.Job(post_clone="x", become="sudo"), "guest_become=sudo is not supported for Windows guests"),
        (runner.Job(post_clone="#!/bin/sh\nx"), "post_clone_script begins with #!/bin/sh, and the guest is Windows"),
        (runner.Job(script="#!/bin/sh"), "script begins with #!/bin/sh, and"),
        (runner.Job(post_clone="#!/bin/sh\nx", interpreter="cmd"), None),
        (runner.Job(post_clone="#!powershell\nx"), None),
        (runner.Job(post_clone=f"{BOM}#!/bin/sh"), "post_clone_script begins with #!/bin/sh, and"),
        (
            runner.Job(post_clone="x", interpreter=r'"C:\Program Files\x.exe'),
            "x.exe is not a valid command: No closing",
        ),
        (runner.Job(post_clone="x", interpreter=r"C:\it's\python.exe"), None),
        (runner.Job(pre_quiesce="x", post_clone="@echo off"), None),
    ],
)
def test_refused(job: runner.Job, message: str | None) -> None:
    refusal = windows.refusal(job)
    assert (message or "") in (refusal or "")
    assert (message is None) == (refusal is None)
