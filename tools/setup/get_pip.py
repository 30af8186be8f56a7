# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a given pip into an empty virtual environment, with what Python itself carries.

ansible-test downloads a script for this from a host of its own, unless it has one in its cache;
tools/sanity places this one there, so that package registries are all the tests need.
"""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys


def main() -> int:
    # ensurepip switches pip's configuration off in os.environ: the index to use would be lost.
    environment = dict(os.environ)
    ensurepip.bootstrap(upgrade=True)
    wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
    return subprocess.call([sys.executable, "-m", "pip", "install", *wanted], env=environment)


if __name__ == "__main__":
    sys.exit(main())
