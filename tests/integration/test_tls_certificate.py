# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates as tls_certificate keeps them, judged by openssl and by clients of real servers."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import psycopg
import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret

from ansible_collections.pooled.postgres.plugins.action import tls_certificate
from ansible_collections.pooled.postgres.plugins.action.tls_certificate import ActionModule

from .certificates import Authority
from .clusters import server_user
from .poolers import PASSWORD
from .test_pgbouncer_tls import ask, serial, served

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
USER = server_user()
OWNER = USER.pw_name if USER else pwd.getpwuid(os.geteuid()).pw_name
PEM_END = "-----END CERTIFICATE-----\n"
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - pooled.postgres.tls_certificate: "{{ asked }}"
"""


@dataclass
class Controller:
    """A directory with an inventory, as people have it; its hosts are directories beside it."""

    home: Path
    run_module: Callable[..., dict[str, Any]]
    hosts: Path

    @property
    def authorities(self) -> Path:
        return self.home / ".pooled_tls"

    def base(self, host: str) -> Path:
        return self.hosts / host

    def file(self, name: str, host: str = "db1") -> Path:
        return self.base(host) / "postgres" / name

    def asked(self, host: str, more: dict[str, Any]) -> dict[str, Any]:
        return {
            "service": "postgres",
            "owner": OWNER,
            "known_as": [host],
            "authority_directory": str(self.authorities),
            "directory": str(self.base(host)),
            **more,
        }

    def keep(
        self, check: bool = False, password: str | None = None, host: str = "db1", **asked: Any
    ) -> dict[str, Any]:
        """Run the action in this process, and its module as Ansible would."""
        loader = DataLoader()
        loader.set_vault_secrets([("default", VaultSecret(password.encode()))] if password else [])
        task = SimpleNamespace(
            action="tls_certificate", args=self.asked(host, asked), async_val=0, check_mode=check
        )
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=""))
        action = ActionModule(task, connection, None, loader, None, None)
        words: list[str] = []
        action._display = SimpleNamespace(warning=words.append)

        def execute(module_name: str, module_args: dict[str, Any], task_vars: Any) -> Any:
            return self.run_module(module_name.rpartition(".")[2], module_args)

        action._execute_module = execute
        return {**action.run(task_vars={}), "words": words}

    def predicted_and_kept(self, **asked: Any) -> dict[str, Any]:
        """What check mode says and the run then does; after that there is nothing to do."""
        before = files_of(self.home)
        predicted = self.keep(check=True, **asked)
        assert files_of(self.home) == before
        kept = self.keep(**asked)
        for key in ("changed", "actions", "files", "names", "diff"):
            assert predicted[key] == kept[key], key
        again = self.keep(**asked)
        assert (again["changed"], again["actions"], again["files"]) == (False, [], [])
        return kept

    def refusal(self, password: str | None = None, **asked: Any) -> str:
        """What a run says that fails, which must change nothing."""
        before = files_of(self.home)
        with pytest.raises(AnsibleError) as refused:
            self.keep(password=password, **asked)
        assert files_of(self.home) == before
        return str(refused.value)

    def play(
        self, *arguments: str, hosts: tuple[str, ...] = ("db1",), **asked: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook with the action for all hosts at once."""
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
        }
        inventory = {host: {"asked": self.asked(host, asked)} for host in hosts}
        # Beside the authorities, in a directory that is read as inventory as a whole.
        (self.home / "hosts.json").write_text(
            json.dumps({"all": {"hosts": inventory, "vars": variables}})
        )
        playbook = self.home.parent / "play.yml"
        playbook.write_text(PLAY)
        return subprocess.run(
            [PROGRAMS / "ansible-playbook", "-i", self.home, playbook, *arguments],
            env={
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
                "ANSIBLE_HOME": str(ROOT / ".ansible" / "home"),
                "COLUMNS": "1000",
                "LC_ALL": "C.UTF-8",
                "PATH": os.environ["PATH"],
            },
            cwd=self.home.parent, check=False, capture_output=True, text=True,
        )  # fmt: skip


