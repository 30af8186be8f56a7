# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""postgres_hba against real servers, judged by who can log in.

The servers' files are put in place without being loaded, so that the module can still log in
where a fresh package's rules would ask for the OS user postgres.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_file import INCLUDES_MAJOR
from ansible_collections.pooled.postgres.plugins.modules import postgres_hba
from tests.integration import faults
from tests.integration.clusters import PATIENCE_S
from tests.integration.conftest import INSTALLED

PASSWORD = "a-password-of-the-test"
ODD = 'we"ird; role, x'
MODEL = [
    {
        "name": "mydb",
        "roles": [
            {"name": "app_user", "kind": "user", "password": PASSWORD},
            {"name": ODD, "kind": "user"},
            {"name": "/all", "kind": "reader"},
        ],
    },
    {"name": "all", "roles": [{"name": "reporter", "kind": "reader"}]},
]
EVERYBODY = ("app_user", ODD, "/all", "reporter", "outsider")
TRUST = "local all all trust\n"
PACKAGED = """# as Debian's package has it
local   all             postgres                                peer
local   all             all                                     peer
host    all             all             127.0.0.1/32            scram-sha-256
host    all             all             ::1/128                 scram-sha-256
local   replication     all                                     peer
host    replication     all             127.0.0.1/32            scram-sha-256
host    replication     all             ::1/128                 scram-sha-256
"""
LEGACY = "# theirs\nhost  mydb  outsider  127.0.0.1/32  scram-sha-256\n"

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def prepared(major: int, make_cluster: Callable[[int], Any]) -> Iterator[Any]:
    """A server of this module's own, with databases and roles."""
    cluster = make_cluster(major)
    with cluster.connect() as connection:
        connection.execute("SET password_encryption = 'scram-sha-256'")
        for name in (*EVERYBODY, "postgres"):
            verb = "ALTER" if name == "postgres" else "CREATE"
            quoted = name.replace('"', '""')
            connection.execute(f"{verb} ROLE \"{quoted}\" LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE ROLE pgbouncer_auth LOGIN")
        connection.execute("CREATE DATABASE mydb")
        connection.execute('CREATE DATABASE "all"')
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(prepared: Any) -> Iterator[Any]:
    """The same with a fresh package's files on disk, of which it has loaded nothing yet."""
    put(prepared, "pg_hba.conf", PACKAGED)
    put(prepared, "pg_ident.conf", "# comment\n")
    yield prepared
    put(prepared, "pg_hba.conf", TRUST)
    reload(prepared)


def put(cluster: Any, name: str, text: str) -> None:
    path = cluster.data / name
    path.write_text(text)
    path.chmod(0o640)
    if cluster.user:
        os.chown(path, cluster.user.pw_uid, cluster.user.pw_gid)


def reload(cluster: Any) -> None:
    """Let the server load a file that trusts everybody, and see that it has."""
    cluster.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            cluster.connect().close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def files(cluster: Any) -> list[str]:
    return [(cluster.data / name).read_text() for name in ("pg_hba.conf", "pg_ident.conf")]


def options(cluster: Any, **more: Any) -> dict[str, Any]:
    return {
        **cluster.login,
        "databases": MODEL,
        "pooler_role": "pgbouncer_auth",
        "pooler_os_user": cluster.os_user,
        "exclusive": "yes",
        **more,
    }


