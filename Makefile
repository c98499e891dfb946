# make demo | run | test | lint | bench. Needs python3 (3.11 or later) and git, nothing else.

SHELL := /bin/bash
PYTHON ?= python3
WORKERS ?= 2
SOAK_S ?= 0
STORM_MINUTES ?= 30
CONFIG ?= config/pool.toml

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# In the order of their cost.
TIERS := unit contract simulation integration process faults

.DEFAULT_GOAL := help
.PHONY: .FORCE help demo run test soak lint format bench clean test-systemd $(addprefix test-,$(TIERS))

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(READY)  ## start a pool, run real orders, show what happened
	@$(BIN)/python demo/run.py

run: $(READY)  ## run the pool of config/pool.toml in the foreground (CONFIG=… for another)
	@$(BIN)/wf-supervisor --config $(CONFIG)

test: $(READY)  ## run all tests and print the time of each tier (WORKERS=4 for more processes)
	@tools/tiers $(BIN)/python $(WORKERS) $(TIERS)

# Not one of the tiers: it needs root, systemd-container and mmdebstrap, and makes a Debian of 250 MB.
test-systemd: WORKERS := 1

test-systemd $(addprefix test-,$(TIERS)): test-%: $(READY)
	@tools/tiers $(BIN)/python $(WORKERS) $*

soak: $(READY)  ## 100,000 bad messages, half an hour of storms (STORM_MINUTES), then simulate until stopped (or SOAK_S seconds)
	@$(BIN)/python -m tests.faults.fuzz --messages 100000
	@$(BIN)/python -m tests.faults --minutes $(STORM_MINUTES)
	@$(BIN)/python -m tests.simulation --jobs $(WORKERS) --seconds $(SOAK_S)

lint: $(READY)  ## ruff, mypy, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(READY)  ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)  ## measure; prints JSON (BENCH="--runs 1" for less)
	@$(BIN)/python -m benchmarks.run $(BENCH)

clean:  ## remove the virtual environment and caches (never .state, which holds your data)
	@rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Made anew when the versions change, when the folder was moved, when its python is gone.
USABLE := $(shell [ "$$(cat $(READY) 2>/dev/null)" = "$(CURDIR)" ] && $(BIN)/python -c 1 2>&1 && echo yes)

$(READY): pyproject.toml constraints.txt tools/bootstrap $(if $(filter yes,$(USABLE)),,.FORCE)
	@tools/bootstrap "$(PYTHON)" "$(VENV)"
