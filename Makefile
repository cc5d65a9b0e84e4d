# make demo: the whole chain on synthetic data; make test: everything that is checked.
PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --cores all

.PHONY: demo test test-slow test-slurm lint docs clean huggingface
.DELETE_ON_ERROR:

demo: .venv/.complete sox
	@echo "The demo data is synthetic (made by SoX on this machine); its numbers say nothing about real audio."
	$(SNAKEMAKE) --quiet rules --configfile configs/demo.yaml
	@cat results/table.md
	@awk -F, '$$3 == "valid" {now = sprintf("%.2f after %d steps", $$5, $$1); if (!first) first = now} \
		END {print "Pretext loss of the backbone, on validation clips: " first ", " now}' results/pretrain/demo/curves.csv
	@echo "Files: results/table.csv, results/table.md, results/report.html (synthetic data, see above)"

test: .venv/.huggingface sox lint
	$(BIN)/python -m pytest -m "not slow and not slurm" -n 2 --dist loadgroup

test-slow: .venv/.complete sox
	$(BIN)/python -m pytest -m "slow and not slurm" -n 2 --dist loadgroup
	tests/cluster/run -m "slurm and slow"

test-slurm: .venv/.complete sox
	tests/cluster/run

lint: .venv/.complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint

docs: .venv/.complete
	PYTHONPATH=scripts $(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict --quiet

.venv/.complete: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
		{ echo "Python 3.11 is needed: install it, or say make PYTHON=/path/to/python3.11 demo"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "Install the package python3-venv"; exit 1; }
	@echo "Installing the locked requirements into .venv (a minute or two)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

huggingface: .venv/.huggingface

# An optional extra: encoders in the Hugging Face form (family: huggingface). The tests use it.
.venv/.huggingface: requirements-huggingface.txt .venv/.complete
	@echo "Installing the extra for Hugging Face encoders into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-huggingface.txt
	@touch $@

.PHONY: sox
sox:
	@command -v sox >/dev/null && sox --help | grep -q ' mp3 ' && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing SoX"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends sox libsox-fmt-all >/dev/null; \
	else command -v sox >/dev/null || { echo "SoX is missing. Install it: sudo apt-get install sox libsox-fmt-all"; exit 1; }; fi

clean:
	rm -rf results resources logs
