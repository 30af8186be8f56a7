# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit as one page of HTML that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import html
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._audit.report import by_rule
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.budget import (
    memory_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._text import printable

SEVERITIES = ("critical", "warning", "info")
_STATES = (
    "active",
    "idle",
    "idle in transaction",
    "idle in transaction (aborted)",
)
_COLOURS = 6
_STYLE = """
:root { color-scheme: light dark; --page: #f4f5f7; --card: #fff; --ink: #1c2430; --soft: #5b6675;
  --line: #dde1e7; --code: #eef1f5; --critical: #b3261e; --warning: #8a5300; --info: #1f5fa8;
  --good: #1c6b3c; --bar: #e3e7ed; --c0: #2f6db5; --c1: #2b8a7e; --c2: #7a5bb0; --c3: #b06a2c;
  --c4: #a8486f; --c5: #6b7686; }
@media screen and (prefers-color-scheme: dark) { :root { --page: #14181f; --card: #1d232c;
  --ink: #e6e9ee; --soft: #a2acb9; --line: #333c48; --code: #272f3a; --critical: #ff8a80;
  --warning: #f0b35c;
  --info: #8ab8f0; --good: #7fd19b; --bar: #313a46; --c0: #5b95d8; --c1: #4db3a5; --c2: #a387d6;
  --c3: #d3904f; --c4: #d3779b; --c5: #93a0b2; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.3rem; margin: 0; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; } p { margin: .25rem 0; }
section.host { background: var(--card); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1.25rem; margin-top: 1.25rem; }
.soft { color: var(--soft); } .small { font-size: .875rem; }
.chips { display: flex; flex-wrap: wrap; gap: .5rem; margin: .5rem 0; padding: 0; }
.chip { border: 1px solid currentColor; border-radius: 1rem; padding: 0 .7rem;
  font-size: .875rem; font-weight: 600; white-space: nowrap; }
.critical { color: var(--critical); } .warning { color: var(--warning); }
.info { color: var(--info); } .good { color: var(--good); }
article { border: 1px solid var(--line); border-left: .3rem solid; border-radius: .4rem;
  padding: .6rem .9rem; margin: .6rem 0; break-inside: avoid; }
article > * { color: var(--ink); } article h4 { font-size: 1rem; margin: 0; }
article .tag { text-transform: uppercase; font-size: .75rem; font-weight: 700;
  letter-spacing: .04em; } article.critical .tag { color: var(--critical); }
article.warning .tag { color: var(--warning); } article.info .tag { color: var(--info); }
article p.soft { color: var(--soft); }
.evidence, h2, h4, li { overflow-wrap: anywhere; }
code { font: .8125rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  background: var(--code); border-radius: .25rem; padding: .1rem .3rem; white-space: pre-wrap;
  overflow-wrap: anywhere; box-decoration-break: clone; -webkit-box-decoration-break: clone; }
.bar { display: flex; height: 1.5rem; background: var(--bar); border-radius: .3rem;
  overflow: hidden; position: relative; }
.bar span { display: block; min-width: 1px; border-right: 1px solid var(--card); }
.limit { position: relative; height: 1.4rem; font-size: .8125rem; }
.limit span { position: absolute; top: 0; border-left: 2px solid var(--ink); padding-left: .3rem;
  white-space: nowrap; } .limit span.left { border-left: 0; border-right: 2px solid var(--ink);
  padding: 0 .3rem 0 0; transform: translateX(-100%); }
.c0 { background: var(--c0); } .c1 { background: var(--c1); } .c2 { background: var(--c2); }
.c3 { background: var(--c3); } .c4 { background: var(--c4); } .c5 { background: var(--c5); }
.dot { display: inline-block; width: .7rem; height: .7rem; border-radius: .15rem;
  margin-right: .4rem; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  gap: 0 2rem; } .columns > div { min-width: 0; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { text-align: left; padding: .25rem .5rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; } td { overflow-wrap: anywhere; min-width: 3.5rem; }
th { color: var(--soft); font-weight: 600; } td.number, th.number { text-align: right; min-width: 0;
  padding: .25rem 0 .25rem .75rem; white-space: nowrap; }
.evidence { margin-top: .4rem; }
ul { margin: .25rem 0; padding-left: 1.2rem; } a { color: inherit; }
@media (max-width: 34rem) { main { padding: 1rem .5rem 2rem; } section.host { padding: .9rem; }
  td { min-width: 2.5rem; } }
@media print { :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000;
  --soft: #444; --line: #bbb; --code: #f3f3f3; } main { max-width: none; padding: 0; }
  section.host { border: 0; padding: 0; } * { print-color-adjust: exact;
  -webkit-print-color-adjust: exact; } }
"""


def page(
    results: Mapping[str, Mapping[str, Any]], hosts: Iterable[str] = (), when: str = ""
) -> str:
    """The page.

    Args:
        results: what postgres_audit_info returned, by host.
        hosts: all hosts that were meant; those without a result are named.
        when: time of the audit, as it is to be shown.
    """
    missing = [name for name in hosts if name not in results]
    body = [
        "<h1>Postgres audit</h1>",
        f'<p class="soft small">{_count(len(results), "server")}'
        f"{', ' + escape(when) if when else ''}</p>",
        _chips([result["summary"] for result in results.values()]),
    ]
    if missing:
        body.append(
            f'<p class="critical">Not audited, see the run\'s output: {escape(", ".join(missing))}'
            "</p>"
        )
    if len(results) > 1:
        body.append(_contents(results))
    body.extend(_host(number, *item) for number, item in enumerate(results.items()))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>Postgres audit</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _chips(summaries: Sequence[Mapping[str, int]]) -> str:
    totals = {key: sum(summary[key] for summary in summaries) for key in (*SEVERITIES, "accepted")}
    chips = [
        f'<span class="chip {severity}">{totals[severity]} {severity}</span>'
        for severity in SEVERITIES
        if totals[severity]
    ] or ['<span class="chip good">no findings</span>']
    if totals["accepted"]:
        chips.append(f'<span class="chip soft">{totals["accepted"]} accepted</span>')
    return f'<p class="chips">{"".join(chips)}</p>'


def _contents(results: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [f'<a href="#host{number}">{escape(name)}</a>']
        + [str(result["summary"][severity] or "") for severity in SEVERITIES]
        for number, (name, result) in enumerate(results.items())
    ]
    return _table(("server", *SEVERITIES), rows, numbers=3)


def _host(number: int, name: str, result: Mapping[str, Any]) -> str:
    parts = [f'<h2 id="host{number}">{escape(name)}</h2>']
    if not result.get("available", True):
        parts.append("<p>There is no server to audit yet.</p>")
        return f'<section class="host">{"".join(parts)}</section>'
    server = result["server"]
    words = [f"PostgreSQL {server['version']}"]
    if server["pooler"]:
        words.append(f"PgBouncer {server['pooler']}")
    counts = result["summary"]
    words.append(f"{counts['checked']} rules checked")
    if counts["not_checked"]:
        words.append(f"{counts['not_checked']} not or not wholly")
    parts.append(f'<p class="soft small">{escape(", ".join(words))}</p>')
    parts.append(_chips([counts]))
    parts.append(
        f'<div class="columns">{_memory(result["memory"])}{_connections(result["connections"])}'
        f"{_sessions(result['sessions'])}{_pools(result['pools'])}</div>"
    )
    groups = by_rule(result["findings"])
    if groups:
        parts.append("<h3>Findings</h3>")
    parts.extend(_finding(group) for group in groups)
    parts.append(_accepted(result["accepted"]))
    parts.append(_not_checked(result["not_checked"]))
    return f'<section class="host">{"".join(parts)}</section>'


def _finding(group: Sequence[Mapping[str, str]]) -> str:
    """What a rule has found, one or several times."""
    rule = group[0]
    seen = "".join(
        f'<p class="evidence">{escape(one["evidence"])}</p>'
        f'<p class="small"><code>{escape(one["fix"])}</code></p>'
        for one in group
    )
    return (
        f'<article class="{escape(rule["severity"])}"><p><span class="tag">'
        f'{escape(rule["severity"])}</span> <span class="soft small">{escape(rule["id"])}</span>'
        f"</p><h4>{escape(rule['title'])}</h4>{seen}"
        f'<p class="soft small">{escape(rule["why"])}</p>'
        f'<p class="soft small">In this collection: {escape(rule["variable"])}</p></article>'
    )


def _memory(memory: Mapping[str, Any]) -> str:
    parts = [(one["name"], one["bytes"], one["formula"]) for one in memory["parts"]]
    if not parts:
        return ""
    there = memory["available_bytes"]
    total = sum(size for _name, size, _formula in parts)
    note = "" if there else '<p class="soft small">How much memory there is was not given.</p>'
    limit = f"{memory_text(there)} there" if there else ""
    rows = [
        [
            f'{_dot(number, name)} <span class="soft">{escape(formula)}</span>',
            escape(memory_text(size)),
        ]
        for number, (name, size, formula) in enumerate(parts)
    ]
    rows.append(["<b>at most</b>", f"<b>{escape(memory_text(total))}</b>"])
    drawn = _bar([size for _name, size, _formula in parts], there or 0, limit)
    return f"<div><h3>Memory</h3>{drawn}{note}{_table(('', ''), rows, numbers=1)}</div>"


def _connections(connections: Mapping[str, Any]) -> str:
    there = connections["max_connections"]
    if connections["needed"] is None:
        return (
            f"<div><h3>Connections</h3><p>max_connections is {there}.</p>"
            '<p class="soft small">Who needs how many is known from the model'
            " (pooled_databases).</p></div>"
        )
    positive = [one for one in connections["parts"] if one["connections"] > 0]
    rows = [
        [
            _dot(positive.index(one), one["name"]) if one in positive else escape(one["name"]),
            str(one["connections"]),
        ]
        for one in connections["parts"]
    ]
    rows.append(["<b>needed</b>", f"<b>{connections['needed']}</b>"])
    drawn = _bar([one["connections"] for one in positive], there, f"max_connections {there}")
    return f"<div><h3>Connections</h3>{drawn}{_table(('', ''), rows, numbers=1)}</div>"


def _sessions(sessions: Sequence[Mapping[str, Any]] | None) -> str:
    if sessions is None:
        return '<div><h3>Sessions</h3><p class="soft">This login may not see them.</p></div>'
    if not sessions:
        return '<div><h3>Sessions</h3><p class="soft">None but the audit\'s own.</p></div>'
    others = sorted({one["state"] for one in sessions} - set(_STATES))
    totals = {
        state: sum(one["count"] for one in sessions if one["state"] == state)
        for state in (*_STATES, *others)
    }
    shown = {state: number for state, number in totals.items() if number}
    states = [
        [_dot(number, state or "unknown"), str(count)]
        for number, (state, count) in enumerate(shown.items())
    ]
    rows = [
        [
            escape(one["database"]),
            escape(one["role"]),
            escape(one["application"]),
            escape(one["state"]),
            str(one["count"]),
        ]
        for one in sessions
    ]
    return (
        f"<div><h3>Sessions by state</h3>{_bar(list(shown.values()), 0, '')}"
        f"{_table(('', ''), states, numbers=1)}</div>"
        "<div><h3>Sessions by application</h3>"
        f"{_table(('database', 'role', 'application', 'state', ''), rows, numbers=1)}</div>"
    )


def _pools(pools: Sequence[Mapping[str, Any]] | None) -> str:
    if not pools:
        return ""
    rows = [
        [escape(one["database"]), escape(one["user"]), str(one["clients"]), str(one["waiting"]),
         str(one["servers"])]
        for one in pools
    ]  # fmt: skip
    table = _table(("database", "role", "clients", "waiting", "servers"), rows, numbers=3)
    return f"<div><h3>Pools</h3>{table}</div>"


def _accepted(accepted: Sequence[Mapping[str, str]]) -> str:
    if not accepted:
        return ""
    items = "".join(
        f'<li>{escape(one["evidence"])} <span class="soft">({escape(one["id"])}:'
        f" {escape(one['accepted'])})</span></li>"
        for one in accepted
    )
    return f'<h3>Accepted</h3><ul class="small">{items}</ul>'


def _not_checked(not_checked: Sequence[Mapping[str, str]]) -> str:
    reasons: dict[str, list[str]] = {}
    for one in not_checked:
        reasons.setdefault(one["reason"], []).append(one["id"])
    items = "".join(
        f'<li>{escape(reason)} <span class="soft">({escape(", ".join(ids))})</span></li>'
        for reason, ids in reasons.items()
    )
    return f'<h3>Not checked</h3><ul class="small">{items}</ul>' if items else ""


def _dot(number: int, name: str) -> str:
    return f'<span class="dot c{number % _COLOURS}"></span>{escape(name)}'


def _bar(sizes: Sequence[int], limit: int, label: str) -> str:
    """Parts side by side. What there is, when that is known, is marked below them."""
    scale = max(sum(sizes), limit) or 1
    parts = "".join(
        f'<span class="c{number % _COLOURS}" style="width:{100 * size / scale:.2f}%"></span>'
        for number, size in enumerate(sizes)
    )
    marked = ""
    if limit:
        place = 100 * limit / scale
        side = ' class="left"' if place > 50 else ""
        place_style = f"left:{place:.2f}%"
        marked = (
            f'<div class="limit"><span{side} style="{place_style}">{escape(label)}</span></div>'
        )
    return f'<div class="bar">{parts}</div>{marked}'


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> str:
    """A table of cells that are HTML already; the last columns are numbers."""
    first = len(titles) - numbers

    def cell(tag: str, place: int, text: str) -> str:
        kind = ' class="number"' if place >= first else ""
        return f"<{tag}{kind}>{text}</{tag}>"

    head = ""
    if any(titles):
        cells = "".join(cell("th", place, escape(text)) for place, text in enumerate(titles))
        head = f"<thead><tr>{cells}</tr></thead>"
    body = "".join(
        f"<tr>{''.join(cell('td', place, text) for place, text in enumerate(row))}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def escape(text: str) -> str:
    """A text that is neither markup nor turns what stands around it."""
    return html.escape(printable(text))
