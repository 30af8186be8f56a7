# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters as Debian's tools and systemd see them: names, places, start.conf, new ones."""

from __future__ import annotations

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import debian

OURS = {
    "initdb_options": "--encoding=UTF8 --data-checksums",
    "create_main_cluster": "true",
    "start_conf": "auto",
    "add_include_dir": "conf.d",
}
PACKAGED = """\
# Default values for pg_createcluster(8)
ssl = on
cluster_name = '%v/%c'
add_include_dir = 'conf.d'
include_dir '/etc/postgresql-common/createcluster.d'
"""
FRESH = {"included": True, "later": {}}


def cluster(**more):
    return {
        "major": 17,
        "name": "main",
        "port": 5432,
        "start": "auto",
        "managed_settings": {},
        "socket_directories": "/var/run/postgresql",
        **more,
    }


def problems(
    name="main", port=5432, listen=None, settings=(), clusters=(), new=None, locale=("", "UTF-8")
):
    new = FRESH if new is None else new
    return debian.cluster_problems(
        name, 17, port, listen, dict(settings), clusters, new, OURS, *locale
    )


# start.conf, what it says
STARTS = [
    (None, "auto"),
    ("", "auto"),
    ("# comment\n\nauto\n", "auto"),
    ("# comment\n  manual # mine\n", "manual"),
    ("disabled", "disabled"),
]


@pytest.mark.parametrize(("text", "mode"), STARTS)
def test_start_conf(text, mode):
    assert debian.start_mode(text) == mode
    after = debian.with_start(text)
    assert debian.start_mode(after) == "auto"
    assert debian.with_start(after) == after


@pytest.mark.parametrize("name", ["main", "app_two", "app2", "App.two", "2"])
def test_names_that_all_take(name):
    assert problems(name) == []


@pytest.mark.parametrize("name", ["app-two", "-x", "a b", ".hidden", "a/b", "", "ä", "a\n"])
def test_names_that_systemd_or_debian_do_not_take(name):
    assert f"postgres_cluster: {name!r} is not a valid name" in problems(name)[0]


# (arguments, what the problem says)
PROBLEMS = [
    ({"settings": {"port": "5433"}}, "postgres_settings.port: '5433', but postgres_port is 5432"),
    ({"settings": {"port": None}}, "postgres_settings.port: null leaves it to the server, but"),
    (
        {"settings": {"listen_addresses": "*"}, "listen": "localhost"},
        "postgres_settings.listen_addresses: '*', but postgres_listen_addresses is 'localhost'",
    ),
    (
        {"settings": {"unix_socket_directories": "/var/lib/postgresql"}},
        "such as '/var/run/postgresql, /var/lib/postgresql'",
    ),
    (
        {"settings": {"unix_socket_directories": ""}},
        "unix_socket_directories: '' leaves out /var/run/postgresql",
    ),
    ({"clusters": [cluster(socket_directories="/tmp")]}, "postgresql.conf: unix_socket_dir"),
    ({"locale": ("de_DE.UTF-8", "")}, "postgres_locale: 'de_DE.UTF-8' is not there on this host"),
    ({"locale": ("de_DE", "ISO-8859-1")}, "postgres_locale: 'de_DE' has the encoding ISO-8859-1"),
    ({"clusters": [cluster(start="disabled")]}, "17/main/start.conf says disabled"),
    ({"clusters": [cluster(name="other")]}, "port 5432 belongs to cluster 17/other"),
    ({"new": {"included": False, "later": {}}}, "include_dir '/etc/postgresql-common/createcl"),
    (
        {"new": {"included": True, "later": {"initdb_options": {"value": "-k", "file": "/x"}}}},
        "/x of this host sets initdb_options = '-k' for new clusters, after what the role asks",
    ),
]


@pytest.mark.parametrize(("given", "message"), PROBLEMS)
def test_problems_are_named(given, message):
    found = problems(**given)
    assert len(found) == 1
    assert message in found[0]


# What is no problem.
FINE = [
    {},
    {"locale": ("C.UTF-8", "UTF-8")},
    {"locale": ("C", "ANSI_X3.4-1968")},
    {"locale": ("", "")},
    # Its locale stays what it is.
    {"locale": ("de_DE.UTF-8", ""), "clusters": [cluster()]},
    {"settings": {"port": "5432", "listen_addresses": "*", "unix_socket_directories": None}},
    {"settings": {"listen_addresses": "localhost, ::1"}, "listen": "localhost,::1"},
    {"settings": {"unix_socket_directories": '"/tmp", /run/postgresql/'}},
    {"clusters": [cluster(), cluster(name="other", port=5433, start="disabled")]},
    {"clusters": [cluster(start="manual")]},
    # The managed file of an earlier run has it, and it goes.
    {
        "clusters": [
            cluster(socket_directories="/x", managed_settings={"unix_socket_directories": "/x"})
        ]
    },
    {"clusters": [cluster()], "new": {"included": False, "later": {}}},
    {
        "new": {
            "included": True,
            "later": {"initdb_options": {**OURS, "value": OURS["initdb_options"], "file": "/x"}},
        }
    },
    {"new": {"included": True, "later": {"ssl": {"value": "off", "file": "/x"}}}},
]


@pytest.mark.parametrize("given", FINE)
def test_what_is_no_problem_passes(given):
    assert problems(**given) == []


SITES_OWN = "/etc/postgresql-common/createcluster.d/zz-site.conf"
OWN = "/etc/postgresql-common/createcluster.conf"
# (createcluster.conf, included, what is said later)
CREATECLUSTER = [
    (None, True, {}),
    (PACKAGED, True, {}),
    ("initdb_options = '--locale=C'\n", False, {"initdb_options": ("--locale=C", OWN)}),
    ("initdb_options = '--locale=C'\n" + PACKAGED, True, {}),
    (
        PACKAGED + "Initdb_Options '--locale=C' # mine\ncreate_main_cluster = false\n",
        True,
        {"initdb_options": ("--locale=C", OWN), "create_main_cluster": ("false", OWN)},
    ),
    (
        "INCLUDE_DIR = 'createcluster.d/'\ninclude 'more.conf'\n",
        True,
        {"a": ("b", "/etc/postgresql-common/more.conf")},
    ),
]


@pytest.mark.parametrize(("text", "included", "later"), CREATECLUSTER)
def test_createcluster_conf(text, included, later):
    found = debian.createcluster_entries(text, ["pooled.conf", "a.conf"], lambda _path: "a = b")
    assert found["included"] is included
    assert {k: (v["value"], v["file"]) for k, v in found["later"].items()} == later


def test_a_file_that_is_read_after_ours_is_seen():
    names = ["pooled.conf", "a.conf", "zz-site.conf", "zz.txt"]
    found = debian.createcluster_entries(PACKAGED, names, lambda path: f"data = '{path}'")
    assert found["later"] == {"data": {"value": SITES_OWN, "file": SITES_OWN}}


def test_a_new_cluster_is_compared_with_what_was_asked():
    asked = {"data_checksums": True, "locale": "C.UTF-8"}
    assert debian.new_cluster_problems(asked, True, "C.utf8", "UTF8") == []
    assert debian.new_cluster_problems({}, False, "de_DE", "UTF8") == []
    assert debian.new_cluster_problems(asked, False, "C", "SQL_ASCII") == [
        "its data pages have no checksums",
        "its locale is C, not C.UTF-8",
        "its encoding is SQL_ASCII, not UTF8",
    ]
