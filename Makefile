# Refundry: every target does all of its own set-up.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LOCKS  := requirements/run.txt requirements/dev.txt
UNIT   := $(filter-out tests/browser tests/integration tests/e2e tests/pitfalls tests/support tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))
SERVERS := $(wildcard tests/browser tests/integration tests/e2e tests/pitfalls)
ARGS   ?=
SEEDS  ?= 1000

.DEFAULT_GOAL := help
.PHONY: help setup up demo test chromium check bench simulate mutants chaos pitfalls-next docs clean lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the locked dependencies and the project itself

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.x" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: install the package python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

up: setup ## Run everything in one terminal: Redis, migrations, worker, beat
	$(BIN)/refundry up $(ARGS)

demo: setup ## Pay refunds at five simulated providers under faults, and prove each was paid once
	$(BIN)/refundry demo $(ARGS)

test: setup chromium ## Run every test: units in parallel, then those with real servers and processes
	$(BIN)/python -m pytest -n auto $(UNIT) $(ARGS)
	$(BIN)/python -m pytest -n auto --dist loadscope $(SERVERS) $(ARGS)

chromium:
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || command -v chromium-browser >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && { apt-get update -qq; apt-get install -y -qq chromium >/dev/null; }; } || \
	  { echo "The browser tests need Chromium: install the package chromium, or set CHROMIUM to its path" >&2; exit 2; }

check: setup ## Lint, formatting, types and the layers of the architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: setup ## Measure throughput, latency and cost per refund
	$(BIN)/python -m benchmarks $(ARGS)

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

docs: setup ## Hold the pages of docs/ against the code
	$(BIN)/python -m pytest tests/unit/domain/test_state_page.py tests/unit/docs $(ARGS)

clean: ## Remove the environment, caches and everything embedded servers left
	rm -rf $(VENV) .venv-bench .venv-next .refundry build dist *.egg-info .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: setup ## Resolve the dependencies again and write requirements/*.txt
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(call compile,requirements/run.txt,)
	@$(call compile,requirements/dev.txt,--extra dev)

define compile
{ echo "# Locked by 'make lock' from pyproject.toml; do not edit."; \
  $(BIN)/uv pip compile pyproject.toml $(2) --quiet --upgrade --universal --python-version 3.11 \
    --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links; } > $(1).new && mv $(1).new $(1)
endef
