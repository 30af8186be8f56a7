# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks, TLS and roles of the model hold through PgBouncer: who gets in from where."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    hba,
    processes,
    service,
    trial,
)

from .certificates import Authority
from .poolers import PASSWORD, ROLE, SERVICE, Pooler
from .sources import coming_from

INSIDE, OUTSIDE, LOOPBACK, SOCKET = "127.0.0.2", "127.0.0.3", "127.0.0.1", ""
BATCH = {"name": "app_batch", "kind": "user", "pooled": False}
MODEL = [
    {
        "name": "mydb",
        "roles": [ROLE, BATCH],
        "aliases": [{"name": "mydb_session", "pool_mode": "session"}],
    },
    {"name": "other", "roles": [BATCH]},
]
RULES = {"databases": MODEL, "client_networks": [f"{INSIDE}/32"]}
# Words that mean something in the file, and names that have to be quoted there.
ODD_NAMES = (
    "all", "sameuser", "samerole", "samegroup", "replication", "reject", "+group", "@file",
    "/regular", "a,b", "#comment", 'with "quotes"', "two  blanks", "'single'", "back\\slash", "=",
    "ünï", "Capital", "b" * 63,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _roles(pooled_server: Any) -> None:
    for name in ("app_batch", "outsider", *ODD_NAMES):
        quoted = name.replace('"', '""')
        pooled_server.sql(f"CREATE ROLE \"{quoted}\" LOGIN PASSWORD '{PASSWORD}'")
    pooled_server.sql(f"ALTER ROLE pgbouncer_auth PASSWORD '{PASSWORD}'")
    pooled_server.sql("CREATE DATABASE other TEMPLATE mydb")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture
def login(pooler: Pooler) -> Iterator[Any]:
    """Log in from an address; says whether that went well, or what PgBouncer says."""
    with ExitStack() as stack:
        ports: dict[str, int] = {}

        def attempt(
            source: str = INSIDE, user: str = "app_user", dbname: str = "mydb", **more: Any
        ) -> str:
            if source and source not in ports:
                ports[source] = stack.enter_context(coming_from(source, pooler.port))
            where = {"host": LOOPBACK, "port": ports[source]} if source else {
                "host": str(pooler.home / "run"), "port": pooler.port,
            }  # fmt: skip
            asked: dict[str, Any] = {
                "user": user, "dbname": dbname, "password": PASSWORD, "sslmode": "disable",
                "connect_timeout": 10, **more,
            }  # fmt: skip
            try:
                with psycopg.connect(**where, **asked, prepare_threshold=None) as connection:
                    row = connection.execute("SELECT current_user").fetchone()
                    return "in" if row == (user,) else str(row)
            except psycopg.Error as error:
                return str(error).strip()

        yield attempt


def configure(pooler: Pooler, **wanted: Any) -> None:
    """A run that goes well."""
    done = pooler.configure(**wanted)
    assert not done.get("failed"), done["msg"]


def rules_file(pooler: Pooler) -> Path:
    return pooler.home / "etc" / "pooled_hba.conf"


def tls(pooler: Pooler, authority: Authority, mode: str) -> dict[str, str]:
    authority.issue("server")
    certificate, key = authority.hand_over(
        "server", pooler.home / "etc" / "server", pooler.cluster.user
    )
    return {
        "client_tls_sslmode": mode,
        "client_tls_cert_file": certificate,
        "client_tls_key_file": key,
    }


def is_refused(answer: str) -> bool:
    """Whether PgBouncer sent somebody away by its rules, before it asked for a password."""
    return "login rejected" in answer or "no authentication method" in answer


def is_kept_out(answer: str) -> bool:
    """The same, or whether PgBouncer knows no such user, or does not ask Postgres for one.

    To log in to its console, it asks Postgres for nobody: 1.18 then lets clients wait.
    """
    words = ("not allowed", "no such user", "bouncer config error", "timeout expired")
    return is_refused(answer) or any(word in answer for word in words)


def test_networks_hold_through_the_pool_and_can_be_lifted_again(pooler, login):
    configure(pooler, databases=MODEL[:1])
    # With a role that is kept out, there are rules, and no networks.
    for source in (INSIDE, OUTSIDE, LOOPBACK, SOCKET):
        assert login(source) == "in", source
    before = pooler.pid
    assert pooler.predicted_and_done(**RULES) == ["RELOAD"]
    assert pooler.pid == before
    assert pooler.shows("auth_type") == "hba"
    stat = rules_file(pooler).stat()
    assert (stat.st_mode & 0o7777, stat.st_uid) == (0o640, pooler.ini.stat().st_uid)
    for source in (INSIDE, LOOPBACK, SOCKET):
        assert login(source) == "in", source
        assert login(source, dbname="mydb_session") == "in", source
        assert "SASL authentication failed" in login(source, password="wrong"), source
        # In no database but the role's own, and nobody but the roles of the model.
        for user, dbname in (
            ("app_user", "other"),
            ("app_user", "nowhere"),
            ("app_batch", "mydb"),
            ("app_batch", "mydb_session"),
            ("app_batch", "other"),
            ("outsider", "mydb"),
            ("pgbouncer_auth", "mydb"),
            ("pgbouncer_auth", "pgbouncer"),
            ("pgbouncer", "pgbouncer"),
            ("nobody", "mydb"),
        ):
            answer = login(source, user=user, dbname=dbname)
            assert is_kept_out(answer), (source, user, dbname, answer)
    assert is_kept_out(login(dbname="pgbouncer", connect_timeout=2))
    for dbname in ("mydb", "mydb_session"):
        assert is_refused(login(OUTSIDE, dbname=dbname))
    unrestricted = [{"name": "mydb", "roles": [ROLE]}]
    assert pooler.predicted_and_done(databases=unrestricted) == ["RELOAD"]
    assert pooler.pid == before
    assert pooler.shows("auth_type") == "scram-sha-256"
    assert not rules_file(pooler).exists()
    assert login(OUTSIDE) == "in"


def test_a_role_that_is_not_pooled_is_refused_with_no_other_rule(pooler, login):
    """Whatever else there is, and with its verifier not in the auth file either."""
    configure(pooler, databases=[{"name": "mydb", "roles": [ROLE, {**BATCH, "pooled": True}]}])
    assert login(user="app_batch") == "in"
    assert pooler.predicted_and_done(databases=MODEL[:1]) == ["RELOAD"]
    for source in (OUTSIDE, LOOPBACK, SOCKET):
        assert login(source) == "in"
        assert is_refused(login(source, user="app_batch"))
    pooler.predicted_and_done(databases=MODEL[:1], auth="userlist")
    assert '"app_user"' in pooler.userlist.read_text()
    assert "app_batch" not in pooler.userlist.read_text()
    assert login(OUTSIDE) == "in"
    assert is_refused(login(OUTSIDE, user="app_batch"))


def test_tls_is_required_from_other_hosts_only(pooler, login, authority):
    options = tls(pooler, authority, "prefer")
    configure(pooler, databases=MODEL[:1], options=options)
    assert login(OUTSIDE) == "in"
    more = {"databases": MODEL[:1], "options": options, "require_tls": True}
    assert pooler.predicted_and_done(**more) == ["RELOAD"]
    assert is_refused(login(OUTSIDE))
    assert login(OUTSIDE, sslmode="require") == "in"
    for source in (LOOPBACK, SOCKET):
        assert login(source) == "in"
    options.update(client_tls_sslmode="require", auth_type="md5")
    configure(pooler, **more, client_networks=[f"{INSIDE}/32"])
    assert login(INSIDE) != "in"
    assert login(INSIDE, sslmode="require") == "in"
    assert login(INSIDE, sslmode="require", password="wrong") != "in"
    assert is_refused(login(OUTSIDE, sslmode="require"))


def test_clients_with_certificates_need_them_with_rules_too(pooler, login, authority):
    options = {
        **tls(pooler, authority, "verify-full"),
        "client_tls_ca_file": str(pooler.home / "etc" / "ca.crt"),
        "auth_type": "cert",
    }
    Path(options["client_tls_ca_file"]).write_text(Path(authority.certificate).read_text())
    authority.issue("client", subject="app_user")
    own = {
        "sslmode": "require",
        "sslcert": str(authority.directory / "client.crt"),
        "sslkey": str(authority.directory / "client.key"),
    }
    configure(pooler, **RULES, options=options)
    assert login(INSIDE, **own) == "in"
    assert login(INSIDE, sslmode="require") != "in"
    assert is_refused(login(OUTSIDE, **own))
    assert is_refused(login(INSIDE, user="app_batch", **own))


def test_odd_names_are_each_just_that_role(pooler, login):
    """Each gets in where it may, and none of them lets in another, or leads to another database."""
    for here in (ODD_NAMES[::2], ODD_NAMES[1::2]):
        roles = [{"name": name, "kind": "user"} for name in here]
        model = [{"name": "mydb", "roles": roles}, {"name": "other", "roles": [ROLE]}]
        networks = [f"{INSIDE}/32", "2001:db8::/32"]
        configure(pooler, databases=model, client_networks=networks)
        for name in (*ODD_NAMES, "app_user", "app_batch", "outsider", "pgbouncer_auth"):
            if name in here:
                assert login(user=name) == "in", name
            else:
                assert is_refused(login(user=name)), name
            assert (login(user=name, dbname="other") == "in") is (name == "app_user"), name
            assert is_refused(login(OUTSIDE, user=name)), name


def test_the_console_stays_open_to_its_own_user_and_named_ones_on_the_host(pooler, login):
    roles = [ROLE, {"name": "outsider", "kind": "user"}]
    more = {"databases": [{"name": "mydb", "roles": roles}], "auth": "userlist"}
    for option in ("stats_users", "admin_users"):
        configure(pooler, **more, client_networks=[f"{INSIDE}/32"], options={option: "outsider"})
        with pooler.console() as cursor:
            assert cursor.execute("SHOW VERSION").fetchone()
        for source in (INSIDE, OUTSIDE, LOOPBACK, SOCKET):
            assert is_kept_out(login(source, dbname="pgbouncer")), source
            answer = login(source, user="outsider", dbname="pgbouncer")
            if source in (LOOPBACK, SOCKET):
                # The console is reached, and knows no SQL.
                assert "invalid command" in answer, answer
            else:
                assert is_refused(answer), answer
            assert (login(source, user="outsider") == "in") is (source != OUTSIDE)


def test_rules_that_somebody_has_changed_are_put_right(pooler, login):
    configure(pooler, **RULES)
    rules_file(pooler).write_text(
        f"{rules_file(pooler).read_text()}host all all 0.0.0.0/0 scram-sha-256\n"
    )
    with pooler.console() as cursor:
        cursor.execute("RELOAD")
    assert login(OUTSIDE, user="outsider") == "in"
    assert pooler.predicted_and_done(**RULES) == ["RELOAD"]
    assert is_refused(login(OUTSIDE, user="outsider"))
    rules_file(pooler).unlink()
    with pooler.console() as cursor:
        cursor.execute("RELOAD")
    assert is_refused(login(INSIDE))  # PgBouncer without its rules lets nobody in
    assert pooler.predicted_and_done(**RULES) == ["RELOAD"]
    assert login(INSIDE) == "in"


def test_clients_that_could_not_come_again_are_named_and_go_on(pooler):
    configure(pooler, databases=[{"name": "mydb", "roles": [ROLE]}])
    with coming_from(OUTSIDE, pooler.port) as port, psycopg.connect(
        host=LOOPBACK, port=port, user="app_user", password=PASSWORD, dbname="mydb",
        prepare_threshold=None, autocommit=True,
    ) as connection:  # fmt: skip
        for check in (True, False):
            result = pooler.configure(check=check, **RULES)
            (warning,) = [one for one in result["warnings"] if "log in again" in one]
            assert f"'app_user' in 'mydb' from {OUTSIDE} without TLS" in warning
        assert connection.execute("SELECT 1").fetchone() == (1,)
        again = pooler.configure(**RULES)
        assert (again["changed"], again.get("warnings", [])) == (False, [])


OWN_FILES = ("auth_hba_file", "auth_ident_file")
BROKEN = (
    "host mydb app_batch 127.0.0.0/8 nonsense",
    "host mydb +group 127.0.0.0/8 scram-sha-256",
    "hostgssenc all all 127.0.0.0/8 scram-sha-256",
    "host mydb app_user 127.0.0.2 scram-sha-256",
    "host mydb app_user 127.0.0.2/8 scram-sha-256",
    'local mydb "app_user scram-sha-256',
)


def test_a_line_that_pgbouncer_drops_is_refused_and_opens_nothing(pooler, login, monkeypatch):
    configure(pooler, databases=[{"name": "mydb", "roles": [ROLE]}])
    before = pooler.files()
    text = hba.Access.text.fget
    for number, line in enumerate(BROKEN):
        broken = property(lambda self, line=line: text(self) and f"{text(self)}{line}\n")
        monkeypatch.setattr(hba.Access, "text", broken)
        result = pooler.configure(check=number > 0, **RULES)
        assert result["msg"].startswith(
            "PgBouncer refuses this configuration, and nothing was changed: it drops rules for"
        ), (line, result)
        assert " line" in result["msg"]
        assert pooler.files() == before
    # Should the trial start not see it, what the running one logs does.
    monkeypatch.setattr(trial, "try_out", lambda *_arguments: None)
    result = pooler.configure(**RULES)
    assert "did not take the new configuration: it drops rules for logins" in result["msg"]
    assert "The previous files are back" in result["msg"]
    assert pooler.files() == before
    assert pooler.shows("auth_type") == "scram-sha-256"
    assert login(OUTSIDE) == "in"


def test_every_line_lets_somebody_in_so_that_one_less_opens_nothing(pooler, login):
    configure(pooler, **RULES)
    whole = rules_file(pooler).read_text().splitlines(keepends=True)
    cases = [
        (source, user, dbname)
        for source in (INSIDE, OUTSIDE, LOOPBACK, SOCKET)
        for user in ("app_user", "app_batch", "outsider")
        for dbname in ("mydb", "mydb_session")
    ]
    allowed = {case for case in cases if login(case[0], user=case[1], dbname=case[2]) == "in"}
    assert len(allowed) == 6
    lost: set[tuple[str, str, str]] = set()
    for number, line in enumerate(whole):
        if line.startswith("#"):
            continue
        rules_file(pooler).write_text(
            "".join([*whole[:number], "nonsense\n", *whole[number + 1 :]])
        )
        with pooler.console() as cursor:
            cursor.execute("RELOAD")
        now = {case for case in cases if login(case[0], user=case[1], dbname=case[2]) == "in"}
        assert now <= allowed, line  # a line for IPv6 is not among the cases
        lost |= allowed - now
    assert lost == allowed


@pytest.mark.pgbouncer(since=processes.SINCE)
def test_all_of_several_processes_follow_the_rules(pooler, login):
    more = {"processes": 2, "databases": MODEL[:1]}
    configure(pooler, **more)
    assert pooler.predicted_and_done(**more, client_networks=[f"{INSIDE}/32"]) == [
        "RELOAD",
        f"RELOAD ({SERVICE}@2)",
    ]
    # The kernel deals them out by chance.
    assert {login(INSIDE) for _time in range(12)} == {"in"}
    assert all(is_refused(login(OUTSIDE)) for _time in range(12))
    for directory in ("run", f"run/{SERVICE}-2"):
        assert pooler.shows("auth_type", directory) == "hba"
    changed = [f"{OUTSIDE}/32"]
    assert pooler.predicted_and_done(**more, client_networks=changed) == [
        "RELOAD",
        f"RELOAD ({SERVICE}@2)",
    ]
    assert {login(OUTSIDE) for _time in range(12)} == {"in"}
    assert all(is_refused(login(INSIDE)) for _time in range(12))


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {"client_networks": ["127.0.0.2/8"]},
        "client_networks[0]: '127.0.0.2/8' is an address with a prefix, not a network",
    ),
    (
        {"client_networks": ["10.0.0.0/8"], "options": {"auth_type": "pam"}},
        "options.auth_type: 'pam' does not go together with rules that this collection writes",
    ),
    (
        {"client_networks": ["10.0.0.0/8"], "options": {"auth_hba_file": "/etc/hosts"}},
        "options.auth_hba_file: '/etc/hosts' would take the place of the rules",
    ),
    (
        {"require_tls": True, "options": {"listen_addr": "*"}},
        "options.client_tls_sslmode: it is 'disable', and clients on other hosts need TLS",
    ),
    (
        {"databases": MODEL[:1], "user_options": {"app_batch": {"pool_mode": "session"}}},
        "user_options: role 'app_batch' may not log in through PgBouncer (pooled: false)",
    ),
)


