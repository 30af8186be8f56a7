# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for logins: what they are, and which are refused."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.names import IDENT_MAP

HOST_TYPES = ("host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc")
TYPES = ("local", *HOST_TYPES)
METHODS = (
    "scram-sha-256",
    "md5",
    "password",
    "trust",
    "reject",
    "peer",
    "ident",
    "cert",
    "ldap",
    "pam",
    "gss",
    "radius",
    "oauth",
)
LOOPBACK = ("127.0.0.1/32", "::1/128")
_RULE_KEYS = ("type", "database", "user", "address", "method", "options", "insecure")
INSECURE_METHODS = {
    "trust": "lets everybody in without a password",
    "password": "sends passwords in plain text",
}
# Methods of a rule for all users that let nobody in as another one without a password.
METHODS_FOR_ALL = ("scram-sha-256", "md5", "reject")
_ADDRESS_WORDS = ("all", "samehost", "samenet")
KEYWORDS = frozenset(("all", "sameuser", "samerole", "samegroup", "replication", *_ADDRESS_WORDS))
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.$-]*\Z")
# Resolvers take underscores too, though they are not in the standard.
_HOST_NAME = re.compile(r"\.?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\Z")
# What pg_hba.conf itself takes for several names, a quoted one, or the name of a file.
_FILE_SYNTAX = re.compile(r'.*[,"]|@')
_OPTION_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REGEX_SINCE = 16


@dataclass(frozen=True)
class LoginRule:
    """One line of pg_hba.conf; the fields hold tokens as the file has them, quoted where needed."""

    type: str
    databases: tuple[str, ...]
    users: tuple[str, ...]
    address: str
    method: str
    options: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, str, str, str]:
        """What comes before the method."""
        return self.type, ",".join(self.databases), ",".join(self.users), self.address

    def line(self, widths: Sequence[int] = ()) -> str:
        """The rule as a line, in columns of at least these widths."""
        widths = widths or [len(field) for field in self.fields]
        columns = [f"{text:<{width}}" for text, width in zip(self.fields, widths)]
        return " ".join([*(text for text in columns if text), self.method, *self.options])


@dataclass(frozen=True)
class IdentLine:
    """One line of pg_ident.conf: an OS user who may log in as a database user."""

    os_user: str
    database_user: str

    def line(self) -> str:
        """The line, in columns."""
        return f"{IDENT_MAP:<16} {quoted(self.os_user):<24} {quoted(self.database_user)}"


@dataclass(frozen=True)
class CheckedRules:
    """Extra rules and networks that passed all checks, and what to be warned of."""

    rules: tuple[LoginRule, ...]
    client_networks: tuple[str, ...]
    pooler_networks: tuple[str, ...]
    warnings: tuple[str, ...]


def quoted(name: str, major: int = 0) -> str:
    """A name as a token that means just that name.

    From 16 on, a name that starts with a slash is read as a regular expression even in quotes, so
    it becomes one that matches nothing else.
    """
    if name.startswith("/") and major >= _REGEX_SINCE:
        name = "/^" + re.sub(r"([^A-Za-z0-9_])", r"\\\1", name) + "$"
    if PLAIN_NAME.match(name) and name not in KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def check_rules(
    rules: Any,
    client_networks: Any = (),
    pooler_networks: Any = (),
    *,
    rules_variable: str = "postgres_hba",
    clients_variable: str = "postgres_client_networks",
    poolers_variable: str = "pooler_networks",
) -> CheckedRules:
    """Check what people write, before anything changes.

    Raises:
        ValueError: naming the entry, its value and what is allowed.
    """
    warnings: list[str] = []
    clients = _networks(clients_variable, client_networks)
    poolers = _networks(poolers_variable, pooler_networks)
    warnings.extend(
        f"{clients_variable}: {network} is every address there is; name the networks of the clients"
        for network in clients
        if network.endswith("/0")
    )
    parsed: list[LoginRule] = []
    for index, entry in enumerate(_listed(rules_variable, rules)):
        where = f"{rules_variable}[{index}]"
        rule = _rule(where, entry)
        if rule.method == "md5":
            warnings.append(
                f"{where}: method md5 also takes passwords that are stored as MD5 hashes, which"
                " Postgres has deprecated; scram-sha-256 does not"
            )
        parsed.append(rule)
    return CheckedRules(tuple(parsed), clients, poolers, tuple(warnings))


def network(where: str, value: Any) -> str:
    """A network in CIDR notation; a single address becomes the network of just that one.

    Raises:
        ValueError: when it is none, or when it has bits set beyond its prefix.
    """
    text = str(value).strip()
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{where}: {value!r} is not a valid network; give one such as 10.0.0.0/8 or"
            " 2001:db8::/32"
        ) from None
    raise ValueError(
        f"{where}: {value!r} is an address with a prefix, not a network; the network is {meant},"
        f" the address alone {text.partition('/')[0]}/{meant.max_prefixlen}"
    )


