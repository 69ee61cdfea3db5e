# Every target sees to its own tools (cmake, libclang, shellcheck) and uses the one profile, so HiGHS compiles once.
SHELL := /bin/bash
WITH_TOOLS := source target/tools/env &&

.PHONY: tools build demo test lint fmt

build: tools
	$(WITH_TOOLS) cargo build --release

tools:
	@bash .ci/tools.sh

# Plans a bundled sample of a real trace on the bundled cluster and checks the plan.
demo: build
	bash examples/demo.sh

test: lint
	$(WITH_TOOLS) cargo test --release

lint: tools
	cargo fmt --check
	$(WITH_TOOLS) cargo clippy --release --all-targets -- -D warnings

fmt:
	cargo fmt
