# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server, or its program, refuses."""

from __future__ import annotations


class Refused(Exception):
    """The server's binary, or the server, does not take it; the text is its own words."""