def _listed(where: str, value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where}: give a list, not {type(value).__name__}")
    return value


def _networks(where: str, value: Any) -> tuple[str, ...]:
    given = _listed(where, value)
    parsed = (network(f"{where}[{index}]", entry) for index, entry in enumerate(given))
    return tuple(dict.fromkeys(parsed))


def _rule(where: str, entry: Any) -> LoginRule:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: give a dictionary, not {type(entry).__name__}")
    unknown = sorted(str(key) for key in entry if key not in _RULE_KEYS)
    if unknown:
        raise ValueError(
            f"{where}: unknown key {', '.join(unknown)}; allowed are {', '.join(_RULE_KEYS)}"
        )
    kind, method = entry.get("type", "host"), entry.get("method", "scram-sha-256")
    if kind not in TYPES:
        raise ValueError(
            f"{where}.type: {kind!r} is not a valid type; choose one of {', '.join(TYPES)}"
        )
    if method not in METHODS:
        raise ValueError(
            f"{where}.method: {method!r} is not a valid method; choose one of {', '.join(METHODS)}"
        )
    _check_method(where, kind, method, bool(entry.get("insecure")))
    return LoginRule(
        kind,
        _name_tokens(where + ".database", entry.get("database")),
        _name_tokens(where + ".user", entry.get("user")),
        _address(where + ".address", kind, entry.get("address")),
        method,
        _options(where + ".options", entry.get("options")),
    )


def _check_method(where: str, kind: str, method: str, insecure: bool) -> None:
    if method in INSECURE_METHODS and not insecure:
        raise ValueError(
            f"{where}.method: {method} {INSECURE_METHODS[method]}; use scram-sha-256, or peer for"
            " local, or add insecure: true to the rule if that is really meant"
        )
    if kind != "local" and method == "peer":
        raise ValueError(f"{where}.method: peer works for type local only, not for {kind}")
    if kind == "local" and method in ("ident", "cert", "gss"):
        raise ValueError(f"{where}.method: {method} does not work for type local")
    if kind != "hostssl" and method == "cert":
        raise ValueError(f"{where}.method: cert works for type hostssl only, not for {kind}")


def _name_tokens(where: str, value: Any) -> tuple[str, ...]:
    """Tokens of databases or users; keywords, +group and /regular expression keep their meaning.

    A rule with a name that nothing has matches nobody, also one that is to reject.
    """
    if isinstance(value, str) and _FILE_SYNTAX.match(value) and not value.startswith("/"):
        raise ValueError(
            f"{where}: {value!r} is written as in pg_hba.conf, and here it would be one name; give"
            " a list of names without quotes, such as [a, b]. If it is a name, give a list of just"
            " it"
        )
    names = value if isinstance(value, (list, tuple)) else [value]
    if not names:
        raise ValueError(f"{where}: give at least one name, or all")
    result = []
    for name in names:
        if not isinstance(name, str) or not name or _CONTROL.search(name):
            raise ValueError(
                f"{where}: {name!r} is not a valid name; give a name, a list of names, or all"
            )
        if name in KEYWORDS or (name.startswith("+") and PLAIN_NAME.match(name[1:])):
            result.append(name)
        else:
            result.append(quoted(name))
    return tuple(result)


def _address(where: str, kind: str, value: Any) -> str:
    if kind == "local":
        if value:
            raise ValueError(f"{where}: {value!r}: a rule of type local has no address")
        return ""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}: a rule of type {kind} needs an address, such as 10.0.0.0/8")
    if value in _ADDRESS_WORDS:
        return value
    if not re.search(r"[/:]", value) and not re.match(r"[0-9.]+\Z", value):
        if _HOST_NAME.match(value):
            return value
        raise ValueError(f"{where}: {value!r} is neither a network nor the name of a host")
    return network(where, value)


def _options(where: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: give a dictionary, not {type(value).__name__}")
    result = []
    for name, given in value.items():
        if not isinstance(name, str) or not _OPTION_NAME.match(name):
            raise ValueError(f"{where}: {name!r} is not a valid name of an option")
        text = str(int(given)) if isinstance(given, bool) else str(given)
        if _CONTROL.search(text):
            raise ValueError(f"{where}.{name}: control characters are not allowed")
        token = f"{name}={text}"
        plain = re.match(r"[A-Za-z0-9_=./:-]+\Z", token)
        result.append(token if plain else '"' + token.replace('"', '""') + '"')
    return tuple(result)
