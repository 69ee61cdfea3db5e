#!/usr/bin/env python3
"""Plans generated queues of a million requests on 1,000 devices: gap and its parts, wall time, memory, device time in use.

Lengths are log-normal with the mean and spread that the Azure chat trace of 2023 has in logarithms, times `--lengths`; 12
jobs with random mean floors fall due at 6 deadlines within 2 h; 4 pools. More load: longer requests, or `--devices` below 1.
`--load 0.9 1.01` first finds, by bisection, the largest `--lengths` at which there is no proof that nothing has room (what
the relaxation serves), and plans at these shares of it. What is infeasible is told with its relaxations.
Machines are noisy: compare two builds in one run (`--binaries OLD NEW`).
"""

import argparse
import csv
import json
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JOBS = 12
# Of the bisection: time for an answer, how near, and where lengths that are cut off no longer grow.
ASKING = "10s"
RESOLUTION = 0.005
MOST_LENGTHS = 400.0
# What is known of lesser relaxations.
LESSER = {"relaxed": "serves all if divisible", "too_little": "proved too little"}
DEADLINES_MIN = [20, 40, 60, 80, 100, 120]
# name, device, nodes, devices a node, GiB of a device and of the host, CPUs a device, watts of an idle device and of a node
POOLS = [
    ("h100", "H100", 50, 8, 80, 2048, 14, 70, 1100),
    ("b200", "B200", 25, 8, 180, 2048, 14, 140, 1500),
    ("a100", "A100", 40, 8, 40, 1024, 16, 52, 700),
    ("cpu", "Xeon-8480+", 40, 2, 240, 512, 56, 100, 120),
]


def write_queue(folder, requests, seed, lengths, highest_floor):
    """One CSV a job and jobs.toml."""
    draw = random.Random(seed)
    floors = [round(draw.uniform(50, highest_floor), 1) for _ in range(JOBS)]
    weights = [draw.gammavariate(4, 1) for _ in range(JOBS)]
    files = [open(folder / f"job{job:02}.csv", "w") for job in range(JOBS)]
    for file in files:
        file.write("input_tokens,output_tokens\n")
    for job in draw.choices(range(JOBS), weights, k=requests):
        tokens = min(14050, max(1, int(draw.lognormvariate(6.63, 0.985) * lengths)))
        answer = min(4000, max(1, int(draw.lognormvariate(5.02, 0.859) * lengths)))
        files[job].write(f"{tokens},{answer}\n")
    for file in files:
        file.close()
    with open(folder / "jobs.toml", "w") as jobs:
        for job, floor in enumerate(floors):
            jobs.write(f'[[job]]\nname = "job{job:02}"\nfiles = ["job{job:02}.csv"]\ntask = "MMLU-Pro"\n')
            jobs.write(f'min_accuracy = {floor}\naccuracy_rule = "mean"\n')
            jobs.write(f'deadline = "{DEADLINES_MIN[job % len(DEADLINES_MIN)]}min"\n\n')


def write_cluster(folder, share):
    """Returns the devices."""
    devices = 0
    with open(folder / "cluster.toml", "w") as cluster:
        for name, device, nodes, per_node, memory, host, cpus, idle, base in POOLS:
            nodes = max(1, math.floor(nodes * share + 0.5))
            devices += nodes * per_node
            cluster.write(
                f'[[pool]]\nname = "{name}"\nnodes = "{name}n[001-{nodes:03}]"\ndevice = "{device}"\n'
                f"devices_per_node = {per_node}\ndevice_memory_gib = {memory}\nhost_memory_gib = {host}\n"
                f"cpus_per_device = {cpus}\nidle_power_w = {idle}\nbase_power_w = {base}\nstorage_gbps = 40\n"
                f'partition = "{name}"\n\n'
            )
    return devices


