# Every target sees to its own tools (cmake, libclang, shellcheck) and uses the one profile, so HiGHS compiles once.
SHELL := /bin/bash
WITH_TOOLS := source target/tools/env &&

.PHONY: tools build demo case-study profiles bench e2e-llama test lint fmt

build: tools
	$(WITH_TOOLS) cargo build --release

tools:
	@bash .ci/tools.sh

# Plans a bundled sample of a real trace on the bundled cluster and checks the plan.
demo: build
	bash examples/demo.sh

# The reference paper's case study, and what a cluster changes: tables and a chart in target/case-study.
case-study: tools
	$(WITH_TOOLS) cargo run --release --quiet --example case_study -- target/case-study

# The bundled models, from the bundled samples. A test compares; run this after a change to samples, engines or `fit`.
profiles: build
	target/release/jouleplan fit profiles/samples/h100_b200_chat_mlenergy_v3.csv profiles/samples/a100_chat_carried.csv \
	  profiles/samples/cpu_estimated.csv --out profiles/models.json

test: lint
	$(WITH_TOOLS) cargo test --release

# Wall times of whole plans and gaps of a million requests, then the paper's problem beside PuLP + CBC, HiGHS and a greedy rule; commands, not tests.
bench: build target/bench-venv
	python3 benches/plan.py
	python3 benches/scale.py
	target/bench-venv/bin/python benches/compare.py
	$(WITH_TOOLS) cargo bench --bench forecast

target/bench-venv: benches/requirements.txt
	python3 -m venv --clear $@
	$@/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# Builds llama.cpp's server, profiles it on this CPU, holds the fit against cells left out and runs a plan of it on a Slurm
# of its own: half an hour, a third of it once the server is built, so not in `test`.
e2e-llama: build
	$(WITH_TOOLS) bash tests/e2e_llama/run.sh

lint: tools
	cargo fmt --check
	$(WITH_TOOLS) cargo clippy --release --all-targets -- -D warnings

fmt:
	cargo fmt