@pytest.mark.parametrize(("wanted", "message"), WRONG)
def test_what_can_not_hold_is_refused_by_name_and_changes_nothing(pooler, wanted, message):
    before = pooler.files()
    for check in (True, False):
        result = pooler.configure(check=check, **wanted)
        assert result["msg"].startswith(message), result["msg"]
    assert pooler.files() == before


def test_rules_of_ones_own_keep_working_and_are_left_alone(pooler, login):
    own = pooler.home / "etc" / "own_hba.conf"
    own.write_text("host mydb app_user 127.0.0.3/32 scram-sha-256\n")
    os.chown(own, pooler.ini.stat().st_uid, -1)
    rules_file(pooler).write_text("# somebody's notes\n")
    options = {"auth_type": "hba", "auth_hba_file": str(own)}
    plain = {"databases": [{"name": "mydb", "roles": [ROLE]}], "options": options}
    pooler.predicted_and_done(**plain)
    assert login(OUTSIDE) == "in"
    assert is_refused(login(INSIDE))
    assert rules_file(pooler).read_text() == "# somebody's notes\n"
    own.write_text(own.read_text() + "host mydb app_user 127.0.0.2/32 nonsense\n")
    result = pooler.configure(**plain)
    assert "could not parse hba config line 2" in result["msg"]


