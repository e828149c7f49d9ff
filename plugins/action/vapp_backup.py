# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the files of a backup of vApp options. The module of the same name reads the VMs, and has the documentation.

Secrets in clear are only in this process: the module sends them encrypted with a key of this task, and they leave it
encrypted with a vault password.
"""

from __future__ import annotations

import contextlib
import pathlib
import typing as t
from collections import Counter

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.vault import VaultAES256, VaultLib, format_vaulttext_envelope, match_secrets
from ansible.plugins.action import ActionBase

from ansible_collections.vmfork.vsphere.plugins.module_utils import _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_backup, vapp_files, vapp_payload
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_files import BackupError

NAME = "vmfork.vsphere.vapp_backup"
SPEC = {
    "directory": {"type": "path", "required": True},
    "secrets": {"type": "str", "choices": ["reference", "vault"], "default": "reference"},
    "vault_id": {"type": "str", "default": "default"},
}
MASKED = "a password of this run is part of what was read, and Ansible masks it; use a longer password"


class ActionModule(ActionBase):
    """See DOCUMENTATION of the module."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Read the VMs with the module, and write the changed files."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        try:
            given = _options(self._task.args)
            directory = pathlib.Path(given["directory"]).absolute()
            seal = self._seal(given["vault_id"]) if given["secrets"] == "vault" else None
            vapp_backup.entries(vapp_files.check(directory))
            key = vapp_payload.new_key() if seal else None
            answer = self._execute_module(
                module_name=NAME, module_args={**self._task.args, "transport_key": key}, task_vars=task_vars
            )
            vms, about = answer.pop("vms", None), answer.pop("about", "")
            result.update(answer)
            if vms is not None and not answer.get("failed"):
                found, seen = [_found(vm, key) for vm in vms], _about(about, key)
                with contextlib.nullcontext() if self._task.check_mode else vapp_files.locked(directory):
                    plan = vapp_backup.plan(found, vapp_files.read(directory), seal=seal, **seen)
                    if not self._task.check_mode:
                        vapp_files.write(directory, plan.files)
                result.update(_printable.result(_result(directory, plan, len(vms), self._task.diff)))
                if plan.warnings:
                    result["warnings"] = [*result.get("warnings", ()), *map(_printable.text, plan.warnings)]
        except BackupError as error:
            result.update(failed=True, msg=_printable.text(str(error)))
        except vapp_backup.ForeignIndex as error:
            result.update(
                failed=True,
                msg=f"{directory / vapp_backup.INDEX} exists, but is not an index of a backup of vApp options: "
                f"{_printable.text(str(error))}. Nothing was written. Choose another directory, or move that file "
                "away.",
            )
        return result

    def _seal(self, vault_id: str) -> vapp_backup.Seal:
        """Return a function that encrypts with the vault password of an ID."""
        secrets = self._loader._vault.secrets or []  # ansible-core offers no other access to the vault passwords
        chosen = match_secrets(secrets, [vault_id])
        if not vapp_payload.CAN_ENCRYPT:
            raise BackupError(
                "The Python of ansible-core lacks the library cryptography. Install it, or leave secrets out."
            )
        if not chosen:
            have = ", ".join(sorted({str(name) for name, _secret in secrets})) or "none"
            raise BackupError(
                f"secrets=vault needs a vault password with the ID {vault_id}, which this run does not have (it has: "
                f"{have}). Provide it with --vault-id, or attach a Vault credential with this ID to the job template."
            )
        _id, secret = chosen[0]
        vault = VaultLib([(vault_id, secret)])

        def seal(text: str, before: str | None) -> str:
            if before is not None:
                try:
                    if vault.decrypt(before.encode()).decode() == text:
                        return before
                except (AnsibleError, ValueError):
                    pass  # encrypted with another password, or not a vault at all
            # VaultLib.encrypt refuses a text that is already encrypted, and a secret may be any text.
            sealed = format_vaulttext_envelope(VaultAES256.encrypt(text.encode(), secret), "AES256", vault_id=vault_id)
            return sealed.decode()

        return seal


def _options(args: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the options that the controller needs; the module checks all others."""
    validated = ArgumentSpecValidator(SPEC).validate({name: args[name] for name in SPEC if name in args})
    if validated.error_messages:
        raise BackupError(f"{'; '.join(validated.error_messages)}.")
    options: dict[str, t.Any] = validated.validated_parameters
    return options


def _about(text: str, key: str | None) -> dict[str, t.Any]:
    """Return the vCenter and the scope of the task."""
    try:
        return vapp_payload.unpack(text, key)
    except ValueError:
        raise BackupError(f"Nothing was written: {MASKED}.") from None


def _found(vm: t.Mapping[str, t.Any], key: str | None) -> vapp_backup.Found:
    """Return a VM that the module has read."""
    try:
        content = vapp_payload.unpack(vm["content"], key)
    except ValueError:
        return vapp_backup.Found(vm["name"], vm["moid"], reason=MASKED)
    return vapp_backup.Found(
        **{**content, "secrets": [(tuple(path), text) for path, text in content.get("secrets", ())]}
    )


def _result(directory: pathlib.Path, plan: vapp_backup.Plan, total: int, diff: bool) -> dict[str, t.Any]:
    """Return the result of the task."""
    lacking = plan.index["not_read"]
    count = Counter(row["state"] for row in plan.rows)
    result = {
        "changed": bool(plan.files),
        "directory": str(directory),
        "complete": plan.index["complete"],
        "files": list(plan.files),
        "vms": plan.rows,
        "summary": {
            "total": total,
            "saved": count["saved"],
            "written": sum(row["change"] != "none" for row in plan.rows),
            "gone": count["gone"],
            "not_read": len(lacking),
        },
    }
    if diff:
        texts = {name: vapp_backup.shown(plan.before.get(name, ""), text) for name, text in plan.files.items()}
        result["diff"] = [
            {"before": before, "after": after, "before_header": name, "after_header": name}
            for name, (before, after) in texts.items()
        ]
    if not total:
        result.update(
            failed=True,
            msg="No VM was found, so none is saved. Check name, folder and datacenter, and the privileges of the user.",
        )
    if lacking:
        listed = ", ".join(f"{vm['name']} ({vm['reason']})" for vm in lacking[:MOST_NAMES])
        more = f" and {len(lacking) - MOST_NAMES} more" if len(lacking) > MOST_NAMES else ""
        result.update(
            failed=True,
            msg=f"{len(lacking)} of {_printable.count(total, 'VM')} could not be saved: {listed}{more}. See vms.",
        )
    return result


MOST_NAMES = 10
"""Maximum number of VMs that a message lists."""
