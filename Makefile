# `make test` and `make demo` need Python 3.11 to 3.14 (with pip) and make; they set up the rest.
# `make demo ROS_DISTRO=kilted PYTHON=python3.12` names the distribution, jazzy or kilted, and the
# interpreter. An environment is kept for each distribution; VENV names another.

# Not from the environment: what a sourced ROS says there says nothing of wheels.
ROS_DISTRO := jazzy
VENV := .venv$(patsubst %,-%,$(filter-out jazzy,$(ROS_DISTRO)))
BIN := $(VENV)/bin
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3)
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))

.PHONY: help python test quick demo docs lint clean gpu gpu-pack gpu-train

help:
	@echo 'make test    check style and types, and run the tests'
	@echo 'make quick   the tests that take little time and need neither ROS nor a GPU'
	@echo 'make demo    drive the sample bag through the node over DDS; writes demo-report/'
	@echo 'make lint    only style and types, and the container file'
	@echo 'make docs    the reference of both packages; writes build/docs/'
	@echo 'make clean   remove the environment and everything built'
	@echo 'make gpu-pack, make gpu, make gpu-train   see docs/gpu.md'

# Each test has a limit (setup.cfg); a run in which four hang is given up.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 3

test: lint
	$(PYTEST)

quick: $(VENV)/.ready
	$(PYTEST) -m 'not (slow or ros or gpu or gpu_dry)'

demo: $(VENV)/.ready
	$(BIN)/multishift demo --out demo-report --force

docs: $(VENV)/.ready
	$(BIN)/python docs/api.py build/docs

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint docs/container/Dockerfile

requirements-%.txt:
	@echo 'make: there are no wheels of ROS 2 $*: give ROS_DISTRO=jazzy or ROS_DISTRO=kilted' >&2; exit 1

# An environment of another Python than the one asked for is not what is meant.
python:
	@if [ -n '$(PYTHON)' ] && [ -x $(BIN)/python ] \
	    && [ "$$('$(BIN)/python' -V)" != "$$('$(PYTHON)' -V)" ]; then \
	    echo 'make: $(VENV) is of another Python than $(PYTHON): name another one' \
	         'by VENV=, or remove it' >&2; \
	    exit 1; \
	fi

# The stamp is written last: an installation that failed or was stopped is done again.
$(VENV)/.ready: requirements.txt requirements-$(ROS_DISTRO).txt setup.py setup.cfg | python
	@set -e; python=; \
	for candidate in $(CANDIDATES); do \
	    if "$$candidate" -c '$(SUITABLE)' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo 'make: no working Python 3.11 to 3.14 among: $(CANDIDATES).' \
	         'Install one, with its venv module, or name it: make PYTHON=/path/to/python3.12' >&2; \
	    exit 1; \
	fi; \
	echo "Installing into $(VENV) with $$python; the first time takes some minutes."; \
	"$$python" -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check \
	        --requirement requirements.txt --requirement requirements-$(ROS_DISTRO).txt \
	    && $(BIN)/pip install --quiet --disable-pip-version-check \
	        --no-deps --no-build-isolation --editable . \
	    || { echo 'make: the installation failed; its error is above. Mend it and run make again.' >&2; \
	         exit 1; }
	@touch $@

# On a machine with package registries: what a GPU machine without them lacks.
gpu-pack: $(VENV)/.ready
	$(BIN)/python test/benchmark/gpu/pack.py $(ARGS)

# With the Python that has PyTorch for the GPU: nothing is set up here, and nothing downloaded.
gpu:
	$(or $(PYTHON),python3) test/benchmark/gpu $(ARGS)

gpu-train:
	$(or $(PYTHON),python3) test/benchmark/gpu/train.py $(ARGS)

clean:
	rm -rf $(VENV) .venv-kilted build install log *.egg-info .mypy_cache .pytest_cache .ruff_cache demo-report gpu-pack gpu-report
