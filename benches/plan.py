#!/usr/bin/env python3
"""Times `jouleplan plan` on the bundled workloads: whole runs, five each after a warm-up, median and range.

Machines are noisy: compare two builds side by side in one run (`benches/plan.py OLD_BINARY NEW_BINARY`) and quote ratios.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = 5
QUEUES = {
    "azure_chat_1k, floor 60 %": ["--workload", "workloads/azure_chat_1k.csv", "--deadline", "1h", "--min-accuracy", "60"],
    "arxiv_summarization_500": ["--workload", "workloads/arxiv_summarization_500.csv", "--deadline", "2h"],
    "azure_chat_classes": ["--workload", "workloads/azure_chat_classes.csv", "--deadline", "1h"],
}


def plan(binary, arguments, out):
    """One run: its wall time in seconds and its gap as a fraction."""
    command = [binary, "plan", "--models", "profiles/models.json", "--cluster", "examples/cluster.toml"]
    command += ["--accuracy", "profiles/accuracy.csv", "--task", "MMLU-Pro", "--quiet", "--json", "--out", str(out)]
    result = json.loads(subprocess.run(command + arguments, cwd=ROOT, check=True, capture_output=True).stdout)
    return result["wall_s"], result["gap"]


def main():
    binaries = sys.argv[1:] or [str(ROOT / "target/release/jouleplan")]
    for name, arguments in QUEUES.items():
        walls = {binary: [] for binary in binaries}
        gaps = {}
        with tempfile.TemporaryDirectory() as folder:
            for run in range(RUNS + 1):
                for index, binary in enumerate(binaries):
                    wall, gaps[binary] = plan(binary, arguments, Path(folder) / f"plan{index}")
                    if run > 0:
                        walls[binary].append(wall)
        for binary, times in walls.items():
            median = statistics.median(times)
            print(f"{name}: {median:.2f} s ({min(times):.2f} to {max(times):.2f}), gap {gaps[binary]:.2%}  {binary}")
        if len(binaries) == 2:
            first, second = (statistics.median(walls[binary]) for binary in binaries)
            print(f"{name}: second / first = {second / first:.2f}")


if __name__ == "__main__":
    main()
