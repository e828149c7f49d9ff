# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test which properties are recognized as secrets, and which are not: one row a test."""

from __future__ import annotations

import base64
import gzip
import json
import time

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured, document, masking, sensitive
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import MASK, Mask


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


IGNITION = json.dumps({"ignition": {"version": "3.4.0"}, "passwd": {"users": [{"name": "core", "passwordHash": "x"}]}})
TALOS = "version: v1alpha1\nmachine:\n  type: worker\n  token: abcdef.0123456789abcdef\n  ca:\n    crt: LS0t\n"
URL_SAFE = base64.urlsafe_b64encode(b"password: \xc3\xbf\xc3\xbe\xc3\xbf hush?>").decode()
FILES = json.dumps({"storage": {"files": [{"path": "/etc/app", "contents": {"source": "data:,password%3Dhush"}}]}})

# What the vApp options say of a property: key, and any of type, label, category, description, value.
SECRET: dict[str, dict[str, str]] = {
    # Carriers in published appliances.
    "registration key": {"key": "otk", "label": "Unique Registration Key"},
    "one-time key, key alone": {"key": "otk"},
    "one-time key, label alone": {"key": "join", "label": "Unique Registration Key"},
    "ignition": {"key": "guestinfo.ignition.config.data", "value": b64(IGNITION)},
    "coreos config": {"key": "guestinfo.coreos.config.data"},
    "talos": {"key": "talos.config", "value": b64(TALOS)},
    "vCenter license": {"key": "guestinfo.cis.deployment.license"},
    "licenses of several products": {"key": "licenses", "value": "esx=1A2B3;vc=4C5D6"},
    "pre-shared key": {"key": "vpn_psk"},
    "pre-shared key, capitals": {"key": "tunnelPSK"},
    "one-time password": {"key": "otp"},
    "one-time password, in words": {"key": "mgmt.otp.value"},
    "PIN": {"key": "admin_pin"},
    "PIN as a number": {"key": "pin", "type": "int"},
    "PIN code": {"key": "simPinCode"},
    "auth code": {"key": "authcode"},
    "auth codes": {"key": "authcodes"},
    "auth code, in words": {"key": "vm-auth-code"},
    "auth key": {"key": "vm-auth-key"},
    "bearer": {"key": "Bearer"},
    "activation code": {"key": "activation_code"},
    "registration code": {"key": "regcode", "label": "Registration code"},
    "Azure connection string": {"key": "eventhub.connectionString"},
    "shared access signature": {"key": "sas"},
    "kubeconfig": {"key": "kubeconfig"},
    "vendor data": {"key": "vendor-data"},
    "keytab": {"key": "krb5.keytab"},
    "credentials": {"key": "cred"},
    "password of public keys": {"key": "public_key_password"},
    "private key": {"key": "tls.private_key"},
    "secret in a key vault": {"key": "keyvault_secret"},
    "password that may be bypassed": {"key": "bypass_password"},
    # The label, the description and the category count.
    "password by its label": {"key": "param_7", "label": "Root password"},
    "token by its label": {"key": "p1", "label": "API token"},
    "password by its description": {"key": "param_7", "description": "The password of the administrator. Required."},
    "shared key by its description": {"key": "join", "description": "Pre-shared key for joining the cluster"},
    "token by its description": {"key": "node.join", "description": "Token for joining the cluster."},
    "license by its description": {"key": "sn", "description": "The license key that was sent to you"},
    "passphrase by its description": {"key": "phrase", "description": "Passphrase for the backup archive"},
    "category of passwords": {"key": "root", "category": "Passwords"},
    "category of credentials": {"key": "admin", "category": "2. Credentials"},
    "category of secrets": {"key": "s1", "category": "Secrets"},
    "category of licenses": {"key": "base", "category": "License"},
    "type with qualifiers": {"key": "p", "type": "string(1..65535)", "label": "Admin password"},
    # The value counts.
    "login in a URL": {"key": "repo", "value": "https://bob:hush@repo.example.com/x"},
    "signature in a URL": {"key": "image", "value": "https://x.blob.example.net/i?sv=2024&sig=aGVsbG8lMkI%3D"},
    "signed URL of AWS": {"key": "image", "value": "https://s3.example.com/i?X-Amz-Signature=0123456789abcdef"},
    "token in a URL": {"key": "enroll", "value": "https://fleet.example.com/?token=0123"},
    "bearer in a header": {"key": "header", "value": "Authorization: Bearer 0123456789abcdef"},
    "basic in a header": {"key": "header", "value": "Basic Ym9iOmh1c2g="},
    "web token": {"key": "x", "value": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"},
    "license key": {"key": "product", "value": "1A2B3-4C5D6-7E8F9-0G1H2-3J4K5"},
    "name=license key": {"key": "product", "value": "vcenter=1A2B3-4C5D6-7E8F9-0G1H2-3J4K5"},
    "key of AWS": {"key": "account", "value": "AKIAIOSFODNN7EXAMPLE"},
    "token of GitHub": {"key": "account", "value": "ghp_0123456789abcdefghijABCDEFGHIJ012345"},
    "token of Kubernetes": {"key": "join", "value": "kubeadm join 192.0.2.1:6443 abcdef.0123456789abcdef"},
    "hash of a password": {"key": "shadow", "value": "$y$j9T$salt$hash"},
    "settings": {"key": "settings", "value": "host=a;api_token=hush"},
    "pairs": {"key": "settings", "value": '[{"name": "admin_password", "value": "hush"}]'},
    "pairs in YAML": {"key": "settings", "value": "- name: admin_password\n  value: hush"},
    "PIN in settings": {"key": "settings", "value": "user=a pin=1234"},
    # A name of a setting about a secret, and a value that is none.
    "policy that is a password": {"key": "password_policy", "value": "Str0ngPassw0rd"},
    "name that is a password": {"key": "secret_name", "value": "hunter2!Hunter2"},
    "name that is a token": {"key": "token_name", "value": "9f86d081884c7d659a2feaa0"},
    "length that is a password": {"key": "p1", "label": "Password length", "value": "S3cret-Pa55word"},
    "policy in JSON that is a password": {"key": "settings", "value": '{"password_policy": "Str0ngPassw0rd"}'},
    "policy in YAML that is a password": {"key": "settings", "value": "password_policy:\n  Str0ngPassw0rd"},
    "password of a setting": {"key": "password_policy_password"},
    "password to enable": {"key": "enable_password"},
    "name of a community": {"key": "snmp_community_name"},
    "ID of a secret": {"key": "vault_secret_id"},
    "host key": {"key": "ssh_host_key"},
    "file of a key": {"key": "key_file"},
    "prose about a login": {"key": "ldap_auth", "description": "The password of the LDAP account"},
    # Encoded values are decoded.
    "base64": {"key": "config", "value": b64('{"admin": {"password": "hush"}}')},
    "base64, folded": {"key": "config", "value": "\n".join(b64(TALOS)[at : at + 20] for at in range(0, 200, 20))},
    "base64 without padding": {"key": "config", "value": b64("x: 1\npassword: hush").rstrip("=")},
    "base64, URL-safe": {"key": "config", "value": URL_SAFE},
    "base64 of UTF-16": {"key": "config", "value": b64("password=hush".encode("utf-16-le"))},
    "base64 of base64": {"key": "config", "value": b64(b64("a: 1\ntoken: hush"))},
    "compressed": {"key": "config", "value": b64(gzip.compress(b"write_files:\n- content: 'password: hush'\n"))},
    "file in ignition": {"key": "config", "value": b64(FILES)},
    "JSON with escapes": {"key": "config", "value": '{"\\u0070assword": "hush"}'},
    "JSON in JSON": {"key": "config", "value": json.dumps({"a": json.dumps({"b": json.dumps({"api_token": "x"})})})},
    "base64 in JSON": {"key": "config", "value": json.dumps({"a": b64('{"client_secret": "hush"}')})},
    "percent-encoded": {"key": "config", "value": "data:,password%3Dhush"},
}  # fmt: skip

PLAIN: dict[str, dict[str, str]] = {
    # Words that contain another word.
    "hockey": {"key": "hockey"},
    "bypass": {"key": "bypass_proxy"},
    "credit": {"key": "credit"},
    "monkey": {"key": "monkey"},
    "turnkey": {"key": "turnkey.version"},
    "pass-through": {"key": "passthrough", "label": "PCI pass-through"},
    "passive": {"key": "ftp_passive"},
    "keyboard": {"key": "keyboardLayout"},
    "keycloak": {"key": "keycloak_url", "value": "https://sso.example.com/"},
    "keystone": {"key": "keystone.host"},
    "spin, pinned": {"key": "spin.pinned"},
    "option": {"key": "deployment.option"},
    "shopping": {"key": "shopping_cart"},
    # Settings about a secret.
    "lifetime of a token": {"key": "token_ttl", "type": "int"},
    "expiry of a password": {"key": "passwordExpiration"},
    "length of a key": {"key": "ssh_key_bits"},
    "address of a key vault": {"key": "keyvault_url", "value": "https://vault.example.com/"},
    "name of a key vault": {"key": "keyVaultName"},
    "address of a token service": {"key": "token_endpoint"},
    "shortest password": {"key": "password_min_length", "value": "8"},
    "shortest password, in prose": {
        "key": "password_min_length", "value": "8", "description": "Minimum length of the password"
    },
    "shortest password, in prose alone": {"key": "min_length", "description": "Minimum length of the password"},
    "length of a password, in one word": {"key": "rootpassword_length", "value": "12"},
    "longest password": {"key": "maxPasswordLength", "value": "64"},
    "shortest passphrase": {"key": "passphrase.minimum.length", "value": "20"},
    "length of a PIN": {"key": "pin_length", "value": "6"},
    "age of passwords": {"key": "passwords_max_age", "value": "90d"},
    "history of passwords": {"key": "password_history", "value": "5"},
    "complexity of passwords": {"key": "passwordComplexity", "value": "high"},
    "policy of passwords": {"key": "password_policy", "value": "min=8,upper=1,digits=1"},
    "expiry of a token": {"key": "token_expiry", "value": "2027-01-01T00:00:00Z"},
    "renewal of a token": {"key": "token_refresh_interval", "value": "720h30m"},
    "name of a secret": {"key": "secret_name", "value": "prod/db-Credentials-v2"},
    "name of a key": {"key": "sshKeyName", "value": "admin-2026"},
    "name of credentials": {"key": "credential_name", "value": "svc-backup@example.com"},
    "check of host keys": {"key": "host_key_checking", "value": "accept-new"},
    "check of host keys, as of ssh": {"key": "StrictHostKeyChecking", "value": "no"},
    "algorithms of keys": {"key": "host_key_algorithms", "value": "ssh-ed25519,ecdsa-sha2-nistp256"},
    "type of a key": {"key": "key_type", "value": "ecdsa-secp256r1"},
    "exchange of keys": {"key": "key_exchange_algorithms", "value": "curve25519-sha256"},
    "tokens in use": {"key": "tokens_enabled", "value": "true"},
    "one-time passwords in use": {"key": "totp_enabled", "value": "yes"},
    "required password": {"key": "password_required", "value": "true"},
    "required change of a password": {"key": "password_change_required", "value": "true"},
    "attempts with a password": {"key": "password_retries", "value": "3"},
    "mode of a pre-shared key": {"key": "psk_mode", "value": "main"},
    "settings of passwords in JSON": {"key": "settings", "value": '{"password_policy": "strict", "secret_name": "db"}'},
    "license server": {"key": "license_server"},
    "address of a license server": {"key": "licenseServerIp", "type": "ip"},
    "license agreement": {"key": "accept_license", "type": "boolean", "label": "Accept the license agreement"},
    "password login": {"key": "ssh_password_login", "type": "boolean"},
    "encoding of ignition": {"key": "guestinfo.ignition.config.data.encoding", "value": "base64"},
    "address of ignition": {"key": "guestinfo.ignition.config.url", "value": "https://example.com/worker.ign"},
    "encoding of user data": {"key": "guestinfo.userdata.encoding", "value": "gzip+base64"},
    # What is published.
    "public keys": {"key": "public-keys", "label": "ssh public keys"},
    "authorized keys": {"key": "ssh_authorized_keys"},
    "private network": {"key": "private_network"},
    "private address": {"key": "privateIp", "value": "192.0.2.7"},
    "community edition": {"key": "edition", "label": "Community Edition"},
    # Prose about something else.
    "host name": {"key": "hostname", "description": "Hostname. The password is set on first login."},
    "user name": {"key": "username", "description": "User name that belongs to the password below"},
    "user name among credentials": {"key": "username", "category": "Credentials"},
    "separated values": {"key": "ntp", "description": "NTP servers, pass several values separated by commas"},
    "any key": {"key": "motd", "description": "Text that is shown until a key is pressed"},
    "switch": {"key": "verbose", "type": "boolean", "description": "Log everything, including passwords"},
    "number": {"key": "retries", "type": "int(1..9)", "description": "How often a wrong password may be entered"},
    "address": {"key": "broker", "type": "ip", "description": "Where the access token is checked"},
    "instance": {"key": "instance-id", "description": "Specifies the instance id."},
    # Values.
    "address of a web page": {"key": "motd", "value": "https://192.0.2.1:5480/?a=b&code=DE"},
    "UUID": {"key": "instance-id", "value": "50211A2B-3C4D-5E6F-7A8B-9C0D1E2F3A4B"},
    "host name in capitals": {"key": "hostname", "value": "DC01-RACK-ESXI-0001"},
    "host name with dots": {"key": "fqdn", "value": "web001.subdomain2example.com"},
    "settings about a token": {"key": "settings", "value": '{"token_ttl": 3600, "bypass_proxy": true}'},
    "base64 of settings": {"key": "config", "value": b64("hostname: web-01\nntp: 192.0.2.1\n")},
    "ssh key": {"key": "admin", "value": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHSeKWRtXhZXb1SRZpj7Lb0KzGPlFv0 me@x"},
    "fingerprint": {"key": "thumbprint", "value": "AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01"},
    "hash of an image": {"key": "image", "value": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15"},
    "sentence": {"key": "motd", "value": "Ask the desk for the key, or for your password."},
}  # fmt: skip


def read(key: str, value: str = "x", label: str = "", category: str = "", description: str = "", type: str = "string",
         mask: Mask | None = None) -> configured.Property:  # fmt: skip
    """Return a property of the vApp options as it is read."""
    info = vim.vApp.PropertyInfo(
        key=0, id=key, type=type, value=value, label=label, category=category, description=description
    )
    (found,) = configured.read(vim.vApp.VmConfigInfo(property=[info]), mask=mask or Mask()).properties
    return found


def shown(given: dict[str, str], mask: Mask) -> set[str | None]:
    """Return the value everywhere that it is returned."""
    found = read(**given, mask=mask)
    known = mask.knowing([(found.key, found.secret)])
    value = given.get("value", "x")
    facts = configured.facts(configured.Configured(properties=(found,)), known)["properties"][0]
    delivered = document.facts(document.Document(properties={found.key: value}), "vm-1", known)
    return {facts["value"], facts["effective"], delivered["properties"][found.key]}


@pytest.mark.parametrize("given", SECRET.values(), ids=SECRET)
def test_secret(given: dict[str, str]) -> None:
    assert shown(given, Mask()) == {MASK}
    assert shown(given, Mask("password")) == {given.get("value", "x")}


@pytest.mark.parametrize("given", PLAIN.values(), ids=PLAIN)
def test_plain(given: dict[str, str]) -> None:
    assert shown(given, Mask()) == {given.get("value", "x")}


def test_other_value_of_a_property_whose_value_is_secret() -> None:
    """What was delivered earlier may look harmless, and is as secret."""
    found = read("config", value=b64("password: hush"))
    assert found.secret
    assert Mask().knowing([(found.key, found.secret)]).value("config", "older") == MASK


LONG = (
    "AAAA",
    "a=",
    "{",
    "[",
    "%41",
    "key ",
    "key.",
    "eyJ",
    "_-",
    "key:",
    "://",
    "a:",
    "Ab1",
    "key_type=",
    "key_name=Ab",
)


@pytest.mark.parametrize("value", [one * (65000 // len(one)) for one in LONG], ids=LONG)
def test_long_values_take_no_long_time(value: str) -> None:
    begin = time.process_time()
    sensitive.holds_secret(value)
    assert time.process_time() - begin < 5


def test_compressed_text_of_any_size() -> None:
    bomb = b64(gzip.compress(b"0" * 50_000_000))
    assert not sensitive.holds_secret(bomb)


def test_own_patterns_are_searched_in_the_key_as_it_is() -> None:
    mask = Mask(patterns=[r"^net\.hockey$"])
    assert mask.is_secret("net.hockey", "string")
    assert mask.value("net.hockey", "x", "string") == MASK


def test_values_in_other_texts() -> None:
    text = "Property 'x' has the value 'a b-c', and not 'ab' or '7', in 17 cabs"
    assert masking.without(text, ["a b-c", "ab", "7", "", None]) == (
        f"Property 'x' has the value '{MASK}', and not '{MASK}' or '{MASK}', in 17 cabs"
    )
