# Everything that people and CI run. Needs Python 3.11+, git, make and a C compiler; the rest is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help install check test demo run lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "%-10s %s\n", $$1, $$2}'

install: $(READY) ## create .venv from requirements-dev.lock (hashes checked)

$(READY): requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

check: $(READY) ## ruff, ruff format, mypy strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy gateway tests
	$(BIN)/lint-imports

test: $(READY) ## the whole suite, on real Valkey
	$(BIN)/python -m pytest -n 2 --dist loadgroup

demo: $(READY) ## one Kling job through the real SDK to COMPLETED, with its cost
	$(BIN)/gateway demo

run: $(READY) ## embedded store, sandbox upstream, gateway and a demo tenant, until Ctrl-C
	$(BIN)/gateway dev

lock: $(READY) ## refresh both lock files
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --quiet \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --quiet \
	  --custom-compile-command "make lock" --constraint requirements.lock --extra dev pyproject.toml -o requirements-dev.lock

clean: ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
