# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values are secrets, the forms in which they may be written, and texts without them."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, Callable, Iterator, Mapping
from urllib.parse import quote

MASK = "********"

# Names that end so: ldapbindpasswd, radiussecrets, app.api_token, but not password_encryption.
_WORDS = r"(?:pass(?:word|wd|phrase)|secrets?|token|credentials?|(?:api|access)_?key)"
_NAME = re.compile(rf"(?:{_WORDS}|\Assl_passphrase_command|\Ascram_(?:client|server)_key)\Z", re.I)
# Values of such names that only say whether there is something.
_NOT_SECRET = frozenset(("", "on", "off", "true", "false", "yes", "no"))

_ASSIGNED = rf"\b[\w.-]{{0,64}}{_WORDS}\s*="
_URI = r"://[^/@\s:]*:[^/@\s]+@"
_VERIFIER = r"\bSCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=$:]+|\bmd5[0-9a-f]{32}\b"
_HOLDS = re.compile(f"{_ASSIGNED}|{_URI}|{_VERIFIER}", re.IGNORECASE)
# (what is replaced, by what), in this order
_IN_TEXT = (
    # a whole entry in quotes, as pg_hba.conf has it
    (re.compile(rf'"({_ASSIGNED})(?:[^"]|"")*"', re.I), rf'"\g<1>{MASK}"'),
    (re.compile(rf"({_ASSIGNED}\s*)(?!\*{{8}})(?:E?'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\S+)", re.I),
     rf"\g<1>{MASK}"),
    (re.compile(r"(://[^/@\s:]*:)[^/@\s]+@"), rf"\g<1>{MASK}@"),
    (re.compile(_VERIFIER), MASK),
)  # fmt: skip

_INSTEAD = {
    "password": "give it as login_password",
    "sslpassword": "use a key without a passphrase that only the OS user may read, as ssl_key",
}
_NOT_IN_PARAMETERS = (
    "put it in a password file or a service file, and name that with passfile or service"
)


def is_secret_name(name: Any) -> bool:
    """Whether an option, a setting or a parameter of this name holds a secret."""
    return bool(_NAME.search(str(name)))


def holds_secret(text: str) -> bool:
    """Whether a text seems to hold a password: in a connection string, an address, a verifier."""
    return bool(_HOLDS.search(text))


def shown(name: str, value: Any) -> str:
    """A value for an error message, unless it may be a secret."""
    if is_secret_name(name) or holds_secret(str(value)):
        return "the value (not shown)"
    return repr(value)


def shown_setting(name: str, text: str) -> str:
    """A setting's value for people, unless it may be a secret."""
    hidden = text.lower() not in _NOT_SECRET and (is_secret_name(name) or holds_secret(text))
    return MASK if hidden else text


def shown_change(name: str, before: str, after: str) -> tuple[str, str]:
    """A setting's old and new value for people, which differ when the values do."""
    old, new = shown_setting(name, before), shown_setting(name, after)
    return old, f"{new} (another)" if old == new == MASK and before != after else new


def secrets_in(value: Any, name: str = "") -> Iterator[str]:
    """Every secret in nested data, found by the names of what holds it, or by its look."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from secrets_in(inner, str(key))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from secrets_in(inner, name)
    elif value is not None and not isinstance(value, bool):
        text = str(value)
        if shown_setting(name, text) == MASK != text:
            yield text


def written_forms(secret: str) -> set[str]:
    """A secret as Python, JSON, SQL, a shell, an address and configuration files write it."""
    return {
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        secret.replace("'", "''"),
        secret.replace('"', '""'),
        secret.replace("\\", "\\\\").replace("'", "''"),
        secret.replace("\\", "\\\\").replace("'", "\\'"),
        shlex.quote(secret),
        quote(secret.encode("utf-8", "surrogateescape"), safe=""),
    }


def masked_text(text: str) -> str:
    """A text, such as a configuration file, without what is assigned to names of secrets."""
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def masked(value: Any, mask: Callable[[str], str] = masked_text) -> Any:
    """Nested data, such as a module's result, with every text masked."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {key: masked(inner, mask) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(inner, mask) for inner in value]
    return value


def masked_diff(diff: Any, mask: Callable[[str], str] = masked_text) -> Any:
    """A module's diff without secrets, which still says when nothing but one of them differs."""
    if isinstance(diff, (list, tuple)):
        return [masked_diff(one, mask) for one in diff]
    result = masked(diff, mask)
    if not isinstance(diff, Mapping) or diff.get("before") == diff.get("after"):
        return result
    if isinstance(result.get("after"), str) and result.get("before") == result["after"]:
        result["after"] += "(another secret)\n"
    return result


def check_connect_params(where: str, params: Mapping[str, Any]) -> None:
    """Refuse secrets among libpq's parameters, where nothing keeps them out of sight.

    Raises:
        ValueError: naming the parameter and where its secret goes instead, without the value.
    """
    for name, value in params.items():
        if is_secret_name(name) or holds_secret(str(value)):
            what = _INSTEAD.get(str(name).lower(), _NOT_IN_PARAMETERS)
            raise ValueError(
                f"{where}.{name}: a secret is not allowed here, because it would be shown; {what}"
            )
