#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure runs of the site playbook as users run them, beside the same state kept by other means.

Containers with systemd and sshd are reached over SSH with pipelining and kept connections. The
playbook site sets up some of them, benchmarks/peer/site.yml the others: plain modules, those of
community.postgresql, and templates, one call for each statement. Both bring about the same, which
raw SQL and PgBouncer's own files say; the benchmark fails where they differ.

Usage: tools/env benchmarks/runs.py [--rounds 3] [--hosts 8] [--modules] [--json FILE]
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
PEER = ROOT / "benchmarks" / "peer" / "site.yml"
SITE = ROOT / "playbooks" / "site.yml"
PREFIX = f"pooled-runs-{os.getpid()}"
RELEASE, MAJOR = "12", "15"
OURS, THEIRS = "ours", "peer"
WAYS = (OURS, THEIRS)

DATABASE, SCHEMAS, NETWORKS = "shop", ["public", "orders"], ["10.0.0.0/8"]
# Of roles in containers that are thrown away.
PASSWORDS = {
    name: f"benchmark-Xk29-{name}"
    for name in ("app_user", "app_migrator", "app_admin", "pgbouncer")
}
MODEL = {
    "name": DATABASE,
    "schemas": SCHEMAS,
    "extensions": ["pg_stat_statements"],
    "roles": [
        {
            "name": "app_user",
            "kind": "user",
            "password": PASSWORDS["app_user"],
            "connection_limit": 60,
        },
        {"name": "app_migrator", "kind": "migrator", "password": PASSWORDS["app_migrator"]},
        {"name": "app_admin", "kind": "admin", "password": PASSWORDS["app_admin"]},
    ],
}

# As users have it: examples/inventory/ansible.cfg, and nothing of the person who runs this.
CONFIGURATION = """\
[defaults]
host_key_checking = true
nocows = true
[connection]
pipelining = true
[ssh_connection]
ssh_executable = {folder}/bin/ssh
sftp_executable = {folder}/bin/sftp
control_path_dir = {folder}/c
"""
# Two arguments are Ansible's question whether ssh can keep connections, which goes nowhere.
COUNTING = """\
#!/bin/sh
[ $# -le 2 ] || echo >>{folder}/trips
exec {program} "$@"
"""

# What both ways must have brought about, by what it is about; rows without what is only history.
QUERIES = {
    "roles": """
        SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin,
               rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil,
               left(rolpassword, 14) AS password
          FROM pg_authid WHERE rolname !~ '^pg_'""",
    "memberships": """
        SELECT roleid::regrole, member::regrole, admin_option
          FROM pg_auth_members WHERE member::regrole::text !~ '^pg_'""",
    "role settings": """
        SELECT setdatabase, setrole::regrole, unnest(setconfig) FROM pg_db_role_setting""",
    "databases": """
        SELECT datname, datdba::regrole, pg_encoding_to_char(encoding), datcollate, datctype,
               datconnlimit, datallowconn
          FROM pg_database""",
    "rights on databases": """
        SELECT datname, a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
          FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) AS a""",
    "schemas": "SELECT nspname, nspowner::regrole FROM pg_namespace",
    "rights on schemas": """
        SELECT nspname, a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
          FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS a""",
    "default rights": """
        SELECT defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype,
               a.grantee::regrole, a.privilege_type, a.is_grantable
          FROM pg_default_acl, aclexplode(defaclacl) AS a""",
    "extensions": """
        SELECT extname, extversion, extowner::regrole, extnamespace::regnamespace
          FROM pg_extension""",
    "the function that PgBouncer asks": """
        SELECT p.oid::regprocedure, proowner::regrole, prosecdef, proconfig, a.grantee::regrole,
               (SELECT password FROM pgbouncer.get_auth('app_user'))
               = (SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user') AS answers
          FROM pg_proc AS p, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS a
         WHERE pronamespace = 'pgbouncer'::regnamespace""",
    "settings": """
        SELECT name, setting, unit, pending_restart FROM pg_settings
         WHERE sourcefile LIKE '%/conf.d/%'""",
    "rules of pg_hba.conf": """
        SELECT row_number() OVER (ORDER BY line_number), type, database, user_name, address,
               netmask, auth_method, options, error
          FROM pg_hba_file_rules""",
    "map of pg_ident.conf": """
        SELECT map_name, sys_name, pg_username, error FROM pg_ident_file_mappings""",
}
FILES = {"pgbouncer.ini": "/etc/pgbouncer/pgbouncer.ini"}
LOGIN = f"psql -XAtqc 'SELECT current_user' -h 127.0.0.1 -p 6432 -U app_user {DATABASE}"

