# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: a machine that exists only in words, and what would be chosen as a table to read."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.budget import (
    MOST_CONNECTIONS,
    WORKLOADS,
    memory_amount_bytes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.os_user import OWN
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    check_major,
)

_MIB = 1024**2
# CPUs of a machine of which nobody says how many it has.
_USUAL_CPUS = 4
_MOST_CPUS = 8192
_MOST_MAJOR = 999
_HUGE_PAGES = ("try", "on", "off")
_DISKS = ("ssd", "hdd")
# What a person may say of a machine, and which of the role's variables that is.
ROLE_VARIABLES = {
    "workload": "postgres_workload",
    "max_connections": "postgres_max_connections",
    "version": "postgres_version",
    "share": "postgres_memory_share",
    "reserved": "postgres_memory_reserved",
    "storage": "postgres_storage",
    "settings": "postgres_settings",
}
_ROLE_SETTINGS = {"listen_addresses": "postgres_listen_addresses", "port": "postgres_port"}
_PRELOADED = "as postgres_preload_libraries says, after what the server preloads already"
_PRELOADED_TOO = (
    "as postgres_preload_libraries and the hardening profile say, after what it has already"
)
_CHOICES = {"workload": WORKLOADS, "storage": _DISKS, "huge_pages": _HUGE_PAGES}


def machine(
    asked: Mapping[str, Any],
    variables: Mapping[str, Any],
    defaults: Mapping[str, Any],
    default_versions: Mapping[str, int],
) -> dict[str, Any]:
    """A machine in words, as the role finds a real one.

    Args:
        asked: C(memory), C(cpus), C(huge_pages) and the names of ROLE_VARIABLES.
        variables: the role's variables that are given besides.
        defaults: the role's defaults. Nothing is None in all three.
        default_versions: the server's major by release, the newest last.

    Returns:
        C(host), what host_resources_info would return of it, but for C(asked), and C(variables) of
        the role.

    Raises:
        ValueError: naming what was asked, and what is allowed.
    """
    said = {name: _said(name, value) for name, value in asked.items() if value not in (None, "")}
    if "memory" not in said:
        instead = [f"{ROLE_VARIABLES[name]} for {name}" for name in said if name in ROLE_VARIABLES]
        raise ValueError(
            "memory: it is missing; give the memory of the machine, such as -e memory=64GB, or an"
            " inventory with a Postgres host" + (f", and {', '.join(instead)}" if instead else "")
        )
    decided: dict[str, Any] = {}
    for name, variable in ROLE_VARIABLES.items():
        given = variables.get(variable)
        if given not in (None, "") and name in said and str(given) != str(said[name]):
            raise ValueError(
                f"{name}: {said[name]}, but {variable} is given as {given}; leave one of them out"
            )
        decided[variable] = said.get(name, defaults.get(variable) if given is None else given)
    release, newest = list(default_versions.items())[-1]
    decided["postgres_version"] = int(decided["postgres_version"] or newest)
    if "huge_pages" in said:
        decided["postgres_settings"] = {
            **decided["postgres_settings"],
            "huge_pages": said["huge_pages"],
        }
    return {
        "host": {
            "resources": {
                "memory_bytes": said["memory"],
                "memory_bound_by": "given",
                "cpus": said.get("cpus", _USUAL_CPUS),
                "cpus_bound_by": "given" if "cpus" in said else "not given, so a usual number",
            },
            "distribution": {"id": "debian", "release": release},
            "postgres": {
                "installed": False,
                "majors": [decided["postgres_version"]],
                "clusters": [],
            },
            "pgbouncer": {"installed": False, "version": None, "os_user": OWN},
            "driver": False,
            "libraries": {},
            "umask_file": False,
            "createcluster": {"included": True, "later": {}},
            "locale_encoding": "UTF-8",
            "network_drop_ins": {},
            "packages": [],
            "services": [],
            "files": {},
            "package_lists": True,
        },
        "variables": decided,
    }


def _said(name: str, value: Any) -> Any:
    text = str(value).strip()
    if name == "memory":
        size = memory_amount_bytes("memory", value)
        if size < 64 * _MIB:
            raise ValueError(
                f"memory: {text} is less than 64 MB; give a number with a unit, such as 64GB"
            )
        return size
    if name == "reserved":
        memory_amount_bytes("reserved", value)
        return text
    if name == "cpus":
        return _whole(name, text, _MOST_CPUS)
    if name == "version":
        return check_major(_whole(name, text, _MOST_MAJOR), "version")
    if name == "max_connections":
        return "auto" if text == "auto" else str(_whole(name, text, MOST_CONNECTIONS))
    if name == "share":
        return _share(text)
    if name == "settings":
        return _settings(value)
    # A boolean is what "on" and "off" become in a file of variables.
    word = {"true": "on", "false": "off"}.get(text.lower(), text) if name == "huge_pages" else text
    if word not in _CHOICES[name]:
        raise ValueError(
            f"{name}: {text} is not allowed; choose one of {', '.join(_CHOICES[name])}"
        )
    return word


