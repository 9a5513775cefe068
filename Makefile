# flows: every job of the project. `make help` lists them. Each one does its own set-up first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run demo test test-unit test-kernel test-cluster chaos lint types format bench venv lock clean

VENV := .venv
BIN := $(VENV)/bin
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
IMPORTED := agent cli demo flow kube proto relay wire
# What the agent and the demo cluster run, and what tests and benchmarks make traffic with.
PACKAGES := ca-certificates curl dnsmasq-base git gnutls-bin iperf3 iproute2 iputils-ping libc6-dev libnginx-mod-http-lua nftables \
	nginx-light nodejs procps python3-bpfcc python3-venv wget wrk

help: ## list the jobs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

run: venv ## bring a demo cluster up and show its flows live; Ctrl-C removes everything
	$(SUDO) $(BIN)/flows demo run

demo: venv ## bring the demo cluster up and leave it; `flows demo down` removes it
	$(SUDO) $(BIN)/flows demo up

test: venv ## all tests: unit, kernel (real eBPF), cluster (the demo cluster); root needed
	$(SUDO) $(BIN)/pytest tests

test-unit: venv ## tests that need neither root nor a kernel
	$(BIN)/pytest tests/unit

test-kernel: venv ## tests with real eBPF programs, sockets and namespaces
	$(SUDO) $(BIN)/pytest tests/kernel

test-cluster: venv ## tests with the demo cluster
	$(SUDO) $(BIN)/pytest tests/cluster

chaos: venv ## two minutes of kill -9 of agents, relay and API server at random, and whether the view stays true
	$(SUDO) env CHAOS_SECONDS=120 $(BIN)/pytest -s --timeout 900 tests/cluster/test_chaos.py

lint: types ## ruff, mypy --strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# To mypy as to pytest, a module of tests has the name of its file, whatever the folder. Only conftest.py is in several folders,
# so each is given by its path below .build/root, where its name is tests.unit.cli.conftest, say.
types: venv ## mypy --strict: the product, benchmarks and tests
	$(BIN)/mypy $(IMPORTED:%=-p flows.%)
	MYPYPATH=$$(echo tests/*/ tests/unit/*/ | tr ' ' :) $(BIN)/mypy --exclude conftest bench tests .build/root/tests/{,*/,unit/*/}conftest.py

format: venv ## put the code into the form that lint wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: venv ## measure speed and memory; prints figure, target and reference
	$(SUDO) $(BIN)/python bench/run.py

venv: .build/install ## make .venv/bin/flows ready to use

lock: .build/python ## choose new versions of all dependencies
	$(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); print(*p["project"]["dependencies"], \
		*sum(p["project"]["optional-dependencies"].values(), []), *p["dependency-groups"]["dev"], \
		*p["build-system"]["requires"], "wheel", sep="\n")' > .build/requirements.in
	$(BIN)/pip-compile -q --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links -o requirements.lock .build/requirements.in

clean: ## remove the venv and everything generated
	rm -rf $(VENV) .build build ./*.egg-info proto/*_pb2*.py proto/*_pb2.pyi

.build/packages: Makefile
	mkdir -p .build
	missing=$$(for package in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	command -v kubectl >/dev/null || missing="$$missing kubernetes-client"; \
	if [ -n "$$missing" ]; then \
		$(SUDO) apt-get update -q; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qy --no-install-recommends $$missing; \
	fi
	touch $@

# BCC is the distribution's, so the venv is of the system's Python and sees the system's packages.
.build/python: requirements.lock .build/packages
	/usr/bin/python3 -m venv --system-site-packages $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

# protoc names its output after the path below the import root, and mypy wants the packages and tests there too: links make that root.
.build/proto: $(wildcard proto/*.proto) .build/python
	mkdir -p .build/root/flows
	for package in $(IMPORTED) bpf; do ln -sfn ../../../$$package .build/root/flows/$$package; done
	ln -sfn ../../tests .build/root/tests
	cd .build/root && ../../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. flows/proto/*.proto
	rm -f proto/{flow,relay,extension}_pb2_grpc.py
	touch $@

.build/install: pyproject.toml .build/proto
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@
