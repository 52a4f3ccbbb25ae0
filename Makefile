# Two commands are enough: `make run` and `make test`. Everything else is in `make help`.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run test check bench mutate lock python

ARGS ?=
MUTANTS ?=
PYTEST_ARGS ?= --numprocesses=4 --dist=loadfile --no-loadscope-reorder
UPGRADE ?=

# Every process that the product and its tests start would compile the whole of it anew.
unexport PYTHONDONTWRITEBYTECODE

# Python with venv: one that also has an embedded Redis (up to 3.12) first, else any from 3.11 on.
FIND_PYTHON = try() { \
	"$$1" -c "import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $$2))" \
		>/dev/null 2>&1 && command -v "$$1"; }; \
	try python3 12 || try python3.12 12 || try python3.11 11 || \
	try python3 99 || try python3.13 13 || try python3.14 14
ifndef PYTHON
PYTHON := $(shell $(FIND_PYTHON))
endif
BIN := .venv/bin
PART = $(filter-out -%,$(PYTEST_ARGS))
# as old as the last compiling of all tests
COMPILED = tests/__pycache__/compiled
INSTALL = "$(PYTHON)" -m server.local.install

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name what; do \
		printf '  make %-6s %s\n' "$$name" "$$what"; done

python:
	@test -n "$(PYTHON)" || { echo "MallWatt: cannot go on: no Python 3.11 or newer with venv was" \
		"found (Debian, Ubuntu: apt install python3-venv; or make PYTHON=/path/to/python3)" >&2; exit 1; }

run: python ## the whole product with a demo mall (ARGS="--port 8001 --no-demo")
	@$(INSTALL) run
	@exec $(BIN)/mallwatt run $(ARGS)

test: python ## everything tested, in a browser too (PYTEST_ARGS="tests/core" for a part)
	@$(INSTALL) development
	@$(BIN)/python -m server.local.browser
	@if [ -n "$(PART)" ] || [ ! -e $(COMPILED) ] || \
		[ -n "$$(find tests bench server payments miniprogram_api -name '*.py' -newer $(COMPILED))" ]; then \
		echo "MallWatt: compiling the tests (once here, not by each worker)"; \
		$(BIN)/python -m pytest --collect-only -qq $(PART) >/dev/null || true; \
		[ -n "$(PART)" ] || touch $(COMPILED); \
	fi
	@echo "MallWatt: running the tests"
	@exec $(BIN)/python -m pytest $(PYTEST_ARGS)

check: python ## formatter, linter, strict types, import contracts; no tests
	@$(INSTALL) development
	@echo "MallWatt: format"  && $(BIN)/ruff format --check --quiet .
	@echo "MallWatt: lint"    && $(BIN)/ruff check --quiet .
	@echo "MallWatt: types"   && $(BIN)/mypy
	@echo "MallWatt: imports" && $(BIN)/lint-imports

bench: python ## benchmarks; each beside a limit measured in the same run (ARGS="posting audit" for some)
	@$(INSTALL) development
	@exec $(BIN)/python -m bench $(ARGS)

mutate: python ## break the money core in 3,000 ways, one at a time: does a test fail? (MUTANTS="server.core.ledger.*")
	@$(INSTALL) development
	@rm -rf mutants # kept figures do not know which new test reaches an old function
	@$(BIN)/mutmut run --max-children 1 $(MUTANTS)
	@exec $(BIN)/python tests/core/mutants.py

COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/installer/bin/uv pip compile --quiet \
	--python $(BIN)/python --python-version 3.11 --universal --generate-hashes \
	--no-emit-index-url --system-certs $(UPGRADE)

lock: python ## renew the lock files after a change of pyproject.toml (UPGRADE=--upgrade)
	@$(INSTALL) development
	@echo "MallWatt: requirements/development.txt"
	@$(COMPILE) pyproject.toml --extra local --extra dev --output-file requirements/development.txt
	@for set in run:"--extra local" server:""; do \
		echo "MallWatt: requirements/$${set%%:*}.txt"; \
		$(COMPILE) pyproject.toml $${set#*:} --constraints requirements/development.txt \
			--output-file "requirements/$${set%%:*}.txt" || exit 1; done
	@echo "MallWatt: requirements/uv.txt"
	@echo uv | $(COMPILE) - --output-file requirements/uv.txt
