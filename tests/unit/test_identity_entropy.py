# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of the identity script that add entropy, run with a recorded ``ioctl``.

The kernel refuses the real calls in the guests of the tests, and they are never made outside of them.
"""

from __future__ import annotations

import errno
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = (Path(__file__).parents[2] / "roles/vmfork/files/linux_identity.sh").read_text(encoding="utf-8")

# linux/random.h: _IOW('R', 0x03, int [2]) and _IO('R', 0x07), with the macros of asm-generic/ioctl.h.
RNDADDENTROPY = 1 << 30 | 2 * struct.calcsize("i") << 16 | ord("R") << 8 | 0x03
RNDRESEEDCRNG = ord("R") << 8 | 0x07

# Prints each call, and refuses those that an argument names as REQUEST=ERRNO.
RECORDED_PYTHON = """
import fcntl, sys
refused = dict(word.split("=") for word in sys.argv[1:])
def ioctl(device, request, argument=b""):
    print(request, argument.hex())
    if str(request) in refused: raise OSError(int(refused[str(request)]), "refused")
    return argument
fcntl.ioctl = ioctl
"""
RECORDED_PERL = """
my %refused = map { split /=/ } splice @ARGV;
BEGIN {
  *CORE::GLOBAL::ioctl = sub (*$$) {
    my ($device, $request, $argument) = @_;
    print "$request ", $argument ? unpack("H*", $argument) : "", "\\n";
    return "0 but true" unless exists $refused{$request};
    $! = $refused{$request};
    return undef;
  };
}
"""

PROGRAMS = {
    "PYTHON": (sys.executable, "-c", RECORDED_PYTHON),
    "PERL": (shutil.which("perl") or "", "-e", RECORDED_PERL),
}
LANGUAGES = [
    "PYTHON",
    pytest.param("PERL", marks=pytest.mark.skipif(not PROGRAMS["PERL"][0], reason="no perl is installed")),
]
ENTROPY = bytes(range(64))


def run(language: str, **refused: int) -> tuple[int, list[str]]:
    """Run the program of a language on the entropy; return its exit code and the recorded calls."""
    interpreter, option, recorded = PROGRAMS[language]
    found = re.search(rf"^ENTROPY_{language}='\n(.*?)^'$", SCRIPT, re.MULTILINE | re.DOTALL)
    assert found is not None
    requests = {"add": RNDADDENTROPY, "reseed": RNDRESEEDCRNG}
    words = [f"{requests[name]}={number}" for name, number in refused.items()]
    ended = subprocess.run(
        [interpreter, option, recorded + found[1], *words], input=ENTROPY, capture_output=True, check=False, timeout=60
    )
    return ended.returncode, ended.stdout.decode().splitlines()


ADDED = f"{RNDADDENTROPY} {(struct.pack('ii', 8 * len(ENTROPY), len(ENTROPY)) + ENTROPY).hex()}"
RESEEDED = f"{RNDRESEEDCRNG} "


@pytest.mark.parametrize("language", LANGUAGES)
def test_entropy_is_credited_and_the_kernel_reseeds(language: str) -> None:
    assert run(language) == (0, [ADDED, RESEEDED])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTTY])
def test_kernel_that_cannot_reseed(language: str, number: int) -> None:
    assert run(language, reseed=number) == (3, [ADDED, RESEEDED])


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_the_kernel_refuses_is_a_failure(language: str) -> None:
    code, calls = run(language, add=errno.EPERM)
    assert code not in (0, 3, 4)
    assert calls == [ADDED]
    code, calls = run(language, reseed=errno.EPERM)
    assert code not in (0, 3, 4)
    assert calls == [ADDED, RESEEDED]
