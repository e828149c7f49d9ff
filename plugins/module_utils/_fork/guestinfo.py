# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write what the guest reports through guestinfo.

Private to the collection. The runner in the guest writes these values with
``info-set``; we read them in ``config.extraConfig``. Each report begins with
a nonce that was created for it, so that a value inherited from the parent, or
left by an earlier run, never counts.

Any program in the guest can write any text to these keys. So all of them are
parsed here, by functions that never raise: a text that no runner writes is
treated as an unreadable report.
"""

from __future__ import annotations

import base64
import datetime
import re
import secrets
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity_report
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import IDENTITY as IDENTITY_MARK
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import STAGES

SCRIPTS = "guestinfo.vmfork.scripts"
"""``<digest> <nonce>``, and ``identity=<digest>`` if there was an identity script: SHA-256 of the scripts a VM was
quiesced with, and the nonce of its runner, which wrote this before the freeze. Only a VM at its fork point should have
it: it is removed after an early end, in every child, and after a power-off."""

QUIESCED_AT = "guestinfo.vmfork.quiesced_at"
"""When the runner requested the freeze: UTC by the guest's clock, ISO 8601. Only valid together with the scripts."""

QUIESCE = "guestinfo.vmfork.quiesce"
"""An end before the freeze: ``<nonce> <stage> <exit code> <output>``."""

POST_CLONE = "guestinfo.vmfork.post_clone"
"""The end of a child's post-clone script: ``<nonce> <exit code> <output>``."""

IDENTITY = "guestinfo.vmfork.identity"
"""The report of the identity script, see ``identity_report.py``."""

ACCEPTED = "vmfork.identity"
"""Our record of an accepted identity, in the same form, or of a refused one: ``<nonce> refused``. No guest can write
this key, so its host keys can be trusted later, and it remains when guestinfo does not."""

IDENTITY_FAILED = 90
"""The exit code of an identity script that could not renew the identity, whatever it has reported of the items."""

PAYLOAD = "guestinfo.vmfork.payload"
"""Prefix of the keys that carry scripts to the guest: ``<key>.0``, ``<key>.1`` …"""

DONE = "vmfork.post_clone"
"""Our record of a persistent child's report, ``<nonce> <exit code>``: not every server keeps guestinfo during a power
cycle, and the script does not run again. No guest can write this key."""

GENERATION = "vmfork.generation"
"""A random mark on a parent, which is replaced before each freeze. No guest can write this key."""

SECRETS = "guestinfo.vmfork.secrets"
"""The guest's report that it can no longer read its secrets: ``<nonce> cleared``."""

PARAMS = "guestinfo.fork."
"""Prefix of a guest's config params: VMFork adds it itself; with Instant Clone, we do."""

OWN_PARAMS = "vmfork."
"""Config params with this prefix are reserved for us."""

SECRETS_PARAM = "vmfork.secrets"
"""The config param with the guestinfo keys of a child's secrets, separated by spaces."""

NONCE_PARAM = "vmfork.nonce"
"""The config param that carries a child's nonce."""

IDENTITY_PARAM, NETWORK_PARAM, CLOCK_PARAM = "vmfork.identity", "vmfork.network", "vmfork.clock"
REMOVE_PARAM, RESTART_PARAM = "vmfork.agents_remove", "vmfork.agents_restart"
"""The config params that the identity script reads."""

ENTROPY_PARAM = "vmfork.entropy"
"""The config param with random bytes for a child, which is a secret."""

CHILD_SECRETS, CHILD_NONCE = PARAMS + SECRETS_PARAM, PARAMS + NONCE_PARAM
"""The keys of these params in a child, with either engine."""


OUTPUT_LIMIT = 8192
"""Maximum number of characters of a script's output to keep. A runner reports 2 kB, in which a mask may be longer than
the secret that it hides."""

UNREADABLE = "unreadable"
"""Replaces the stage of a report that cannot be read, and the exit code of one that is written back."""

_REFUSED = "refused"

_CODE = re.compile("[0-9]{1,10}")
_MAX_CODE = 0xFFFFFFFF
"""The largest exit code: Windows has exit codes with 32 bits."""

_REFUSING = "isolation.tools.setinfo.disable"
"""Setting of a VM that makes VMware Tools refuse info-set. ``guest_rpc.rpci.auth.cmd.info-set`` refuses it to users
other than root, and the runner is root."""

