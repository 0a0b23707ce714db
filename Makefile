# Everything a developer runs, in a virtual environment that these targets make and keep up to date.
# `make PYTHON=python3.12 ...` picks another interpreter for a new one.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check install -qq
SAMPLE := etc/tracker-worker/tracker-worker.conf.sample
RST := doc/source $(wildcard *.rst)

# The theme of the documentation asks git, and warns in an exported tree or one that git distrusts: warnings
# are errors only where git answers. (doc/source/conf.py leaves the release notes out where git's history is
# not whole.)
ifeq ($(shell git describe --always >/dev/null 2>&1 && echo yes),yes)
SPHINX := $(BIN)/sphinx-build -q -W
else
SPHINX := $(BIN)/sphinx-build -q
endif

# Two processes run the tests faster than one, where there are two processors. `make test` has four: a test
# of a server waits half of its time; `make quick` and `make faults` have three. `make PROCESSES=2 test` takes
# two, `make PYTESTFLAGS=... test` adds options.
PROCESSES := 2
test: PROCESSES := 4
quick faults: PROCESSES := 3
PYTESTOPTIONS = $(if $(filter-out 1,$(shell nproc)),-n $(PROCESSES)) $(PYTESTFLAGS)
# The files of the tests and of their servers are in memory where it has room: a commit does not wait for the
# disk, and tests kill processes, not machines. `make MEMORY= ...` keeps them on the disk.
MEMORY := $(shell df --output=avail /dev/shm 2>/dev/null | awk 'NR == 2 && $$1 > 4000000 { print "/dev/shm" }')
# Bytecode is kept, whatever the environment says: else each of hundreds of processes compiles the project, and
# pytest rewrites all assertions in every run.
ENVIRONMENT := PYTHONDONTWRITEBYTECODE= $(if $(MEMORY),TMPDIR=$(MEMORY))
PYTEST = $(ENVIRONMENT) $(BIN)/pytest $(PYTESTOPTIONS)
# Each process begins with a share of the tests, so that the servers of most modules are started by one alone.
SHARES := $(if $(filter-out 1,$(shell nproc)),--dist worksteal)

# Root gets the servers of the integration tests by itself. Where they cannot be had, those tests are skipped
# and pytest's last lines say so.
TEST_PACKAGES := $(if $(filter 0,$(shell id -u)),tools/install-test-packages || true,true)

.NOTPARALLEL:
.DEFAULT_GOAL := help