# Modules from elsewhere, to compare with.
YARDSTICKS = (
    "ansible.builtin.ping",
    "ansible.builtin.apt",
    "community.postgresql.postgresql_privs",
)
IMPORT = """
import subprocess, sys, time
times = []
for _ in range({repeats}):
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", {code!r}], check=True)
    times.append(time.monotonic() - start)
print(min(times) * 1000)
"""


class BenchmarkError(Exception):
    """What went wrong, for the person at the terminal."""


@dataclass(frozen=True)
class Run:
    """What one run of ansible-playbook took; tasks and round trips are those for each host."""

    seconds: float
    cpu_seconds: float
    tasks: int
    skipped: int
    changed: int
    round_trips: float


@dataclass
class Figures:
    """All runs, by kind of run and way."""

    runs: dict[str, dict[str, list[Run]]] = field(default_factory=dict)

    def add(self, kind: str, way: str, run: Run) -> None:
        self.runs.setdefault(kind, {}).setdefault(way, []).append(run)


def recap(output: str) -> dict[str, dict[str, int]]:
    """The counts of ansible-playbook's last lines, by host."""
    return {
        host: {word: int(number) for word, number in re.findall(r"(\w+)=(\d+)", counts)}
        for host, counts in re.findall(
            r"^(\S+)\s+: (ok=\d+ .*)$", output.partition("PLAY RECAP")[2], re.MULTILINE
        )
    }


def per_host(counts: dict[str, dict[str, int]], word: str) -> int:
    """The most that a host has of something."""
    return max(host[word] for host in counts.values())


def spread(values: list[float], digits: int = 1) -> str:
    """The middle of some values, and how far they spread."""
    return (
        f"{statistics.median(values):.{digits}f}"
        f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
    )


def ratios(over: list[float], under: list[float]) -> list[float]:
    """Those of each round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def growth(one: list[float], many: list[float], hosts: int) -> float:
    """What each further host adds, from the middle of the rounds."""
    return (statistics.median(many) - statistics.median(one)) / (hosts - 1)


def sections(text: str) -> dict[str, dict[str, str]]:
    """What an ini file says, without comments and order."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


def differences(ours: dict[str, list[str]], theirs: dict[str, list[str]]) -> list[str]:
    """What only one of two states has, in lines for people."""
    lines = []
    for subject in sorted({*ours, *theirs}):
        one, other = Counter(ours.get(subject, ())), Counter(theirs.get(subject, ()))
        lines += [f"{subject}: only ours: {row}" for row in (one - other).elements()]
        lines += [f"{subject}: only the peer's: {row}" for row in (other - one).elements()]
    return lines


