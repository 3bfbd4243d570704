# PYTHON makes the environments: any Python from 3.11 to 3.13.
PYTHON ?= python3
MAKE_ENVIRONMENT = $(PYTHON) environments/make_environment.py
LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

SMALL = --max-num-batched-tokens 512 --max-num-seqs 4

.DEFAULT_GOAL := help
.PHONY: help setup setup-tool setup-flag-live setup-older setup-parsers setup-all-parsers release-options new-release demo acceptance test test-fast test-thorough test-ray lint docs package-test bench bench-check bench-cold-start bench-store evidence evidence-store evidence-fuzz evidence-service evidence-depths evidence-arguments evidence-hostile evidence-engines evidence-launches evidence-fleet evidence-kills evidence-containment evidence-replay catalogue lock clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 18

setup: setup-tool ## make .venv/bin/tuner and .envs/current, vLLM 0.32.0 for the CPU (6.5 GB of disk)
	$(MAKE_ENVIRONMENT) current

setup-tool: ## make .venv alone: the tool and what checks it
	$(MAKE_ENVIRONMENT) tool

setup-flag-live: ## make .envs/flag-live, vLLM 0.19.1, where fast_moe_cold_start works (about 8 GB of disk)
	$(MAKE_ENVIRONMENT) flag-live

setup-older: setup-flag-live ## make .envs/flag-live-0.18.1 and -0.17.1 over it (0.4 GB of disk each)
	$(MAKE_ENVIRONMENT) flag-live-0.18.1
	$(MAKE_ENVIRONMENT) flag-live-0.17.1

setup-parsers: setup-tool ## make .envs/parsers, the argument parsers of five more vLLM releases (0.1 GB, 0.34 GB of downloads)
	$(PYTHON) environments/make_parsers.py

setup-all-parsers: setup-tool ## make .envs/parsers of every release whose options are listed (0.7 GB, 2.3 GB of downloads)
	$(PYTHON) environments/make_parsers.py --all

release-options: setup setup-flag-live setup-all-parsers ## read the options of every release anew (half an hour)
	.venv/bin/python -m tools.make_release_options

new-release: setup-tool ## what a release of vLLM changed around the flag and its counter: make new-release VERSION=0.34.0
	.venv/bin/python -m tools.new_release $(VERSION)

demo: setup setup-flag-live ## a model that answers wrongly, and rightly through the tuner; published models; today's vLLM
	.venv/bin/python examples/demo.py

test: setup setup-flag-live setup-older setup-parsers lint ## set up both serving environments and run every check and test
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-thorough: setup setup-flag-live setup-older ## real vLLM once more where `make test` covers the same promise (a quarter of an hour)
	TUNER_THOROUGH=1 .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m thorough

test-fast: setup-tool lint ## the checks and tests that need no serving environment
	.venv/bin/python -m pytest -n 2 --dist loadfile -m "not vllm"

test-ray: setup-tool ## the tests of `tuner sweep --ray` in .envs/ray, on a cluster of this machine (0.6 GB)
	.venv/bin/uv venv --quiet --allow-existing --python $(PYTHON) .envs/ray
	.venv/bin/uv pip install --quiet --require-hashes --python .envs/ray/bin/python -r environments/ray.txt
	.envs/ray/bin/python -m pytest -p no:cacheprovider tests/test_fleet_ray.py

# etcd and kube-apiserver are kept here for the next run.
ACCEPTANCE ?= $(HOME)/.cache/vllm-moe-tuner-acceptance

acceptance: setup-tool ## have a real kube-apiserver ask the service, on Debian 12; write admission.md (first time: it is compiled)
	.venv/bin/python -m tools.acceptance --folder $(ACCEPTANCE)

lint: setup-tool ## ruff, mypy and import-linter
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

docs: setup-tool ## build the documentation site in .cache/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

package-test: setup-tool ## build the wheel and the sdist, install each as a user does, and try its commands
	.venv/bin/python -m tools.package_test

bench: setup-tool ## measure look-ups and command start-up
	.venv/bin/python benchmarks/lookup.py

bench-store: setup-tool ## measure the store against plain sqlite3
	.venv/bin/python benchmarks/store.py

bench-check: setup-tool ## measure `tuner check` over the published manifests
	.venv/bin/python benchmarks/check.py

bench-cold-start: setup setup-flag-live ## measure first and second starts of servers, in both environments
	.venv/bin/python benchmarks/cold_start.py --python .envs/current/bin/python
	.venv/bin/python benchmarks/cold_start.py --python .envs/flag-live/bin/python

catalogue: setup setup-flag-live ## probe every MoE architecture of both releases, and the zoo; write docs/catalogue/
	.venv/bin/python -m tools.evidence.make_registry

evidence: setup setup-flag-live ## write docs/evidence/ anew
	.venv/bin/python -m tools.evidence.make_evidence
	.venv/bin/python -m tools.evidence.make_manifests
	.venv/bin/python -m tools.evidence.make_confirm
	.venv/bin/python -m tools.evidence.make_serve_as_vllm
	.venv/bin/python -m tools.evidence.make_bundles
	mkdir -p .cache
	.venv/bin/python -m tools.evidence.make_explain run --python .envs/current/bin/python .cache/current.json -- $(SMALL)
	.venv/bin/python -m tools.evidence.make_explain run --python .envs/flag-live/bin/python .cache/flag-live.json -- $(SMALL)
	.venv/bin/python -m tools.evidence.make_explain page docs/evidence/explain-h200.json docs/evidence/explain-gpu.json .cache/current.json .cache/flag-live.json

