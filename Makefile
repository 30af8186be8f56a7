# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Each target brings about what it needs, and takes no time for what is there. Pieces that need
# more than a line live in tools/: what the machine needs in setup/, what is written from code in
# generate/, and on top what a person calls, such as `tools/env COMMAND`, which runs a command with
# what is set up here.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The Python to make the virtual environment with: make PYTHON=python3.12 setup
PYTHON ?= python3
export PYTHON

CHECK := tools/env tools/check.py

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The demo's Debian and memory: make demo RELEASE=12 MEMORY=1g
.PHONY: demo
demo: demo-tools engine mmdebstrap ## Set up a container with the whole stack, prove it, and leave it running
	@tools/env tools/demo.py up

.PHONY: demo-down
demo-down: ## Remove what the demo made
	@tools/env $(PYTHON) tools/demo.py down

.PHONY: test
test: setup images ## Run all checks: lint, unit, sanity, integration, Molecule
	@$(CHECK) lint unit sanity integration molecule

.PHONY: lint
lint: dev-tools ## Check style and types: ruff, mypy, yamllint, ansible-lint
	@$(CHECK) lint

.PHONY: unit
unit: dev-tools ## Test the pure parts, the documentation and the built artefact
	@$(CHECK) unit

.PHONY: sanity
sanity: dev-tools ## Run ansible-test sanity
	@$(CHECK) sanity

.PHONY: integration
integration: dev-tools servers browser ## Test the modules against real servers on this machine
	@$(CHECK) integration

.PHONY: molecule
molecule: dev-tools engine images ## Converge and verify every scenario in containers
	@$(CHECK) molecule

# Another sample, or one room: make mutants SEED=15 ROOM=_budget
SEED ?= 14
ROOM ?=
.PHONY: mutants
mutants: dev-tools ## Make small faults in the pure parts, and list those that no unit test catches
	@tools/env tools/mutants.py --sample 200 --seed $(SEED) --room "$(ROOM)" --threshold 90

.PHONY: build
build: dev-tools ## Build the collection's artefact into build/
	@tools/env ansible-galaxy collection build --force --output-path build

.PHONY: docs
docs: dev-tools ## Write anew what comes from code: tables, lists, the dashboard, the drawing of the rooms
	@tools/env tools/generate/role_docs.py
	@tools/env tools/generate/variable_names.py
	@tools/env tools/generate/dashboard.py
	@tools/env tools/generate/architecture.py

.PHONY: format
format: dev-tools ## Format the Python code
	@tools/env ruff check --fix --quiet .
	@tools/env ruff format --quiet .

.PHONY: setup
setup: dev-tools engine servers browser ## Install what development needs and this machine lacks

.PHONY: clean
clean: demo-down ## Remove everything that was made in this checkout
	@if [ -x .venv/bin/molecule ]; then tools/env molecule destroy --all >/dev/null 2>&1; fi
	@rm -rf .ansible .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .venv build

.PHONY: demo-tools
demo-tools:
	@tools/setup/venv demo

.PHONY: dev-tools
dev-tools:
	@tools/setup/venv dev

.PHONY: engine
engine:
	@tools/setup/packages engine
	@$(PYTHON) tools/setup/engine_conf.py .cache/containers.conf

.PHONY: mmdebstrap
mmdebstrap:
	@tools/setup/packages images

.PHONY: servers
servers: mmdebstrap
	@tools/setup/packages servers
	@$(PYTHON) tools/setup/servers.py
	@tools/setup/pgbouncer
	@tools/setup/prometheus

.PHONY: browser
browser:
	@tools/setup/packages browser

# Before scenarios that run at the same time would both make one.
.PHONY: images
images: dev-tools engine mmdebstrap
	@for release in 12 13; do tools/env molecule/shared/images/build $$release >/dev/null || exit; done
