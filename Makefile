# The whole project from one place. PYTHON is any Python >= 3.11 with venv.
PYTHON ?= python3
VENV   := .venv
EXTRAS := dev
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
STORAGE ?= runs
PORT ?= 5000
SEED ?= $(shell date +%s)
# Ray starts a dozen Python processes: without bytecode on the disk each would compile torch again
export PYTHONDONTWRITEBYTECODE :=
# three test processes, since those that start Ray wait a lot; each takes whole files, in the order in which tests/conftest.py has them
BESIDE := --numprocesses 3 --dist loadfile --no-loadscope-reorder
# and the processes that they start: on two cores, threads of several processes wait for each other
check test test-random coverage: export OMP_NUM_THREADS := 1

.PHONY: install sweep check test test-random coverage test-failures cluster-test slurm-test token lint docs docs-serve ui bench figures notebook clean help

help:
	@echo "make sweep    set up .venv if missing, then run the default experiment (about 7 minutes on 2 cores)"
	@echo "make check    lint, types, the site and the tests that start neither Ray nor a server nor a browser"
	@echo "make test     set up .venv if missing, then run every test (about 17 minutes on 2 cores)"
	@echo "make test-random    every test in another order; make test-random SEED=7 repeats one"
	@echo "make coverage       which branches no test takes (about twice as long as make test)"
	@echo "make test-failures  what must survive: killed processes, lost nodes, full disks (about 16 minutes more)"
	@echo "make slurm-test     sweeps on a Slurm of five hosts made of this one, as root (about 10 minutes)"
	@echo "make cluster-test   cluster.yaml on three hosts made of this one, as root, and what it asks AWS for (about 12 minutes)"
	@echo "make token    the token with which machines join a Ray cluster, in ~/.ray/auth_token, if missing"
	@echo "make install  only the environment"
	@echo "make lint     ruff, mypy, which room may import which, and the prose of pages and messages"
	@echo "make docs     the documentation as a site, build/site/index.html; make docs-serve serves it on http://127.0.0.1:8000"
	@echo "make ui       the MLflow UI on what has been run, on http://127.0.0.1:5000; make ui PORT=5001 STORAGE=folder"
	@echo "make bench    what takes how long, as ratios within one run (about 15 minutes on 2 cores)"
	@echo "make figures  the figures of docs/method.md and docs/architecture.md again"
	@echo "make notebook docs/notebook.ipynb again, with its outputs"
	@echo "make clean    remove the environment and caches; runs/ stays"

install: $(READY)

# pip compiles nothing in advance: one import of what a sweep uses does, which is a fraction of what is installed
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(BIN)/python -c 'import ray.train.torch, ray.tune, mlflow.pyfunc, orchestrator.console.run, orchestrator.execution.coordinator, orchestrator.work.worker, orchestrator.work.evaluation, orchestrator.tracking.tracker, orchestrator.reports.plotly_figures, orchestrator.plan.optuna_points'
	@touch $@

sweep: $(READY)
	$(BIN)/python -m orchestrator.sweep experiments/nfe_sweep.yaml

test: $(READY)
	$(BIN)/python -m pytest tests --ignore tests/failures --ignore tests/cluster --ignore tests/slurm $(BESIDE)

test-failures: $(READY)
	$(BIN)/python -m pytest tests/failures -m "not alone" --numprocesses 2 --dist worksteal
	$(BIN)/python -m pytest tests/failures -m alone

# Debian's packages, where they are missing: what a host is made of, and the tracking server's database
cluster-test: $(READY)
	@which sshd rsync tini ip nft curl > /dev/null && ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    openssh-server rsync tini iproute2 nftables curl postgresql; }
	$(BIN)/python -m pytest tests/cluster --durations 10

# on the same hosts
slurm-test: $(READY)
	@which sshd tini ip slurmctld munged bindfs mkfs.ext4 > /dev/null || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    openssh-server tini iproute2 slurm-wlm munge bindfs e2fsprogs; }
	$(BIN)/python -m pytest tests/slurm --durations 10

# what needs neither Ray nor a server nor a browser: after each change. It waits for nothing, so two processes
check: lint docs
	$(BIN)/python -m pytest tests --ignore tests/failures --ignore tests/cluster --ignore tests/slurm -m "not system" $(BESIDE) --numprocesses 2

# the files, and the tests of each, in another order: make test-random SEED=7 repeats one
test-random: $(READY)
	$(BIN)/python -m pytest tests --ignore tests/failures --ignore tests/cluster --ignore tests/slurm $(BESIDE) \
	  --random-order --random-order-bucket module --random-order-seed $(SEED)

# the branches that tests take, also in the processes that they start and in Ray's; a process that is killed tells nothing
coverage: export COVERAGE_DATA := $(CURDIR)/build/coverage
coverage: $(READY)
	rm -rf $(COVERAGE_DATA) && mkdir -p $(COVERAGE_DATA)
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml $(BIN)/python -m pytest tests --ignore tests/failures --ignore tests/cluster --ignore tests/slurm $(BESIDE)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --sort miss

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/site/prose.py

# every link, anchor and code block is checked, and that no page loads anything from a network
docs docs-serve: export NO_MKDOCS_2_WARNING := 1
docs: $(READY)
	$(BIN)/python -m mkdocs build --config-file docs/site/mkdocs.yml

docs-serve: $(READY)
	$(BIN)/python -m mkdocs serve --config-file docs/site/mkdocs.yml

# by Ray itself, where there is none; read and written by its owner alone
token: $(READY)
	@$(BIN)/ray get-auth-token --generate > /dev/null
	@chmod 600 ~/.ray/auth_token

ui: export STORAGE := $(STORAGE)
ui: $(READY)
	@$(BIN)/python -m orchestrator.ui --storage "$$STORAGE" --port $(PORT)

bench: $(READY)
	$(BIN)/python -m benchmarks

figures: $(READY)
	$(BIN)/python docs/figures/method_figures.py
	$(BIN)/python docs/figures/rooms_figure.py

notebook: $(READY)
	$(BIN)/python docs/figures/notebook.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find kaccore orchestrator tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