def files_of(home: Path) -> dict[str, tuple[bytes, int]]:
    """Everything below a directory."""
    return {
        str(path): (b"" if path.is_dir() else path.read_bytes(), path.lstat().st_mode)
        for path in sorted(home.rglob("*"))
    }


def openssl(*arguments: Any, fails: bool = False) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)],
        stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def verify(certificate: Path, authority: Path, name: str, fails: bool = False) -> str:
    """See whether a strict client would take a certificate for a server of that name."""
    what = "-verify_ip" if re.match(r"[0-9.]+$|.*:", name) else "-verify_hostname"
    return openssl("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", authority, what,
                   name, certificate, fails=fails)  # fmt: skip


def public_key(certificate: Path) -> str:
    return openssl("x509", "-in", certificate, "-noout", "-pubkey")


@pytest.fixture
def controller(tmp_path: Path, run_module: Callable[..., dict[str, Any]]) -> Controller:
    made = Controller(tmp_path / "inventory", run_module, tmp_path / "hosts")
    for path in (made.home, made.hosts):
        path.mkdir()
    return made


@pytest.fixture
def own(tmp_path: Path) -> Authority:
    """An authority of the user's, made with openssl."""
    made = Authority(tmp_path / "own")
    made.openssl("req", "-x509", "-key", "ca.key", "-days", "400", "-subj", "/CN=test",
                 "-addext", "keyUsage=critical,keyCertSign", "-out", "ca.crt")  # fmt: skip
    return made


def test_hosts_get_certificates_of_one_authority_that_strict_clients_take(controller):
    hosts = ("db1", "db2", "pool1")
    names = ["db.internal", "192.0.2.7", "2001:db8::7"]
    first = controller.play(hosts=hosts, names=names)
    assert (first.returncode, first.stdout.count("changed=1 ")) == (0, 3), first
    authority = controller.authorities / "clients.crt"
    for host in hosts:
        for name in (host, "db.internal", "192.0.2.7", "2001:db8::7"):
            verify(controller.file("server.crt", host), authority, name)
            verify(controller.file("server.crt", host), controller.file("ca.crt", host), name)
    verify(controller.file("server.crt", "db1"), authority, "db2", fails=True)
    # Each has a key of its own, and the names of none but itself.
    assert len({public_key(controller.file("server.crt", host)) for host in hosts}) == 3
    text = openssl("x509", "-in", controller.file("server.crt"), "-noout", "-text")
    assert "CA:FALSE" in text
    assert "TLS Web Server Authentication\n" in text
    assert "CA:TRUE, pathlen:0" in openssl("x509", "-in", authority, "-noout", "-text")
    # It was said once whose key this is and what to do with it.
    assert first.stderr.count("Encrypt it now (ansible-vault encrypt") == 1
    again = controller.play(hosts=hosts, names=names)
    assert again.stdout.count("changed=0 ") == 3
    # The directory that they are in is read as inventory, and they are not.
    assert "Encrypt it" not in again.stderr
    assert ".pooled_tls" not in again.stderr


def test_keys_stay_where_they_are_used_and_are_their_owners_alone(controller):
    done = controller.play("-vvvv", "--diff")
    assert done.returncode == 0, done
    key, authority = controller.file("server.key"), controller.authorities / "clients.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o400
    assert pwd.getpwuid(key.stat().st_uid).pw_name == OWNER
    assert stat.S_IMODE(authority.stat().st_mode) == 0o600
    assert stat.S_IMODE(controller.authorities.stat().st_mode) == 0o700
    for path in (controller.base("db1"), controller.base("db1") / "postgres"):
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (os.geteuid(), 0o755)
    for secret in (key, authority):
        line = secret.read_text().splitlines()[1]
        assert line not in done.stdout + done.stderr
    hosts = [path for path in controller.base("db1").rglob("*") if path.is_file()]
    assert sorted(path.name for path in hosts) == ["ca.crt", "server.crt", "server.key"]
    body = authority.read_text().splitlines()[1].encode()
    assert not [path for path in hosts if body in path.read_bytes()]