def plan(binary, folder, time_limit):
    command = [binary, "plan", "--models", "profiles/models.json", "--accuracy", "profiles/accuracy.csv"]
    command += ["--cluster", str(folder / "cluster.toml"), "--jobs", str(folder / "jobs.toml")]
    command += ["--workload", str(folder / "job*.csv"), "--time-limit", time_limit, "--quiet", "--json"]
    done = subprocess.run(command + ["--out", str(folder / "plan")], cwd=ROOT, capture_output=True)
    return json.loads(done.stdout) if done.stdout else {"status": done.stderr.decode()[-200:]}


def write_case(folder, arguments, seed, lengths):
    """Returns the devices."""
    write_queue(folder, arguments.requests, seed, lengths, arguments.highest_floor)
    return write_cluster(folder, arguments.devices)


def largest_lengths(folder, arguments, seed):
    """The largest factor on lengths, within half a percent, at which the planner does not prove that there is no plan."""

    def served(lengths):
        write_case(folder, arguments, seed, lengths)
        return plan(arguments.binaries[-1], folder, ASKING)["status"] != "infeasible"

    low, high = 0.0, arguments.lengths
    while served(high):
        low, high = high, 1.5 * high
        if high > MOST_LENGTHS:
            sys.exit(f"seed {seed}: even {low:.0f} times the lengths have room (they end at the longest); try fewer --devices")
    while high - low > RESOLUTION * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if served(middle) else (low, middle)
    return low


def told(relaxation):
    """A relaxation in a few words: what, by how much, and how that is known."""
    of = relaxation.get("job") or relaxation.get("pool") or "all"
    known = [f"by {relaxation.get('verified_by', 'nothing yet')}"]
    known += [f"{relaxation[key]:g} {words}" for key, words in LESSER.items() if relaxation.get(key) is not None]
    return f"{relaxation['kind']} {of} {relaxation['amount']:g} {relaxation['unit']} ({', '.join(known)})"


def seconds_in_use(folder):
    with open(folder / "plan" / "instances.csv") as file:
        rows = list(csv.DictReader(file))
    return sum(len(row["device_indices"].split(";")) * (float(row["end_s"]) - float(row["start_s"])) for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=lambda text: int(float(text)), default=1_000_000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--lengths", type=float, default=8.0, help="factor on the trace's lengths")
    parser.add_argument("--devices", type=float, default=1.0, help="share of the 1,000 devices")
    parser.add_argument("--highest-floor", type=float, default=80.0, help="of the random floors, in percent")
    parser.add_argument("--load", type=float, nargs="*", help="shares of the largest lengths that the relaxation serves")
    parser.add_argument("--time-limit", default="10s")
    parser.add_argument("--binaries", nargs="*", default=[str(ROOT / "target/release/jouleplan")])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lengths = [arguments.lengths]
            if arguments.load:
                largest = largest_lengths(folder, arguments, seed)
                print(f"seed {seed}: the relaxation serves lengths up to {largest:.2f} times the trace's")
                lengths = [share * largest for share in arguments.load]
            for factor in lengths:
                devices = write_case(folder, arguments, seed, factor)
                where = f"{arguments.requests} requests, {devices} devices, seed {seed}, lengths {factor:.2f}"
                for binary in arguments.binaries:
                    report(where, plan(binary, folder, arguments.time_limit), folder, devices, binary)


def report(where, result, folder, devices, binary):
    cost = f"{result.get('wall_s', math.nan):.1f} s and {result.get('peak_rss_mib', math.nan):.0f} MiB"
    if result.get("gap") is None:
        print(f"{where}: {result['status']} after {cost}  {binary}")
        for relaxation in result.get("relaxations", []):
            print(f"    {told(relaxation)}")
    else:
        parts = ", ".join(f"{part} {share:.3%}" for part, share in result["gap_parts"].items())
        used = seconds_in_use(folder) / (devices * 60 * DEADLINES_MIN[-1])
        print(f"{where}: gap {result['gap']:.3%} ({parts}) in {cost}, {used:.0%} of device time in use  {binary}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
