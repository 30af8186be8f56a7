# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords that are written otherwise than they are, and how to find them all the same.

Each holds a word of plain letters that nothing rewrites, so a search for the word also finds the
password in forms that nobody has thought of, or half of it. Only base64 hides the word.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

# by role name
PASSWORDS = {
    "both_quotes": 'it\'s HushQuoteBoth "so"',
    "backslash": "HushBackSlash\\end\\\\",
    "percent": "100% HushPerCent %s %(x)s %%",
    "template": "HushTemplate {{ 7 * 7 }} {% raw %} {# not #}",
    "newline_like": "HushNewLine\\nnot\\tone\\x00\\u00e9",
    "no_break_space": "HushNoBreak\u00a0space's",
    "not_ascii": "HushAe\u00e4\u00df \u20ac \u00aa\u2168",
    # SASLprep forbids what Unicode 3.2 did not have; such passwords are taken as they are.
    "emoji": "HushEmoji \U0001f511 \u2168",
    "shell": "HushShell $HOME `id` $(id) ; & | > * ? !! #'\"\\",
    "address": "HushAddress+%20%2B:p@ss/word?x=1&y#z",
    "looks_like_data": '{"HushLooksLike": [1, "two", null]}',
    "ends_in_spaces": " HushSpaces  ",
    "two_hundred": ("HushTwoHundred'\"\\" * 12)[:200],
}


def needles(secrets: Iterable[str] = tuple(PASSWORDS.values())) -> set[bytes]:
    """What to search for: each password's word, and what base64 makes of the password."""
    found: set[bytes] = set()
    for secret in secrets:
        start = secret.index("Hush")
        length = next(
            (
                at
                for at, char in enumerate(secret[start:])
                if not char.isascii() or not char.isalpha()
            ),
            len(secret),
        )
        found.add(secret[start : start + length].encode())
        for shift in range(3):
            # What surrounds the password changes up to three characters at either end.
            coded = base64.b64encode(b"\0" * shift + secret.encode())
            found.add(coded[4:-4])
    return found