def run(*argv: str, text: str = "", check: bool = True, **options: Any) -> str:
    """What a command prints.

    Raises:
        BenchmarkError: it failed.
    """
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, **options)
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-3000:]
        raise BenchmarkError(f"{' '.join(argv[:4])} ... failed:\n{said}")
    return done.stdout


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what goes on, and how long it took."""
    print(f"  {title:<66}", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed")
        raise
    print(f"{time.monotonic() - start:5.0f} s", flush=True)


def container(way: str, number: int) -> str:
    return f"{PREFIX}-{way}{number}"


def inside(name: str, script: str, user: str = "root", text: str = "") -> str:
    """Run a shell script in a container."""
    command = ("podman", "exec", "-i", "-w", "/", "--user", user, name, "sh", "-euc", script)
    return run(*command, text=text)


def ssh_image() -> str:
    """The image of Molecule's hosts with a server of SSH; made once, and kept like those."""
    base = run(str(ROOT / "molecule" / "shared" / "images" / "build"), RELEASE).strip()
    image = base.replace("pooled-debian:", "pooled-debian-ssh:")
    if subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0:
        return image
    # A host whose lists of packages are as old as its image, not as new as this change to it.
    script = (
        "apt-get update -q && apt-get install -qy --no-install-recommends openssh-server"
        " && rm -rf /var/lib/apt/lists/* && touch -d '2 days ago' /var/lib/apt/lists"
        " && rm -f /var/lib/apt/periodic/update-success-stamp && mkdir -m 700 -p ~root/.ssh"
    )
    making = f"{PREFIX}-image"
    run("podman", "run", "--name", making, base, "sh", "-euc", script)
    changes = ("--change", 'CMD ["/sbin/init"]', "--change", "STOPSIGNAL SIGRTMIN+3")
    run("podman", "commit", "--quiet", *changes, making, image)
    run("podman", "rm", "--force", making)
    return image


def remove_containers() -> None:
    """All that this run has started, and the network."""
    names = run("podman", "ps", "-a", "--filter", f"name=^{PREFIX}-", "--format", "{{.Names}}")
    for name in names.split():
        run("podman", "rm", "--force", "--time", "0", name, check=False)
    run("podman", "network", "rm", "--force", PREFIX, check=False)


class Lab:
    """Hosts that Ansible reaches over SSH, and what it needs for that."""

    def __init__(self, folder: Path, memory: str) -> None:
        self.folder, self.memory = folder, memory
        self.image = ssh_image()
        self.addresses: dict[str, str] = {}
        run("podman", "network", "create", PREFIX)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key"))
        (folder / "bin").mkdir()
        for program in ("ssh", "sftp"):
            found = shutil.which(program)
            if found is None:
                raise BenchmarkError(f"{program} is not installed; apt-get install openssh-client")
            wrapper = folder / "bin" / program
            wrapper.write_text(COUNTING.format(folder=folder, program=found), encoding="utf-8")
            wrapper.chmod(0o755)
        (folder / "ansible.cfg").write_text(CONFIGURATION.format(folder=folder), encoding="utf-8")

    def start(self, way: str, number: int) -> None:
        """A bare host, in place of the one that had its name."""
        name = container(way, number)
        run("podman", "rm", "--force", "--time", "0", name, check=False)
        options = ("--name", name, "--hostname", f"{way}{number}", "--network", PREFIX)
        limits = ("--memory", self.memory, "--memory-swap", self.memory)
        command = (*options, *limits, "--systemd=always", self.image, "/sbin/init")
        run("podman", "run", "--detach", *command)
        deadline = time.monotonic() + 120
        state = ("podman", "exec", name, "systemctl", "is-system-running", "--wait")
        while run(*state, check=False).strip() not in ("running", "degraded"):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"systemd does not come up in {name}")
            time.sleep(0.5)
        inside(
            name,
            "umask 077; cat >~root/.ssh/authorized_keys",
            text=(self.folder / "key.pub").read_text(encoding="utf-8"),
        )
        address = run(
            *("podman", "inspect", name, "--format"),
            f'{{{{(index .NetworkSettings.Networks "{PREFIX}").IPAddress}}}}',
        ).strip()
        self.addresses[f"{way}{number}"] = address
        host_key = " ".join(inside(name, "cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
        with (self.folder / "known_hosts").open("a", encoding="utf-8") as known:
            known.write(f"{address} {host_key}\n")

    def inventory(self, way: str, numbers: range, variables: dict[str, Any]) -> Path:
        hosts = {
            f"{way}{number}": {
                "ansible_host": self.addresses[f"{way}{number}"],
                # Each its own server with its own PgBouncer.
                **({"pooled_cluster": f"{way}{number}"} if way == OURS else {}),
            }
            for number in numbers
        }
        reach = {
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(self.folder / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.folder}/known_hosts",
        }
        groups = ("postgres", "pgbouncer") if way == OURS else ("database",)
        path = self.folder / f"{way}-{len(numbers)}.json"
        content = {
            "all": {
                "vars": {**reach, **variables},
                "children": {group: {"hosts": hosts} for group in groups},
            }
        }
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    @property
    def environment(self) -> dict[str, str]:
        """That of this machine, without what it tells Ansible beside where things are."""
        kept = ("ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_HOME")
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("ANSIBLE_") or name in kept
        }
        return {**ours, "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"), "NO_COLOR": "1"}

    def disconnect(self) -> None:
        """Close the connections that ssh keeps: each run makes its own."""
        for path in (self.folder / "c").glob("*"):
            command = ("ssh", "-O", "exit", "-o", f"ControlPath={path}", "none")
            subprocess.run(command, capture_output=True, check=False)

    def play(self, playbook: Path, inventory: Path, hosts: int) -> Run:
        """Run a playbook.

        Raises:
            BenchmarkError: it failed.
        """
        trips = self.folder / "trips"
        trips.write_text("", encoding="utf-8")
        log = self.folder / "log"
        start = time.monotonic()
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                ["ansible-playbook", "--inventory", str(inventory), str(playbook)],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                _pid, status, used = os.wait4(process.pid, 0)
            except BaseException:
                # So that it ends its own processes, which are in sessions of their own.
                process.send_signal(signal.SIGINT)
                process.wait(30)
                raise
            # It has been waited for; Popen has to know that.
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        self.disconnect()
        said = log.read_text(encoding="utf-8")
        if process.returncode != 0:
            raise BenchmarkError(f"{playbook} with {inventory.name} failed:\n{said[-3000:]}")
        counts = recap(said)
        return Run(
            seconds=seconds,
            cpu_seconds=used.ru_utime + used.ru_stime,
            tasks=per_host(counts, "ok"),
            skipped=per_host(counts, "skipped"),
            changed=per_host(counts, "changed"),
            round_trips=len(trips.read_text(encoding="utf-8").splitlines()) / hosts,
        )


