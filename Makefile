# Refundry: every target does all of its own set-up.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LOCKS  := requirements/run.txt requirements/dev.txt
PEERS  := $(addprefix peers-,celery dramatiq rq huey dbos arq taskiq procrastinate charts)
UNIT   := $(filter-out tests/browser tests/integration tests/e2e tests/pitfalls tests/support tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))
SERVERS := $(wildcard tests/e2e tests/browser tests/integration tests/pitfalls)
# Tests with servers and processes wait for them a part of their time. The longest come first.
WAITING = $(shell $(PYTHON) -c 'import os; print(3 * os.cpu_count() // 2)')
ARGS   ?=
SEEDS  ?= 1000

.DEFAULT_GOAL := help
.PHONY: help setup up demo test chromium check bench bench-full bench-check simulate mutants chaos pitfalls-next docs handbook reference audit clean lock lock-peers

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the locked dependencies and the project itself

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.x" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: install the package python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

up: setup ## Run everything in one terminal: Redis, migrations, worker, beat, HTTP API
	$(BIN)/refundry up $(ARGS)

demo: setup ## Pay refunds at five simulated providers under faults, and prove each was paid once
	$(BIN)/refundry demo $(ARGS)

test: setup chromium ## Run every test: units in parallel, then those with real servers and processes
	$(BIN)/python -m pytest -n auto $(UNIT) $(ARGS)
	$(BIN)/python -m pytest -n $(WAITING) --dist loadscope --no-loadscope-reorder --ignore=tests/e2e/test_handbook.py $(SERVERS) $(ARGS)

chromium:
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || command -v chromium-browser >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && { apt-get update -qq; apt-get install -y -qq chromium >/dev/null; }; } || \
	  { echo "The browser tests need Chromium: install the package chromium, or set CHROMIUM to its path" >&2; exit 2; }

check: setup ## Lint, formatting, types and the layers of the architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.licences
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@test ! -x $(BIN)/hadolint || $(BIN)/hadolint Dockerfile

audit: setup ## Ask the advisory database about every locked dependency; needs the network
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; }
	@for lock in run run-extras dev docs; do \
	  .venv-audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements/$$lock.txt || \
	    { echo "make audit: requirements/$$lock.txt has known vulnerabilities, or no advisory service could be reached: see above" >&2; exit 1; }; \
	done

bench: setup ## Measure throughput, latency and cost per refund beside plain Celery, in less than ten minutes
	$(BIN)/python -m benchmarks $(ARGS)

bench-full: setup ## Measure everything else: other task queues, growth, intake, reconciliation, scale-out; about an hour
	$(BIN)/python -m benchmarks --full $(ARGS)

bench-check: setup ## Fail when the pump falls below seven times a plain Celery task
	$(BIN)/python -m benchmarks.check

simulate: setup ## Run SEEDS (1000) simulations in virtual time, the invariants checked after every step
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

mutants: setup ## Break the rules one by one and see that a test notices each
	$(BIN)/python -m tests.simulation.mutants $(ARGS)

chaos: setup ## Kill, freeze, cut off and fill up real processes and servers while refunds run
	$(BIN)/python -m tests.chaos $(ARGS)

pitfalls-next: setup ## Run the pitfalls that only the next Celery shows, in .venv-next
	test -x .venv-next/bin/python || $(PYTHON) -m venv .venv-next
	.venv-next/bin/python -m pip install --quiet --disable-pip-version-check "celery[redis]==5.7.*"
	$(BIN)/python -c "import site; print(site.getsitepackages()[0])" > "$$(.venv-next/bin/python -c 'import site; print(site.getsitepackages()[0])')/project.pth"
	.venv-next/bin/python -m pytest -p no:cacheprovider tests/pitfalls/next $(ARGS)

docs: setup ## Hold the pages of docs/ against the code and build the site into build/site
	$(BIN)/python -m pytest tests/unit/docs tests/unit/domain/test_state_page.py tests/unit/api/test_openapi.py $(ARGS)
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/docs.txt
	.venv-docs/bin/zensical build --clean --strict
	$(BIN)/python -m tools.site build/site

handbook: setup ## Run every command of docs/handbook/bare-metal.md in a fresh root
	$(BIN)/python -m pytest tests/e2e/test_handbook.py $(ARGS)

reference: setup ## Write docs/reference/ from the code
	$(BIN)/python -m tools.reference

clean: ## Remove the environment, caches and everything embedded servers left
	rm -rf $(VENV) .venv-audit .venv-bench .venv-docs .venv-next .refundry build dist *.egg-info .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: setup ## Resolve the dependencies again and write requirements/*.txt
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(call resolve,requirements/run.txt,pyproject.toml,lock)
	@$(call resolve,requirements/dev.txt,pyproject.toml --extra dev,lock)
	@$(call resolve,requirements/run-extras.txt,pyproject.toml --extra otel --extra sentry,lock)
	@$(call resolve,requirements/docs.txt,--group docs,lock)

lock-peers: setup ## Resolve what the benchmarks compare with again and write requirements/peers-*.txt
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(foreach peer,$(PEERS),$(call resolve,requirements/$(peer).txt,--group $(peer),lock-peers) && ) true

# $(1) the file to write, $(2) what to resolve, $(3) the target that does it
define resolve
{ echo "# Locked by 'make $(3)' from pyproject.toml; do not edit."; \
  $(BIN)/uv pip compile $(2) --quiet --upgrade --universal --python-version 3.11 \
    --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links; } > $(1).new && mv $(1).new $(1)
endef