.PHONY: help
help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: demo
demo: .venv/installed ## replay the small traces through a worker of its own: no broker, no set-up
	@$(BIN)/tracker-worker-replay tracker_worker/traces/*.jsonl.gz

.PHONY: test
test: .venv/installed-test ## run all tests but the faults: about 5 minutes
	@$(TEST_PACKAGES)
	@echo "==> running all tests but the faults: about 5 minutes on two processors"
	@$(PYTEST) $(SHARES) --ignore tests/simulation --ignore tests/chaos

.PHONY: quick
quick: .venv/installed-test ## run unit tests, properties and functional tests, with fewer random examples
	@$(PYTEST) $(SHARES) --quick tests/unit tests/properties tests/functional

.PHONY: faults
faults: .venv/installed-test ## run faults, on real servers under load and simulated, in CI's sizes
	@$(TEST_PACKAGES)
	@$(PYTEST) tests/chaos tests/simulation

.PHONY: integration
integration: .venv/installed-test ## run the tests against real servers only
	@$(TEST_PACKAGES)
	@$(PYTEST) tests/integration

# SQLAlchemy 2.0 has an environment of its own: pip installs a newer one into .venv.
SQLALCHEMY20 := .tox/sqlalchemy-2.0

.PHONY: test-sqlalchemy20
test-sqlalchemy20: .venv/installed-test $(SQLALCHEMY20)/installed ## run the tests of SQL on SQLAlchemy 2.0
	@$(TEST_PACKAGES)
	@$(ENVIRONMENT) $(SQLALCHEMY20)/bin/pytest $(PYTESTOPTIONS) @tests/sql.txt

$(SQLALCHEMY20)/installed: pyproject.toml
	@echo "==> installing tracker-worker and SQLAlchemy 2.0 into $(SQLALCHEMY20)"
	@$(PYTHON) -m venv $(SQLALCHEMY20)
	@$(SQLALCHEMY20)/bin/pip --disable-pip-version-check install -qq --editable '.[test]' 'SQLAlchemy==2.0.*'
	@touch $@

.PHONY: chaos
chaos: .venv/installed-test ## run simulation, properties and faults in their full sizes: more than an hour
	@$(TEST_PACKAGES)
	@$(PYTEST) tests/simulation tests/properties --chaos --timeout 3600
	@$(PYTEST) tests/chaos --chaos --timeout 3600

.PHONY: test-packages
test-packages: .venv/installed-test ## install the Debian packages of the servers, as root
	@tools/install-test-packages

.PHONY: lint
lint: .venv/installed-lint ## check style, types, layers and spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	$(BIN)/doc8 --quiet $(RST)

.PHONY: cover
cover: .venv/installed-test ## run the unit tests of domain/; fail where its branches are not covered
	@$(PYTEST) tests/unit/domain --cov=tracker_worker/domain --cov-report=
	@$(BIN)/coverage report --include 'tracker_worker/domain/*' --fail-under=95

.PHONY: instructions
instructions: .venv/installed-test ## count the instructions of an event; RENEW=1 stores them as the bounds
	@$(TEST_PACKAGES)
	@$(BIN)/python -m tests.benchmarks.instructions $(if $(RENEW),--renew)

.PHONY: compare-delivery
compare-delivery: .venv/installed-test ## kill a worker and a stock RPC server at work, and compare the losses
	@$(BIN)/python tools/compare_delivery $(COMPAREFLAGS)

# Nova has an environment of its own: its requirements are not ours. CI does without.
NOVA := .tox/nova-34.0.0

.PHONY: compare-nova
compare-nova: .venv/installed-test $(NOVA)/installed ## ask Nova 34.0.0 and tracker-worker the same 100,000 questions
	@$(BIN)/python tools/compare_nova $(NOVA)/bin/python $(COMPAREFLAGS)

.PHONY: nova-providers
nova-providers: $(NOVA)/installed ## write down the resource providers that Nova 34.0.0 makes of two dozen hosts
	@$(NOVA)/bin/python -W ignore tools/record_nova_providers tests/unit/placement/nova-34.0.0-providers.json

$(NOVA)/installed:
	@echo "==> installing Nova into $(NOVA) (two minutes, once)"
	@$(PYTHON) -m venv $(NOVA)
	@$(NOVA)/bin/pip --disable-pip-version-check install -qq nova==34.0.0
	@touch $@

# Nova's tests are not in its wheel, and need more packages: another environment, which tools/test_nova makes.
.PHONY: nova
nova: .venv/installed-test ## run Nova's own tests with the adapter in each mode: about an hour
	@$(BIN)/python tools/test_nova --inside
	@$(BIN)/python tools/test_nova $(NOVAFLAGS)

.PHONY: nova-slice
nova-slice: .venv/installed-test ## run some of Nova's own tests with the adapter in two modes: about 3 minutes
	@$(BIN)/python tools/test_nova --inside --or-skip
	@$(BIN)/python tools/test_nova --slice --mode mirror --mode replace --or-skip $(NOVAFLAGS)

# Installs from PyPI into environments that it removes: CI does without.
.PHONY: test-packaging
test-packaging: .venv/installed-test ## install the wheel beside Nova and with its worker, and claim: 5 minutes
	@$(TEST_PACKAGES)
	@$(BIN)/python tools/test_packaging

.PHONY: nova-cluster
nova-cluster: .venv/installed-test ## run a Nova cloud on workers that are killed, and compare what all say of it: 4 minutes
	@$(TEST_PACKAGES)
	@$(BIN)/python tools/nova_cluster $(NOVAFLAGS)

# The figures and the picture go into build/. `make BENCHFLAGS=--quick bench` takes a minute.
.PHONY: bench
bench: .venv/installed-test .venv/installed-bench ## compare the worker with a stock server and with the limit: 5 minutes
	@$(TEST_PACKAGES)
	@mkdir -p build
	@$(BIN)/python -m tests.benchmarks.throughput --json build/bench.json --png build/bench.png $(BENCHFLAGS)

.PHONY: benchmark
benchmark: .venv/installed-test ## time the fitting of topologies
	@$(BIN)/python -m tests.benchmarks.fitting $(BENCHMARKFLAGS)

# The figures go into build/. `make BENCHMARKFLAGS="--part soak" benchmark-growth` measures one part.
.PHONY: benchmark-growth
benchmark-growth: .venv/installed-test ## measure what grows with instances, nodes and audits: 15 minutes
	@$(TEST_PACKAGES)
	@mkdir -p build
	@$(BIN)/python -m tests.benchmarks.growth --json build/growth.json $(BENCHMARKFLAGS)

.PHONY: benchmark-latency
benchmark-latency: .venv/installed-test ## time a claim for its caller, alone and beside audits of other nodes: 8 minutes
	@$(TEST_PACKAGES)
	@mkdir -p build
	@$(BIN)/python -m tests.benchmarks.latency --json build/latency.json $(BENCHMARKFLAGS)

.PHONY: benchmark-nova-claims
benchmark-nova-claims: .venv/installed-test ## time a build's claim in Nova alone, and in each mode of the adapter
	@$(TEST_PACKAGES)
	@$(BIN)/python -m tests.benchmarks.nova_claims $(BENCHMARKFLAGS)

# Installs Nova as `make nova` does, the first time.
.PHONY: benchmark-nova-tracker
benchmark-nova-tracker: .venv/installed-test ## compare the worker's CPU with that of Nova's own tracker: 3 minutes
	@$(TEST_PACKAGES)
	@mkdir -p build
	@$(BIN)/python -m tests.benchmarks.nova_tracker --json build/nova-tracker.json $(BENCHFLAGS)

# Installs Placement from PyPI, the first time.
.PHONY: benchmark-placement
benchmark-placement: .venv/installed-test ## count requests to Placement, and time claims while it is away: 12 minutes
	@$(TEST_PACKAGES)
	@mkdir -p build
	@$(BIN)/python -m tests.benchmarks.placement --json build/placement.json $(BENCHMARKFLAGS)

.PHONY: benchmark-purge
benchmark-purge: .venv/installed-test ## time the purge at 5 million receipts on each database: some minutes, some GB
	@$(TEST_PACKAGES)
	@$(BIN)/python -m tests.benchmarks.purge $(BENCHMARKFLAGS)

.PHONY: benchmark-start
benchmark-start: .venv/installed-test ## compare the start of tracker-worker-manage with the import of SQLAlchemy
	@$(BIN)/python -m tests.benchmarks.start $(BENCHMARKFLAGS)

.PHONY: docs
docs: .venv/installed-docs ## build the documentation into doc/build/html
	@$(SPHINX) -b html doc/source doc/build/html

.PHONY: man
man: .venv/installed-docs ## build the manual pages of the programs into doc/build/man
	@$(SPHINX) -b man doc/source doc/build/man

.PHONY: genconfig
genconfig: .venv/installed ## write the sample configurations from the options
	@$(BIN)/oslo-config-generator --config-file etc/tracker-worker/config-generator.conf \
	    --output-file $(SAMPLE)
	@$(BIN)/oslo-config-generator --namespace tracker_worker.nova --wrap-width 79 \
	    --output-file etc/tracker-worker/nova-compute.conf.sample

.PHONY: clean
clean: ## remove what these targets made
	rm -rf .venv .tox build dist doc/build *.egg-info AUTHORS ChangeLog .coverage .coverage.* \
	    .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find tracker_worker tests -name __pycache__ -prune -exec rm -rf {} +

.venv/installed: pyproject.toml
	@echo "==> preparing .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@echo "==> installing tracker-worker and what it needs (a minute, once)"
	@$(PIP) --editable '.[worker]'
	@touch $@

.venv/installed-%: .venv/installed
	@echo "==> installing what '$*' needs"
	@$(PIP) --editable '.[$*]'
	@touch $@