def test_a_line_of_ones_own_that_pgbouncer_drops_is_refused_on_each_run(pooler, login, monkeypatch):
    own = pooler.home / "etc" / "own_hba.conf"
    rejects = "host mydb app_user 127.0.0.2/32 reject"
    lets_in = "host mydb app_user 127.0.0.0/8 scram-sha-256"
    options = {"auth_type": "hba", "auth_hba_file": str(own)}
    plain = {"databases": [{"name": "mydb", "roles": [ROLE]}], "options": options}

    def write(*lines: str) -> None:
        own.write_text("".join(f"{line}\n" for line in lines))
        os.chown(own, pooler.ini.stat().st_uid, -1)

    write(f"{rejects} bogus=1", lets_in)
    before = pooler.files()
    for check in (True, False):
        result = pooler.configure(check=check, **plain)
        assert result["msg"].startswith(
            "PgBouncer refuses this configuration, and nothing was changed: it drops rules for"
            f" logins of {own}: hba line 1: "
        ), result
        assert "; could not parse hba config line 1. A line that it drops does" in result["msg"]
        assert pooler.files() == before
    # As a version before this check left it: taken, with a line in the log alone.
    with monkeypatch.context() as patch:
        patch.setattr(trial, "try_out", lambda *_arguments: None)
        patch.setattr(service.PgBouncer, "rule_complaints", lambda *_arguments: [])
        assert not pooler.configure(**plain).get("failed")
    assert login(INSIDE) == "in"
    before = pooler.files()
    for check in (True, False):
        assert f"logins of {own}: hba line 1" in pooler.configure(check=check, **plain)["msg"]
    assert pooler.files() == before
    # Should the trial start not see it, what the running one logs of the reload does.
    with monkeypatch.context() as patch:
        patch.setattr(trial, "try_out", lambda *_arguments: None)
        write("host mydb app_user 127.0.0.2/32 reject more=1", lets_in)
        result = pooler.configure(**plain)
        assert f"new configuration: it drops rules for logins of {own}: hba" in result["msg"]
    write(rejects, lets_in)
    assert pooler.predicted_and_done(**plain) == ["RELOAD"]
    assert is_refused(login(INSIDE))
    assert login(OUTSIDE) == "in"


@pytest.mark.pgbouncer(since=(1, 23, 0))
def test_a_line_of_an_ident_map_that_pgbouncer_drops_is_refused(pooler):
    etc = pooler.home / "etc"
    (etc / "own_hba.conf").write_text("host mydb app_user 127.0.0.0/8 scram-sha-256\n")
    (etc / "own_ident.conf").write_text("people dba app_user more\n")
    for name in ("own_hba.conf", "own_ident.conf"):
        os.chown(etc / name, pooler.ini.stat().st_uid, -1)
    files = {name: str(etc / f"own_{name.split('_')[1]}.conf") for name in OWN_FILES}
    result = pooler.configure(
        databases=[{"name": "mydb", "roles": [ROLE]}], options={"auth_type": "hba", **files}
    )
    assert "own_ident.conf: ident line 1: unsupported parameters" in result["msg"]
