# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_hba.conf and pg_ident.conf: who may log in from where, and how it is proved."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    absent_roles,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import IDENT_MAP

FILE_HEADER = "# Managed by pooled.postgres: lines of others in this file are removed."
KEPT_HEADER = "# Lines of others, for databases and roles that the model does not know:"
BLOCK_BEGIN = "# BEGIN pooled.postgres"
BLOCK_END = "# END pooled.postgres"

HOST_TYPES = ("host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc")
TYPES = ("local", *HOST_TYPES)
# Words that bring another file's lines, from this major on.
INCLUDES = ("include", "include_if_exists", "include_dir")
INCLUDES_MAJOR = 16
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

# The rules of a server as Debian's package creates it.
PACKAGE_RULES = (
    "local all postgres peer",
    "local all all peer",
    "host all all 127.0.0.1/32 scram-sha-256",
    "host all all ::1/128 scram-sha-256",
    "local replication all peer",
    "host replication all 127.0.0.1/32 scram-sha-256",
    "host replication all ::1/128 scram-sha-256",
)

_RULE_KEYS = ("type", "database", "user", "address", "method", "options", "insecure")
_INSECURE = {
    "trust": "lets everybody in without a password",
    "password": "sends passwords in plain text",
}
# Methods of a rule for all users that let nobody in as another one without a password.
_METHODS_FOR_ALL = ("scram-sha-256", "md5", "reject")
_ADDRESS_WORDS = ("all", "samehost", "samenet")
_KEYWORDS = frozenset(("all", "sameuser", "samerole", "samegroup", "replication", *_ADDRESS_WORDS))
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.$-]*\Z")
# Resolvers take underscores too, though they are not in the standard.
_HOST_NAME = re.compile(r"\.?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\Z")
# What pg_hba.conf itself takes for several names, a quoted one, or the name of a file.
_FILE_SYNTAX = re.compile(r'.*[,"]|@')
_OPTION_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r'(?:"(?:[^"]|"")*"|[^\s"#])+')
_REGEX_SINCE = 16
# Wider fields stand out of their column, so that one long list does not push all others away.
_WIDEST = 48


@dataclass(frozen=True)
class Rule:
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
class IncludedRule:
    """A rule of another file, as the server has read it; C(error) is empty when it could."""

    file: str
    line: int
    type: str
    databases: tuple[str, ...]
    users: tuple[str, ...]
    method: str
    error: str = ""

    def __str__(self) -> str:
        words = (self.type, ",".join(self.databases), ",".join(self.users), "...", self.method)
        return f"{self.file} line {self.line}: {self.error or ' '.join(words)}"


@dataclass(frozen=True)
class Checked:
    """Extra rules and networks that passed all checks, and what to be warned of."""

    rules: tuple[Rule, ...]
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
    if _PLAIN.match(name) and name not in _KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def checked(
    rules: Any,
    client_networks: Any = (),
    pooler_networks: Any = (),
    *,
    rules_variable: str = "postgres_hba",
    clients_variable: str = "postgres_client_networks",
    poolers_variable: str = "pooler_networks",
) -> Checked:
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
    parsed: list[Rule] = []
    for index, entry in enumerate(_listed(rules_variable, rules)):
        where = f"{rules_variable}[{index}]"
        rule = _rule(where, entry)
        if rule.method == "md5":
            warnings.append(
                f"{where}: method md5 also takes passwords that are stored as MD5 hashes, which"
                " Postgres has deprecated; scram-sha-256 does not"
            )
        parsed.append(rule)
    return Checked(tuple(parsed), clients, poolers, tuple(warnings))


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


