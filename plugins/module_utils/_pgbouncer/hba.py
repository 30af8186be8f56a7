# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's own rules for logins: who of the model may come through the pool from where.

PgBouncer drops a line that it can't parse with just a warning, and refuses whoever no line lets in.
So every line here lets somebody in, and one that is dropped never opens anything.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    model_roles,
    pooled_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.clients import (
    CONSOLE,
    Client,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_file import (
    aligned,
    tokens,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    LOOPBACK,
    LoginRule,
    quoted,
)

FILE_NAME = "pooled_hba.conf"
HEADER = (
    "# Managed by Ansible, collection pooled.postgres: changes made here by hand are replaced.\n"
)

# The method of rules that asks clients for what an auth_type asks them.
_METHODS = {
    "scram-sha-256": "scram-sha-256",
    "md5": "md5",
    "plain": "password",
    "cert": "cert",
}
# PgBouncer 1.18 does not know the address "all".
_EVERYWHERE = ("0.0.0.0/0", "::/0")
_NO_TLS = ("", "disable")
_TYPES = ("local", "host", "hostssl", "hostnossl")
_READ_METHODS = (*_METHODS.values(), "peer", "trust", "reject", "ldap", "pam")
# Options that name files with rules of the operator's own, and the map that these refer to.
_OWN_FILES = ("auth_hba_file", "auth_ident_file")
# What PgBouncer logs about lines that it reads otherwise than written, or not at all.
_COMPLAINT = re.compile(
    r"(?:could not (?:parse|open) (?:hba|ident) config|(?:hba|ident) line [0-9]+:"
    r"|address does not match mask).*"
)


@dataclass(frozen=True)
class Access:
    """Who may come through the pool.

    C(options) are those of [pgbouncer] with what makes PgBouncer read the rules, and C(text) is
    their file, empty where PgBouncer needs none.
    """

    options: Mapping[str, str]
    rules: tuple[LoginRule, ...] = ()

    @property
    def text(self) -> str:
        """The file with the rules; empty for none."""
        if not self.rules:
            return ""
        return HEADER + "".join(f"{line}\n" for line in aligned(self.rules))


def path_beside(config_file: str) -> str:
    """Where the rules are kept."""
    return os.path.join(os.path.dirname(config_file), FILE_NAME)


def is_ours(text: str) -> bool:
    """Whether a file holds rules that this collection wrote."""
    return text.startswith(HEADER)


def access(
    options: Mapping[str, str],
    databases: Sequence[Database],
    *,
    path: str,
    client_networks: Iterable[str] = (),
    require_tls: bool = False,
    where: str = "options",
) -> Access:
    """Who may come through the pool, and the options that see to it.

    Without networks, TLS and roles that are kept out, PgBouncer is left without rules.

    Args:
        options: those of [pgbouncer].
        databases: the model.
        path: the file for the rules.
        client_networks: where clients may be, checked; empty for everywhere.
        require_tls: whether clients on other hosts need TLS.
        where: the variable that holds the options, for error messages.

    Raises:
        ValueError: naming the variable, its value, and what to do.
    """
    networks = tuple(client_networks)
    kept_out = [role.name for role in model_roles(databases) if not role.pooled]
    prefix = "pgbouncer_" if where == "pgbouncer_settings" else ""
    reasons = {
        f"{prefix}client_networks: []": bool(networks),
        f"{prefix}require_tls: false": require_tls,
        "no role with pooled: false": bool(kept_out),
    }
    without = ", ".join(text for text, given in reasons.items() if given)
    if not without:
        return Access(options)
    _check(options, prefix or f"{where}.", where, without, require_tls)
    rules = _rules(options, databases, networks or _EVERYWHERE, require_tls)
    return Access({**options, "auth_type": "hba", "auth_hba_file": path}, rules)


def listens_to_others(listen_addr: str) -> bool:
    """Whether some of the addresses to listen on can be reached from other hosts."""
    return any(not _is_loopback(part.strip()) for part in listen_addr.split(",") if part.strip())


def admits(rules: Iterable[LoginRule], client: Client) -> bool:
    """Whether a client may log in, as PgBouncer reads the rules: the first that matches decides."""
    for rule in rules:
        if (
            _reaches(rule, client)
            and _names(rule.databases, client.database)
            and _names(rule.users, client.user)
        ):
            return rule.method != "reject"
    return False


def refused(rules: Iterable[LoginRule], clients: Iterable[Client]) -> list[str]:
    """Clients that are connected and could not log in again, in words, each once."""
    rules = tuple(rules)
    return sorted({_shown(client) for client in set(clients) if not admits(rules, client)})


def own_files(options: Mapping[str, str]) -> list[str]:
    """Files with rules that this collection does not write, and that PgBouncer may drop lines of.

    Args:
        options: those of [pgbouncer] that were asked for, before access().
    """
    return [options[name] for name in _OWN_FILES if options.get(name)]


def dropped(lines: Sequence[str], files: Sequence[str]) -> str:
    """That PgBouncer drops rules, in words.

    Args:
        lines: the complaints().
        files: the own_files(); empty when all rules are this collection's.
    """
    where = f" of {' and '.join(files)}" if files else ""
    advice = (
        ". A line that it drops does not keep anybody out, so correct or remove each of these"
        if files
        else ""
    )
    return f"it drops rules for logins{where}: {listing(lines)}{advice}"


def listing(lines: Sequence[str]) -> str:
    """The first few lines of many."""
    most = 5
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return "; ".join([*lines[:most], *more])


def complaints(log: str) -> list[str]:
    """What PgBouncer said in its log about the rules that it did not take as they are."""
    return [match.group() for match in map(_COMPLAINT.search, log.splitlines()) if match]


def parsed(text: str) -> tuple[LoginRule, ...]:
    """The rules in a file, as far as PgBouncer takes them."""
    found = []
    for line in text.split("\n"):
        words = _fields(line)
        if len(words) >= 4 and words[0] == "local":
            words.insert(3, "")
        elif len(words) >= 6 and re.match(r"[0-9.]+\Z|.*:", words[4]):
            words[3:5] = [f"{words[3]}/{words[4]}"]
        if len(words) < 5 or words[0] not in _TYPES or words[4] not in _READ_METHODS:
            continue
        if all(word.startswith("map=") for word in words[5:]):
            databases, users = (tuple(_items(word)) for word in words[1:3])
            found.append(LoginRule(words[0], databases, users, words[3], words[4]))
    return tuple(found)


def _shown(client: Client) -> str:
    where = client.address or "the unix socket"
    plain = " without TLS" if client.address and not client.tls else ""
    return f"{client.user!r} in {client.database!r} from {where}{plain}"


def _check(
    options: Mapping[str, str], prefix: str, where: str, without: str, require_tls: bool
) -> None:
    kind = options.get("auth_type", "md5")
    mode = options.get("client_tls_sslmode", "")
    if kind not in _METHODS:
        raise ValueError(
            f"{prefix}auth_type: {kind!r} does not go together with rules that this collection"
            " writes, with which networks, TLS and roles of the model hold through PgBouncer;"
            f" choose one of {', '.join(_METHODS)}, or do without them: {without}"
        )
    if options.get("auth_hba_file"):
        raise ValueError(
            f"{where}.auth_hba_file: {options['auth_hba_file']!r} would take the place of the rules"
            " that this collection writes, with which networks, TLS and roles of the model hold"
            f" through PgBouncer; remove it, or do without them: {without}"
        )
    # With auth_type hba, PgBouncer itself no longer sees to it.
    if kind == "cert" and mode != "verify-full":
        raise ValueError(
            f"{prefix}client_tls_sslmode: auth_type 'cert' needs 'verify-full', and it is {mode!r}"
        )
    listen = options.get("listen_addr", "")
    if require_tls and mode in _NO_TLS and listens_to_others(listen):
        raise ValueError(
            f"{prefix}client_tls_sslmode: it is {mode or 'disable'!r}, and clients on other hosts"
            " need TLS (postgres_require_tls, pgbouncer_require_tls), so that none of them could"
            f" log in; set it to 'require', with {prefix}client_tls_cert_file and"
            f" {prefix}client_tls_key_file. Or let PgBouncer listen on this host alone"
            f" ({prefix}listen_addr: 127.0.0.1, and now it is {listen}), or let clients come"
            " without TLS (pgbouncer_require_tls: false)"
        )


def _rules(
    options: Mapping[str, str],
    databases: Sequence[Database],
    networks: Sequence[str],
    require_tls: bool,
) -> tuple[LoginRule, ...]:
    method = _METHODS[options.get("auth_type", "md5")]
    proves_by_tls = method == "cert"
    elsewhere = "hostssl" if require_tls or proves_by_tls else "host"
    here = "hostssl" if proves_by_tls else "host"
    loopback = LOOPBACK
    rules: list[LoginRule] = []

    def add(names: tuple[str, ...], users: tuple[str, ...], addresses: Iterable[str]) -> None:
        if not proves_by_tls:
            rules.append(LoginRule("local", names, users, "", method))
        rules.extend(
            LoginRule(here if one in loopback else elsewhere, names, users, one, method)
            for one in dict.fromkeys((*loopback, *addresses))
        )

    for database in databases:
        served = (database.name, *(alias.name for alias in database.aliases))
        users = tuple(quoted(role.name) for role in pooled_roles([database]))
        if users:
            add(tuple(map(quoted, served)), users, networks)
    # Who may use the console by name can do so on this host.
    watchers = [
        name.strip()
        for option in ("admin_users", "stats_users")
        for name in options.get(option, "").split(",")
        if name.strip()
    ]
    if watchers:
        add((CONSOLE,), tuple(dict.fromkeys(map(quoted, watchers))), ())
    return tuple(rules)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _reaches(rule: LoginRule, client: Client) -> bool:
    if rule.type == "local" or not client.address:
        return rule.type == "local" and not client.address
    if rule.type == ("hostnossl" if client.tls else "hostssl"):
        return False
    if rule.address == "all":
        return True
    try:
        return ipaddress.ip_address(client.address) in ipaddress.ip_network(rule.address)
    except ValueError:
        return False


def _names(tokens: Sequence[str], name: str) -> bool:
    return "all" in tokens or name in [_unquoted(token) for token in tokens]


def _unquoted(token: str) -> str:
    return token[1:-1].replace('""', '"') if token.startswith('"') else token


def _fields(line: str) -> list[str]:
    """The tokens of a line, with lists joined that have blanks around their commas."""
    fields: list[str] = []
    for word in tokens(line):
        if fields and (fields[-1].endswith(",") or word.startswith(",")):
            fields[-1] += word
        else:
            fields.append(word)
    return fields


def _items(field: str) -> list[str]:
    return re.findall(r'"(?:[^"]|"")*"|[^,"]+', field)