def test_check_mode_foretells_a_bare_host_and_writes_nothing(controller):
    kept = controller.predicted_and_kept()
    assert kept["actions"] == [
        "certificate of postgres for db1: there is none",
        "write server.key of postgres",
        "write ca.crt of postgres",
    ]


def test_an_idle_run_that_knows_the_host_does_not_reach_it(controller, run_module):
    controller.keep()
    arguments = {"service": "postgres", "owner": OWNER, "directory": str(controller.base("db1"))}
    seen = run_module("tls_certificate_files", arguments)["files"]
    away = ("-e", "ansible_connection=ssh", "-e", "ansible_host=192.0.2.1", "-e",
            "ansible_ssh_common_args='-o ConnectTimeout=1'")  # fmt: skip
    done = controller.play(*away, seen=seen)
    assert re.search(r"ok=1 +changed=0 +unreachable=0 +failed=0", done.stdout), done.stdout
    done = controller.play(*away, seen={})
    assert re.search(r"unreachable=1|failed=1", done.stdout), done.stdout


def test_another_name_gives_another_certificate_for_the_same_key(controller):
    controller.keep(names=["old.internal"])
    before = public_key(controller.file("server.crt"))
    kept = controller.predicted_and_kept(names=["new.internal"])
    assert kept["actions"] == [
        "certificate of postgres for db1, new.internal: it lacks new.internal; it also has"
        " old.internal"
    ]
    verify(controller.file("server.crt"), controller.file("ca.crt"), "new.internal")
    verify(controller.file("server.crt"), controller.file("ca.crt"), "old.internal", fails=True)
    assert public_key(controller.file("server.crt")) == before


def test_it_is_made_anew_well_before_its_end(controller):
    controller.keep(days=40)
    first = serial(controller.file("server.crt").read_text())
    assert controller.keep(days=365)["changed"] is False
    kept = controller.predicted_and_kept(days=365, renew_days=41)
    assert kept["actions"] == ["certificate of postgres for db1: it expires in 40 days"]
    assert serial(controller.file("server.crt").read_text()) != first
    openssl("x509", "-in", controller.file("server.crt"), "-noout", "-checkend", 364 * 86400)


def test_a_certificate_that_ends_with_its_authority_is_not_made_anew_each_time(controller):
    controller.keep(authority_days=20)
    (warning,) = controller.keep(state="checked")["words"]
    assert warning.startswith(
        "The authority clients expires in 20 days, and no certificate outlives"
    )
    assert controller.keep()["changed"] is False
    openssl("x509", "-in", controller.file("server.crt"), "-noout", "-checkend", 21 * 86400,
            fails=True)  # fmt: skip


@pytest.mark.parametrize(
    "how", ["key lost", "key of another", "key is garbage", "not PEM", "not a version"]
)
def test_files_that_somebody_broke_are_made_anew(controller, own, how):
    controller.keep()
    key, certificate = controller.file("server.key"), controller.file("server.crt")
    if how == "key lost":
        key.unlink()
    elif how == "key of another":
        own.issue("other")
        key.write_bytes((own.directory / "other.key").read_bytes())
    elif how == "key is garbage":
        key.write_text("hello\n")
    elif how == "not a version":
        held = ssl.PEM_cert_to_DER_cert(certificate.read_text().partition("-----END")[0] + PEM_END)
        broken = held.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1)
        certificate.write_text(ssl.DER_cert_to_PEM_cert(broken))
    else:
        certificate.write_text("hello\n")
    assert controller.predicted_and_kept()["changed"] is True
    verify(certificate, controller.file("ca.crt"), "db1")
    assert public_key(certificate) == openssl("pkey", "-in", key, "-pubout")
    assert stat.S_IMODE(key.stat().st_mode) == 0o400
    assert sorted(path.name for path in certificate.parent.iterdir()) == [
        "ca.crt", "server.crt", "server.key",
    ]  # fmt: skip


