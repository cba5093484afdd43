PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

BROWSER := $(VENV)/browser/chromium

.DELETE_ON_ERROR:
.PHONY: demo test lint browser

# Everything below runs in a virtual environment that is made once and remade when the dependencies change.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/compress demo

# Without a browser the tests that look at the pages skip.
test: $(VENV)/.installed
	$(MAKE) --no-print-directory browser || echo "no browser: the tests that look at the pages skip"
	$(BIN)/python -m pytest

# A Chromium, where none is installed: one that comes as an npm package of 65 MB, with the libraries that it needs.
browser: $(VENV)/.installed
	@$(BIN)/python tests/browser.py || $(MAKE) --no-print-directory $(BROWSER)

# The package unpacks into the folder for temporary files, and its libraries only where it believes to be on AWS Lambda.
$(BROWSER):
	npm install --prefix $(VENV)/browser --no-save --no-audit --no-fund @sparticuz/chromium@147.0.0
	cd $(VENV)/browser && TMPDIR=$$PWD AWS_LAMBDA_JS_RUNTIME=nodejs22.x \
		node -e 'import("@sparticuz/chromium").then((package) => package.default.executablePath())'

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
