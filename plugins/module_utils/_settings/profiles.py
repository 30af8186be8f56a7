# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hardening profiles: what each brings, why, and for which point of the CIS Benchmark.

The numbers of points are those of the CIS PostgreSQL 16 Benchmark, as pgdsat 2.0 prints them.
"""

from __future__ import annotations

from dataclasses import dataclass

STANDARD = "standard"
CIS = "cis"
PROFILES = (STANDARD, CIS)
# Suites with forward secrecy and authenticated encryption. TLS 1.3 has no others.
CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
LOG_DIRECTORY = "/var/log/postgresql"
# In the managed file, so that what a profile preloaded goes with it and nothing else does.
MARKER = "pooled.hardening"
SOCKET = "unix_socket_permissions"
# Few enough that one role does not take all connections, enough for migrations that run at once.
LEAST_LIMIT = 10
# The server never enforces a superuser's; it would hold once the role is a superuser no more.
SUPERUSER_LIMIT = LEAST_LIMIT


@dataclass(frozen=True)
class Point:
    """A setting of a profile; C(cis) has also what C(standard) has.

    C(value) may name {major} and {cluster}; C(value_18) is what 18 and newer call the same.
    """

    setting: str
    value: str
    profile: str
    cis: str
    reason: str
    value_18: str = ""


@dataclass(frozen=True)
class Library:
    """A library that a profile preloads; C(package) is its part of the package's name.

    It is empty for those that come with the server.
    """

    name: str
    cis: str
    reason: str
    package: str = ""


POINTS = (
    Point(MARKER, CIS, CIS, "none", "says which profile the server has"),
    Point(
        "log_connections",
        "on",
        STANDARD,
        "3.1.20, 6.2",
        "who came in, from where and as whom",
        value_18="authorization",
    ),
    Point("log_disconnections", "on", STANDARD, "3.1.21, 6.2", "how long they stayed"),
    Point(
        "log_line_prefix",
        "%m [%p] %q%u@%d %a %h ",
        STANDARD,
        "3.1.24",
        "when, process, role, database, application and address",
    ),
    Point(
        "log_replication_commands",
        "on",
        STANDARD,
        "7.2",
        "who copies the whole server",
    ),
    Point(
        "password_encryption",
        "scram-sha-256",
        STANDARD,
        "5.12",
        "new passwords are stored as SCRAM verifiers",
    ),
    Point(
        "logging_collector",
        "on",
        CIS,
        "3.1.3",
        "no line is lost or torn; the lines go to the file that Debian rotates, as without it",
    ),
    Point("log_directory", LOG_DIRECTORY, CIS, "3.1.4, 3.1.27", "outside the data directory"),
    Point(
        "log_filename",
        "postgresql-{major}-{cluster}.log",
        CIS,
        "3.1.5",
        "the name that Debian's tools know",
    ),
    Point("log_file_mode", "0600", CIS, "3.1.6", "a file that the collector makes is the server's"),
    Point(
        "log_truncate_on_rotation",
        "on",
        CIS,
        "3.1.7",
        "has no effect while logrotate turns the file over",
    ),
    Point("log_rotation_age", "0", CIS, "3.1.8", "Debian's logrotate turns the file over"),
    Point("log_rotation_size", "0", CIS, "3.1.9", "Debian's logrotate turns the file over"),
    Point(
        "log_error_verbosity",
        "verbose",
        CIS,
        "3.1.22",
        "errors with their SQLSTATE and place in the source",
    ),
    Point("log_statement", "ddl", CIS, "3.1.25", "who created, altered or dropped what"),
    Point("log_timezone", "UTC", CIS, "3.1.26", "lines of several servers can be compared"),
    Point(
        "pgaudit.log",
        "ddl, role, write",
        CIS,
        "3.2",
        "statements that change data, objects or rights, in pgaudit's format",
    ),
    Point(
        "set_user.superuser_allowlist",
        "",
        CIS,
        "4.8",
        "nobody becomes superuser through set_user until you name who may",
    ),
    Point(
        SOCKET,
        "0770",
        CIS,
        "2.6",
        "only the server's OS user connects over the unix socket",
    ),
    Point(
        "auth_delay.milliseconds",
        "500",
        CIS,
        "5.7",
        "guessing passwords takes half a second for each",
    ),
    Point("ssl", "on", CIS, "6.8", "clients from elsewhere must use TLS"),
    Point("ssl_min_protocol_version", "TLSv1.3", CIS, "6.8", "no older protocol"),
    Point("ssl_ciphers", ":".join(CIPHERS), CIS, "6.10", "forward secrecy and nothing weaker"),
)
LIBRARIES = (
    Library("auth_delay", "5.7", "delays the answer to a wrong password"),
    Library(
        "passwordcheck",
        "5.6",
        "refuses weak passwords given as plain text; of verifiers, which it can't look into,"
        " only a password that is the role's name",
    ),
    Library("pgaudit", "3.2", "writes the audit log that pgaudit.log asks for", "pgaudit"),
    Library(
        "set_user",
        "4.8",
        "lets named roles become superuser for a while, with all they do in the log",
        "set-user",
    ),
)
