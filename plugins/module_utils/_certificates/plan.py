# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that the collection keeps for services: where they are, which names, when renewed.

Nothing here needs more than Python, so that hosts and the controller share it. What makes
certificates is C(plugin_utils/_authority.py), which only the controller has.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Iterable, Mapping

# Below it each service has a directory of its own. Only root may write there.
DIRECTORY = "/etc/ssl/pooled"
CERTIFICATE, KEY, AUTHORITY = "server.crt", "server.key", "ca.crt"
KEY_MODE = 0o400
# Whose certificates trust each other: what members of a cluster do among themselves must not be
# open to those who have a certificate for PgBouncer.
AUTHORITIES = ("clients", "members")
PURPOSES = ("server", "client")
# Where client settings say that clients have the authority's certificate, on their own hosts.
CLIENT_CA_CERT = "/etc/ssl/certs/pooled-clients.crt"

_DAY = timedelta(days=1)
_MOST_AUTHORITY_DAYS = 36500
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\Z")
_SERVICE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")


def checked_service(name: str) -> str:
    """A service's name, which is that of its directory too.

    Raises:
        ValueError: when it is not a valid one.
    """
    if not _SERVICE.match(name):
        raise ValueError(
            f"service: {name!r} is not a valid name; use lower-case letters, digits, '-' and '_'"
        )
    return name


def names_of(known_as: Iterable[Any], asked: Iterable[Any]) -> tuple[str, ...]:
    """The names and addresses that a certificate is for, in order, each once.

    Args:
        known_as: what the inventory calls the host; what can't be in a certificate is left out.
        asked: further names that somebody asked for.

    Raises:
        ValueError: for one that was asked for and is neither a host name nor an address, and when
            there is none at all.
    """
    found: dict[str, None] = {}
    for text in known_as:
        name = _name(text)
        if name:
            found[name] = None
    for text in asked:
        name = _name(text)
        if not name:
            raise ValueError(
                f"names: {text!r} is neither a host name nor an address; give them as clients do,"
                " such as db.internal or 10.0.0.5"
            )
        found[name] = None
    if not found:
        raise ValueError(
            "names: the inventory has no name for this host that a certificate can hold; give its"
            " host names and addresses, as pooled_tls_names in the inventory"
        )
    return tuple(found)


def is_address(name: str) -> bool:
    """Whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(text: Any) -> str:
    """The canonical form; empty for what is not a name."""
    name = str(text or "").strip().rstrip(".").lower()
    try:
        # A scope belongs to one host only.
        return "" if "%" in name else str(ipaddress.ip_address(name))
    except ValueError:
        pass
    # Four numbers with dots that are not an address are a mistake, not a name.
    return name if _DNS_NAME.match(name) and not re.match(r"[0-9.]+\Z", name) else ""


@dataclass(frozen=True)
class Wanted:
    """What a service's certificate must be. C(names) and C(purposes) are exact."""

    names: tuple[str, ...]
    purposes: tuple[str, ...]
    days: int
    renew_days: int


@dataclass(frozen=True)
class Found:
    """What the certificate on the host is."""

    names: frozenset[str]
    purposes: frozenset[str]
    ends: datetime
    is_signed: bool  # by the authority that signs now
    has_key: bool  # whether its key is there


def checked_days(days: int, renew_days: int) -> None:
    """Check that a certificate lasts longer than it is renewed before its end.

    Raises:
        ValueError: naming both.
    """
    if not 1 <= days <= 3650:
        raise ValueError(f"days: {days} is not allowed; a certificate lasts 1 to 3650 days")
    if not 0 <= renew_days < days:
        raise ValueError(
            f"renew_days: {renew_days} is not allowed; it must be less than the {days} days that a"
            " certificate lasts, or each run would make a new one"
        )


def checked_authority_days(days: int) -> int:
    """How many days an authority lasts.

    Raises:
        ValueError: when it would never be valid, or for ever.
    """
    if not 1 <= days <= _MOST_AUTHORITY_DAYS:
        raise ValueError(
            f"authority_days: {days} is not allowed; an authority lasts 1 to"
            f" {_MOST_AUTHORITY_DAYS} days"
        )
    return days


def reasons(
    wanted: Wanted, found: Found | None, authority_ends: datetime, now: datetime
) -> list[str]:
    """Why a new certificate is needed; empty when the one that is there does.

    A certificate never outlives its authority. So one that ends with it is not renewed: the new one
    would end at the same time, and each run would make another.
    """
    if found is None:
        return ["there is none"]
    why = []
    if not found.has_key:
        why.append("its key is missing, or another one")
    if not found.is_signed:
        why.append("another authority signed it")
    missing = [name for name in wanted.names if name not in found.names]
    surplus = sorted(found.names - set(wanted.names))
    if missing:
        why.append(f"it lacks {', '.join(missing)}")
    if surplus:
        why.append(f"it also has {', '.join(surplus)}")
    if found.purposes != set(wanted.purposes):
        why.append("it is for other purposes")
    ends = min(now + wanted.days * _DAY, authority_ends)
    if found.ends <= now:
        why.append("it has expired")
    elif found.ends - now < wanted.renew_days * _DAY and ends - found.ends >= _DAY:
        why.append(f"it expires in {days_between(now, found.ends)} days")
    return why


def days_between(now: datetime, then: datetime) -> int:
    """Whole days, rounded to the nearest."""
    return round((then - now) / _DAY)


def file_changes(
    seen: Mapping[str, Any], owner: str, authority: str | None, *, issue: bool, only_authority: bool
) -> list[str]:
    """Names of the files of a service that are not as they are to be.

    Args:
        seen: the service's directory, as C(_certificate_files.look) tells.
        owner: OS user of the service.
        authority: text of the authority's certificates; None when that is not made yet.
        issue: whether there will be a new certificate.
        only_authority: whether the service has no certificate of ours.
    """
    changed = []
    if not only_authority:
        key = seen.get("key") or {}
        right = key.get("owner") == owner and key.get("mode") == f"{KEY_MODE:04o}"
        if issue:
            changed.append(CERTIFICATE)
        if not right or not key.get("usable"):
            changed.append(KEY)
    if seen.get("authority") != authority:
        changed.append(AUTHORITY)
    return changed
