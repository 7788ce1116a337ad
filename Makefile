# Everything happens in a virtual environment below this folder; needs Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
DEMO := runs/demo
DEVICE := runs/device

.PHONY: setup demo device-files test test-slow fuzz audit test-addons test-web web web-files lint format

setup: $(READY)

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv || (echo "On Debian, venv needs: apt install python3-venv" && false)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# Trains shortly on the bundled photos; then exports the weights that ship, and matches a real pair
# with each form.
demo: setup
	rm -rf $(DEMO)
	$(BIN)/python train.py --config configs/demo.yaml
	$(BIN)/python -m export.saved_model pdcnet-lite -o $(DEMO)/saved_model
	$(BIN)/python -m export.tflite pdcnet-lite -o $(DEMO)/pdcnet-lite.tflite
	$(BIN)/python -m export.tflite pdcnet-lite -o $(DEMO)/pdcnet-lite-float16.tflite --precision float16
	for model in $(DEMO) pdcnet-lite $(DEMO)/saved_model $(DEMO)/pdcnet-lite.tflite; do \
		$(BIN)/tfdense match tfdense/data/pair/source.jpg tfdense/data/pair/target.jpg \
			--model $$model -o $(DEMO)/matches/$$(basename $$model) || exit 1; \
	done
	@echo "See $(DEMO)/matches/pdcnet-lite/overview.png"

# The weights that ship, for phones and small computers.
device-files: setup
	for size in 256x256 384x512 480x640; do \
		$(BIN)/python -m export.tflite pdcnet-lite -o $(DEVICE)/pdcnet-lite-$$size.tflite \
			--size $$size --precision float16 || exit 1; \
	done

# A process for each core; those who run single files need none.
test: setup
	$(BIN)/pytest --numprocesses auto --dist loadfile

test-slow: setup
	$(BIN)/pytest -m slow

# Broken and hostile inputs, some 400 to each target, in a process of its own: if that dies or hangs,
# the next goes on, and the input is in runs/fuzz. FUZZ_INPUTS and FUZZ_SECONDS bound each target.
fuzz: setup
	$(BIN)/pytest -m fuzz --numprocesses 1 --max-worker-restart 20 tests/fuzz

# Known weaknesses: of the code, and of the packages that are installed, which needs the network.
audit: setup .venv-audit/ready
	.venv-audit/bin/bandit --quiet --recursive -ll tfdense export web train.py
	$(BIN)/pip freeze --exclude-editable > .venv-audit/installed.txt
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement .venv-audit/installed.txt \
		|| { echo "pip-audit found a weakness, or could not fetch the advisories: see above." >&2; exit 1; }

.venv-audit/ready:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet 'bandit>=1.8,<2' 'pip-audit>=2.7,<3'
	touch $@

# The operations against TensorFlow Addons, which runs under TensorFlow 2.15 and Python 3.9 to 3.11.
test-addons:
	@for python in python3.11 python3.10 python3.9; do \
		if $$python -c "" 2>/dev/null; then found=$$python; break; fi; \
	done; \
	test -n "$$found" || { echo "test-addons needs Python 3.9, 3.10 or 3.11; none was found." >&2; exit 1; }; \
	test -x .venv-addons/bin/python || $$found -m venv .venv-addons
	.venv-addons/bin/pip install --quiet --requirement requirements-addons.txt
	.venv-addons/bin/pip install --quiet --no-deps --ignore-requires-python --editable .
	.venv-addons/bin/python -m pytest tests/addons

# The page that matches in the browser; what it is served with is made and fetched once.
WEB_MODELS ?= runs/web/pdcnet-lite-256x256.tflite

web: web-files
	$(BIN)/python -m web.serve --open

web-files: setup $(WEB_MODELS)
	$(BIN)/python -m web.prepare $(WEB_MODELS)

runs/web/pdcnet-lite-%.tflite: tfdense/weights/pdcnet_lite.weights.h5 | setup
	$(BIN)/python -m export.tflite pdcnet-lite -o $@ --size $*

# In headless Chromium. On Debian: apt install chromium
test-web: web-files
	$(BIN)/pip install --quiet --editable '.[web]'
	$(BIN)/pytest -m browser tests/web

# The site, in site/. It reads the code without running it, so that it needs none of its packages.
.PHONY: docs
docs: .venv-docs/ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo "See site/index.html"

.venv-docs/ready: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	$(PYTHON) -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
		print(*project['optional-dependencies']['docs'], sep='\n')" > .venv-docs/needs.txt
	.venv-docs/bin/pip install --quiet --requirement .venv-docs/needs.txt
	touch $@

# What is installed from a wheel, in an environment without anything else.
.PHONY: test-wheel
test-wheel:
	rm -rf build dist .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/pip wheel --quiet --no-deps --wheel-dir dist .
	.venv-wheel/bin/pip install --quiet dist/tfdense-*.whl
	.venv-wheel/bin/python -I tests/wheel_check.py dist/tfdense-*.whl

# The tests with the oldest versions that the requirements allow.
.PHONY: test-oldest
test-oldest: .venv-oldest/ready
	.venv-oldest/bin/pytest --numprocesses auto --dist loadfile

.venv-oldest/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet 'uv>=0.8,<1'
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct \
		--editable '.[dev]'
	touch $@

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
