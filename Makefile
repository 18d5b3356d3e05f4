# Everything that people and CI run. Needs Python 3.11+, git, make and a C compiler; the rest is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := .tools
TOOLS_READY := $(TOOLS)/.ready
PROMTOOL := $(TOOLS)/bin/promtool
HELM_PARTS := $(TOOLS)/helm-parts
CONTAINER ?= docker
SEED := $(or $(SEED),$(shell date +%s))
DURATION ?= 600
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' gateway/__init__.py)

.PHONY: help install check test faults chaos bench tools docs upgrade-data image sbom demo run lock clean

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

test: $(READY) $(TOOLS_READY) $(PROMTOOL) ## the whole suite, on real Valkey
	$(BIN)/python -m pytest -n 2 --dist loadgroup

faults: $(READY) ## the crash matrix with 200 kills at each fault point, the other faults, and 10,000 random runs (FAULTS="-k sent")
	$(BIN)/python -m pytest tests/faults -n 2 --kills 200 $(FAULTS)
	FAULTS_EXAMPLES=10000 $(BIN)/python -m pytest tests/service/test_machine.py tests/contracts/test_ledger_machine.py

chaos: $(READY) ## two processes, random kills and broken links for DURATION seconds; SEED repeats a run
	$(BIN)/python -m pytest tests/faults/test_chaos.py -s --seed $(SEED) --seconds $(DURATION) $(FAULTS)

bench: $(READY) ## the gateway beside a bare echo, with the goals (BENCH="--quick", BENCH="reads --name before")
	PYTHONPATH=tests $(BIN)/python -m bench $(BENCH)

bench-docs: $(READY) ## the tables of figures in docs from one run or several (FIGURES="bench/out/a.json bench/out/b.json")
	PYTHONPATH=tests $(BIN)/python -m bench.page $(FIGURES)

tools: $(TOOLS_READY) $(PROMTOOL) ## Helm, linters and Prometheus in .tools, for tests of the chart and its rules

$(TOOLS_READY): tests/chart/requirements.lock tests/chart/helm.lock
	rm -rf $(HELM_PARTS)
	$(PYTHON) -m venv --clear $(TOOLS)/venv
	$(TOOLS)/venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r tests/chart/requirements.lock
	$(TOOLS)/venv/bin/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --dest $(HELM_PARTS) -r tests/chart/helm.lock
	$(PYTHON) -m zipfile -e $(HELM_PARTS)/*.whl $(HELM_PARTS)
	tar -xzf $(HELM_PARTS)/aws_cdk/*/_jsii/*.tgz -C $(HELM_PARTS) package/lib/layer.zip
	$(PYTHON) -m zipfile -e $(HELM_PARTS)/package/lib/layer.zip $(HELM_PARTS)
	install -D -m 755 $(HELM_PARTS)/helm/helm $(TOOLS)/bin/helm
	rm -rf $(HELM_PARTS)
	touch $@

# The system's own, else Debian's package, unpacked and not installed: that needs no root and starts nothing.
$(PROMTOOL):
	@mkdir -p $(TOOLS)/bin $(TOOLS)/deb
	@if command -v prometheus promtool >/dev/null; then ln -sf "$$(command -v prometheus)" "$$(command -v promtool)" $(TOOLS)/bin/; \
	else cd $(TOOLS)/deb && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } >/dev/null \
	  && dpkg-deb -x prometheus_*.deb . && ln -sf ../deb/usr/bin/prometheus ../deb/usr/bin/promtool ../bin/; fi \
	|| echo "no Prometheus, and no Debian package of it: tests of its rules are skipped"

docs: $(READY) ## the tables that are written from the code: configuration, and the chart's values
	PYTHONPATH=tests $(BIN)/python -m docs.reference
	PYTHONPATH=tests $(BIN)/python -m chart.values_table

upgrade-data: $(READY) ## keep what this version writes to its store, for the upgrade test of the next ones
	PYTHONPATH=tests $(BIN)/python -m upgrade.kept

image: ## the container image, segmind-gateway:<version> (CONTAINER=podman, IMAGE_FLAGS=... for another builder)
	$(CONTAINER) build $(IMAGE_FLAGS) --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) --tag segmind-gateway:$(VERSION) .

sbom: $(READY) ## what the image holds: bill of materials (CycloneDX) and licences, in dist
	mkdir -p dist
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/sbom.cdx.json requirements.lock
	$(BIN)/pip-licenses --packages $$(sed -n 's/^\([a-z0-9_.-]*\)==.*/\1/p' requirements.lock) --format markdown --output-file dist/licences.md

demo: $(READY) ## one Kling job through the real SDK to COMPLETED, with its cost
	$(BIN)/gateway demo

run: $(READY) ## embedded store, sandbox upstream, gateway and a demo tenant, until Ctrl-C
	$(BIN)/gateway dev

lock: $(READY) ## refresh both lock files
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --quiet \
	  --custom-compile-command "make lock" --extra otel pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --quiet \
	  --custom-compile-command "make lock" --constraint requirements.lock --extra otel --extra dev pyproject.toml -o requirements-dev.lock

clean: ## remove what the targets made
	rm -rf $(VENV) $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
