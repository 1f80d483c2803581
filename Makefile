# What there is to do with Footfall, one target per action. `make` alone lists them.
#
#   PYTHON=python3.12     the Python to make .venv with (3.11 or newer; found by itself)
#   ARGS="..."            passed on: make test ARGS="-k retention", make demo ARGS="--port 9000"
#   WORKERS=0             test processes (default: one more than there are cores, and 8 at the most;
#                         0: none but pytest itself, which --pdb needs)
#   GRAPHIQL=build        make conformance: check GraphiQL's build, and not the page in a browser
#   UPGRADE=1             make lock: take the newest versions instead of keeping the pinned ones

.DEFAULT_GOAL := help
.SUFFIXES:

BIN := .venv/bin
INSTALL := sh requirements/install
ifdef PYTHON
export PYTHON
endif

# Each variant is one COMPOSE_FILE: files that belong on top of one another, with colons between.
COMPOSE_FILES := docker-compose.yml docker-compose.yml:deploy/compose.production.yml
LOCKS := runtime dev bench
# Tests wait for servers as often as for the processor.
WORKERS ?= $(shell n=$$(($$(getconf _NPROCESSORS_ONLN) + 1)); echo $$((n < 8 ? n : 8)))
# What the tests of one file share is made once: by the process that gets the whole file.
BY_FILE := --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test check conformance bench fmt lint types imports snapshot released \
        compose schema graphiql lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv with everything pinned; the command is then .venv/bin/footfall
	@$(INSTALL) dev

demo: ## Start the service with an embedded database and a demo site full of data
	@$(INSTALL) runtime
	@$(BIN)/footfall demo $(ARGS)

test: setup ## Run the whole test suite
	@$(BIN)/python -m pytest -n $(WORKERS) $(BY_FILE) $(ARGS)

check: lint types imports snapshot released compose ## Lint, format, types, import contracts, schema snapshot

conformance: setup ## Run public conformance suites and real JavaScript clients (needs Node)
	@$(BIN)/python -m tests.clients.run $(ARGS)
	@$(BIN)/python -m tests.clients.graphiql.run $(GRAPHIQL)

bench: ## Run the benchmarks and print their tables
	@$(INSTALL) bench
	@$(BIN)/python -m benchmarks.ingest $(ARGS)
	@$(BIN)/python -m benchmarks.reports $(ARGS)
	@$(BIN)/python -m benchmarks.subscriptions $(ARGS)
	@$(BIN)/python -m benchmarks.production $(ARGS)
	@$(BIN)/python -m benchmarks.sources $(ARGS)
	@$(BIN)/python -m benchmarks.exports $(ARGS)
	@$(BIN)/python -m benchmarks.http $(ARGS)
	@$(BIN)/python -m benchmarks.hostile $(ARGS)

fmt: setup ## Format the code and mend what can be mended without thinking
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

lint: setup
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .

types: setup
	@$(BIN)/mypy

imports: setup
	@$(BIN)/lint-imports --no-logo

snapshot: setup
	@$(BIN)/footfall schema | diff -u schema/schema.graphql - || { \
	    echo "schema/schema.graphql is not what the code says: run 'make schema', then look at the difference." >&2; \
	    exit 1; }

released: setup
	@$(BIN)/footfall schema --since schema/released.graphql

compose:
	@if docker compose version >/dev/null 2>&1; then compose="docker compose"; \
	elif docker-compose version >/dev/null 2>&1; then compose=docker-compose; \
	else echo "Not checked for want of docker compose: $(COMPOSE_FILES)"; exit 0; fi; \
	for files in $(COMPOSE_FILES); do \
	    COMPOSE_FILE="$$files" $$compose config --quiet || exit 1; \
	done

schema: setup ## Write schema/schema.graphql from the code
	@$(BIN)/footfall schema > schema/schema.graphql.new
	@mv schema/schema.graphql.new schema/schema.graphql

graphiql: ## Build web/graphiql/build from its sources (needs Node)
	@cd web/graphiql && npm ci --silent && npm run --silent build

# In this order: each lock is a constraint on the next one. The options stand in pyproject.toml.
lock: setup ## Pin the packages of requirements/*.in again, with hashes
	@for name in $(LOCKS); do \
	    echo "Pinning requirements/$$name.in ..."; \
	    CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet $(if $(UPGRADE),--upgrade) \
	        --output-file "requirements/$$name.txt" "requirements/$$name.in" || exit 1; \
	done

clean: ## Remove caches; .venv and the data in .footfall stay
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