def model_rules(
    databases: Sequence[Database],
    *,
    major: int,
    client_networks: Sequence[str] = (),
    pooler_role: str = "",
    pooler_networks: Sequence[str] = (),
    require_tls: bool = False,
    require_tls_on_loopback: bool = False,
    superuser: str = "postgres",
    superuser_os_user: str = "postgres",
) -> tuple[Rule, ...]:
    """The rules that follow from the model, in the order in which the server must read them.

    The rules for the unix socket come before any C(local all all peer), which would otherwise
    refuse the model's roles there. With TLS required, what comes without it from elsewhere is
    rejected, so that no rule below lets it in. Roles that must not come through PgBouncer are let
    in from its hosts only where these are among the clients' networks.
    """
    mapped = () if superuser == superuser_os_user else (f"map={IDENT_MAP}",)
    owner = (quoted(superuser, major),)
    rules = [
        Rule("local", ("all",), owner, "", "peer", mapped),
        Rule("local", ("replication",), owner, "", "peer", mapped),
    ]
    served = [database for database in databases if database.roles]
    names = {database.name: (quoted(database.name, major),) for database in served}
    roles = {
        database.name: tuple(quoted(role.name, major) for role in database.roles)
        for database in served
    }
    pooler = (quoted(pooler_role, major),)
    if pooler_role:
        rules += [
            Rule("local", names[database.name], pooler, "", "peer", (f"map={IDENT_MAP}",))
            for database in served
        ]
    rules += [
        Rule("local", names[database.name], roles[database.name], "", "scram-sha-256")
        for database in served
    ]
    clients = tuple(dict.fromkeys((*LOOPBACK, *client_networks)))
    everywhere = tuple(dict.fromkeys((*clients, *pooler_networks)))
    # PgBouncer logs in as the role itself: from its hosts only those come that it may let in.
    pooled = {
        database.name: tuple(quoted(role.name, major) for role in database.roles if role.pooled)
        for database in served
    }
    elsewhere = "hostssl" if require_tls else "host"
    here = "hostssl" if require_tls and require_tls_on_loopback else "host"
    rules += [
        Rule(
            here if address in LOOPBACK else elsewhere,
            names[database.name],
            (roles if address in clients else pooled)[database.name],
            address,
            "scram-sha-256",
        )
        for database in served
        for address in everywhere
        if address in clients or pooled[database.name]
    ]
    if pooler_role:
        rules += [
            Rule(elsewhere, names[database.name], pooler, address, "scram-sha-256")
            for database in served
            for address in dict.fromkeys(pooler_networks)
        ]
    if require_tls:
        rules += [
            Rule(
                "hostnossl",
                names[database.name],
                (*roles[database.name], *(pooler if pooler_role else ())),
                "all",
                "reject",
            )
            for database in served
        ]
    return tuple(rules)


def ident_lines(
    *,
    pooler_role: str = "",
    pooler_os_user: str = "postgres",
    superuser: str = "postgres",
    superuser_os_user: str = "postgres",
) -> tuple[IdentLine, ...]:
    """The map that model_rules() refers to.

    The superuser's OS user may be PgBouncer's role too, which gives it nothing new: PgBouncer can
    log in before and after it got an OS user of its own.
    """
    lines = []
    if superuser != superuser_os_user:
        lines.append(IdentLine(superuser_os_user, superuser))
    if pooler_role:
        users = dict.fromkeys((pooler_os_user, superuser_os_user))
        lines += [IdentLine(user, pooler_role) for user in users if user]
    return tuple(lines)


def hba_text(existing: str, rules: Iterable[Rule], whole: bool, kept: Sequence[str] = ()) -> str:
    """The wanted pg_hba.conf.

    Args:
        existing: the file as it is.
        rules: all our rules, in order.
        whole: whether the file is ours alone; otherwise unmanaged lines stay, below ours.
        kept: unmanaged lines to keep even in a file that is ours.
    """
    block = [BLOCK_BEGIN, *aligned(tuple(rules)), BLOCK_END]
    if whole:
        below = [KEPT_HEADER, *kept] if kept else []
        return "\n".join([FILE_HEADER, *block, *below]) + "\n"
    rest = _without_block("pg_hba.conf", existing)
    return "\n".join(block) + "\n" + rest


def aligned(rules: Sequence[Rule]) -> list[str]:
    """The rules as lines, in columns."""
    fields = zip(*(rule.fields for rule in rules))
    widths = [
        max([len(text) for text in column if len(text) <= _WIDEST] or [0]) for column in fields
    ]
    return [rule.line(widths) for rule in rules]