@contextmanager
def as_owner(cluster: Any) -> Iterator[None]:
    """Carry the effective uid of the OS user that the server runs as."""
    if cluster.user is None:
        yield
        return
    os.seteuid(cluster.user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


def enters(cluster: Any, database: str, user: str, host: str = "127.0.0.1") -> bool:
    place = str(cluster.socket_directory) if host == "local" else host
    try:
        cluster.connect(database, user, host=place, password=PASSWORD).close()
    except psycopg.OperationalError as error:
        assert "no pg_hba.conf entry" in str(error) or "authentication failed" in str(error)
        return False
    return True


def test_just_the_models_roles_enter_just_their_databases(cluster: Any, run_module: Run) -> None:
    result = run_module("postgres_hba", options(cluster))
    assert result["changed"] and result["exclusive"] and result["reloaded"], result
    allowed = {
        (database["name"], role["name"])
        for database in MODEL
        for role in database["roles"]  # type: ignore[attr-defined]
    }
    for host in ("local", "127.0.0.1"):
        for user in EVERYBODY:
            for database in ("mydb", "all", "postgres"):
                entered = enters(cluster, database, user, host)
                assert entered == ((database, user) in allowed), (host, database, user)


def test_the_pooler_enters_by_peer_and_nobody_else_as_it(cluster: Any, run_module: Run) -> None:
    assert run_module("postgres_hba", options(cluster))["changed"]
    with as_owner(cluster):
        assert enters(cluster, "mydb", "pgbouncer_auth", "local")
        assert not enters(cluster, "postgres", "pgbouncer_auth", "local")
        assert enters(cluster, "postgres", "postgres", "local")
    if cluster.user:
        assert not enters(cluster, "mydb", "pgbouncer_auth", "local")
    assert not enters(cluster, "mydb", "pgbouncer_auth")


@pytest.mark.parametrize(
    ("before", "exclusive"), [(PACKAGED, "yes"), (PACKAGED, "auto"), (LEGACY, "no")]
)
def test_check_foresees_the_run_and_the_second_run_does_nothing(
    cluster: Any, run_module: Run, before: str, exclusive: str
) -> None:
    put(cluster, "pg_hba.conf", before)
    arguments = options(cluster, exclusive=exclusive)
    untouched = files(cluster)
    foreseen = run_module("postgres_hba", arguments, check=True)
    assert files(cluster) == untouched
    done = run_module("postgres_hba", arguments)
    assert foreseen.pop("changed") and done.pop("changed")
    assert foreseen == done
    again = run_module("postgres_hba", arguments)
    assert (again["changed"], again["diff"]) == (False, [])
    assert run_module("postgres_hba", arguments, check=True)["changed"] is False


def test_files_belong_to_the_server(cluster: Any, run_module: Run) -> None:
    (cluster.data / "pg_hba.conf").chmod(0o644)
    run_module("postgres_hba", options(cluster))
    for name in ("pg_hba.conf", "pg_ident.conf"):
        status = (cluster.data / name).stat()
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert status.st_uid == (cluster.user.pw_uid if cluster.user else os.geteuid())


def test_lines_of_others_are_drift_in_a_file_that_is_ours(cluster: Any, run_module: Run) -> None:
    arguments = options(cluster)
    run_module("postgres_hba", arguments)
    ours = files(cluster)
    put(cluster, "pg_hba.conf", ours[0] + LEGACY)
    put(cluster, "pg_ident.conf", ours[1] + "pooled nobody pgbouncer_auth\nother a b\n")
    result = run_module("postgres_hba", {**arguments, "exclusive": "auto"})
    assert result["changed"] and result["exclusive"]
    assert "outsider" in result["diff"][0]["before"]
    assert files(cluster)[0] == ours[0]
    assert "pooled nobody" not in files(cluster)[1]
    assert "other a b\n" in files(cluster)[1]


@pytest.fixture
def later(cluster: Any) -> Iterator[None]:
    """A database and a role that somebody else adds later."""
    with cluster.connect() as connection:
        connection.autocommit = True
        connection.execute(f"CREATE ROLE later LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE DATABASE theirs")
        yield
        connection.execute("DROP DATABASE theirs WITH (FORCE)")
        connection.execute("DROP ROLE later")


@pytest.mark.usefixtures("later")
def test_lines_for_the_later_database_of_others_stay_in_a_file_that_is_ours(
    cluster: Any, run_module: Run
) -> None:
    arguments = options(cluster)
    run_module("postgres_hba", arguments)
    ours = files(cluster)[0]
    theirs = "host theirs later 127.0.0.1/32 scram-sha-256"
    drift = "host all all 0.0.0.0/0 trust\n"
    put(cluster, "pg_hba.conf", ours + drift + theirs + "\n" + LEGACY)
    automatic = {**arguments, "exclusive": "auto"}
    foreseen = run_module("postgres_hba", automatic, check=True)
    result = run_module("postgres_hba", automatic)
    assert result["changed"] and result["exclusive"] and foreseen["diff"] == result["diff"]
    kept = files(cluster)[0]
    assert kept.startswith(ours)
    assert [line for line in kept[len(ours) :].splitlines() if line[0] != "#"] == [theirs]
    assert any(theirs in warning for warning in result["warnings"]), result
    assert enters(cluster, "theirs", "later")
    assert not enters(cluster, "mydb", "later")
    assert not enters(cluster, "mydb", "outsider")
    assert run_module("postgres_hba", automatic)["changed"] is False
    assert run_module("postgres_hba", arguments)["changed"]
    assert files(cluster)[0] == ours


def include(cluster: Any, text: str) -> None:
    """A directory beside pg_hba.conf with one file of rules."""
    (cluster.data / "hba.d").mkdir(mode=0o755, exist_ok=True)
    put(cluster, "hba.d/10-theirs.conf", text)
    (cluster.data / "hba.d").chmod(0o755)


@pytest.mark.usefixtures("later")
def test_rules_that_a_line_of_others_includes_stay_or_are_named(
    cluster: Any, run_module: Run
) -> None:
    arguments = options(cluster)
    run_module("postgres_hba", arguments)
    ours = files(cluster)[0]
    automatic = {**arguments, "exclusive": "auto"}
    include(cluster, "host theirs later 127.0.0.1/32 scram-sha-256\n")
    put(cluster, "pg_hba.conf", ours + "include_dir hba.d\n")
    if cluster.major < INCLUDES_MAJOR:
        result = run_module("postgres_hba", automatic)
        assert "invalid connection type" in result["msg"] and "include_dir" in result["msg"]
        return
    foreseen = run_module("postgres_hba", automatic, check=True)
    result = run_module("postgres_hba", automatic)
    assert "msg" not in result and foreseen["diff"] == result["diff"]
    assert any("include_dir hba.d" in warning for warning in result["warnings"])
    kept = files(cluster)[0]
    assert kept.startswith(ours) and kept.splitlines()[-1] == "include_dir hba.d"
    assert enters(cluster, "theirs", "later")
    assert not enters(cluster, "mydb", "outsider")
    assert run_module("postgres_hba", automatic)["changed"] is False
    for rule in (
        "host all all 0.0.0.0/0 trust",
        "host mydb outsider 127.0.0.1/32 scram-sha-256",
        "host theirs app_user 127.0.0.1/32 scram-sha-256",
        "host theirs all 127.0.0.1/32 trust",
        "host theirs +later 127.0.0.1/32 scram-sha-256",
        "host /^m later 127.0.0.1/32 scram-sha-256",
        "host theirs nonsense",
    ):
        include(cluster, f"# a comment\n{rule}\n")
        for check in (True, False):
            result = run_module("postgres_hba", automatic, check=check)
            place = f"{cluster.data}/hba.d/10-theirs.conf line 2: "
            assert "'include_dir hba.d' in it would bring rules" in result["msg"], rule
            assert place in result["msg"], rule
        assert files(cluster)[0] == kept
    include(cluster, "host all all 0.0.0.0/0 trust\n")
    result = run_module("postgres_hba", arguments)
    assert any("'include_dir hba.d' is removed" in warning for warning in result["warnings"])
    assert files(cluster)[0] == ours
    assert not enters(cluster, "mydb", "outsider")


def test_nobody_else_adds_to_our_map_through_another_file(cluster: Any, run_module: Run) -> None:
    include(cluster, "pooled nobody pgbouncer_auth\n")
    put(cluster, "pg_ident.conf", "include hba.d/10-theirs.conf\n")
    result = run_module("postgres_hba", options(cluster))
    if cluster.major < INCLUDES_MAJOR:
        # There the word is the name of a map.
        assert "msg" not in result or "pg_ident.conf" in result["msg"]
        return
    assert f"{cluster.data}/hba.d/10-theirs.conf line 1; remove them" in result["msg"]
    assert files(cluster)[0] == PACKAGED


def test_drift_is_removed_where_only_the_model_is(cluster: Any, run_module: Run) -> None:
    known = [*MODEL, {"name": "more", "roles": [{"name": "outsider", "kind": "user"}]}]
    arguments = options(cluster, exclusive="auto", databases=known)
    run_module("postgres_hba", arguments)
    ours = files(cluster)[0]
    put(cluster, "pg_hba.conf", ours + "host all all 0.0.0.0/0 trust\n")
    assert run_module("postgres_hba", arguments)["changed"]
    assert files(cluster)[0] == ours


def test_lines_of_others_stay_and_count_on_a_server_in_use(cluster: Any, run_module: Run) -> None:
    put(cluster, "pg_hba.conf", LEGACY)
    result = run_module("postgres_hba", options(cluster, exclusive="auto"))
    assert result["changed"] and not result["exclusive"]
    assert files(cluster)[0].endswith("# END pooled.postgres\n" + LEGACY)
    assert enters(cluster, "mydb", "outsider")
    assert enters(cluster, "mydb", "app_user")


def test_a_packaged_file_is_ours_only_when_just_the_model_uses_the_server(
    cluster: Any, run_module: Run
) -> None:
    used = run_module("postgres_hba", options(cluster, exclusive="auto"), check=True)
    assert not used["exclusive"]
    known = [*MODEL, {"name": "more", "roles": [{"name": "outsider", "kind": "user"}]}]
    arguments = options(cluster, exclusive="auto", databases=known)
    assert run_module("postgres_hba", arguments, check=True)["exclusive"]


def test_extra_rules_come_in_order_after_the_models(cluster: Any, run_module: Run) -> None:
    outsider = {"database": "mydb", "user": "outsider", "address": "127.0.0.1"}
    rules = [{**outsider, "method": "reject"}, outsider]
    assert run_module("postgres_hba", options(cluster, rules=rules))["changed"]
    assert not enters_rejected(cluster)
    assert run_module("postgres_hba", options(cluster, rules=rules[::-1]))["changed"]
    assert enters_rejected(cluster)


def enters_rejected(cluster: Any) -> bool:
    try:
        cluster.connect("mydb", "outsider", host="127.0.0.1", password=PASSWORD).close()
    except psycopg.OperationalError as error:
        assert "pg_hba.conf rejects connection" in str(error)
        return False
    return True


UNKNOWN_OPTION = {
    "database": "all",
    "user": "all",
    "address": "samehost",
    "options": {"bogus": 1},
}


def test_what_the_server_refuses_changes_nothing(cluster: Any, run_module: Run) -> None:
    run_module("postgres_hba", options(cluster))
    good = files(cluster)
    changes = {"rules": [UNKNOWN_OPTION], "pooler_os_user": "nobody-else"}
    result = run_module("postgres_hba", options(cluster, **changes))
    assert result["failed"]
    assert result["msg"].startswith(
        "The server refuses the new files, and the old ones are back: pg_hba.conf line "
    )
    assert 'unrecognized authentication option name: "bogus"' in result["msg"]
    assert files(cluster) == good
    assert run_module("postgres_hba", options(cluster))["changed"] is False


def test_a_broken_line_of_others_is_named(cluster: Any, run_module: Run) -> None:
    run_module("postgres_hba", options(cluster, exclusive="no"))
    good = files(cluster)[0]
    put(cluster, "pg_hba.conf", good + "host mydb outsider nonsense\n")
    before = files(cluster)
    arguments = options(cluster, exclusive="no", client_networks=["10.0.0.0/8"])
    result = run_module("postgres_hba", arguments)
    assert result["failed"]
    # Two databases have one more rule each, above the line.
    number = len(before[0].splitlines()) + 2
    assert f"pg_hba.conf line {number}: end-of-line before authentication method" in result["msg"]
    assert files(cluster) == before


def test_rules_that_lock_the_module_out_are_taken_back(cluster: Any, run_module: Run) -> None:
    put(cluster, "pg_hba.conf", TRUST + "host all all 127.0.0.1/32 scram-sha-256\n")
    reload(cluster)
    before = files(cluster)
    over_tcp = {"login_host": "127.0.0.1", "login_password": PASSWORD}
    result = run_module("postgres_hba", options(cluster, **over_tcp))
    assert result["failed"]
    assert "with the new rules this module can't log in: " in result["msg"]
    assert "no pg_hba.conf entry" in result["msg"]
    assert files(cluster) == before
    reload(cluster)


def test_a_file_that_was_written_and_never_loaded_is_loaded(cluster: Any, run_module: Run) -> None:
    arguments = options(cluster)
    run_module("postgres_hba", arguments)
    wanted = files(cluster)[0]
    put(cluster, "pg_hba.conf", TRUST)
    reload(cluster)
    time.sleep(0.02)
    put(cluster, "pg_hba.conf", wanted)
    assert run_module("postgres_hba", arguments, check=True)["reloaded"]
    result = run_module("postgres_hba", arguments)
    assert (result["changed"], result["reloaded"], result["diff"]) == (True, True, [])
    assert not enters(cluster, "mydb", "outsider", "local")
    assert run_module("postgres_hba", arguments)["changed"] is False


def test_bad_input_is_refused_by_name(cluster: Any, run_module: Run) -> None:
    before = files(cluster)
    result = run_module("postgres_hba", options(cluster, client_networks=["10.0.0.5/8"]))
    assert result["failed"]
    assert result["msg"].startswith("client_networks[0]: '10.0.0.5/8' is an address with a prefix")
    assert files(cluster) == before


def test_no_password_is_returned(cluster: Any, run_module: Run) -> None:
    assert PASSWORD not in json.dumps(run_module("postgres_hba", options(cluster)))


def test_unsafe_lines_of_others_are_warned_of(cluster: Any, run_module: Run) -> None:
    put(cluster, "pg_hba.conf", "host mydb outsider 127.0.0.1/32 trust\n")
    result = run_module("postgres_hba", options(cluster, exclusive="no"))
    assert "has method trust, which lets everybody in without a password" in str(result["warnings"])


def test_a_user_who_may_not_see_the_files_is_an_error(cluster: Any, run_module: Run) -> None:
    result = run_module("postgres_hba", options(cluster, login_user="outsider"), check=True)
    assert result["failed"]
    assert "permission" in result["msg"] or "must be superuser" in result["msg"]


def test_foreseeing_a_server_that_is_not_installed(run_module: Run) -> None:
    arguments = {"version": "99", "assume_new": True, "databases": MODEL}
    result = run_module("postgres_hba", arguments, check=True)
    assert result["changed"] and result["exclusive"]
    assert result["hba_file"] == "/etc/postgresql/99/main/pg_hba.conf"
    # In the columns that it will have, so that it is no difference.
    assert result["diff"][0]["before"].splitlines()[0].split() == [
        "local",
        "all",
        "postgres",
        "peer",
    ]


def test_a_server_that_does_not_answer_is_an_error(run_module: Run, tmp_path: Any) -> None:
    nowhere = tmp_path / "no-such-directory"
    arguments = {"login_unix_socket": str(nowhere), "login_os_user": "", "databases": MODEL}
    result = run_module("postgres_hba", arguments, check=True)
    assert result["failed"]
    assert "No such file or directory" in result["msg"]


def left_over(cluster: Any) -> list[str]:
    """Files that only a run that is on its way may have."""
    return [path.name for path in cluster.data.glob(".*")]


def states(cluster: Any) -> list[Any]:
    """The files with owner and mode."""
    paths = [cluster.data / name for name in ("pg_hba.conf", "pg_ident.conf")]
    return [(path.read_bytes(), path.stat().st_mode, *path.stat()[4:6]) for path in paths]


def killed(
    patch: pytest.MonkeyPatch, run_module: Run, step: int, arguments: dict[str, Any]
) -> dict[str, Any] | None:
    """A run that is killed at a step: None; or its result when it has ended before."""
    with patch.context() as context:
        context.setattr(postgres_hba, "main", faults.killed_at(step, postgres_hba.main))
        try:
            return run_module("postgres_hba", arguments)
        except pytest.fail.Exception:
            return None


def only_on(shown: int, major: int) -> None:
    """What the steps are does not depend on the major."""
    if major != shown:
        pytest.skip(f"shown on {shown}")


def test_a_run_that_is_killed_at_any_step_is_finished_by_the_next(
    cluster: Any, run_module: Run, major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_on(max(INSTALLED), major)
    outsider = {"database": "mydb", "user": "outsider", "address": "127.0.0.1"}
    step, ended = 1 - faults.STRIDE, None
    while not ended:
        step += faults.STRIDE
        odd = step % 2 == 1
        rules = [{**outsider, "method": "reject"} if odd else outsider]
        arguments = options(cluster, rules=rules, client_networks=["10.0.0.0/8"] if odd else [])
        arguments["pooler_os_user"] = "somebody" if odd else cluster.os_user
        ended = killed(monkeypatch, run_module, step, arguments)
        if not ended:
            result = run_module("postgres_hba", arguments)
            assert not result.get("failed"), (step, result["msg"])
        assert enters_rejected(cluster) != odd, step
        assert ("somebody" in files(cluster)[1]) == odd, step
        assert left_over(cluster) == [], step
        again = run_module("postgres_hba", arguments)
        assert (again["changed"], left_over(cluster)) == (False, []), step
    print(f"{step // faults.STRIDE} kill points, and after each the next run converged")
    assert step > 15


def test_bad_rules_killed_at_any_step_are_taken_back_by_the_next(
    cluster: Any, run_module: Run, major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_on(min(INSTALLED), major)
    held = options(cluster)
    run_module("postgres_hba", held)
    before = states(cluster)
    bad = options(cluster, rules=[UNKNOWN_OPTION], pooler_os_user="somebody")
    step, ended = 1 - faults.STRIDE, None
    while not ended:
        step += faults.STRIDE
        ended = killed(monkeypatch, run_module, step, bad)
        if step % 2:
            result = run_module("postgres_hba", bad)
            assert result["msg"].startswith(
                "The server refuses the new files, and the old ones are back: "
            ), (step, result)
        else:
            assert not run_module("postgres_hba", held).get("failed"), step
        assert (states(cluster), left_over(cluster)) == (before, []), step
        assert run_module("postgres_hba", held)["changed"] is False, step
    print(f"{step // faults.STRIDE} kill points, and after each the next run converged")
    assert step > 15


def test_a_disk_that_is_full_from_any_step_on_changes_nothing(
    cluster: Any, run_module: Run, major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_on(max(INSTALLED), major)
    run_module("postgres_hba", options(cluster))
    before = states(cluster)
    wanted = options(cluster, client_networks=["10.0.0.0/8"], pooler_os_user="somebody")
    step = 0
    while True:
        step += 1
        with monkeypatch.context() as patch:
            patch.setattr(postgres_hba, "main", faults.full_from(step, postgres_hba.main))
            result = run_module("postgres_hba", wanted)
        if not result.get("failed"):
            break
        assert result["msg"].startswith("The new files can't be written, and "), (step, result)
        assert "No space left on device" in result["msg"], step
        assert (states(cluster), left_over(cluster)) == (before, []), step
    assert step > 8
    assert left_over(cluster) == []
    assert run_module("postgres_hba", wanted)["changed"] is False


def test_a_file_of_a_mode_that_the_server_can_not_read_is_mended(
    cluster: Any, run_module: Run
) -> None:
    run_module("postgres_hba", options(cluster))
    for name in ("pg_hba.conf", "pg_ident.conf"):
        (cluster.data / name).chmod(0)
    assert run_module("postgres_hba", options(cluster), check=True)["changed"]
    assert run_module("postgres_hba", options(cluster))["changed"]
    assert [path.stat().st_mode & 0o777 for path in cluster.data.glob("pg_*.conf")] == [0o640] * 2
    assert run_module("postgres_hba", options(cluster))["changed"] is False


def test_a_file_that_only_root_can_read_is_refused(cluster: Any, run_module: Run) -> None:
    """It may be any file of root's that the server's OS user has renamed."""
    if not cluster.user:
        pytest.skip("only root can make such a file")
    run_module("postgres_hba", options(cluster))
    for name in ("pg_hba.conf", "pg_ident.conf"):
        path = cluster.data / name
        path.chmod(0o600)
        os.chown(path, 0, 0)
        before = states(cluster)
        for check in (True, False):
            result = run_module("postgres_hba", options(cluster), check=check)
            assert (
                f"{path} can't be read or changed as {cluster.os_user}: {path} belongs to root with"
                " mode 0600"
            ) in result["msg"]
            assert f"if it is as intended, give {cluster.os_user} the right to it" in result["msg"]
            assert states(cluster) == before
        os.chown(path, cluster.user.pw_uid, cluster.user.pw_gid)
        path.chmod(0o640)
        assert run_module("postgres_hba", options(cluster))["changed"] is False


def test_a_file_of_roots_that_the_server_can_read_stays_until_it_changes(
    cluster: Any, run_module: Run
) -> None:
    if not cluster.user:
        pytest.skip("only root can make such a file")
    run_module("postgres_hba", options(cluster))
    path = cluster.data / "pg_hba.conf"
    os.chown(path, 0, cluster.user.pw_gid)
    assert run_module("postgres_hba", options(cluster))["changed"] is False
    assert path.stat().st_uid == 0
    assert run_module("postgres_hba", options(cluster, client_networks=["10.9.0.0/16"]))["changed"]
    assert path.stat().st_uid == cluster.user.pw_uid


@pytest.mark.usefixtures("later")
def test_a_stopped_server_is_foreseen_from_its_files(cluster: Any, run_module: Run) -> None:
    run_module("postgres_hba", options(cluster))
    theirs = "host theirs later 127.0.0.1/32 scram-sha-256\n"
    put(cluster, "pg_hba.conf", files(cluster)[0] + theirs + "host all all 0.0.0.0/0 trust\n")
    arguments = options(cluster, exclusive="auto", client_networks=["10.0.0.0/8"])
    stopped = {
        "assume_started": True,
        "version": str(cluster.major),
        "config_directory": str(cluster.data),
    }
    # Only this test's server is out of reach; it is up for the fixtures.
    nowhere = {"login_port": 1, "login_unix_socket": str(cluster.data)}
    before = files(cluster)
    asked = run_module("postgres_hba", arguments, check=True)
    foreseen = run_module("postgres_hba", {**arguments, **stopped, **nowhere}, check=True)
    assert foreseen.pop("invocation") and asked.pop("invocation")
    assert foreseen["changed"]
    assert foreseen == asked
    assert run_module("postgres_hba", {**arguments, **nowhere}, check=True)["failed"]
    assert run_module("postgres_hba", {**arguments, **stopped, **nowhere})["failed"]
    assert files(cluster) == before


def test_the_file_is_in_columns(cluster: Any, run_module: Run) -> None:
    run_module("postgres_hba", options(cluster))
    rules = [line for line in files(cluster)[0].splitlines() if line[:4] in ("loca", "host")]
    places = {
        line.index(method) for line in rules for method in (" peer", " scram-") if method in line
    }
    assert len(places) == 1, rules
    assert all(len(line) < 120 for line in rules)
