# flows: every job of the project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard proto/*.proto)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
PACKAGES := curl dnsmasq-base iperf3 iproute2 iputils-ping libnginx-mod-http-lua nftables nginx-light \
	procps python3-bpfcc python3-venv wrk

help: ## list the jobs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  \1\t/' | expand -t 16

.build/packages: Makefile
	mkdir -p .build
	missing=$$(for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	command -v kubectl >/dev/null || missing="$$missing kubernetes-client"; \
	if [ -n "$$missing" ]; then $(SUDO) apt-get update -q && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
		$(SUDO) apt-get install -qy --no-install-recommends $$missing; fi
	touch $@

# BCC is the distribution's, so the venv is the system Python's and sees its packages.
.build/python: requirements.lock .build/packages
	/usr/bin/python3 -m venv --system-site-packages $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

# protoc names its output by the path of the .proto below the import root, so the root must hold flows/proto.
.build/proto: $(PROTOS) .build/python
	mkdir -p .build/root/flows && ln -sfn ../../../proto .build/root/flows/proto
	cd .build/root && ../../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. flows/proto/*.proto
	rm -f proto/{flow,relay,extension}_pb2_grpc.py
	touch $@

.build/install: pyproject.toml .build/proto $(shell find agent bpf cli demo flow proto -type d 2>/dev/null)
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

venv: .build/install ## make .venv/bin/flows ready to use