def our_variables() -> dict[str, Any]:
    return {
        "pooled_databases": [MODEL],
        "postgres_listen_addresses": "*",
        "postgres_client_networks": NETWORKS,
    }


def their_variables(settings_by: str) -> dict[str, Any]:
    """The peer's variables: the same model in its words, and the settings that ours chose."""
    name = container(OURS, 1)
    settings = inside(name, f"cat /etc/postgresql/{MAJOR}/main/conf.d/*.conf")
    return {
        "peer_major": MAJOR,
        "peer_database": DATABASE,
        "peer_schemas": SCHEMAS,
        "peer_networks": NETWORKS,
        "peer_passwords": PASSWORDS,
        "peer_settings": dict(re.findall(r"^(\w+) = '(.*)'$", settings, re.MULTILINE)),
        "peer_settings_by": settings_by,
        "peer_pgbouncer": sections(inside(name, f"cat {FILES['pgbouncer.ini']}"))["pgbouncer"],
    }


def state(name: str) -> dict[str, list[str]]:
    """What a host has, by psql and as its files say, in sorted lines."""
    found = {
        subject: sorted(
            inside(name, f"psql -XAtq -v ON_ERROR_STOP=1 -d {DATABASE}", "postgres", query + ";\n")
            .strip()
            .splitlines()
        )
        for subject, query in QUERIES.items()
    }
    for title, path in FILES.items():
        found[title] = sorted(
            f"[{section}] {option} = {value}"
            for section, options in sections(inside(name, f"cat {path}")).items()
            for option, value in options.items()
        )
    found["who comes in through PgBouncer"] = inside(
        name, f"read -r PGPASSWORD; export PGPASSWORD; {LOGIN}", text=PASSWORDS["app_user"] + "\n"
    ).splitlines()
    if found["who comes in through PgBouncer"] != ["app_user"]:
        raise BenchmarkError(f"{name}: app_user does not come in through PgBouncer")
    return found


