# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporters' units as Ansible renders them: systemd ignores lines that it can't read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import units as host_units

ROLES = Path(__file__).resolve().parents[2] / "roles"
PLAY = """\
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_vars: {file: "{{ roles }}/{{ item }}"}
      loop:
        - pgbouncer_exporter/defaults/main.yml
        - pgbouncer_exporter/vars/main.yml
        - pgbouncer_exporter/vars/Debian.yml
        - postgres_exporter/defaults/main.yml
        - postgres_exporter/vars/main.yml
        - postgres_exporter/vars/Debian.yml
    - ansible.builtin.template:
        src: "{{ roles }}/{{ item }}.j2"
        dest: "{{ folder }}/{{ item | regex_replace('/', '-') }}"
        mode: "0600"
      loop:
        - pgbouncer_exporter/templates/exporter.service
        - pgbouncer_exporter/templates/pooled.conf
        - pgbouncer_exporter/templates/others.service
        - postgres_exporter/templates/pooled.conf
"""
# Debian's release, what systemd can do there, the OS user of PgBouncer as the host has it, and as
# it is asked for.
HOSTS = [
    ("12", "none", "postgres", "auto"),
    ("13", "full", "pgbouncer", "auto"),
    ("13", "mounts", "postgres", "bouncer"),
]


@pytest.mark.parametrize(("release", "sandbox", "has", "asked"), HOSTS)
def test_each_line_is_one_that_systemd_reads(tmp_path, release, sandbox, has, asked):
    play = tmp_path / "play.yml"
    play.write_text(PLAY)
    host = {
        "distribution": {"id": "debian", "release": release},
        "pgbouncer": {"os_user": has, "pid_file": "/run/a 100%/pgbouncer.pid"},
        "sandbox": sandbox,
        "exporters": [],
        "postgres": {"clusters": []},
    }
    given = {
        "roles": str(ROLES),
        "folder": str(tmp_path),
        "__pgbouncer_host": host,
        "__postgres_host": host,
        "pgbouncer_os_user": asked,
        "ansible_python_interpreter": sys.executable,
    }
    program = Path(sys.executable).parent / "ansible-playbook"
    done = subprocess.run(
        [program, "-i", "localhost,", "-e", json.dumps(given), str(play)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    units = sorted(path for path in tmp_path.iterdir() if path != play)
    assert len(units) == 4
    user = has if asked == "auto" else asked
    own = [unit for unit in units if unit.name == "pgbouncer_exporter-templates-pooled.conf"]
    assert '"--pgBouncer.pid-file=/run/a 100%%/pgbouncer.pid"' in own[0].read_text()
    # One in Debian 12 asks its connection for the process.
    others = [unit for unit in units if unit.name == "pgbouncer_exporter-templates-others.service"]
    assert (release == "13") is (
        "--pgBouncer.pid-file=/run/pgbouncer-%i/pgbouncer.pid" in others[0].read_text()
    )
    for unit in units:
        text = unit.read_text()
        service = re.split(r"^\[.*\]$", text.partition("[Service]")[2], flags=re.MULTILINE)[0]
        lines = [line for line in service.splitlines() if line and not line.startswith("#")]
        assert {line for line in lines if not re.match(r"[A-Za-z]+=", line)} == set(), unit.name
        assert "\\n" not in service
        assert {*host_units.hardening(sandbox, home="yes")} <= {*lines}
        users = [line for line in lines if line.startswith("User=")]
        # Its package has made the other one's user.
        assert users == ([f"User={user}"] if unit.name.startswith("pgbouncer") else [])