def _whole(name: str, text: str, most: int) -> int:
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise ValueError(f"{name}: {text} is not a whole number from 1 to {most}")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"share: {text} is not a valid share; give a number above 0 and up to 1")
    return share


def _settings(value: Any) -> dict[str, Any]:
    try:
        settings = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        settings = None
    if not isinstance(settings, Mapping):
        raise ValueError(
            'settings: give a dictionary, such as -e \'{"settings": {"work_mem": "64MB"}}\''
        )
    return dict(settings)


def lines(
    resources: Mapping[str, Any],
    memory: Mapping[str, Any],
    settings: Mapping[str, str],
    given: Mapping[str, Any],
    max_connections: int | str = "auto",
    preload_libraries: Sequence[str] = (),
    connections: Mapping[str, Any] | None = None,
    hardening: Mapping[str, Any] = MappingProxyType({}),
) -> list[str]:
    """The plan for one server: the sum of its memory, its settings, and its connections.

    Args:
        resources: what host_resources_info returns.
        memory: what the filter memory_budget returns.
        settings: all that the role writes.
        given: what the user says, checked; None leaves a setting to the server.
        max_connections: the role's variable.
        preload_libraries: the role's variable.
        connections: what the filter connection_budget returns; None where no client is known.
        hardening: what the filter hardening returns.
    """
    reasons = hardening.get("reasons", {})
    automatic = str(max_connections) == "auto"
    sized = [_sized_row(row, settings, automatic) for row in memory["rows"]]
    others = [
        _other_row(name, settings, given, reasons)
        for name in {*settings, *given} - {row[0] for row in sized}
    ]
    libraries = hardening.get("libraries", ())
    preloaded = ", ".join(dict.fromkeys([*preload_libraries, *libraries]))
    if preloaded and "shared_preload_libraries" not in given:
        how = _PRELOADED_TOO if libraries else _PRELOADED
        others.append(("shared_preload_libraries", preloaded, how))
    number = resources["cpus"]
    cpus = f"{number} CPU{'s' if number > 1 else ''} ({resources['cpus_bound_by']})"
    budget = memory["table"]
    # The settings follow the sum there; here they come in columns, together with all others.
    end = 1 + next(number for number, line in enumerate(budget) if line.split()[:1] == ["budget"])
    table = [
        *budget[:end],
        *budget[end + len(memory["rows"]) :],
        "",
        f"Settings by size, with {cpus}",
        *_aligned([("setting", "value", "how", "bound by"), *sized], values_to_the_right=True),
        "",
        "Other settings",
        *_aligned([("setting", "value", "how"), *sorted(others)]),
        *(f"  not set: {line}" for line in hardening.get("left_out", ())),
    ]
    if connections:
        table += ["", *connections["table"]]
        table += [f"Warning: {warning}" for warning in connections["warnings"]]
    return table


def _sized_row(
    row: Mapping[str, str], settings: Mapping[str, str], automatic: bool
) -> tuple[str, str, str, str]:
    """A setting by the machine's size: its value, how it came about, and what bound it."""
    name, by = row["name"], row["bound_by"]
    value = str(settings.get(name, row["value"]))
    if name == "max_connections" and not automatic and by != "postgres_settings":
        return name, value, "as postgres_max_connections says", "postgres_max_connections"
    return name, value, row["formula"], by


def _other_row(
    name: str, settings: Mapping[str, str], given: Mapping[str, Any], reasons: Mapping[str, str]
) -> tuple[str, str, str]:
    if name not in given:
        how = f"as {_ROLE_SETTINGS[name]} says" if name in _ROLE_SETTINGS else "for any server"
        how = reasons.get(name, how)
        return name, str(settings[name]), how
    value = "server's default" if given[name] is None else str(settings[name])
    return name, value, "as postgres_settings says"


def _aligned(rows: Sequence[Sequence[str]], values_to_the_right: bool = False) -> list[str]:
    """Rows in columns. The second has the values."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    shown = []
    for name, value, *rest in rows:
        placed = value.rjust(widths[1]) if values_to_the_right else value.ljust(widths[1])
        cells = [name.ljust(widths[0]), placed]
        cells += [text.ljust(width) for text, width in zip(rest, widths[2:])]
        shown.append("  " + "  ".join(cells).rstrip())
    return shown
