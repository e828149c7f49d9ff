# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The item cloud_init of the identity script, with Debian's cloud-init and ds-identify."""

from __future__ import annotations

import base64
import gzip
import json
import pathlib

import pytest
from unit.guest_identity import distributions, rig
from unit.guest_identity.distributions import STATIC
from unit.guest_identity.rig import Guest, Outcome, run

PACKAGES = rig.PACKAGES / "cloud-init"
OBSTACLE = rig.lacks_packages(PACKAGES)

pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))

MODULES = """# Without those that change users, packages and disks, or need a network.
cloud_init_modules: [bootcmd, write-files, set_hostname, update_hostname, update_etc_hosts, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user, final-message]
ssh_genkeytypes: [ed25519]
"""
BOOT = """export PATH=/tools:/usr/sbin:/usr/bin
/usr/lib/cloud-init/ds-identify --force
for words in 'init --local' init 'modules --mode=config' 'modules --mode=final'; do
  cloud-init $words >>/out/boot 2>&1 || echo "failed: $words" >>/out/boot
done
"""
PARENTS = {"metadata": "instance-id: golden-1\nlocal-hostname: golden\n", "userdata": "#cloud-config\n{}\n"}
METADATA = "instance-id: web-01\nlocal-hostname: other\n"
USER_DATA = """#cloud-config
write_files:
- {path: /etc/motd, content: own}
runcmd:
- [sh, -c, 'hostname >/etc/issue']
"""


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def guest(**params: str) -> Guest:
    """Return a Debian that cloud-init has set up at its boot, and the config params of a child."""
    made = distributions.debian_networkd()
    made.packages = PACKAGES
    made.tools += ["vmware-rpctool", "systemd-detect-virt", "blkid", "sh"]
    made.files |= {f"/guestinfo/guestinfo.{key}": encoded(text) for key, text in PARENTS.items()}
    made.files |= {f"/guestinfo/guestinfo.{key}.encoding": "base64" for key in PARENTS}
    for file in (path for path in (PACKAGES / "etc/cloud").rglob("*") if path.is_file()):
        made.files[f"/{file.relative_to(PACKAGES)}"] = file.read_text()
    made.files |= {
        "/etc/cloud/cloud.cfg.d/05_modules.cfg": MODULES,
        "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nsystemd-network:x:0:0::/:/bin/false\n",
        "/etc/group": "root:x:0:\nadm:x:4:\nsystemd-network:x:0:\n",
        "/etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "/var/lib/cloud/data/instance-id": "golden-1\n",
        "/var/log": "/",
        "/tools/cloud-init": "-> /usr/bin/cloud-init",
        "/sys/class/dmi/id/product_name": "VMware Virtual Platform\n",
    }
    made.params = {**STATIC, **{key.replace("__", "."): value for key, value in params.items()}}
    return made


def renewed(root: pathlib.Path, made: Guest, items: str = "auto,cloud_init", network: str = "auto") -> Outcome:
    """Return a child of a parent whose items are as expected, apart from cloud_init."""
    outcome = run(root, made, items=items, network=network)
    assert outcome.stderr == "", outcome.stderr
    others = {item: status for item, status in outcome.items.items() if item != "cloud_init"}
    absent = {"agents"} if network == "auto" else {"agents", "network", "announce"}
    assert others == {item: "absent" if item in absent else "ok" for item in others}, outcome.reasons
    return outcome


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "root"


def instance(outcome: Outcome) -> str:
    return outcome.read("/var/lib/cloud/data/instance-id").strip()


