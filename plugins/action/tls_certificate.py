# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action: a service's certificate, signed on the controller for a key that stays on its host."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any, Iterator

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.vault import is_encrypted
from ansible.plugins.action import ActionBase

from ansible_collections.pooled.postgres.plugins.module_utils._certificates import (
    plan,
)
from ansible_collections.pooled.postgres.plugins.plugin_utils import _authority

_FILES_MODULE = "pooled.postgres.tls_certificate_files"
SPEC: dict[str, Any] = {
    "service": {"type": "str"},
    "owner": {"type": "str"},
    "create_owner": {"type": "bool", "default": False},
    "certificate": {"type": "bool", "default": True},
    "known_as": {"type": "list", "elements": "str", "default": []},
    "names": {"type": "list", "elements": "str", "default": []},
    "purposes": {
        "type": "list",
        "elements": "str",
        "choices": list(plan.PURPOSES),
        "default": ["server"],
    },
    "days": {"type": "int", "default": 365},
    "renew_days": {"type": "int", "default": 30},
    "authority": {
        "type": "str",
        "choices": list(plan.AUTHORITIES),
        "default": "clients",
    },
    "authority_directory": {"type": "str", "required": True},
    "authority_days": {"type": "int", "default": 3650},
    "authority_cert": {"type": "str", "default": ""},
    "authority_key": {"type": "str", "default": "", "no_log": True},
    "directory": {"type": "str", "default": plan.DIRECTORY},
    "seen": {"type": "dict"},
    "state": {
        "type": "str",
        "choices": ["present", "checked", "authority"],
        "default": "present",
    },
}


