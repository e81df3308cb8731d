# Two commands: `make demo` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
RUN := TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python
.DEFAULT_GOAL := help

.PHONY: help demo test coverage test-all test-web test-nightly chromium peers lint format \
	docs lock audit sbom clean
help:
	@echo "make demo      train on real digits, export, compare (3 minutes)"
	@echo "make test      the tests"
	@echo "make coverage  the tests, and what of the code they run"
	@echo "make test-all  the tests, slow ones included"
	@echo "make test-web  the page of vit-export web, in Chromium"
	@echo "make peers     the libraries whose weights are read, for the tests to compare with"
	@echo "make lint      ruff and pyright"
	@echo "make format    ruff format"
	@echo "make docs      the documentation, into site/"
	@echo "make test-nightly  the tests with newer keras, LiteRT and litert-quantizer"
	@echo "make lock      newest packages for development, by version and hash"
	@echo "make audit     known vulnerabilities of what is locked"
	@echo "make sbom      what an installation holds, as CycloneDX"

demo: .venv/export
	$(RUN) examples/demo.py

# In the order of the folders: xdist would begin with the files of most tests, and end with
# one core idle beside the longest file, which has few.
PYTEST := $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The files that the tests run in part, the least covered first. What other processes run,
# such as those on other backends, is not counted. `make test` prints it where it costs
# little, which takes `sys.monitoring` of Python 3.12.
COVERAGE := --cov=vit_keras --cov=export --cov-report=term:skip-covered
CORE = $(shell $(BIN)/python -c \
	'import sys; print("sysmon" if sys.version_info >= (3, 12) else "")')

test: .venv/dev .venv/mediapipe/installed
	$(if $(CORE),COVERAGE_CORE=$(CORE)) $(PYTEST) $(if $(CORE),$(COVERAGE)) -m "not slow and not web"

coverage: .venv/dev .venv/mediapipe/installed
	$(PYTEST) $(COVERAGE) -m "not slow and not web"

test-all: .venv/dev .venv/mediapipe/installed
	$(PYTEST) -m "not web"

test-web: .venv/dev chromium tests/web/node_modules/installed
	$(RUN) -m pytest -n 0 tests/web

peers: .venv/peers

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Fails on a broken link, and on a public name without a description.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test-nightly: .venv/dev
	$(RUN) tests/nightly.py

# What development installs: versions and hashes, for all platforms.
lock: .venv/release/installed
	.venv/release/bin/uv pip compile pyproject.toml --quiet --upgrade --universal \
		--python-version 3.11 --generate-hashes --extra export --extra docs --group dev \
		--custom-compile-command "make lock" --output-file requirements-dev.txt

audit: .venv/release/installed
	.venv/release/bin/pip-audit --disable-pip --require-hashes -r requirements-dev.txt

# Of an installation with the extra `export`; the wheel carries it.
sbom: .venv/release/installed
	rm -rf .venv/installation && $(PYTHON) -m venv --without-pip .venv/installation
	$(BIN)/python -m pip --python .venv/installation/bin/python install --quiet \
		--progress-bar off ".[export]"
	.venv/release/bin/cyclonedx-py environment .venv/installation/bin/python \
		--pyproject pyproject.toml --mc-type library --output-reproducible \
		--output-file sbom.cdx.json
	rm -rf .venv/installation

clean:
	rm -rf .venv artifacts site

# What is installed, as stamp files: newer than pyproject.toml means up to date.
.venv/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

.venv/export: .venv/venv pyproject.toml
	$(BIN)/python -m pip install --quiet --progress-bar off --editable ".[export]"
	@touch $@

# The versions that the tests passed with. A user's installation, as in `make demo`, is of
# the newest versions instead.
.venv/dev: .venv/venv pyproject.toml requirements-dev.txt
	$(BIN)/python -m pip install --quiet --progress-bar off --no-deps --require-hashes \
		--requirement requirements-dev.txt
	$(BIN)/python -m pip install --quiet --progress-bar off --no-deps --editable .
	@touch $@

# A group of dependencies in an environment of its own: MediaPipe and the extra `qat` ask
# for different releases of absl-py, and the tools of a release are no part of it.
.venv/mediapipe/installed .venv/release/installed: .venv/%/installed: .venv/venv pyproject.toml
	$(BIN)/python -m venv --without-pip .venv/$*
	$(BIN)/python -m pip --python .venv/$*/bin/python install --quiet \
		--progress-bar off --group $*
	@touch $@

.venv/docs: .venv/export
	$(BIN)/python -m pip install --quiet --progress-bar off --editable ".[docs]"
	@touch $@

# Node.js drives Chromium by playwright-core, which brings no browser of its own.
WEB_TOOLS := chromium (or google-chrome) and Node.js 20 or newer with npm
chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get -qq update && \
		apt-get -qq install --no-install-recommends chromium; } || \
		{ echo "make test-web needs $(WEB_TOOLS)"; exit 1; }
	@{ command -v npm && node -e 'process.exit(+(parseInt(process.versions.node) < 20))'; } \
		>/dev/null || { echo "make test-web needs $(WEB_TOOLS)"; exit 1; }

tests/web/node_modules/installed: tests/web/package-lock.json
	cd tests/web && npm ci --no-audit --no-fund
	@touch $@

# timm and vit-pytorch ask for torchvision, which their ViTs do not use, and which would
# bring another PyTorch.
.venv/peers: .venv/dev
	$(BIN)/python -m pip install --quiet --progress-bar off --group peers
	$(BIN)/python -m pip install --quiet --progress-bar off --no-deps \
		timm==1.0.31 vit-pytorch==1.26.11
	@touch $@