def test_child_is_a_new_instance(root: pathlib.Path) -> None:
    """The parent was set up by cloud-init at its boot, with data in base64. The child's are plain."""
    made = guest(metadata=METADATA, userdata=USER_DATA)
    del made.files["/var/lib/cloud/data/instance-id"]
    made.before += BOOT
    made.between = (
        "cp /run/cloud-init/result.json /out/parent-result; cp /var/lib/cloud/data/instance-id /out/parent-id"
    )
    outcome = renewed(root, made)
    assert outcome.read("/out/parent-id") == "golden-1\n"
    assert json.loads(outcome.read("/out/parent-result"))["v1"] == {"datasource": "DataSourceVMware", "errors": []}
    assert (outcome.items["cloud_init"], outcome.reasons.get("cloud_init")) == ("ok", None)
    assert instance(outcome) == "web-01"
    assert (outcome.read("/etc/motd"), outcome.read("/etc/issue")) == ("own", "web-01\n")
    # What the other items have renewed stays.
    assert outcome.read("/etc/hostname") == "web-01\n"
    assert outcome.addresses("ens192") == ["192.0.2.11/24", "2001:db8::11/64"]
    assert outcome.keys == [" ".join(outcome.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])]
    parents = outcome.read("/out/parent-etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    assert parents not in outcome.keys[0]


RECORD_CALLS = """mv /tools/{0} /tools/real-{0}
printf '%s\\n' '#!/bin/sh' 'echo "$0 $*" >>/out/calls' 'exec /tools/real-{0} "$@"' >/tools/{0}
/usr/bin/chmod 0755 /tools/{0}
"""


@pytest.mark.parametrize("command", ["true", "false"])
def test_data_are_on_no_command_line_and_not_inherited(root: pathlib.Path, command: str) -> None:
    """They may be secret_config_params. Each user of a guest sees the arguments of all processes."""
    user_data = f"#cloud-config\nruncmd: [[sh, -c, 'S3cret=1; env >/out/env; {command}']]"
    made = guest(metadata=METADATA, userdata=user_data)
    made.between = "".join(RECORD_CALLS.format(name) for name in ("vmtoolsd", "vmware-rpctool", "cloud-init"))
    outcome = renewed(root, made)
    assert outcome.items["cloud_init"] == ("ok" if command == "true" else "failed")
    calls = outcome.read("/out/calls")
    assert "/tools/vmtoolsd --cmd info-get guestinfo.fork.userdata\n" in calls
    assert "/tools/cloud-init init --local\n" in calls
    assert "S3cret" not in calls
    assert "S3cret" not in outcome.read("/out/env")
    keys = [path for path in (root / "guestinfo").iterdir() if not path.name.startswith("guestinfo.fork.")]
    assert [path.name for path in keys if "S3cret" in path.read_text()] == []


def test_process_that_the_user_data_start_is_not_awaited(root: pathlib.Path) -> None:
    """It has the output of cloud-init, which is a pipe: Debian's configuration has `output: {all: '| tee ...'}`."""
    made = guest(metadata=METADATA, userdata="#cloud-config\nruncmd: [[sh, -c, 'sleep 600 & echo $! >/out/server']]\n")
    made.after = 'kill "$(cat /out/server)" && echo ran >/out/ran'
    outcome = renewed(root, made)
    assert (outcome.items["cloud_init"], outcome.read("/out/ran")) == ("ok", "ran\n"), outcome.reasons


PARENTS_COMMAND = "#cloud-config\nruncmd: [[sh, -c, 'echo ran >>/out/parents-command']]\n"


@pytest.mark.parametrize(
    ("key", "encoding"),
    [
        ("guestinfo.fork.metadata", "base64"),
        ("guestinfo.metadata", ""),
        ("guestinfo.metadata", "base64"),
        ("guestinfo.metadata", "gzip+base64"),
        ("", "base64"),
    ],
)
def test_user_data_of_the_parent_do_not_run_again(root: pathlib.Path, key: str, encoding: str) -> None:
    made = guest()
    made.tools.append("gzip")
    del made.files["/var/lib/cloud/data/instance-id"]
    packed = gzip.compress(PARENTS_COMMAND.encode()) if encoding.startswith("gzip") else PARENTS_COMMAND.encode()
    data = base64.b64encode(packed).decode() if encoding else PARENTS_COMMAND
    made.files |= {"/guestinfo/guestinfo.userdata": data, "/guestinfo/guestinfo.userdata.encoding": encoding}
    made.before += BOOT
    if key:
        made.between = f"printf 'instance-id: web-01' >/guestinfo/{key}; rm -f /guestinfo/guestinfo.metadata.encoding"
    else:
        made.between = "rm /guestinfo/guestinfo.metadata"
    outcome = renewed(root, made)
    assert outcome.items["cloud_init"] == ("ok" if key else "failed"), outcome.reasons
    assert outcome.read("/out/parents-command") == "ran\n"


def test_settings_of_the_parent_do_not_count_beside_metadata(root: pathlib.Path) -> None:
    """Although its cloud-init does not know them: they were removed, or it has never run."""
    made = guest(metadata=METADATA)
    made.files["/guestinfo/guestinfo.userdata"] = encoded(PARENTS_COMMAND)
    outcome = renewed(root, made)
    assert (outcome.items["cloud_init"], outcome.exists("/out/parents-command")) == ("ok", False), outcome.reasons


def test_scripts_for_cloud_init_clean_do_not_run(root: pathlib.Path) -> None:
    """That of Ubuntu's installer removes the configuration of the network."""
    made = guest(metadata=METADATA)
    made.files["/etc/cloud/clean.d/99-installer"] = "#!/bin/sh\nrm /etc/cloud/cloud-init.disabled\n"
    made.files["/etc/cloud/cloud-init.disabled"] = ""
    made.before += "chmod 0755 /etc/cloud/clean.d/99-installer\n"
    outcome = renewed(root, made)
    assert outcome.items["cloud_init"] == "ok", outcome.reasons
    assert outcome.exists("/etc/cloud/cloud-init.disabled")


@pytest.mark.parametrize("name", ["99_own", "zzz-own"])
def test_configuration_of_the_parent_does_not_override_the_scripts(root: pathlib.Path, name: str) -> None:
    made = guest(metadata=METADATA)
    made.files[f"/etc/cloud/cloud.cfg.d/{name}.cfg"] = "preserve_hostname: false\n"
    outcome = renewed(root, made)
    assert (outcome.items["cloud_init"], outcome.read("/out/hostname")) == ("ok", "web-01\n"), outcome.reasons


@pytest.mark.parametrize("encoding", ["base64", "gzip+base64"])
def test_encodings_are_cloud_inits(root: pathlib.Path, encoding: str) -> None:
    packed = gzip.compress(USER_DATA.encode()) if encoding.startswith("gzip") else USER_DATA.encode()
    data = {"userdata": base64.b64encode(packed).decode(), "userdata__encoding": encoding}
    outcome = renewed(root, guest(metadata=encoded(METADATA), metadata__encoding="b64", **data))
    assert outcome.items["cloud_init"] == "ok", outcome.reasons
    assert (instance(outcome), outcome.read("/etc/motd")) == ("web-01", "own")


def test_keys_of_instant_clone_are_used_as_they_are(root: pathlib.Path) -> None:
    made = guest()
    made.between = (
        "printf 'instance-id: web-02' >/guestinfo/guestinfo.metadata; rm /guestinfo/*.encoding\n"
        f"printf '%s' '{encoded(USER_DATA)}' >/guestinfo/guestinfo.userdata\n"
        "printf base64 >/guestinfo/guestinfo.userdata.encoding\n"
    )
    outcome = renewed(root, made)
    assert (outcome.items["cloud_init"], instance(outcome)) == ("ok", "web-02"), outcome.reasons
    assert outcome.read("/etc/motd") == "own"


def without_network(address: str) -> Guest:
    """Return a guest whose network is set up by cloud-init alone."""
    network = f"network: {{version: 2, ethernets: {{ens192: {{addresses: [{address}]}}}}}}\n"
    made = guest(metadata=METADATA + network)
    for name in ("ipaddress", "gateway", "dns", "search", "routes"):
        del made.params[name]
    return made


def test_cloud_init_sets_up_the_network_if_the_script_does_not(root: pathlib.Path) -> None:
    outcome = renewed(root, without_network("198.51.100.7/24"), network="none")
    assert outcome.items["cloud_init"] == "ok", outcome.reasons
    assert outcome.addresses("ens192") == ["198.51.100.7/24"]


def test_adapter_without_a_cable_is_not_awaited(root: pathlib.Path) -> None:
    made = without_network("198.51.100.7/24")
    made.cables = [False]
    outcome = renewed(root, made, network="none")
    assert outcome.items["cloud_init"] == "ok", outcome.reasons


@pytest.mark.parametrize(
    ("address", "params", "reason"),
    [
        ("198.51.100.16/24", {}, "ens192 has the parent's address 198.51.100.16; "),
        ("198.51.100.7/24", {"ipaddress": "198.51.100.8/24"}, "ens192 does not have the address 198.51.100.8/24"),
        ("198.51.100.7/24", {"dns": "192.0.2.53"}, "the config param dns (without ipaddress) is not valid"),
    ],
)
def test_network_of_cloud_init_is_confirmed(
    root: pathlib.Path, address: str, params: dict[str, str], reason: str
) -> None:
    made = without_network(address)
    made.params |= params
    assert renewed(root, made, network="none").reasons["cloud_init"].startswith(reason)


def test_data_are_read_once(root: pathlib.Path) -> None:
    """What a guest has set with VMware Tools is lost when it is powered off. Then the parent's data are there again."""
    made = guest(metadata=METADATA)
    made.renewals = 2
    made.after = "printf 'instance-id: golden-1' >/guestinfo/guestinfo.metadata\n" + BOOT
    outcome = renewed(root, made)
    assert (outcome.items["cloud_init"], instance(outcome)) == ("ok", "web-01"), outcome.reasons
    assert "failed: " not in outcome.read("/out/boot")


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({}, "the instance-id is the parent's; set one in metadata"),
        ({"metadata": "instance-id: golden-1\n"}, "the instance-id is the parent's; set one in metadata"),
        (
            {"metadata": METADATA, "userdata": "#cloud-config\nruncmd: [[sh, -c, 'echo S3cret; exit 1']]\n"},
            "cloud-init modules --mode=final failed, see /var/log/cloud-init.log",
        ),
    ],
    ids=["no data", "the parent's id", "a command fails"],
)
def test_instance_that_is_not_new_is_an_error(root: pathlib.Path, params: dict[str, str], reason: str) -> None:
    outcome = renewed(root, guest(**params))
    assert (outcome.items["cloud_init"], outcome.reasons["cloud_init"]) == ("failed", reason)
    assert (outcome.codes, "S3cret" in outcome.stdout) == ([0, 90], False)


def test_no_data_at_all_is_an_error(root: pathlib.Path) -> None:
    made = guest()
    for path in [path for path in made.files if path.startswith("/guestinfo/")]:
        del made.files[path]
    made.files["/run/cloud-init/cloud.cfg"] = "datasource_list: [ None ]\n"
    outcome = renewed(root, made)
    assert outcome.reasons["cloud_init"] == "cloud-init found no data; set metadata"


def test_guest_without_cloud_init(root: pathlib.Path) -> None:
    made = guest()
    del made.files["/tools/cloud-init"]
    outcome = renewed(root, made)
    assert (outcome.items["cloud_init"], outcome.reasons["cloud_init"]) == ("absent", "no cloud-init")


def test_cloud_init_is_left_alone_unless_it_is_named(root: pathlib.Path) -> None:
    outcome = renewed(root, guest(metadata=METADATA, userdata=USER_DATA), items="auto")
    assert "cloud_init" not in outcome.items
    assert (instance(outcome), outcome.exists("/etc/cloud/cloud.cfg.d/zzzz-vmfork.cfg")) == ("golden-1", False)
