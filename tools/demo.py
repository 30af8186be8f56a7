#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a container with the whole stack, tested by the example application.

Usage: tools/env tools/demo.py up|down
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
EXAMPLES = ROOT / "examples"
NAME = f"pooled-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}-demo"
RELEASE = os.environ.get("RELEASE", "13")
MEMORY = os.environ.get("MEMORY", "2g")
ROLES = ("app_user", "app_migrator", "app_admin", "app_reader")
POSTGRES, PGBOUNCER = 5432, 6432
LOG = DEMO / "site.log"


class DemoError(Exception):
    """What went wrong, for the person at the terminal."""


def run(*argv: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command without any input; what it prints is in the result."""
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
    )


def output(*argv: str | Path) -> str:
    """What a command prints.

    Raises:
        DemoError: it failed.
    """
    done = run(*argv)
    if done.returncode != 0:
        raise DemoError(f"{' '.join(map(str, argv[:3]))} failed:\n{done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what goes on, and how long it took."""
    print(f"  {title:<50}", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed")
        raise
    print(f"{time.monotonic() - start:5.0f} s")


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read, not even for a moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def passwords() -> dict[str, str]:
    """The roles' passwords, made once."""
    path = DEMO / "passwords.json"
    if not path.exists():
        made = {role: secrets.token_urlsafe(24) for role in ROLES}
        write_private(path, json.dumps(made, indent=2) + "\n")
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def free_port(wanted: int) -> int:
    """The wanted port of the loopback address, or the next one that is free."""
    for port in range(wanted, wanted + 1000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise DemoError(f"No port from {wanted} to {wanted + 999} is free on 127.0.0.1.")


def is_up() -> bool:
    """Whether the container's systemd answers; not all containers that are said to run do."""
    state = run("podman", "exec", NAME, "systemctl", "is-system-running", "--wait")
    return state.stdout.strip() in ("running", "degraded")


def is_wanted(image: str) -> bool:
    """Whether the container was made as it is asked for now."""
    made = run("podman", "inspect", "--format", '{{index .Config.Labels "made"}}', NAME)
    return made.stdout.strip() == f"{image} {MEMORY}"


def start_container(image: str) -> None:
    """A fresh container with ports on this machine's loopback address."""
    remove_container()
    output("podman", "network", "create", NAME)
    output(
        *("podman", "run", "--detach", "--name", NAME, "--hostname", "demo", "--network", NAME),
        *("--publish", f"127.0.0.1:{free_port(POSTGRES)}:{POSTGRES}"),
        *("--publish", f"127.0.0.1:{free_port(PGBOUNCER)}:{PGBOUNCER}"),
        *("--label", f"made={image} {MEMORY}", "--memory", MEMORY),
        *("--systemd", "always", image, "/sbin/init"),
    )
    deadline = time.monotonic() + 60
    while not is_up():
        if time.monotonic() > deadline:
            raise DemoError(f"systemd does not come up in {NAME}; see: podman logs {NAME}")
        time.sleep(0.5)


def remove_container() -> None:
    run("podman", "rm", "--force", "--time", "0", NAME)
    run("podman", "network", "rm", "--force", NAME)


def published(port: int) -> int:
    return int(output("podman", "port", NAME, f"{port}/tcp").rsplit(":", 1)[1])


def write_inventory() -> None:
    """The example inventory as its README says to copy it, with this container as its host."""
    network = json.loads(output("podman", "network", "inspect", NAME))[0]["subnets"][0]["subnet"]
    inventory = DEMO / "inventory"
    shutil.rmtree(inventory, ignore_errors=True)
    shutil.copytree(EXAMPLES / "inventory", inventory)
    hosts: dict[str, Any] = {"hosts": {"demo": {}}}
    write_private(inventory / "hosts.yml", json.dumps({"postgres": hosts, "pgbouncer": hosts}))
    vault = {f"vault_{role}": password for role, password in passwords().items()}
    write_private(inventory / "group_vars" / "all" / "vault.yml", json.dumps(vault))
    host = {
        "ansible_connection": "containers.podman.podman",
        "ansible_host": NAME,
        "ansible_python_interpreter": "/usr/bin/python3",
        "postgres_client_networks": [network],
    }
    write_private(inventory / "host_vars" / "demo.yml", json.dumps(host))


def converge() -> str:
    """Run the site playbook.

    Returns: its recap line.

    Raises:
        DemoError: it failed, with the end of its output.
    """
    done = run(
        *("ansible-playbook", "--inventory", DEMO / "inventory" / "hosts.yml"),
        *(ROOT / "playbooks" / "site.yml", ROOT / "tools" / "demo" / "budgets.yml"),
        cwd=DEMO / "inventory",
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
    )
    write_private(LOG, done.stdout + done.stderr)
    if done.returncode != 0:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise DemoError(f"{end}\n\nThe playbook failed; all of its output is in {LOG}.")
    return next(line for line in done.stdout.splitlines() if " changed=" in line)


def urls() -> dict[str, str]:
    """What connections.env holds."""
    word = passwords()
    base = "postgresql+asyncpg://{}:{}@127.0.0.1:{}/mydb"
    return {
        "APP_DATABASE_URL": base.format("app_user", word["app_user"], published(PGBOUNCER)),
        "MIGRATION_DATABASE_URL": base.format(
            "app_migrator", word["app_migrator"], published(POSTGRES)
        ),
    }


def application(command: str) -> dict[str, Any]:
    """What a command of the example application found.

    Raises:
        DemoError: it found something wrong.
    """
    done = run(
        *(sys.executable, "-m", "app", *command.split(), "--json"),
        cwd=EXAMPLES / "app",
        env={**os.environ, **urls(), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode != 0:
        raise DemoError(f"python -m app {command}:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def in_container(user: str, *argv: str) -> str:
    return output("podman", "exec", "--user", user, NAME, *argv)


def budgets() -> list[str]:
    """How memory and connections add up, in the roles' own tables, and what the audit finds."""
    tables = json.loads((DEMO / "budgets.json").read_text(encoding="utf-8"))
    memory = tables["memory"]
    sum_line = next(number for number, line in enumerate(memory) if line.startswith("  budget "))
    shown = ("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem")
    settings = [
        line.partition(";")[0] for line in memory[sum_line + 1 :] if line.split()[0] in shown
    ]
    return [
        *("Memory: " + memory[0], *memory[1 : sum_line + 1], ""),
        *("Settings that follow", *settings, ""),
        *(*tables["connections"], ""),
        *tables["audit"],
    ]


def summary(recap: str, seconds: float, results: dict[str, dict[str, Any]]) -> str:
    """What there is now, for people."""
    query = ("psql", "-XAtqc", "SHOW server_version")
    postgres = in_container("postgres", *query).split()[0]
    pgbouncer = in_container("root", "pgbouncer", "--version").split()[1]
    refused = ", ".join(row["operation"] for row in results["refusals"]["rows"])
    session = ", ".join(
        f"{row['setting']} {row['value']}"
        for row in results["settings"]["rows"]
        if row["where"] == "session"
    )
    facts = {
        "Postgres": f"{postgres:<10} 127.0.0.1:{published(POSTGRES)}   for migrations",
        "PgBouncer": f"{pgbouncer:<10} 127.0.0.1:{published(PGBOUNCER)}   for the application",
        "container": f"{NAME}, Debian {RELEASE}, {MEMORY} of memory",
        "playbook": " ".join(recap.split(":", 1)[1].split()[:2]),
    }
    proofs = {
        "migrate": results["migrate"]["summary"],
        "smoke": results["smoke"]["summary"],
        "load": results["load"]["summary"],
        "settings": session,
        "refusals": f"{results['refusals']['summary']}: {refused}",
    }
    lines = [
        f"The demo is up, after {seconds:.0f} s.",
        "",
        *indented(facts),
        "",
        *budgets(),
        "",
        "The example application, as app_migrator directly and as app_user through the pool",
        *indented(proofs),
        "",
        "Next",
        "  set -a; . .demo/connections.env; set +a     APP_DATABASE_URL and MIGRATION_DATABASE_URL",
        "  (cd examples/app && ../../.venv/bin/python -m app load --tasks 100)",
        f"  tools/env podman exec -it -u postgres {NAME} psql mydb",
        "  make demo-down",
    ]
    return "\n".join(lines)


def indented(rows: dict[str, str]) -> list[str]:
    """Names and what belongs to them, folded to the terminal's usual width."""
    return [
        textwrap.fill(text, 96, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13)
        for name, text in rows.items()
    ]


def up() -> None:
    start = time.monotonic()
    DEMO.mkdir(mode=0o700, exist_ok=True)
    print("Setting up the demo")
    with step(f"Image of Debian {RELEASE}"):
        image = output(ROOT / "molecule" / "shared" / "images" / "build", RELEASE)
    with step("Container"):
        if not (is_wanted(image) and is_up()):
            start_container(image)
    with step("Postgres and PgBouncer, by playbooks/site.yml"):
        write_inventory()
        recap = converge()
    write_private(
        DEMO / "connections.env", "".join(f"{name}='{url}'\n" for name, url in urls().items())
    )
    results = {}
    for command in ("migrate", "smoke", "load", "settings", "refusals"):
        with step(f"Application: {command}"):
            results[command] = application(command)
    print(f"\n{summary(recap, time.monotonic() - start, results)}")


def down() -> None:
    if shutil.which("podman"):
        remove_container()
    shutil.rmtree(DEMO, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["up", "down"])
    try:
        {"up": up, "down": down}[parser.parse_args().action]()
    except DemoError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