def ident_text(existing: str, lines: Iterable[IdentLine]) -> str:
    """The wanted pg_ident.conf: lines of other maps stay, ours are in a block at the end."""
    kept = [
        line
        for line in _without_block("pg_ident.conf", existing).splitlines(keepends=True)
        if tokens(line)[:1] not in ([IDENT_MAP], [f'"{IDENT_MAP}"'])
    ]
    text = "".join(kept)
    if text and not text.endswith("\n"):
        text += "\n"
    block = [line.line() for line in lines]
    if not block:
        return text
    return text + "\n".join([BLOCK_BEGIN, *block, BLOCK_END]) + "\n"


def include_lines(existing: str) -> tuple[str, ...]:
    """Lines outside our block that bring other files' lines."""
    lines = _without_block("pg_hba.conf", existing).splitlines()
    return tuple(line for line in lines if _includes(line))


def has_includes(existing: str) -> bool:
    """Whether a file brings other files' lines."""
    return any(map(_includes, existing.splitlines()))


def _includes(line: str) -> bool:
    return tokens(line)[:1] in [[word] for word in INCLUDES]


def decided_by_the_model(
    included: Iterable[IncludedRule], databases: Iterable[str], roles: Iterable[str]
) -> tuple[IncludedRule, ...]:
    """Rules of other files that a managed file can't have below ours, with the same condition.

    Args:
        included: what the included files say.
        databases: databases that the model does not know.
        roles: roles that the model does not know.
    """
    theirs, users = frozenset(databases), frozenset(roles)
    return tuple(
        rule
        for rule in included
        if rule.error
        or not _plain(rule.databases) <= theirs
        or not (
            rule.method in _METHODS_FOR_ALL
            if rule.users == ("all",)
            else _plain(rule.users) <= users
        )
    )


def _plain(names: Iterable[str]) -> frozenset[str]:
    """Names as the server shows them, without quotes; an empty one for what may be more."""
    return frozenset(
        "" if name in _KEYWORDS or name[:1] in ("+", "/", "@") else name for name in names
    )


def unmanaged_lines(
    existing: str, databases: Iterable[str], roles: Iterable[str]
) -> tuple[str, ...]:
    """Lines outside our block that let just unmanaged roles into just unmanaged databases.

    Lines that bring other files' are among them: see decided_by_the_model().

    Each database has to be named. Each role has to be, too, unless the method asks everybody for a
    password, with which a line may let all users into those databases.

    Args:
        existing: the file as it is.
        databases: databases that the model does not know.
        roles: roles that the model does not know.
    """
    theirs = frozenset(databases), frozenset(roles)
    return tuple(
        line
        for line in _without_block("pg_hba.conf", existing).splitlines()
        if _includes(line) or _is_unmanaged(line, *theirs)
    )


def _is_unmanaged(line: str, databases: frozenset[str], roles: frozenset[str]) -> bool:
    fields = _fields(line)
    if len(fields) < 4 or fields[0] not in TYPES or line.endswith("\\"):
        return False
    if not _names(fields[1]) <= databases:
        return False
    if fields[2] == "all":
        method = fields[3 if fields[0] == "local" else 4 : 5]
        return bool(method) and method[0] in _METHODS_FOR_ALL
    return _names(fields[2]) <= roles


def _fields(line: str) -> list[str]:
    """The tokens of a line, with lists that have blanks after their commas joined."""
    fields: list[str] = []
    for word in tokens(line):
        if fields and fields[-1].endswith(","):
            fields[-1] += word
        else:
            fields.append(word)
    return fields


def _names(field: str) -> frozenset[str]:
    """The names in a list; an empty one, which nothing has, for what is not just a name."""
    names = []
    items = re.findall(r'("(?:[^"]|"")*"|[^,"]+)(?:,|\Z)', field)
    if ",".join(items) != field:
        return frozenset([""])
    for item in items:
        if re.match(r'"(?:[^"]|"")+"\Z', item):
            name = item[1:-1].replace('""', '"')
            names.append("" if name.startswith("/") else name)
        else:
            names.append(item if _PLAIN.match(item) and item not in _KEYWORDS else "")
    return frozenset(names)


