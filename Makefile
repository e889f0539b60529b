# make demo   the main job on the embedded default: sweep, results table, report
# make test   all tests but the slow ones
# make test-browser  the report and the site in headless Chromium, which it installs where it can (Debian, as root)
# make test-slurm  sweeps on a real one-node Slurm, which it starts and stops; in 5 minutes, as root
# make test-extras   what needs more packages, which it installs: MLflow, Weights & Biases, Ray
# make test-lowest test-3.12 test-3.13  the fast tests at the lower bounds, or on that Python; test-versions: one in turn
# make torture     a sweep of 20 runs, 50 of its processes ended at random moments, compared with an undisturbed one
# make bench  time and memory against plain baselines and the floor, in about 14 minutes
# make compare  every policy at its best lr on five tasks, into docs/comparison.md; hours, and continues where it ended
# make docs   the documentation as a site: site/index.html, to open as a file
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# One thread a process: tests and jobs run side by side, one a core.
export OMP_NUM_THREADS := 1

.PHONY: env demo test test-slow test-browser test-slurm test-extras test-versions test-lowest test-3.12 test-3.13 torture bench compare docs lint types clean

env: $(VENV)/installed

# The stamp is newer than what it depends on: a second make installs nothing.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "atbptt needs Python 3.11 to 3.13; choose one with make PYTHON=python3.12")'
	@echo "installing into $(VENV), some minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: env
	$(RUN) launch.py -m truncation=adaptive lr=1,10
	$(RUN) -m analysis table outputs/copy_fixed
	$(RUN) -m analysis report outputs/copy_fixed

test: env
	$(RUN) -m pytest -n 2 -m "not slow and not browser and not slurm and not extras"

test-slow: env
	$(RUN) -m pytest -n 2 -m slow

test-browser: env
	tests/browser/install.sh
	$(RUN) -m pytest -m browser tests/browser

test-slurm: env
	$(RUN) -m pytest -m slurm tests/sweeps/slurm

# hydra-ray-launcher asks for an old cloudpickle, which joblib refuses; it works with a new one.
test-extras: env
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[mlflow,wandb]" ray
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps hydra-ray-launcher==1.2.2
	$(RUN) -m pytest -m extras

test-versions:
	.ci/versions

test-lowest test-3.12 test-3.13:
	.ci/versions $(@:test-%=%)

torture: env
	$(RUN) -m tests.acceptance.torture --kills 50

bench: env
	$(RUN) -m benchmarks

compare: env
	$(RUN) -m benchmarks.comparison

# The theme's makers warn of the next version of MkDocs, which constraints.txt keeps out.
docs: env
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

lint: env
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: env
	$(RUN) -m mypy

clean:
	rm -rf $(VENV) $(VENV)-* .pytest_cache .mypy_cache .ruff_cache .hypothesis site *.egg-info