_NONCE = re.compile("[!-~]{1,64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class Report(t.NamedTuple):
    """The report of how a program in the guest ended.

    :param exit_code: ``None`` when the report is unreadable.
    """

    stage: str
    exit_code: int | None
    output: str


def new_nonce() -> str:
    """Return a nonce: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def scripts(extra_config: t.Mapping[str, str]) -> str | None:
    """Return the recorded digest of the scripts. Use it only for a comparison: any text may be there."""
    return next(iter(extra_config.get(SCRIPTS, "").split()), None)


def identity_script(extra_config: t.Mapping[str, str]) -> str | None:
    """Return the recorded digest of the identity script, like :func:`scripts`."""
    words = extra_config.get(SCRIPTS, "").split()[1:]
    return next((word.removeprefix(IDENTITY_MARK) for word in words if word.startswith(IDENTITY_MARK)), None)


def is_recorded_by(extra_config: t.Mapping[str, str], nonce: str) -> bool:
    """Return whether the record of the scripts was written by the runner with this nonce."""
    return nonce in extra_config.get(SCRIPTS, "").split()[1:]


def quiesced_at(extra_config: t.Mapping[str, str]) -> str | None:
    """Return when the runner requested the freeze, if the value is a time."""
    value = extra_config.get(QUIESCED_AT, "")
    return value if _TIME.fullmatch(value) else None


def announced_at(extra_config: t.Mapping[str, str]) -> datetime.datetime | None:
    """Return :func:`quiesced_at` as a time; ``None`` if it is not one."""
    try:
        parsed = datetime.datetime.strptime(quiesced_at(extra_config) or "", "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return None
    return parsed.replace(tzinfo=datetime.timezone.utc)


def obstacle(extra_config: t.Mapping[str, str]) -> str | None:
    """Return the extraConfig key that keeps the guest from writing to guestinfo; ``None``: there is none.

    (open-vm-tools: a VMX that refuses info-set, as security guides ask for.)
    """
    return next(
        (key for key, value in extra_config.items() if key.lower() == _REFUSING and value.upper() == "TRUE"), None
    )


def payload(extra_config: t.Mapping[str, str]) -> list[str]:
    """Return the guestinfo keys that contain scripts for the guest.

    A space counts as empty: some guests cannot set an empty value and write a space instead
    (vmware-archive/cloud-init-vmware-guestinfo issue 25).
    """
    return [key for key, value in extra_config.items() if key.startswith(PAYLOAD) and value.strip()]


def left_by_quiesce(extra_config: t.Mapping[str, str]) -> list[str]:
    """Return the guestinfo keys with content that only a VM before or at its fork point should have."""
    return [*([SCRIPTS] if scripts(extra_config) else []), *payload(extra_config)]


def child_nonce(extra_config: t.Mapping[str, str]) -> str | None:
    """Return the nonce that a child was created with, if it is a valid one."""
    value = extra_config.get(CHILD_NONCE, "")
    return value if _NONCE.fullmatch(value) else None


def post_clone(extra_config: t.Mapping[str, str], nonce: str | None) -> Report | None:
    """Return the child's report, or our record of it, if it exists and carries this nonce."""
    for key in (POST_CLONE, DONE):
        words = _words(extra_config, key, nonce)
        if words is not None:
            return _report("post_clone", words) or Report("post_clone", None, "")
    return None


def identity(extra_config: t.Mapping[str, str], nonce: str | None) -> identity_report.Seen:
    """Return the identity of the child with this nonce: the one that was accepted, or else the one that it reports."""
    accepted = identity_report.parse(extra_config.get(ACCEPTED, ""), nonce)
    if accepted.report is not None:
        return accepted._replace(is_accepted=True)
    is_refused = _words(extra_config, ACCEPTED, nonce) == [_REFUSED]
    return reported_identity(extra_config, nonce)._replace(is_refused=is_refused)


def refusal(nonce: str) -> dict[str, str]:
    """Return the extraConfig keys that record that the identity of the child with this nonce is also another child's.

    A later task may not read that other child, and could not find out again.
    """
    return {ACCEPTED: f"{nonce} {_REFUSED}"}


def reported_identity(extra_config: t.Mapping[str, str], nonce: str | None) -> identity_report.Seen:
    """Return the identity that the child with this nonce reports now, whether it was accepted or not."""
    return identity_report.parse(extra_config.get(IDENTITY, ""), nonce)


def parents_identity(extra_config: t.Mapping[str, str]) -> identity_report.Report | None:
    """Return the identity that a parent had before the fork point, if it has reported it."""
    return identity_report.parse(extra_config.get(IDENTITY, ""), identity_report.PARENT).report


def secrets_cleared(extra_config: t.Mapping[str, str], nonce: str | None) -> bool:
    """Return whether the child has cleared its secrets, according to its report with this nonce."""
    return _words(extra_config, SECRETS, nonce) == ["cleared"]


def early_end(extra_config: t.Mapping[str, str], nonce: str) -> Report | None:
    """Return the report of a runner that ended before the freeze, if it exists and carries this nonce."""
    words = _words(extra_config, QUIESCE, nonce)
    if words is None:
        return None
    ended = _report(words[0], words[1:]) if words and words[0] in STAGES else None
    return ended or Report(UNREADABLE, None, "")


def as_post_clone(nonce: str, report: Report) -> str:
    """Return a child's report as the child writes it."""
    return f"{nonce} {code_text(report)} {base64.b64encode(report.output.encode(errors='replace')).decode()}"


def code_text(report: Report) -> str:
    """Return the exit code as it is written in a report."""
    return UNREADABLE if report.exit_code is None else str(report.exit_code)


def _words(extra_config: t.Mapping[str, str], key: str, nonce: str | None) -> list[str] | None:
    """Return the words of a report after its nonce; ``None``: there is no report with this nonce."""
    words = extra_config.get(key, "").split()
    return words[1:] if nonce and words and words[0] == nonce else None


def _report(stage: str, words: list[str]) -> Report | None:
    """Parse an exit code and base64 output, which is missing if there was none; ``None``: the report is not valid."""
    if not 1 <= len(words) <= 2 or not _CODE.fullmatch(words[0]) or int(words[0]) > _MAX_CODE:
        return None
    try:
        output = base64.b64decode(words[1], validate=True) if len(words) == 2 else b""
    except ValueError:  # a character that is not valid in base64 (binascii.Error), or not ASCII
        return None
    return Report(stage, int(words[0]), output.decode(errors="replace")[-OUTPUT_LIMIT:])