def named_by_unmanaged_lines(existing: str) -> tuple[frozenset[str], frozenset[str]]:
    """Databases and roles that lines outside our block name."""
    databases: set[str] = set()
    roles: set[str] = set()
    for line in _without_block("pg_hba.conf", existing).splitlines():
        fields = _fields(line)
        if len(fields) >= 4 and fields[0] in TYPES:
            databases |= _names(fields[1])
            roles |= _names(fields[2])
    return frozenset(databases - {""}), frozenset(roles - {""})


def is_ours(text: str) -> bool:
    """Whether the whole file is ours already."""
    return text.startswith(FILE_HEADER)


def is_as_packaged(text: str) -> bool:
    """Whether the file holds just the rules that Debian's package creates."""
    return effective_rules(text.replace(" md5", " scram-sha-256")) == PACKAGE_RULES


def effective_rules(text: str) -> tuple[str, ...]:
    """The rules of a file without comments, blanks and alignment."""
    return tuple(" ".join(words) for words in map(tokens, text.splitlines()) if words)


def tokens(line: str) -> list[str]:
    """The tokens of a line, quotes kept; empty for a comment."""
    words: list[str] = []
    position = 0
    while position < len(line) and line[position] != "#":
        match = _TOKEN.match(line, position)
        if match:
            words.append(match.group())
            position = match.end()
        elif line[position] == '"':
            words.append(line[position:].strip())
            break
        else:
            position += 1
    return words


def unsafe_lines(text: str) -> tuple[str, ...]:
    """What kept unmanaged lines allow that nobody should, for a warning each."""
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = tokens(line)
        if words and words[0] in TYPES:
            found.extend(
                f"line {number} has method {method}, which {reason}: {' '.join(words)}"
                for method, reason in _INSECURE.items()
                if method in words[3:]
            )
    return tuple(found)


def shown_change(before: str, after: str) -> dict[str, str]:
    """A diff's two sides, without the comments of a file that is still as it was packaged.

    A rule that is the same but for its alignment is shown as it will be.
    """
    if not effective_rules(before) and after.startswith(before):
        return {"before": "", "after": after[len(before) :]}
    if is_as_packaged(before):
        before = "".join(f"{rule}\n" for rule in PACKAGE_RULES)
    shown = {" ".join(tokens(line)): line for line in after.splitlines(keepends=True)}
    lines = before.splitlines(keepends=True)
    same = "".join(
        shown.get(" ".join(tokens(line)), line) if tokens(line) else line for line in lines
    )
    return {"before": before if same == after else same, "after": after}


def unmanaged(
    databases: Sequence[Database], names: Iterable[str], more: Iterable[str]
) -> list[str]:
    """Names on the server that are neither the model's nor among some more."""
    ours = {role.name for role in model_roles(databases)}
    ours.update(role.name for role in absent_roles(databases))
    ours.update(database.name for database in databases)
    ours.update(more)
    return sorted(name for name in names if name not in ours)


def _without_block(name: str, text: str) -> str:
    """The unmanaged lines."""
    kept: list[str] = []
    inside = 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        bare = line.strip()
        if bare == BLOCK_BEGIN and not inside:
            inside = number
        elif bare == BLOCK_END and inside:
            inside = 0
        elif not inside and bare not in (FILE_HEADER, KEPT_HEADER, BLOCK_END):
            kept.append(line)
    if inside:
        raise ValueError(
            f"{name}: line {inside} says {BLOCK_BEGIN!r}, but no line below it says {BLOCK_END!r},"
            " so that managed lines can't be told from unmanaged ones; put that line back below"
            " the managed ones"
        )
    return "".join(kept)


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


def _rule(where: str, entry: Any) -> Rule:
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
    return Rule(
        kind,
        _name_tokens(where + ".database", entry.get("database")),
        _name_tokens(where + ".user", entry.get("user")),
        _address(where + ".address", kind, entry.get("address")),
        method,
        _options(where + ".options", entry.get("options")),
    )


def _check_method(where: str, kind: str, method: str, insecure: bool) -> None:
    if method in _INSECURE and not insecure:
        raise ValueError(
            f"{where}.method: {method} {_INSECURE[method]}; use scram-sha-256, or peer for local,"
            " or add insecure: true to the rule if that is really meant"
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
        if name in _KEYWORDS or (name.startswith("+") and _PLAIN.match(name[1:])):
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
