# make demo    say it, see it: installs what it needs, then turns a spoken clip into a picture
# make lab     opens the notebooks in JupyterLab
# make test    everything that CI runs (make quick: the part that takes under two minutes)
# make full    the tests at the full lengths and counts, and make newest; hours
# make newest  the quick tests with the newest of every package, in an environment of its own
# make cuda    the tests that need a CUDA GPU, with one; minutes
# make screenshots   takes the pictures of the studio in docs/ anew
# make docs    builds the documentation site, with the notebooks' own pictures; eight minutes, then seconds
# make badges REPO=owner/name   writes the repository's address into the README and the notebooks
# make pocket  trains the pocket model from nothing; needs npm; seven hours on two idle cores, resumable

SHELL := /bin/bash
AUDIO ?= s2i_lib/samples/red_car.wav
OUT ?= out/demo
# The first Python that runs and is one that the pinned packages have wheels for.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# Two workers with a thread each: the small models gain little from a second thread. Whole files go
# to a worker, so that what a file's tests share is made once, the longest first (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
LISTS := pyproject.toml requirements.txt constraints.txt

.PHONY: demo lab test quick full newest cuda lint system screenshots docs badges pocket clean

demo: .venv/.demo
	$(BIN)/python -m s2i_lib speak "$(AUDIO)" --model pocket --out "$(OUT)"

lab: .venv/.demo
	$(PIP) --quiet 'jupyterlab>=4'
	$(BIN)/jupyter lab notebooks $(if $(filter 0,$(shell id -u)),--allow-root) # as in a container

test: .venv/.test system lint
	$(PYTEST) -m "not full" --durations=15

quick: .venv/.test lint
	$(PYTEST) -m "not slow and not full"

full: .venv/.test system lint
	$(PYTEST) --full --durations=15
	$(MAKE) newest

# What Colab, or anybody's pip, will have one day. torch stays: another one is gigabytes of CUDA.
NEWEST := .venv-newest/bin/python
newest: | .venv/bin/python
	$(BIN)/python -m venv .venv-newest
	grep '^torch==' constraints.txt > .venv-newest/torch.txt
	$(NEWEST) -m pip install --disable-pip-version-check --quiet -c .venv-newest/torch.txt \
		--upgrade --upgrade-strategy eager -e '.[tiny-en,test]'
	cp s2i_lib/newest.txt .venv-newest/before.txt
	$(NEWEST) -m tools.newest # first, since what is newer than the list is what the tests complain of
	$(NEWEST) -m pytest --numprocesses 2 --dist loadfile -m "not slow and not full" \
		|| { cp .venv-newest/before.txt s2i_lib/newest.txt; exit 1; }

cuda: .venv/.test
	$(BIN)/python -m pytest tests/training/test_cuda.py --full

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Programs that only the tests use, all from Debian: the browser, two voices, what reads marks
# (exiftool), the disk that fails.
system:
	@bash tests/install_system_packages.sh

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Install one (python.org, \
	your system's packages or pyenv), or name it: make PYTHON=/path/to/python3.12"; exit 2; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "$(PYTHON) could not make a virtual \
	environment, for the reason above; .venv was removed again. Debian and Ubuntu: apt-get install \
	python3-venv. Or name another one: make PYTHON=/path/to/python3.12"; exit 2; }

.venv/.demo: $(LISTS) | .venv/bin/python
	$(PIP) -e '.[tiny-en]'
	@touch $@

.venv/.test: $(LISTS) | .venv/bin/python
	$(PIP) --quiet -e '.[tiny-en,test,docs]'
	@touch $@ .venv/.demo

screenshots: .venv/.test system
	S2I_SCREENSHOTS=docs $(BIN)/python -m pytest tests/browser -m screenshots

# The notebooks are run again only where one of them or the library has changed; the pages, always.
docs: .venv/.docs
	$(BIN)/python -m tools.site.execute out/notebooks
	S2I_EXECUTED=out/notebooks NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo "The site is in out/site. To read it: $(BIN)/python -m http.server --directory out/site"

.venv/.docs: $(LISTS) | .venv/bin/python
	$(PIP) --quiet -e '.[tiny-en,docs]'
	@touch $@ .venv/.demo

badges: .venv/bin/python
	@$(BIN)/python tools/badges.py "$(REPO)"

# Each script goes on where it was stopped, and leaves alone what is finished; the state is in
# tools/pocket/.work (S2I_POCKET_WORK). The emoji sets come by npm (Node.js). The best that two cores
# made had these many shards of 5,000 scenes and steps of the trunk; more go on from there, with a new
# branch. The U-Net that ships saw eight times as many pictures, on a GPU: tools/pocket/NOTES.md.
SHARDS ?= 36
POCKET_STEPS ?= 6898
BRANCH_STEPS ?= 700
# Of these three empty is the script's own number. A rehearsal of all of it, in a clone, as it ends in
# s2i_lib/pocket: make pocket SHARDS=1 POCKET_STEPS=40 BRANCH_STEPS=20 DECODER_STEPS=50 JUDGE_STEPS=50
# SCORER_STEPS="50 --led 50"
DECODER_STEPS ?=
JUDGE_STEPS ?=
SCORER_STEPS ?=
pocket: .venv/.test
	$(PIP) --quiet -e '.[pocket]'
	$(BIN)/python -m tools.pocket.icons
	$(BIN)/python -m tools.pocket.tokenizer
	$(BIN)/python -m tools.pocket.places
	$(BIN)/python -m tools.pocket.data pixels
	$(BIN)/python -m tools.pocket.vae start
	$(BIN)/python -m tools.pocket.data 0 $(SHARDS)
	$(BIN)/python -m tools.pocket.unet trunk --until $(POCKET_STEPS)
	$(BIN)/python -m tools.pocket.vae $(DECODER_STEPS)
	$(BIN)/python -m tools.pocket.judge $(JUDGE_STEPS)
	$(BIN)/python -m tools.pocket.scorer $(SCORER_STEPS)
	$(BIN)/python -m tools.pocket.unet branch --steps $(BRANCH_STEPS)
	$(BIN)/python -m tools.pocket.assemble

clean:
	rm -rf .venv .venv-newest out build *.egg-info
