# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module of the collection does with its arguments, and that every one is made so."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic

from ansible_collections.pooled.postgres.plugins.module_utils import _module, _secrets

ROOT = Path(__file__).resolve().parents[4]
MODULES = sorted((ROOT / "plugins" / "modules").glob("[a-z]*.py"))
# They run on the controller; the module of the name is their documentation.
ACTIONS = {path.stem for path in (ROOT / "plugins" / "action").glob("[a-z]*.py")}
SECRET = 'it\'s "HushBoth" \\ \u00a0 {{ x }} %s'
SPEC = {
    "passwords": {"type": "dict", "no_log": True},
    "databases": {
        "type": "list",
        "elements": "dict",
        "options": {"name": {"type": "str"}, "password": {"type": "str", "no_log": True}},
    },
    "options": {"type": "dict"},
    "connect_params": {"type": "dict"},
    "mode": {"type": "str", "choices": ["a", "b"]},
}
# Each way to give a secret.
WAYS: list[dict[str, Any]] = [
    {"passwords": {"app": SECRET}},
    {"passwords": {"app": 123450, "b": [SECRET, {"c": SECRET}], "d": None, "e": True}},
    {"databases": [{"name": "mydb", "password": SECRET}]},
    {"options": {"ldapbindpasswd": SECRET}},
    {"options": {"deep": [{"app.api_token": SECRET}]}},
]
# Whatever of the secret could be shown.
WORD = "HushBoth"


class Journal:
    """What modules send to the journal."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, *args: Any, **kwargs: Any) -> None:
        self.sent.append(f"{args} {kwargs} " + " ".join(map(str, (*args, *kwargs.values()))))

    def sendv(self, *args: Any) -> None:
        self.send(*args)


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    made = Journal()
    monkeypatch.setattr(basic, "has_journal", True)
    monkeypatch.setattr(basic, "journal", made, raising=False)
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    return made


def started(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> _module.PooledModule:
    # The controller always says so, which overrides what a module says of itself.
    text = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_no_log": False}})
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text.encode())
    return _module.PooledModule(SPEC)


@pytest.mark.parametrize("arguments", WAYS)
@pytest.mark.parametrize("ending", ["exit_json", "fail_json"])
def test_no_way_to_give_a_secret_shows_it(
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: dict[str, Any],
    ending: str,
) -> None:
    warned: list[str] = []
    # Which is not printed here, but by what the controller does with it.
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _self, text: warned.append(text))
    module = started(monkeypatch, **arguments)
    for form in (SECRET, repr(SECRET), json.dumps(SECRET), SECRET.replace("'", "''")):
        module.warn(f"warned of {form}")
    assert len(module.no_log_values) < 50
    texts = [form(SECRET) for form in (str, repr, json.dumps)]
    with pytest.raises(SystemExit):
        getattr(module, ending)(msg=f"{arguments}", texts=texts, diff={"before": f"{arguments!r}"})
    printed = capsys.readouterr().out
    assert json.loads(printed)["texts"]
    assert len(warned) == 4
    assert WORD not in "".join(warned)
    assert journal.sent
    assert "Invoked" in journal.sent[0]
    assert WORD not in printed
    assert all(WORD not in line for line in journal.sent)


def test_names_stay_readable(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = started(monkeypatch, passwords={"app_user": SECRET, "short": "x1"}, mode="a")
    with pytest.raises(SystemExit):
        module.exit_json(roles=["app_user"], statements=["ALTER ROLE app_user"], app_user=1)
    result = json.loads(capsys.readouterr().out)
    assert (result["roles"], result["app_user"]) == (["app_user"], 1)
    assert result["statements"] == ["ALTER ROLE app_user"]
    given = result["invocation"]["module_args"]
    assert (given["mode"], set(given["passwords"])) == ("a", {"app_user", "short"})


@pytest.mark.parametrize("way", [{"mode": "c"}, {"unknown": 1}, {"options": 5}])
def test_wrong_arguments_show_no_secret(
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    way: dict[str, Any],
) -> None:
    with pytest.raises(SystemExit):
        started(monkeypatch, **{**WAYS[3], **WAYS[2], **WAYS[0], **way})
    printed = capsys.readouterr().out
    assert json.loads(printed)["failed"]
    assert WORD not in printed + "".join(journal.sent)


def test_a_secret_among_connection_parameters_is_refused(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        started(monkeypatch, connect_params={"password": SECRET})
    printed = capsys.readouterr().out
    assert "give it as login_password" in json.loads(printed)["msg"]
    assert WORD not in printed + "".join(journal.sent)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_module_is_made_so(path: Path) -> None:
    """By the helper and nothing else, and with no secret in an option that is logged."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert ("PooledModule" in names) is (path.stem not in ACTIONS)
    assert "AnsibleModule" not in names
    for name, option in _options(_spec(path.stem)):
        assert not _secrets.is_secret_name(name) or option.get("no_log"), name
        assert not re.search("passwords|secret", name) or option.get("no_log"), name


def _spec(name: str) -> dict[str, Any]:
    """A module's argument spec, taken where the module is made; an action's, as it has it."""
    if name in ACTIONS:
        action = importlib.import_module(
            f"ansible_collections.pooled.postgres.plugins.action.{name}"
        )
        spec: dict[str, Any] = action.SPEC
        return spec
    module = importlib.import_module(f"ansible_collections.pooled.postgres.plugins.modules.{name}")
    found: list[dict[str, Any]] = []

    class Taken(Exception):
        pass

    def take(argument_spec: dict[str, Any]) -> SimpleNamespace:
        found.append(argument_spec)
        raise Taken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PooledModule", take)
        with pytest.raises(Taken):
            module.main()
    return found[0]


def _options(spec: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    inner = [found for option in spec.values() for found in _options(option.get("options", {}))]
    return [*spec.items(), *inner]


def _tasks(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [task for item in node for task in _tasks(item)]
    if not isinstance(node, dict):
        return []
    nested = ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always")
    return [node, *(task for key in nested for task in _tasks(node.get(key)))]


def _calls() -> list[tuple[str, str, dict[str, Any]]]:
    """Each task of the roles and playbooks that runs a module of ours: file, module, arguments."""
    found = []
    for folder in ("roles", "playbooks"):
        for path in sorted((ROOT / folder).rglob("*.yml")):
            if "tasks" not in path.parts and folder != "playbooks":
                continue
            for task in _tasks(yaml.safe_load(path.read_text(encoding="utf-8"))):
                found += [
                    (str(path.relative_to(ROOT)), key, task[key] or {})
                    for key in task
                    if key.startswith("pooled.postgres.")
                ]
    return found


def test_no_call_of_ours_passes_the_model_with_its_passwords() -> None:
    calls = _calls()
    assert {module.rpartition(".")[2] for _file, module, _arguments in calls} >= {
        "postgres_access",
        "pgbouncer_config",
        "postgres_hba",
        "postgres_audit_info",
    }
    for file, module, arguments in calls:
        spec = _spec(module.rpartition(".")[2])
        for name, value in arguments.items():
            if not re.search(r"_databases\b", str(value)) or spec[name].get("no_log"):
                continue
            safe = re.search(
                r"without_passwords|_names\b|sessions_databases|_options\b", str(value)
            )
            assert safe, f"{file}: {module}: {name}: {value}"
