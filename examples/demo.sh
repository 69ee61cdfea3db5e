#!/usr/bin/env bash
# A thousand requests of a real chat trace, due in an hour, at a mean accuracy of 60 % on MMLU-Pro, planned over the GPU
# and CPU pools of examples/cluster.toml; then the independent check of that plan.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
jouleplan=target/release/jouleplan
out=target/demo-plan

"$jouleplan" plan --models profiles/models.json --cluster examples/cluster.toml --workload workloads/azure_chat_1k.csv \
  --accuracy profiles/accuracy.csv --task MMLU-Pro --deadline 1h --min-accuracy 60 --out "$out"
"$jouleplan" check "$out"
echo "The plan is in $out: plan.json, CSVs, shards and Slurm scripts." >&2