def compare(hosts: range) -> None:
    """See that both ways have brought about the same on all hosts.

    Raises:
        BenchmarkError: they have not.
    """
    lines = [
        f"{container(OURS, number)}: {line}"
        for number in hosts
        for line in differences(state(container(OURS, number)), state(container(THEIRS, number)))
    ]
    if lines:
        raise BenchmarkError("Both ways differ in\n" + "\n".join(lines))


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        _first, *rest = (text.rjust(width) for text, width in zip(row, widths, strict=True))
        print("  ".join(["", row[0].ljust(widths[0]), *rest]).rstrip())
    print()


def of(runs: list[Run], what: str) -> list[float]:
    return [float(getattr(run_, what)) for run_ in runs]


def report(figures: Figures, hosts: int) -> None:
    """Print the runs side by side."""
    rows = []
    for kind, ways in figures.runs.items():
        ours, theirs = ways[OURS], ways[THEIRS]
        for what, title, digits in (
            ("seconds", "seconds", 1),
            ("cpu_seconds", "controller's CPU seconds", 1),
            ("tasks", "tasks", 0),
            ("skipped", "tasks skipped", 0),
            ("round_trips", "round trips to a host", 1),
        ):
            ratio = ratios(of(ours, what), of(theirs, what)) if what != "skipped" else []
            rows.append(
                (
                    f"{kind}: {title}",
                    spread(of(ours, what), digits),
                    spread(of(theirs, what), digits),
                    spread(ratio, 2) if ratio else "",
                )
            )
    print()
    table(("", "ours", "peer", "ours / peer"), rows)
    if hosts > 1:
        one, many = figures.runs[idle(1)], figures.runs[idle(hosts)]
        table(
            (f"idle run, each further host, 1 to {hosts}", "ours", "peer"),
            [
                (
                    title,
                    *(
                        f"{growth(of(one[way], what), of(many[way], what), hosts):.2f}"
                        for way in WAYS
                    ),
                )
                for what, title in (
                    ("seconds", "seconds"),
                    ("cpu_seconds", "controller's CPU seconds"),
                )
            ],
        )


def idle(hosts: int) -> str:
    return "idle run" if hosts == 1 else f"idle run, {hosts} hosts"


def measure(lab: Lab, rounds: int, hosts: int, settings_by: str) -> Figures:
    """Fresh hosts in each round; each kind of run by one way and then the other, first by turns."""
    figures = Figures()

    def plays(way: str, numbers: range, theirs: dict[str, Any]) -> Run:
        variables = our_variables() if way == OURS else theirs
        inventory = lab.inventory(way, numbers, variables)
        return lab.play(SITE if way == OURS else PEER, inventory, len(numbers))

    def idles(way: str, numbers: range, theirs: dict[str, Any]) -> None:
        done = plays(way, numbers, theirs)
        if done.changed:
            log = (lab.folder / "log").read_text(encoding="utf-8")
            raise BenchmarkError(
                f"{way}: a run with nothing to do changed something:\n{log[-3000:]}"
            )
        figures.add(idle(len(numbers)), way, done)

    theirs: dict[str, Any] = {}
    every, first = range(1, hosts + 1), range(1, 2)
    for number in range(1, rounds + 1):
        turns = WAYS if number % 2 or not theirs else WAYS[::-1]
        with step(f"round {number}: fresh hosts"):
            for way in WAYS:
                lab.start(way, 1)
        for way in turns:
            with step(f"round {number}: first run, {way}"):
                figures.add("first run", way, plays(way, first, theirs))
            theirs = theirs or their_variables(settings_by)
        compare(first)
        for way in turns:
            with step(f"round {number}: idle run, {way}"):
                idles(way, first, theirs)
        if hosts == 1:
            continue
        for way in WAYS:
            with step(f"round {number}: {hosts} hosts set up, {way}"):
                for host in every[1:] if number == 1 else ():
                    lab.start(way, host)
                plays(way, every, theirs)
        compare(every)
        for way in turns:
            with step(f"round {number}: idle run on {hosts} hosts, {way}"):
                idles(way, every, theirs)
    return figures


@dataclass(frozen=True)
class Module:
    """What a module takes before it does anything."""

    name: str
    kilobytes: float
    files: int
    milliseconds: float


