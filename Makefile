# What a newcomer needs: make run. What a change needs: make check test.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SIM    ?= 40
SEEDS  ?= 100
BASE   ?= 1
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: run install test test-tools check simulate bench lock clean

run: install
	@exec $(BIN)/fettle up --sim $(SIM)

install: $(VENV)/.installed

# A plain Debian has Python without venv. The pinned setuptools first: what comes as source is built with it, and with nothing fetched unpinned.
$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq python3-venv >/dev/null; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@sed -n '/^setuptools==/,/[^\\]$$/p' requirements-dev.lock > $(VENV)/build.lock
	$(PIP) --require-hashes -r $(VENV)/build.lock
	$(PIP) --require-hashes --no-build-isolation -r requirements-dev.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

test-tools:
	@sh tests/install-tools.sh

test: install test-tools
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

simulate: install
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --base $(BASE)

bench: install
	$(BIN)/python -m bench.ingest

# Pins every package with its hashes; needs uv. The lock files name no registry.
lock:
	uv pip compile -q pyproject.toml --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -o requirements.lock
	uv pip compile -q pyproject.toml --group dev --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -o requirements-dev.lock

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
