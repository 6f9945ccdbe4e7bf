# Each target does all its own set-up in .venv: `make demo`, `make test`.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := runs/demo
TWO := --numprocesses 2 --dist loadfile  # a file's tests share what they compile

.PHONY: demo videos check test lint clean

demo: $(READY)  ## train, evaluate and look, in minutes, on a CPU
	$(BIN)/python train.py --config configs/demo.py --workdir $(DEMO)
	$(BIN)/python eval.py --config configs/demo.py --workdir $(DEMO) --compare_fusion
	@echo
	@echo "Look at:"
	@echo "  $(DEMO)/eval_val/predictions.png   people found in held-out crowds, beside the truth"
	@echo "  $(DEMO)/eval_val/report.html       the whole evaluation, for the browser"
	@echo "  $(DEMO)/loss_curves.png            how the training went"

videos: $(READY)  ## synthetic videos with exact identities, to track in
	$(BIN)/python tools/synthvideo.py --out runs/synthvideo

check: lint  ## the inner loop: lint, the order of the floors, the fast tests
	$(BIN)/python -m pytest $(TWO) -m "not slow"

test: $(READY)  ## every test
	$(BIN)/python -m pytest $(TWO)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

clean:  ## the demo's results and the environment
	rm -rf .venv $(DEMO)

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 13) else \
	    f"Python {v[0]}.{v[1]} is not supported: name another, as in make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $(READY)