class ActionModule(ActionBase):
    """The action."""

    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare, and unless in check mode, make what is missing."""
        super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(argument_spec=SPEC)
        if not _authority.HAS_CRYPTOGRAPHY:
            raise AnsibleActionFail(
                "the Python that runs Ansible here has no library cryptography, which signs"
                " certificates; install it (pip install cryptography, or python3-cryptography)"
            )
        try:
            if args["state"] == "authority":
                return self._authority_alone(args)
            return self._keep(args, task_vars or {})
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error

    def _authority_alone(self, args: dict[str, Any]) -> dict[str, Any]:
        keeper = _Keeper(self, args)
        held = keeper.read()
        if held is None and not self._task.check_mode:
            return {"changed": True, "authority": keeper.make().text}
        return {"changed": held is None, "authority": held.text if held else ""}

    def _keep(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        for option in ("service", "owner"):
            if not args[option]:
                raise ValueError(f"{option}: it is missing; without it only state=authority works")
        service = plan.checked_service(args["service"])
        plan.checked_days(args["days"], args["renew_days"])
        # What the inventory says decides; a host that was broken into can't add another's name.
        names = plan.names_of(args["known_as"], args["names"]) if args["certificate"] else ()
        seen = args["seen"]
        if seen is None:
            seen = self._on_host(args, task_vars, step="look")["files"]
        keeper = _Keeper(self, args)
        authority = keeper.read()
        if authority is None:
            keeper.check_may_begin(seen)
        else:
            names = _within_constraints(authority, names, args["names"])
        now = datetime.now(timezone.utc)
        why = []
        if args["certificate"]:
            wanted = plan.Wanted(names, tuple(args["purposes"]), args["days"], args["renew_days"])
            usable = bool((seen.get("key") or {}).get("usable"))
            found = _authority.describe(seen.get("certificate", ""), authority, usable)
            ends = authority.ends if authority else datetime.max.replace(tzinfo=timezone.utc)
            why = plan.reasons(wanted, found, ends, now)
        if authority and (why or args["state"] == "checked"):
            keeper.warn_of(authority, now)
            if seen.get("authority") and not _authority.same_authority(
                seen["authority"], authority.text
            ):
                keeper.warn_of_another(service)
        files = plan.file_changes(
            seen,
            args["owner"],
            authority.text if authority else None,
            issue=bool(why),
            only_authority=not args["certificate"],
        )
        if authority and why:
            # Also where nothing is done yet, so that a key of no use is known before a change.
            authority = keeper.with_key(authority)
        path = {
            name: os.path.join(args["directory"], service, file)
            for name, file in (
                ("certificate", plan.CERTIFICATE),
                ("key", plan.KEY),
                ("authority", plan.AUTHORITY),
            )
        }
        result = {
            "changed": bool(files),
            "actions": (
                [f"create the OS user {args['owner']}"] if files and args["create_owner"] else []
            )
            + _actions(service, names, why, files),
            "files": [os.path.join(args["directory"], service, file) for file in files],
            "names": list(names),
            "paths": path,
            "authority": authority.text if authority else "",
            "diff": _diff(service, names, args, seen, files),
        }
        if args["state"] == "checked":
            return {**result, "changed": False, "actions": [], "files": [], "diff": []}
        if not files or self._task.check_mode:
            return {**result, **_told(seen.get("certificate", "") if not why else "")}
        if authority is None:
            authority = keeper.with_key(keeper.make())
        certificate = ""
        if why:
            request = self._on_host(args, task_vars, step="request")["request"]
            certificate = _authority.issue(
                authority, request, names, args["purposes"], args["days"], now
            )
        placed = self._on_host(
            args, task_vars, step="place", certificate=certificate, authority=authority.text
        )["files"]
        return {**result, "authority": authority.text, **_told(placed["certificate"])}

    def _on_host(self, args: dict[str, Any], task_vars: dict[str, Any], **more: str) -> Any:
        """Let the module do its part.

        Raises:
            ValueError: when it fails; with its words.
        """
        result = self._execute_module(
            module_name=_FILES_MODULE,
            module_args={
                "directory": args["directory"],
                "service": args["service"],
                "owner": args["owner"],
                "create_owner": args["create_owner"],
                **more,
            },
            task_vars=task_vars,
        )
        if result.get("failed") or "files" not in result:
            raise ValueError(
                str(result.get("msg") or result.get("module_stderr") or "the host does not answer")
            )
        return result

    def text_of(self, path: str, where: str) -> str:
        """A file's text, decrypted when it is a vault.

        Raises:
            ValueError: when it can't be read.
        """
        try:
            with open(path, "rb") as handle:
                encrypted = is_encrypted(handle.read())
        except OSError as error:
            raise ValueError(f"{where}: it can't be read: {error.strerror}") from error
        try:
            # In memory: nothing that is decrypted reaches the disk.
            if hasattr(self._loader, "get_text_file_contents"):  # from 2.19 on
                return str(self._loader.get_text_file_contents(path))
            return str(self._loader._get_file_contents(path)[0].decode())
        except (AnsibleError, UnicodeDecodeError) as error:
            reason = (
                "it is encrypted with ansible-vault, and the password for it was not given or is"
                " another one; give it with --vault-password-file or --ask-vault-pass"
                if encrypted
                else "it is not text"
            )
            raise ValueError(f"{where}: {reason}") from error


class _Keeper:
    """The authority's files on the controller, or what the inventory gives in their place."""

    def __init__(self, action: ActionModule, args: dict[str, Any]) -> None:
        self._action = action
        self._display = action._display
        self._kind = args["authority"]
        self._days = plan.checked_authority_days(args["authority_days"])
        self._given = {"cert": args["authority_cert"], "key": args["authority_key"]}
        if self._given["key"] and not self._given["cert"]:
            raise ValueError("authority_cert: it is missing; the key alone signs nothing")
        self._directory = args["authority_directory"]
        if not os.path.isabs(self._directory):
            raise ValueError(
                f"authority_directory: {self._directory!r} is not an absolute path, such as"
                " {{ inventory_dir }}/.pooled_tls"
            )
        self._path = {
            "cert": os.path.join(self._directory, f"{self._kind}.crt"),
            "key": os.path.join(self._directory, f"{self._kind}.key"),
        }

    def read(self) -> _authority.Authority | None:
        """The authority without its key; None when there is none yet.

        Raises:
            ValueError: when there is one that can't be used.
        """
        if self._lacks_certificate() and os.path.lexists(self._path["key"]):
            # Another host's task may be writing the one after the other.
            with suppress(OSError), _locked(self._directory):
                pass
        return self._read()

    def _lacks_certificate(self) -> bool:
        return not self._given["cert"] and not os.path.lexists(self._path["cert"])

    def _read(self) -> _authority.Authority | None:
        if self._lacks_certificate():
            if os.path.lexists(self._path["key"]):
                raise ValueError(
                    f"authority_directory: {self._path['key']} is there, and its certificate"
                    f" {self._path['cert']} is not; put it back (hosts have it as"
                    f" {plan.DIRECTORY}/*/{plan.AUTHORITY}), or move the key away"
                    " to begin with a new authority"
                )
            return None
        text, where = self._text("cert")
        return _authority.read_authority(text, where, datetime.now(timezone.utc))

    def with_key(self, authority: _authority.Authority) -> _authority.Authority:
        """The authority with its key.

        Raises:
            ValueError: when the key can't be had or used.
        """
        if self._given["cert"] and not self._given["key"]:
            raise ValueError(
                "authority_key: it is missing, and a certificate must be signed with it; give the"
                " key that belongs to authority_cert, in a vault"
            )
        if not self._given["cert"] and not os.path.lexists(self._path["key"]):
            raise ValueError(
                f"authority_directory: {self._path['key']} is not there, and a certificate must be"
                " signed with it; copy it from where the authority was made"
            )
        text, where = self._text("key")
        return _authority.with_key(authority, text, where)

    def check_may_begin(self, seen: dict[str, Any]) -> None:
        """Check that a new authority would not take the place of one that hosts have already.

        Raises:
            ValueError: when it would.
        """
        if seen.get("certificate") or seen.get("authority"):
            raise ValueError(
                f"authority_directory: {self._path['cert']} is not there, but this host has a"
                " certificate of an authority that was made elsewhere. Copy the directory from the"
                " controller that made it; keep it with the inventory, the key encrypted with"
                " ansible-vault. To begin with a new authority, which no client trusts yet, remove"
                f" {plan.DIRECTORY} on the hosts"
            )

    def warn_of(self, authority: _authority.Authority, now: datetime) -> None:
        """Say that the authority ends soon, or that some clients won't take it."""
        if not _authority.says_what_its_key_is_for(authority):
            self._display.warning(
                f"The authority {self._kind} has no key usage in its certificate, so strict"
                " clients, such as those on Python 3.13 and newer, refuse what it signs; make it"
                " with keyUsage=critical,keyCertSign,cRLSign"
            )
        left = plan.days_between(now, authority.ends)
        if left < 365:
            self._display.warning(
                f"The authority {self._kind} expires in {left} days, and no certificate outlives"
                " it; renew it as the operating guide says"
            )

    def warn_of_another(self, service: str) -> None:
        """Say that a host has had another authority, which clients may be the only one to know."""
        self._display.warning(
            f"{service} on this host has certificates of another authority {self._kind}, which this"
            " controller does not have. Clients that trust only that one reject the new"
            " certificate; if you still have its certificate, add it to the file of this one, as"
            " the operating guide says"
        )

    def make(self) -> _authority.Authority:
        """Make the authority's files, unless another host's task has just made them.

        Raises:
            ValueError: when they can't be written.
        """
        if self._given["cert"]:
            raise ValueError("authority_cert: it was given, so there is nothing to make")
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            with _locked(self._directory):
                held = self._read()
                if held is None:
                    certificate, key = _authority.new_authority(
                        self._kind, self._days, datetime.now(timezone.utc)
                    )
                    _write_new(self._path["key"], key, 0o600)
                    _write_new(self._path["cert"], certificate, 0o644)
                    self._display.warning(
                        f"{self._path['key']} was made: the key of the authority {self._kind}, not"
                        " encrypted. Anyone who has it can impersonate every server. Encrypt it now"
                        f" (ansible-vault encrypt {self._path['key']}), and keep"
                        f" {self._directory} with the inventory"
                    )
                    held = self._read()
        except OSError as error:
            raise ValueError(
                f"authority_directory: {self._directory} can't be used: {error.strerror}"
            ) from error
        if held is None:
            raise ValueError(f"authority_directory: {self._path['cert']} was removed meanwhile")
        return held

    def _text(self, what: str) -> tuple[str, str]:
        """The text and what to call it, without anything that is in it."""
        option = f"authority_{what}"
        given = self._given[what]
        if "-----BEGIN" in given:
            return given, option
        path = given or self._path[what]
        if not os.path.isabs(path):
            raise ValueError(
                f"{option}: it is neither PEM (-----BEGIN ...) nor an absolute path on this"
                " machine, such as {{ inventory_dir }}/ca.pem"
            )
        where = f"{option}: {path}"
        text = self._action.text_of(path, where)
        if what == "key":
            self._warn_of_readers(path)
        return text, where

    def _warn_of_readers(self, path: str) -> None:
        with suppress(OSError), open(path, "rb") as handle:
            mode = stat.S_IMODE(os.fstat(handle.fileno()).st_mode)
            if mode & 0o077 and not is_encrypted(handle.read()):
                self._display.warning(
                    f"{path} is the key of an authority, not encrypted, and others may read it"
                    f" (mode {mode:04o}); encrypt it with ansible-vault, or let only its owner read"
                    " it"
                )