def test_a_key_that_others_could_read_is_its_owners_alone_again(controller):
    controller.keep()
    controller.file("server.key").chmod(0o644)
    before = controller.file("server.crt").read_bytes()
    kept = controller.predicted_and_kept()
    assert kept["actions"] == ["write server.key of postgres"]
    assert stat.S_IMODE(controller.file("server.key").stat().st_mode) == 0o400
    assert controller.file("server.crt").read_bytes() == before


@pytest.mark.parametrize("how", ["link", "writable", "shared", "others"])
@pytest.mark.parametrize("where", [".", "postgres"])
def test_a_directory_that_others_decide_about_gets_no_key(controller, tmp_path, how, where):
    controller.keep(host="db2")
    directory = controller.base("db1") / where
    directory.parent.mkdir(exist_ok=True)
    if how == "link":
        directory.symlink_to(tmp_path)
    else:
        directory.mkdir()
        directory.chmod({"writable": 0o777, "shared": 0o1777, "others": 0o755}[how])
    if how == "others" and os.geteuid() == 0:
        os.chown(directory, 65534, 65534)
    elif how == "others":
        directory.chmod(0o775)
    text = controller.refusal()
    assert "is not a directory that belongs to root and that nobody else may write to" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="others trust directories that are not root's")
def test_a_directory_below_one_that_others_may_write_to_gets_no_key(controller):
    controller.keep(host="db2")
    controller.hosts.chmod(0o777)
    assert "is not a directory that belongs to root and" in controller.refusal()


def given(own: Authority, **more: str) -> dict[str, str]:
    return {
        "authority_cert": own.certificate,
        "authority_key": str(own.directory / "ca.key"),
        **more,
    }


def loose(own: Authority) -> dict[str, str]:
    """The same authority as openssl makes it without being told more."""
    own.openssl("req", "-x509", "-key", "ca.key", "-days", "400", "-subj", "/CN=test", "-out",
                "loose.crt")  # fmt: skip
    return given(own, authority_cert=str(own.directory / "loose.crt"))


def test_an_authority_of_your_own_signs_and_none_is_made(controller, own):
    controller.keep()
    for path in controller.authorities.iterdir():
        path.unlink()
    kept = controller.predicted_and_kept(**given(own))
    assert kept["actions"] == [
        "certificate of postgres for db1: another authority signed it",
        "write ca.crt of postgres",
    ]
    assert not list(controller.authorities.iterdir())
    verify(controller.file("server.crt"), Path(own.certificate), "db1")
    (warning,) = controller.keep(state="checked", **loose(own))["words"]
    assert "has no key usage in its certificate, so strict clients" in warning
    # The same as PEM is the same.
    contents = {name: Path(path).read_text() for name, path in given(own).items()}
    assert controller.keep(**contents)["changed"] is False


