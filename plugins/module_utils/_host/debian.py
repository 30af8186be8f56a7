# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Debian's postgresql-common and systemd make of a cluster: its name, start.conf, new ones."""

from __future__ import annotations

import re
from typing import Any, Callable, Iterable, Mapping

# Everything of this collection, Debian's tools and clients by default connect here.
SOCKET_DIRECTORY = "/var/run/postgresql"
CREATECLUSTER_FILE = "/etc/postgresql-common/createcluster.conf"
CREATECLUSTER_DIRECTORY = "/etc/postgresql-common/createcluster.d"
OUR_FILE = "pooled.conf"

# The encoding of new clusters, as the C library calls it, and locales that are for any.
UTF8 = "UTF-8"
_ANY_ENCODING = ("C", "POSIX")

_CLUSTER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*\Z")
_INCLUDE = re.compile(
    r"\s*(include(?:_dir|_if_exists)?)\s*=?\s*'([^']+)'\s*(?:#.*)?\Z", re.IGNORECASE
)
_ENTRY = re.compile(
    r"\s*([A-Za-z0-9_.-]+)\s*(?:=|\s)\s*(?:'((?:[^'\\]|\\.|'')*)'|(-?\w[\w.:/+-]*))\s*(?:#.*)?\Z"
)


def start_mode(text: str | None) -> str:
    """What start.conf says: auto, manual or disabled; auto when there is none."""
    lines = [line.partition("#")[0].strip() for line in (text or "").splitlines()]
    return next((line for line in lines if line), "auto")


def with_start(text: str | None) -> str:
    """start.conf so that the cluster comes back after a reboot, with its comments."""
    comments = [line for line in (text or "").splitlines() if not line.partition("#")[0].strip()]
    return "".join(f"{line}\n" for line in [*comments, "auto"])


def new_cluster_problems(
    asked: Mapping[str, Any], checksums: bool, locale: str, encoding: str
) -> list[str]:
    """What a new cluster has otherwise than it was asked for."""
    problems = []
    if asked.get("data_checksums") and not checksums:
        problems.append("its data pages have no checksums")
    if asked.get("locale") and _locale(locale) != _locale(asked["locale"]):
        problems.append(f"its locale is {locale}, not {asked['locale']}")
    if encoding != "UTF8":
        problems.append(f"its encoding is {encoding}, not UTF8")
    return problems


def _locale(name: str) -> str:
    return name.lower().replace("-", "")


def createcluster_entries(
    text: str | None, names: Iterable[str], read: Callable[[str], str]
) -> dict[str, Any]:
    """What createcluster.conf says of new clusters besides, or after, our own file.

    Args:
        text: createcluster.conf; None when there is none, for then the package brings its own.
        names: the names in its directory createcluster.d.
        read: gives the text of another file; empty when it can't be read.

    Returns:
        C(included), whether our file is read; and C(later), what is read after it, by name.
    """
    if text is None:
        return {"included": True, "later": {}}
    included = False
    later: dict[str, dict[str, str]] = {}

    def entries(path: str, content: str) -> None:
        for line in content.splitlines():
            found = _ENTRY.match(line)
            if found:
                quoted = found.group(2)
                value = found.group(3) if quoted is None else quoted.replace("''", "'")
                later[found.group(1).lower()] = {"value": value, "file": path}

    for line in text.splitlines():
        include = _INCLUDE.match(line)
        if not include:
            entries(CREATECLUSTER_FILE, line)
            continue
        path = include.group(2).rstrip("/")
        if not path.startswith("/"):
            path = f"{CREATECLUSTER_FILE.rpartition('/')[0]}/{path}"
        if include.group(1).lower() != "include_dir":
            entries(path, read(path))
        elif path == CREATECLUSTER_DIRECTORY:
            included = True
            later.clear()
            for name in sorted(names):
                if name > OUR_FILE and name.endswith(".conf"):
                    entries(f"{path}/{name}", read(f"{path}/{name}"))
    return {"included": included, "later": later}


def installed_packages(status: str) -> list[str]:
    """Names of the packages that are installed whole, out of dpkg's C(status) file, sorted."""
    found = set()
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").split()[1:] == ["ok", "installed"]:
            found.add(fields["Package"])
    return sorted(found)