def _within_constraints(
    authority: _authority.Authority, names: tuple[str, ...], asked: list[str]
) -> tuple[str, ...]:
    """The names that the authority may sign for; one that somebody asked for is not left out.

    Raises:
        ValueError: when one would be, or when none is left.
    """
    outside = _authority.outside_constraints(authority, names)
    refused = set(outside) & set(plan.names_of((), asked) if asked else ())
    if refused or (outside and len(outside) == len(names)):
        raise ValueError(
            f"names: {', '.join(sorted(refused) or outside)}: the authority's name constraints do"
            " not allow it, so clients would not accept the certificate; give names that they do"
            " allow, as pooled_tls_names in the inventory"
        )
    return tuple(name for name in names if name not in outside)


def _actions(service: str, names: tuple[str, ...], why: list[str], files: list[str]) -> list[str]:
    actions = []
    if why:
        actions.append(f"certificate of {service} for {', '.join(names)}: {'; '.join(why)}")
    others = [file for file in files if file != plan.CERTIFICATE]
    return actions + [f"write {file} of {service}" for file in others]


def _diff(
    service: str,
    names: tuple[str, ...],
    args: dict[str, Any],
    seen: dict[str, Any],
    files: list[str],
) -> list[dict[str, str]]:
    """What is public of the change; serial numbers and digests nobody could foresee."""
    if not files:
        return []
    before, after = "", ""
    if plan.CERTIFICATE in files:
        old = _authority.describe(seen.get("certificate", ""), None, False)
        if old:
            before += f"names: {', '.join(sorted(old.names))}\nends: {old.ends:%Y-%m-%d}\n"
        after += f"names: {', '.join(sorted(names))}\nends: after {args['days']} days\n"
    if plan.KEY in files:
        key = seen.get("key") or {}
        before += f"key: {key['owner']} {key['mode']}\n" if key else ""
        after += f"key: {args['owner']} {plan.KEY_MODE:04o}\n"
    if plan.AUTHORITY in files:
        after += f"authority: {args['authority']}, as on the controller\n"
    header = f"certificate of {service}"
    return [{"before_header": header, "after_header": header, "before": before, "after": after}]


def _told(certificate: str) -> dict[str, str]:
    return _authority.shown(certificate) if certificate else {}


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Alone of all hosts' tasks, which run at the same time."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_new(path: str, text: str, mode: int) -> None:
    """Write a file that must not be there yet, whole or not at all."""
    temporary = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.link(temporary, path)  # fails where there is one, which a rename would replace
    finally:
        os.unlink(temporary)