evidence-store: setup-tool ## kill, crowd, damage and upgrade stores by the thousand; write store.md
	.venv/bin/python -m tools.evidence.make_store

evidence-fuzz: setup-tool ## give the tuner damaged input by the thousand; write fuzz.md (half an hour)
	.venv/bin/python -m tools.evidence.make_fuzz

evidence-service: setup-tool ## fault, flood and load real services, best on a quiet machine; write service.md (an hour and more)
	.venv/bin/python -m tools.evidence.make_service

evidence-kills: setup setup-flag-live ## kill real warm-ups of caches at random moments; write kills.md
	.venv/bin/python -m tools.evidence.make_kills

evidence-fleet: setup-tool setup-flag-live ## kill workers of a service's queue, probe with a real vLLM; write fleet.md
	mkdir -p .cache
	.venv/bin/python -m tools.evidence.make_fleet run .cache/fleet.json
	.venv/bin/python -m tools.evidence.make_fleet real .cache/fleet-real.json
	.venv/bin/python -m tools.evidence.make_fleet page .cache/fleet.json .cache/fleet-real.json

evidence-containment: setup-tool ## kill probes at random moments; write containment.md's counts to the terminal
	.venv/bin/python -m tools.evidence.make_containment 450

evidence-replay: setup setup-flag-live ## watch the MoE calls of real engines in both environments; write replay.md
	mkdir -p .cache
	.venv/bin/python -m tools.evidence.make_replay run --python .envs/current/bin/python .cache/replay-current.json
	.venv/bin/python -m tools.evidence.make_replay run --python .envs/flag-live/bin/python .cache/replay-flag-live.json
	.venv/bin/python -m tools.evidence.make_replay page docs/evidence/replay-gpu.json docs/evidence/replay-variants-gpu.json \
	  docs/evidence/replay-2-gpus.json \
	  .cache/replay-flag-live.json .cache/replay-current.json --stamps docs/evidence/stamps-trace.json docs/evidence/stamps-step.json

evidence-depths: setup setup-flag-live ## compare the order probe with the replay probe on 38 models; write depths.md (half an hour)
	mkdir -p .cache
	.venv/bin/python -m tools.evidence.make_depths run .cache/depths-cpu.json --jobs 2 --python .envs/flag-live/bin/python
	.venv/bin/python -m tools.evidence.make_depths page .cache/depths-cpu.json docs/evidence/depths-gpu.json

evidence-hostile: setup-tool setup-flag-live ## run the models that test the proof in real engines, ask for the proofs; write hostile.md (an hour)
	mkdir -p .cache
	.venv/bin/python -m tools.evidence.make_hostile engines .cache/hostile-engines.json
	.venv/bin/python -m tools.evidence.make_hostile decisions .cache/hostile-decisions.json
	.venv/bin/python -m tools.evidence.make_hostile page .cache/hostile-engines.json .cache/hostile-decisions.json

evidence-engines: setup-tool setup-flag-live ## hold decisions against real engines of twenty models; write engines.md (half an hour)
	mkdir -p .cache
	.venv/bin/python -m tools.evidence.make_engines run .cache/engines.json
	.venv/bin/python -m tools.evidence.make_engines page .cache/engines.json docs/evidence/replay-hostile-gpu.json

evidence-launches: setup-tool setup-flag-live ## trace launches of every published model; write launches.md (20 minutes)
	mkdir -p .cache
	.venv/bin/python -m tools.evidence.make_launches run --plain --python .envs/flag-live/bin/python .cache/launches-plain-cpu.json
	.venv/bin/python -m tools.evidence.make_launches run --plain --cut --python .envs/flag-live/bin/python .cache/launches-cut-cpu.json
	.venv/bin/python -m tools.evidence.make_launches run --jobs 2 --python .envs/flag-live/bin/python .cache/launches-lists-cpu.json
	.venv/bin/python -m tools.evidence.make_launches page docs/evidence/launches-gpu.json docs/evidence/launches-lists-gpu.json \
	  .cache/launches-plain-cpu.json .cache/launches-cut-cpu.json .cache/launches-lists-cpu.json

evidence-arguments: setup setup-flag-live setup-parsers ## compare argument lists with seven real parsers; write arguments.md
	.venv/bin/python -m tools.evidence.make_arguments

# The pins in an output file are kept while they still fit; delete the file
# first to take the newest releases.
lock: setup-tool ## write environments/*.txt anew from environments/*.in and pyproject.toml
	$(LOCK) pyproject.toml environments/tool.in --group dev -o environments/tool.txt
	$(LOCK) pyproject.toml --extra ray --extra service --group dev --constraints environments/tool.txt -o environments/ray.txt
	$(LOCK) environments/current.in --overrides environments/current.overrides.in -o environments/current.txt
	$(LOCK) environments/flag-live.in --overrides environments/flag-live.overrides.in -o environments/flag-live.txt
	$(LOCK) --no-deps environments/flag-live-0.18.1.in -o environments/flag-live-0.18.1.txt
	$(LOCK) --no-deps environments/flag-live-0.17.1.in -o environments/flag-live-0.17.1.txt

clean: ## remove the environments and every cache
	rm -rf .venv .envs .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