def modules(lab: Lab) -> list[Module]:
    """Each module as ansible sends it, unpacked and imported on a host by that host's Python."""
    lab.start(OURS, 1)
    inventory = lab.inventory(OURS, range(1, 2), {})
    host = container(OURS, 1)
    names = [
        f"pooled.postgres.{path.stem}"
        for path in sorted((ROOT / "plugins" / "modules").glob("*.py"))
        # What has an action of its own does not travel.
        if not (ROOT / "plugins" / "action" / path.name).exists()
    ]
    inside(host, "apt-get update -q && apt-get install -qy python3-psycopg2")
    # What Python itself takes.
    bare = imported(host, "/", "pass")
    found = []
    for name in [*names, *YARDSTICKS]:
        with step(f"module {name}"):
            inside(host, "rm -rf ~root/.ansible")
            # Whatever it says of missing arguments: ansible leaves behind what it has sent.
            subprocess.run(
                ["ansible", "--inventory", str(inventory), "all", "--module-name", name],
                cwd=lab.folder,
                env={
                    **lab.environment,
                    "ANSIBLE_KEEP_REMOTE_FILES": "1",
                    "ANSIBLE_PIPELINING": "0",
                },
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            lab.disconnect()
            sent = inside(host, "ls ~root/.ansible/tmp/*/AnsiballZ_*.py").split()
            if len(sent) != 1:
                raise BenchmarkError(f"{name}: {len(sent)} files were sent")
            size = int(inside(host, f"stat -c %s {sent[0]}"))
            folder = f"{Path(sent[0]).parent}/debug_dir"
            inside(host, f"/usr/bin/python3 {sent[0]} explode")
            dotted = inside(host, f"cd {folder}; find . -path '*/modules/*.py' ! -name __init__.py")
            module = next(
                path for path in dotted.split() if path.endswith(f"/{name.rpartition('.')[2]}.py")
            )
            code = "import " + module.removeprefix("./").removesuffix(".py").replace("/", ".")
            files = inside(host, f"find {folder} -name '*.py' ! -name __init__.py | wc -l")
            found.append(Module(name, size / 1024, int(files), imported(host, folder, code) - bare))
    return found


def imported(host: str, folder: str, code: str, repeats: int = 7) -> float:
    """Milliseconds of a Python that is started for some lines, of which nothing is compiled yet."""
    # As from the archive that ansible sends, which holds no compiled files.
    script = f"cd {folder}; PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={folder} /usr/bin/python3 -"
    return float(inside(host, script, text=IMPORT.format(repeats=repeats, code=code)))


def report_modules(found: list[Module]) -> None:
    print()
    table(
        ("module", "travels, kB", "files", "import, ms"),
        [
            (one.name, f"{one.kilobytes:.0f}", f"{one.files}", f"{one.milliseconds:.0f}")
            for one in found
        ],
    )


def stop(_signal: int, _frame: object) -> NoReturn:
    """Leave as Ctrl-C does, so that the containers go."""
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="each with fresh hosts (default 3)")
    parser.add_argument("--hosts", type=int, default=1, help="also idle runs on so many hosts")
    parser.add_argument("--memory", default="2g", help="of each container (default 2g)")
    parser.add_argument(
        "--settings",
        choices=("template", "lines"),
        default="template",
        help="how the peer writes them: one template (default), or one call for each",
    )
    parser.add_argument("--modules", action="store_true", help="what our modules weigh, only that")
    parser.add_argument("--json", type=Path, help="file for the raw figures")
    given = parser.parse_args()
    if given.rounds < 1 or given.hosts < 1:
        parser.error("--rounds and --hosts must be at least 1")
    signal.signal(signal.SIGTERM, stop)
    raw: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="pooled-") as folder:
        try:
            lab = Lab(Path(folder), given.memory)
            if given.modules:
                found = modules(lab)
                report_modules(found)
                raw = {"modules": [asdict(one) for one in found]}
            else:
                figures = measure(lab, given.rounds, given.hosts, given.settings)
                report(figures, given.hosts)
                raw = asdict(figures)
        except BenchmarkError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopped; the containers are removed.", file=sys.stderr)
            return 130
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            remove_containers()
    if given.json:
        given.json.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
