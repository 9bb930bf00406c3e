# One command for each job, the same on a laptop and in CI. `make` alone lists them.
# PYTHON names the interpreter to build .venv with; without it the first Python of 3.11 or later is taken.

SHELL := /bin/sh
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2
# Files of a few long tests first and those of many short ones last: no worker sits idle beside another's long file.
TESTS := tests/acceptance tests/integration tests/unit
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Containers like to forbid byte code. The tests start hundreds of processes, and each would compile all of us anew.
unexport PYTHONDONTWRITEBYTECODE

RESOLVE := $(BIN)/uv pip compile --universal --system-certs --generate-hashes \
	--no-config --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet

.PHONY: help setup agent demo test test-all bench conformance lint format lock proto reference clean

help:
	@echo "make setup     build .venv from requirements.lock"
	@echo "make agent     build dist/wavegate-agent.pyz, the agent as one file"
	@echo "make demo      a server, 24 agents, one bad release and one good one, in a temporary folder"
	@echo "make test      lint, types, imports and every test that is not a nightly one"
	@echo "make test-all  the same with the nightly tests"
	@echo "make bench     ratios against public yardsticks, as a table and bench-results.json"
	@echo "make conformance SUITE=FOLDER  run a checkout of tuf-conformance against the agent"
	@echo "make lint      ruff, mypy --strict and the import contracts"
	@echo "make format    let ruff put the code into shape"
	@echo "make lock      resolve requirements.lock anew from pyproject.toml, and requirements-agent.lock from it"
	@echo "make proto     generate the gRPC stubs from api/device/device.proto"
	@echo "make reference write docs/reference.md and docs/permissions.md anew from the code"
	@echo "make clean     remove everything that the other commands made"

setup:
	@PYTHON='$(PYTHON)' .ci/setup

agent: setup
	@$(BIN)/python -m agent.pyz $(ARGS)

demo: setup
	@$(BIN)/publish demo $(ARGS)

test: setup lint
	$(PYTEST) $(PARALLEL) -m "not nightly and not serial" $(TESTS)
	$(PYTEST) -m "serial and not nightly" $(TESTS)

test-all: setup lint
	$(PYTEST) $(PARALLEL) -m "not serial" $(TESTS)
	$(PYTEST) -m "serial" $(TESTS)

bench: setup
	$(BIN)/python -m tests.perf.bench $(ARGS)

# The suite has dependencies of its own and pins them, so it gets an environment of its own. Needs `faketime`.
conformance: setup
	@test -d '$(SUITE)/tuf_conformance' || { echo "conformance: SUITE=$(SUITE) is no checkout of tuf-conformance" >&2; exit 2; }
	@command -v faketime >/dev/null || { echo "conformance: faketime is missing; Debian, Ubuntu: apt-get install faketime" >&2; exit 2; }
	test -x .venv-conformance/bin/pytest || { $(BIN)/python -m venv .venv-conformance && .venv-conformance/bin/pip install --quiet '$(SUITE)'; }
	cd '$(SUITE)' && '$(CURDIR)/.venv-conformance/bin/pytest' tuf_conformance --entrypoint='$(CURDIR)/tests/conformance/agent' $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Resolved for every platform at once; hashes pin the files, so that it does not matter which index they come from
# and the lock names none. `--system-certs` is for networks whose certificate authority only the machine knows.
# deploy/requirements.lock is the part of it that a server in production needs, for the container.
lock: setup
	$(RESOLVE) pyproject.toml --all-extras $(ARGS) -o requirements.lock
	$(RESOLVE) --group pyproject.toml:agent -c requirements.lock -o requirements-agent.lock
	$(RESOLVE) pyproject.toml --extra postgresql --extra bucket --extra redis --extra otel --extra sigstore -c requirements.lock -o deploy/requirements.lock

proto: setup
	$(BIN)/python -m api.device.generate

reference: setup
	$(BIN)/python -m api.reference >.reference.md && mv .reference.md docs/reference.md
	$(BIN)/python -m api.permission_matrix >.permissions.md && mv .permissions.md docs/permissions.md

clean:
	rm -rf .venv .venv-conformance .cache build dist wavegate.egg-info bench-results.json
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