def test_an_authority_below_another_gives_its_chain(controller, own):
    (own.directory / "extensions").write_text(
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    own.openssl("req", *own.new_key("below"), "-subj", "/CN=below", "-out", "request")
    own.openssl("x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key", "-days",
                "20", "-CAcreateserial", "-extfile", "extensions", "-out", "below.crt")  # fmt: skip
    below = (own.directory / "below.crt").read_text()
    key = str(own.directory / "below.key")
    text = controller.refusal(authority_cert=below, authority_key=key)
    assert "authority_cert: the authority is below 'CN=test', whose certificate clients" in text
    chain = below + Path(own.certificate).read_text()
    controller.keep(authority_cert=chain, authority_key=key)
    # A client that has the root alone.
    openssl("verify", "-x509_strict", "-CAfile", own.certificate, "-untrusted",
            controller.file("server.crt"), controller.file("server.crt"))  # fmt: skip


def test_an_authority_that_may_not_sign_for_all_names(controller, own):
    own.openssl("req", "-x509", "-key", "ca.key", "-days", "400", "-subj", "/CN=test",
                "-addext", "keyUsage=critical,keyCertSign", "-addext",
                "nameConstraints=critical,permitted;DNS:example.com,permitted;IP:10.0.0.0/255.0.0.0,"
                "excluded;DNS:no.example.com", "-out", "ca.crt")  # fmt: skip
    names = ["db.example.com", "10.1.2.3"]
    known = ["db1", "192.0.2.7", "2001:db8::7", "x.no.example.com", "sexample.com"]
    kept = controller.predicted_and_kept(**given(own), known_as=known, names=names)
    assert kept["names"] == names
    for name in names:
        verify(controller.file("server.crt"), Path(own.certificate), name)
    for asked in ({"names": ["db1"]}, {"names": ["no.example.com"]}, {"known_as": known}):
        text = controller.refusal(state="checked", **given(own), **asked)
        assert "the authority's name constraints do not allow it" in text


def test_an_authority_is_renewed_with_an_overlap(controller):
    controller.keep()
    held = controller.authorities / "clients.crt"
    old = held.read_text()
    following = controller.home / ".following"
    controller.keep(state="authority", authority_directory=str(following))
    new = (following / "clients.crt").read_text()
    # Both are trusted, the old one still signs.
    held.write_text(old + new)
    kept = controller.predicted_and_kept()
    assert kept["actions"] == ["write ca.crt of postgres"]
    overlap = controller.home / ".overlap.crt"
    overlap.write_text(kept["authority"])
    # Then the new one signs; who has both, or the new one alone, takes it.
    held.write_text(new + old)
    (controller.authorities / "clients.key").write_text((following / "clients.key").read_text())
    kept = controller.predicted_and_kept()
    assert kept["actions"][0] == "certificate of postgres for db1: another authority signed it"
    for trusted in (overlap, following / "clients.crt"):
        verify(controller.file("server.crt"), trusted, "db1")


def test_no_second_authority_is_made_while_hosts_have_one(controller):
    controller.keep()
    controller.authorities.rename(controller.home / ".away")
    for state in ("checked", "present"):
        text = controller.refusal(state=state)
        assert "this host has a certificate of an authority that was made elsewhere" in text
    assert not controller.authorities.exists()


def test_an_authority_that_another_hosts_task_is_making_is_waited_for(controller, monkeypatch):
    half_made = threading.Event()

    def slowly(path: str, text: str, mode: int) -> None:
        write_new(path, text, mode)
        half_made.set()
        time.sleep(0.5)

    write_new = tls_certificate._write_new
    monkeypatch.setattr(tls_certificate, "_write_new", slowly)
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(controller.keep, state="authority")
        assert half_made.wait(20)
        read = controller.keep(state="authority")
        made = making.result()
    assert (made["changed"], read["changed"]) == (True, False)
    assert read["authority"] == made["authority"] != ""


def test_another_authority_than_a_host_has_had_is_warned_of(controller):
    controller.keep()
    assert controller.keep(state="checked")["words"] == []
    held = controller.authorities / "clients.crt"
    old = held.read_text()
    # What only a look at the first host could have kept from being made.
    controller.authorities.rename(controller.home / ".away")
    controller.keep(host="db2")
    (warning,) = controller.keep(state="checked")["words"]
    assert warning.startswith("postgres on this host has certificates of another authority clients")
    # With both in the file nobody is cut off.
    held.write_text(held.read_text() + old)
    assert controller.keep(state="checked")["words"] == []


def test_members_have_an_authority_of_their_own(controller):
    controller.keep()
    controller.keep(service="etcd", authority="members", purposes=["server", "client"])
    members = controller.authorities / "members.crt"
    certificate = controller.base("db1") / "etcd" / "server.crt"
    verify(certificate, members, "db1")
    verify(certificate, controller.authorities / "clients.crt", "db1", fails=True)
    openssl("verify", "-purpose", "sslclient", "-CAfile", members, certificate)


def test_only_the_authority_is_placed_where_no_certificate_is_wanted(controller):
    controller.predicted_and_kept(certificate=False)
    assert [path.name for path in controller.file("").iterdir()] == ["ca.crt"]


def test_the_authoritys_key_may_be_a_vault(controller, tmp_path):
    controller.keep()
    key = controller.authorities / "clients.key"
    plain = key.read_text()
    password = tmp_path / "password"
    password.write_text("right\n")
    given = ("--vault-password-file", str(password))
    subprocess.run([PROGRAMS / "ansible-vault", "encrypt", *given, key], check=True)
    vault = key.read_bytes()
    assert vault.startswith(b"$ANSIBLE_VAULT;")
    # Nothing is to be signed, so nobody needs the password.
    assert controller.keep()["changed"] is False
    for wrong in (None, "wrong"):
        for state in ("checked", "present"):
            text = controller.refusal(wrong, names=["new.internal"], state=state)
            assert text.startswith(
                f"authority_key: {key}: it is encrypted with ansible-vault, and the password for it"
                " was not given or is another one"
            )
    done = controller.play("-vvvv", *given, names=["new.internal"])
    assert "changed=1 " in done.stdout, done
    verify(controller.file("server.crt"), controller.file("ca.crt"), "new.internal")
    assert plain.splitlines()[1] not in done.stdout + done.stderr
    assert key.read_bytes() == vault


def bad_authorities(own: Authority) -> Iterator[tuple[dict[str, str], str]]:
    """What somebody gives, and what the run says."""
    key = str(own.directory / "ca.key")
    own.issue("leaf")
    yield (
        {"authority_cert": str(own.directory / "leaf.crt"),
         "authority_key": str(own.directory / "leaf.key")},
        r"authority_cert: \S+/leaf.crt: the first certificate is not that of an authority",
    )  # fmt: skip
    yield (
        given(own, authority_key=str(own.directory / "leaf.key")),
        r"authority_key: \S+/leaf.key: the key does not belong to the authority's first",
    )
    (own.directory / "extensions").write_text("basicConstraints=critical,CA:TRUE\n")
    own.openssl("req", "-new", "-key", "ca.key", "-subj", "/CN=test", "-out", "request")
    own.openssl("x509", "-req", "-in", "request", "-signkey", "ca.key", "-days", "-1", "-extfile",
                "extensions", "-out", "ended.crt")  # fmt: skip
    yield (
        given(own, authority_cert=str(own.directory / "ended.crt")),
        r"authority_cert: \S+/ended.crt: the authority expired on 20",
    )
    own.openssl("pkey", "-in", "ca.key", "-aes256", "-passout", "pass:x", "-out", "locked.key")
    yield (
        given(own, authority_key=str(own.directory / "locked.key")),
        r"authority_key: \S+/locked.key: the key has a password of its own; take that off",
    )
    yield (
        given(own, authority_key="-----BEGIN PRIVATE KEY-----\nhunter2\n"),
        r"authority_key: this is not a private key in PEM",
    )
    yield given(own, authority_key=f"{key}x"), r"authority_key: \S+x: it can't be read: No such"
    yield given(own, authority_key=""), r"authority_key: it is missing, and a certificate must"
    yield given(own, authority_cert=""), r"authority_cert: it is missing; the key alone signs"
    yield given(own, authority_cert="ca.pem"), r"authority_cert: it is neither PEM .* nor an absol"
    yield given(own, authority_cert=key), r"authority_cert: \S+/ca.key: there is no certificate in"


def test_bad_authorities_are_refused_before_anything_changes(controller, own):
    for asked, message in bad_authorities(own):
        for state in ("checked", "present"):
            text = controller.refusal(state=state, **asked)
            assert re.search(message, text), text
            assert "hunter2" not in text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"names": ["no name"]}, "names: 'no name' is neither a host name nor an address"),
        ({"names": ["300.1.1.1"]}, "names: '300.1.1.1' is neither a host name nor an address"),
        ({"known_as": ["a b"]}, "the inventory has no name for this host that a certificate can"),
        ({"renew_days": 365}, "renew_days: 365 is not allowed; it must be less than the 365"),
        ({"days": 0}, "days: 0 is not allowed"),
        ({"authority_days": 0}, "authority_days: 0 is not allowed; an authority lasts 1 to 36500"),
        ({"authority_days": 10**7}, "authority_days: 10000000 is not allowed"),
        ({"service": "../x"}, "service: '../x' is not a valid name"),
        ({"authority": "everybody"}, "value of authority must be one of: clients, members"),
        ({"authority_directory": "here"}, "'here' is not an absolute path"),
        ({"owner": None}, "owner: it is missing; without it only state=authority works"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(controller, asked, message):
    assert message in controller.refusal(**asked)


@pytest.fixture
def place(pooled_server: Any, run_module: Callable[..., dict[str, Any]]) -> Controller:
    """A controller whose hosts' directories the servers' OS user may enter."""
    home = Path(pooled_server.directory) / f"tls-{os.urandom(4).hex()}"
    (home / "hosts").mkdir(parents=True)
    return Controller(home, run_module, home / "hosts")


def tls_of(controller: Controller) -> dict[str, Any]:
    """The settings that the role has for a server."""
    return {
        "ssl": True,
        "ssl_cert_file": str(controller.file("server.crt")),
        "ssl_key_file": str(controller.file("server.key")),
    }


async def by_asyncpg(port: int, authority: Path, **more: Any) -> Any:
    tls = ssl.create_default_context(cafile=str(authority))
    tls.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 has it by default
    connection = await asyncpg.connect(
        host="localhost", port=port, user="app_user", password=PASSWORD, database="mydb",
        statement_cache_size=0, ssl=tls, **more,
    )  # fmt: skip
    try:
        return await connection.fetchval("SELECT 1")
    finally:
        await connection.close()


def by_psycopg(port: int, authority: Path, mode: str = "verify-full") -> Any:
    with psycopg.connect(
        host="localhost", hostaddr="127.0.0.1", port=port, user="app_user", password=PASSWORD,
        dbname="mydb", sslmode=mode, sslrootcert=str(authority), prepare_threshold=None,
    ) as connection:  # fmt: skip
        return connection.execute("SELECT 1").fetchone()[0]


def check_clients(port: int, controller: Controller, stranger: Authority) -> None:
    """See that both drivers verify the server by our authority, and by no other."""
    authority = controller.authorities / "clients.crt"
    assert asyncio.run(by_asyncpg(port, authority)) == 1
    assert by_psycopg(port, authority) == 1
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(by_asyncpg(port, Path(stranger.certificate)))
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        by_psycopg(port, Path(stranger.certificate))


def shown_by(port: int) -> str:
    """Serial number of the certificate that a server shows."""
    return serial(openssl("s_client", "-starttls", "postgres", "-connect", f"127.0.0.1:{port}"))


class Postgres:
    """The module for a server's settings, on a cluster of the test's own."""

    def __init__(self, cluster: Any, run_module: Callable[..., dict[str, Any]]) -> None:
        self.cluster = cluster
        self.run_module = run_module

    def configure(self, settings: dict[str, Any], check: bool = False, **more: Any) -> Any:
        result = self.run_module(
            "postgres_settings",
            {
                "settings": settings,
                "version": self.cluster.major,
                "config_directory": str(self.cluster.data),
                "binary_directory": str(self.cluster.bindir),
                "log_file": str(self.cluster.log_path),
                "login_os_user": self.cluster.os_user,
                **more,
            },
            check=check,
        )
        assert not result.get("failed"), result.get("msg")
        return result


@pytest.fixture
def postgres(pooled_server: Any, run_module: Callable[..., dict[str, Any]]) -> Iterator[Postgres]:
    server = pooled_server
    (server.data / "conf.d").mkdir(mode=0o700, exist_ok=True)
    if server.user:
        os.chown(server.data / "conf.d", server.user.pw_uid, server.user.pw_gid)
    conf = server.data / "postgresql.conf"
    if "\ninclude_dir = 'conf.d'" not in conf.read_text():
        conf.write_text(conf.read_text() + "include_dir = 'conf.d'\n")
    made = Postgres(server, run_module)
    yield made
    made.configure({})


def test_postgres_shows_the_certificate_and_each_that_comes_after_it(
    postgres, place, own, run_module
):
    pid = postgres.cluster.process.pid
    asked = {"known_as": ["localhost"]}
    predicted = place.keep(check=True, **asked)
    said = postgres.configure(tls_of(place), check=True, assume_files=predicted["files"])
    place.keep(**asked)
    done = postgres.configure(tls_of(place))
    assert (said["actions"], said["diff"]) == (done["actions"], done["diff"])
    assert postgres.configure(tls_of(place))["changed"] is False
    check_clients(postgres.cluster.port, place, own)
    first = shown_by(postgres.cluster.port)

    renewed = {**asked, "days": 300, "names": ["db.internal"]}
    predicted = place.keep(check=True, **renewed)
    said = postgres.configure(tls_of(place), check=True, assume_files=predicted["files"])
    place.keep(**renewed)
    assert shown_by(postgres.cluster.port) == first
    again = postgres.configure(tls_of(place), check=True)
    done = postgres.configure(tls_of(place))
    assert done["actions"] == ["reload"]
    assert [one["actions"] for one in (said, again)] == [["reload"], ["reload"]]
    assert [one["diff"] for one in (said, again)] == [done["diff"], done["diff"]]
    assert shown_by(postgres.cluster.port) == serial(place.file("server.crt").read_text()) != first
    assert postgres.configure(tls_of(place))["changed"] is False
    check_clients(postgres.cluster.port, place, own)
    assert postgres.cluster.process.pid == pid
    assert postgres.cluster.sql("SELECT 1")


def options_of(controller: Controller, mode: str = "require") -> dict[str, str]:
    """The options that the role has for a PgBouncer."""
    return {
        "client_tls_sslmode": mode,
        "client_tls_cert_file": str(controller.file("server.crt")),
        "client_tls_key_file": str(controller.file("server.key")),
    }


def test_pgbouncer_shows_the_certificate_and_each_that_comes_after_it(pooler, place, own):
    pooler.configure()
    pid = pooler.pid
    asked = {"known_as": ["localhost"]}
    for more in ({}, {"names": ["pool.internal"], "days": 300}):
        before = served(pooler) if more else ""
        predicted = place.keep(check=True, **asked, **more)
        said = pooler.configure(
            check=True, options=options_of(place), assume_files=predicted["files"]
        )
        assert not said.get("failed"), said["msg"]
        place.keep(**asked, **more)
        done = pooler.configure(options=options_of(place))
        assert not done.get("failed"), done["msg"]
        assert done["actions"] == [f"write {pooler.ini}", "RELOAD"]
        assert (said["actions"], said["diff"]) == (done["actions"], done["diff"])
        assert pooler.configure(options=options_of(place))["changed"] is False
        assert served(pooler) == serial(place.file("server.crt").read_text()) != before
        check_clients(pooler.port, place, own)
        with pytest.raises(psycopg.OperationalError, match="SSL required"):
            ask(pooler, sslmode="disable")
    assert pooler.pid == pid


def test_who_does_not_take_tls_is_let_in_until_it_is_required(pooler, place):
    place.keep(known_as=["localhost"])
    done = pooler.configure(options=options_of(place, "prefer"))
    assert not done.get("failed"), done["msg"]
    authority = str(place.authorities / "clients.crt")
    assert ask(pooler, sslmode="disable") == 1
    assert ask(pooler, sslmode="verify-full", sslrootcert=authority) == 1


def test_pgbouncer_verifies_postgres_by_the_same_authority(pooler, postgres, place, own):
    place.keep(known_as=["127.0.0.1"])
    postgres.configure(tls_of(place))
    pooler.cluster.sql("ALTER ROLE pgbouncer_auth PASSWORD 'bouncers-own'")
    authority = place.file("ca.crt")
    elsewhere = {
        "backend_host": "127.0.0.1",
        "auth_password": "bouncers-own",
        "options": {"server_tls_sslmode": "verify-full", "server_tls_ca_file": str(authority)},
    }
    pooler.predicted_and_done(**elsewhere)
    encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert ask(pooler, encrypted) is True
    pid = pooler.pid
    # It was signed for another name than the pooler uses.
    place.keep(known_as=["db1"])
    postgres.configure(tls_of(place))
    elsewhere["options"]["verbose"] = "1"
    result = pooler.configure(**elsewhere)
    assert re.search(r"would cut the pools off, because Postgres at 127\.0\.0\.1", result["msg"])
    assert pooler.pid == pid
