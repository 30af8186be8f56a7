# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of databases and roles, as modules take it."""

from __future__ import annotations


class ModuleDocFragment:
    """Shared by every module that reads the model."""

    DOCUMENTATION = r"""
options:
  databases:
    description: The databases with their roles; usually the variable C(pooled_databases).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the database. Created with encoding UTF8 when it is missing. PgBouncer takes letters from A to Z, digits and C(_-.).
        type: str
        required: true
      schemas:
        description: Schemas in which the roles work, created when missing. V([public]) when left out.
        type: list
        elements: str
      extensions:
        description:
          - Extensions to create, each by its name or as a dictionary of C(name) and C(schema). Each comes after those that it requires, which have to be
            listed too unless the database has them. One that is not available on the server fails the run before anything is changed.
          - With a C(schema), an extension is created there, or moved there. That schema is created when missing. Where it is not in
            O(databases[].schemas), the roles may use what is in it, and none may create in it.
          - Without one, a new extension goes to C(public), or to the first schema where there is no C(public), and one that exists stays where it is.
            C(pg_stat_statements), which the collection itself asks for, goes to a schema C(pooled_extensions), in which nobody else creates.
        type: list
        elements: raw
      roles:
        description: The roles that work in this database. Roles are the server's, so entries of one role in several databases must be equal.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the role.
            type: str
            required: true
          kind:
            description:
              - Required, unless O(databases[].roles[].state=absent).
              - V(user) may connect, and read and write data, but not define it.
              - V(reader) may connect and read. It executes no routines by itself, because one that is C(SECURITY DEFINER) may write.
              - V(migrator) may create objects and schemas, and owns what it creates.
              - V(admin) is a V(user) that row-level security does not bind.
            type: str
            choices: [user, reader, migrator, admin]
          password:
            description:
              - Plain text or a SCRAM verifier, C(SCRAM-SHA-256$...). It is compared with what the server stores and sent only when it differs.
              - Where the login may not read what the server stores, a plain-text password is tried by logging in with it. A warning names those that can't be
                told apart that way, and they stay as they are.
              - When left out, the password stays as it is.
            type: str
          connection_limit:
            description: Most connections at once; V(-1) means no limit and is the default.
            type: int
          settings:
            description:
              - Settings of the role, merged over those of its kind. An empty (null) value takes one of the kind's away.
              - Settings that are on the server and not in here are reset.
            type: dict
          member_of:
            description: Roles that this role is a member of, and no others.
            type: list
            elements: str
          pools:
            description:
              - PgBouncer's options for this role, such as C(pool_size), C(pool_mode) or C(max_user_connections), checked against its version.
                They win over those of the database.
            type: dict
          pooled:
            description:
              - Whether the role may log in through PgBouncer; V(true) when left out. With V(false), PgBouncer refuses it, the connection budget has no
                pool for it, and clients of it must have O(databases[].clients[].via=direct).
            type: bool
          state:
            description:
              - V(absent) is for a role to remove. It counts nowhere any more. What it owns and what rights it has is reported in a warning, and it is
                dropped only with O(databases[].roles[].reassign_owned_to).
              - V(present) when left out.
            type: str
            choices: [present, absent]
          reassign_owned_to:
            description:
              - Role that gets what a role with O(databases[].roles[].state=absent) owns in the databases of the model; then the role is dropped.
              - The run fails before anything is changed while the role has sessions or members, or owns or holds something in other databases.
            type: str
      clients:
        description: Processes that connect, for the connection budget.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the client.
            type: str
            required: true
          role:
            description: The role that it connects as.
            type: str
            required: true
          replicas:
            description: Number of hosts or containers.
            type: int
          surge:
            description:
              - Replicas that run besides while a new release replaces the old one, as a number or as a share of the replicas, such as V(25%), rounded up.
              - V(0) when left out. Kubernetes starts V(25%) by default.
            type: str
          workers:
            description: Processes in each.
            type: int
          pool_size:
            description: Connections that the pool of a process keeps.
            type: int
          max_overflow:
            description: Connections that it may open beyond them.
            type: int
          via:
            description: Whether it connects to PgBouncer or to Postgres itself.
            type: str
            choices: [pgbouncer, direct]
          alias:
            description: The one of O(databases[].aliases) that it connects to, with O(databases[].clients[].via=pgbouncer); the database itself when left out.
            type: str
      pools:
        description: PgBouncer's options for this database, such as C(pool_size), C(pool_mode) or C(max_db_connections), checked against its version.
        type: dict
      aliases:
        description:
          - Further names under which PgBouncer serves this database, each with pools of its own that the connection budget counts.
          - An entry has a C(name) and PgBouncer's options for it, such as C(pool_mode=session) for clients that need a session, or C(host) and
            C(port) of another server with the same roles.
        type: list
        elements: dict
"""

    PASSWORDS = r"""
options:
  passwords:
    description:
      - Passwords of the roles in O(databases), by the role's name, as O(databases[].roles[].password) takes them.
      - Ansible then knows all of them for secrets. The filter P(pooled.postgres.role_passwords#filter) takes them out of the model,
        and P(pooled.postgres.without_passwords#filter) gives the rest of it.
    type: dict
    default: {}
"""