def cluster_problems(
    name: str,
    major: int,
    port: int,
    listen_addresses: str | None,
    settings: Mapping[str, str | None],
    clusters: Iterable[Mapping[str, Any]],
    createcluster: Mapping[str, Any],
    new_options: Mapping[str, str],
    new_locale: str = "",
    new_locale_encoding: str = UTF8,
) -> list[str]:
    """Why the role can't set up, or go on with, such a cluster.

    Args:
        name: of the cluster.
        major: its version.
        port: C(postgres_port).
        listen_addresses: C(postgres_listen_addresses).
        settings: checked C(postgres_settings), with null values.
        clusters: those that are there.
        createcluster: what L(createcluster_entries) found.
        new_options: what the role asks of new clusters, by name.
        new_locale: C(postgres_locale), where it decides.
        new_locale_encoding: that of the locale on the host; empty when the host does not have it.
    """
    found = list(clusters)
    own = [one for one in found if (one["major"], one["name"]) == (major, name)]
    problems = [*_of_name(name), *_of_places(port, listen_addresses, settings, own)]
    for other in found:
        if other["port"] == port and other not in own:
            problems.append(
                f"postgres_port: port {port} belongs to cluster {other['major']}/{other['name']};"
                " to manage that one, set postgres_version and postgres_cluster to it, otherwise"
                " choose another port"
            )
    if any(one["start"] == "disabled" for one in own):
        problems.append(
            f"postgres_cluster: /etc/postgresql/{major}/{name}/start.conf says disabled, so that"
            " nothing starts this cluster; write auto there if it is to run, or leave this host"
            " out of the run"
        )
    if own:
        return problems
    return [
        *problems,
        *_of_locale(new_locale, new_locale_encoding),
        *_of_new_cluster(createcluster, new_options),
    ]


def _of_name(name: str) -> list[str]:
    if _CLUSTER_NAME.match(name):
        return []
    why = (
        "systemd takes a hyphen for a slash, so that its unit would look for another cluster"
        if "-" in name
        else "Debian's tools and systemd do not accept that name"
    )
    return [
        f"postgres_cluster: {name!r} is not a valid name, because {why}; use letters, digits and"
        " underscores"
    ]


def _of_places(
    port: int,
    listen_addresses: str | None,
    settings: Mapping[str, str | None],
    own: Iterable[Mapping[str, Any]],
) -> list[str]:
    """Where the server would listen, and who would not find it there."""
    problems = []
    if "port" in settings and _number(settings["port"]) != port:
        problems.append(
            f"postgres_settings.port: {_shown(settings['port'])}, but postgres_port is {port}, at"
            " which PgBouncer, the exporters and the playbooks connect; set postgres_port only"
        )
    addresses = settings.get("listen_addresses")
    if addresses is not None and listen_addresses and _items(addresses) != _items(listen_addresses):
        problems.append(
            f"postgres_settings.listen_addresses: {addresses!r}, but postgres_listen_addresses is"
            f" {listen_addresses!r}; set only that one"
        )
    given = settings.get("unix_socket_directories")
    # What the managed file says goes with the setting.
    files = [
        one["socket_directories"]
        for one in own
        if "unix_socket_directories" not in one["managed_settings"]
    ]
    where = "postgres_settings." if given is not None else "postgresql.conf: "
    directories = given if given is not None else next(iter(files), None)
    if directories is not None and not {SOCKET_DIRECTORY, "/run/postgresql"} & set(
        _items(directories)
    ):
        problems.append(
            f"{where}unix_socket_directories: {directories!r} leaves out {SOCKET_DIRECTORY}, where"
            " PgBouncer, the exporters, Debian's tools and this collection connect; name both,"
            f" such as '{', '.join([SOCKET_DIRECTORY, *_items(directories)])}'"
        )
    return problems


def _of_locale(name: str, encoding: str) -> list[str]:
    """The package is installed without a cluster when initdb does not take the locale."""
    if not name or encoding == UTF8 or (encoding and name in _ANY_ENCODING):
        return []
    what = f"has the encoding {encoding}" if encoding else "is not there"
    return [
        f"postgres_locale: {name!r} {what} on this host, so that no cluster with encoding UTF8 can"
        " be created with it; choose one that locale -a lists and that is for UTF-8, such as"
        " C.UTF-8, or generate it before: install the package locales, add a line such as"
        " 'de_DE.UTF-8 UTF-8' to /etc/locale.gen, and run locale-gen"
    ]


def _of_new_cluster(createcluster: Mapping[str, Any], options: Mapping[str, str]) -> list[str]:
    if not createcluster["included"]:
        return [
            f"postgres_cluster: {CREATECLUSTER_FILE} of this host does not include the directory"
            " in which the role says how a new cluster is to be (locale, checksums); add the line"
            f" include_dir '{CREATECLUSTER_DIRECTORY}' at its end"
        ]
    return [
        f"postgres_cluster: {entry['file']} of this host sets {name} = '{entry['value']}' for new"
        f" clusters, after what the role asks for ('{options[name]}'); remove that line"
        for name, entry in createcluster["later"].items()
        if name in options and entry["value"] != options[name]
    ]


def _items(text: str) -> list[str]:
    return [item.strip().strip('"').rstrip("/") for item in text.split(",") if item.strip()]


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.match(r"[0-9]{1,9}\Z", text.strip()) else None


def _shown(text: str | None) -> str:
    return "null leaves it to the server" if text is None else repr(text)
