#!/usr/bin/env python3
"""The reference paper's problem (arXiv 2407.04014) side by side: jouleplan, PuLP + CBC, HiGHS and a greedy rule.

19,366 requests, 7 models, minimise `zeta * E / Emax - (1 - zeta) * A * (i + o) / Amax` summed over requests, each model
with at least a share of them. One binary a request and model, as the paper states it. All read the same files; every
assignment is scored here, by one function that shares no code with jouleplan. Wall times are of whole processes, ours with
placement, the check of the plan and all its files; memory is each process's own peak (PuLP's with CBC's beside it).

    benches/compare.py [--requests N] [--zeta Z] [--share S] [--binary PATH]

Lengths: the Azure chat trace where JOULEPLAN_REFERENCE_DATA names the folder that holds it, else drawn within the classes of
workloads/azure_chat_classes.csv.
"""

import argparse
import csv
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TASK = "MMLU-Pro"
MODELS = 7
# Requests batch together at least so well; the paper's models have one operating point each.
BATCH_CAP = 64


# --- the inputs ------------------------------------------------------------------------------------------------------------


def lengths(count):
    reference = os.environ.get("JOULEPLAN_REFERENCE_DATA")
    trace = reference and Path(reference) / "workloads/AzureLLMInferenceTrace_conv.csv"
    if trace and trace.exists():
        with open(trace, newline="") as file:
            rows = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(file)]
        return [rows[r % len(rows)] for r in range(count)]
    draw = random.Random(1)
    with open(ROOT / "workloads/azure_chat_classes.csv", newline="") as file:
        classes = list(csv.DictReader(file))
    weights = [int(row["count"]) for row in classes]
    # Classes are boxes whose sides double every two steps.
    vary = lambda tokens: max(1, round(int(tokens) * 2 ** draw.uniform(-0.25, 0.25)))
    return [(vary(row["input_tokens"]), vary(row["output_tokens"])) for row in draw.choices(classes, weights, k=count)]


def prepare(folder, count):
    """models.json of 7 families at one batch each and without memory, accuracy, a cluster that never binds, the queue."""
    with open(ROOT / "profiles/accuracy.csv", newline="") as file:
        accuracy = {row["model"]: float(row["accuracy"]) for row in csv.DictReader(file) if row["task"] == TASK}
    models = json.loads((ROOT / "profiles/models.json").read_text())
    kept = {}
    for family in sorted(models["families"], key=lambda family: (family["family"]["devices"], family["family"]["model"])):
        key = family["family"]
        points = [point for point in family["batch_points"] if point["max_num_seqs"] <= BATCH_CAP]
        if key["device"] == "H100" and key["model"] in accuracy and key["model"] not in kept and points:
            family["batch_points"] = [max(points, key=lambda point: point["max_num_seqs"])]
            for memory in ("weights_bytes", "kv_bytes_per_token"):
                family.pop(memory, None)
            kept[key["model"]] = family
    models["families"] = list(kept.values())[:MODELS]
    (folder / "models.json").write_text(json.dumps(models))
    with open(folder / "accuracy.csv", "w") as file:
        file.write("model,task,accuracy\n")
        file.writelines(f"{model},{TASK},{accuracy[model]}\n" for model in kept)
    (folder / "cluster.toml").write_text(
        '[[pool]]\nname = "h100"\nnodes = "n[001-256]"\ndevice = "H100"\ndevices_per_node = 8\ndevice_memory_gib = 80\n'
        "idle_power_w = 70\nbase_power_w = 1100\n"
    )
    with open(folder / "queue.csv", "w") as file:
        file.write("input_tokens,output_tokens\n")
        file.writelines(f"{i},{o}\n" for i, o in lengths(count))


# --- the paper's coefficients, from the files alone ------------------------------------------------------------------------


def curve_at(points, batch):
    points = [(point["batch_size"], point["per_output_token"]) for point in points]
    if batch <= points[0][0]:
        return points[0][1] * points[0][0] / batch
    if batch >= points[-1][0]:
        return points[-1][1]
    upper = next(k for k, point in enumerate(points) if point[0] >= batch)
    (b0, v0), (b1, v1) = points[upper - 1], points[upper]
    share = (math.log(batch) - math.log(b0)) / (math.log(b1) - math.log(b0))
    return math.exp(math.log(v0) + share * (math.log(v1) - math.log(v0)))


def feature(term, i, o, b):
    context = i * o + o * (o - 1) / 2
    plain = {"1": 1, "o/b": o / b, "o/sqrt(b)": o / math.sqrt(b), "o": o, "S1": context, "i": i, "i^2": i * i, "i*o": i * o}
    return o * curve_at(term["curve"], b) if term["feature"] == "o(b)" else plain[term["feature"]]


def coefficients(folder, zeta):
    """Models and, by request, what each costs."""
    with open(folder / "queue.csv", newline="") as file:
        queue = [(int(row["input_tokens"]), int(row["output_tokens"])) for row in csv.DictReader(file)]
    with open(folder / "accuracy.csv", newline="") as file:
        accuracy = {row["model"]: float(row["accuracy"]) for row in csv.DictReader(file)}
    families = json.loads((folder / "models.json").read_text())["families"]
    models = [family["family"]["model"] for family in families]
    batches = [min(family["batch_points"][0]["batch_size"], len(queue)) for family in families]
    energy = lambda k, i, o: sum(t["value"] * feature(t, i, o, batches[k]) for t in families[k]["energy_j"])
    joules = [[energy(k, i, o) for k in range(len(models))] for i, o in queue]
    worth = [[accuracy[model] * (i + o) for model in models] for i, o in queue]
    most_joules, most_worth = (max(max(row) for row in rows) for rows in (joules, worth))
    cost = lambda e, a: zeta * e / most_joules - (1 - zeta) * a / most_worth
    return models, [[cost(e, a) for e, a in zip(*rows)] for rows in zip(joules, worth)]


# --- the other solvers; each a process of its own --------------------------------------------------------------------------


def solve_pulp(costs, least):
    import pulp

    problem = pulp.LpProblem("paper", pulp.LpMinimize)
    requests, models = range(len(costs)), range(len(costs[0]))
    x = {(r, k): pulp.LpVariable(f"x_{r}_{k}", cat="Binary") for r in requests for k in models}
    problem += pulp.lpSum(costs[r][k] * x[r, k] for r in requests for k in models)
    for r in requests:
        problem += pulp.lpSum(x[r, k] for k in models) == 1
    for k in models:
        problem += pulp.lpSum(x[r, k] for r in requests) >= least
    problem.solve(pulp.PULP_CBC_CMD(msg=False))
    assert pulp.LpStatus[problem.status] == "Optimal", pulp.LpStatus[problem.status]
    return [max(models, key=lambda k: x[r, k].varValue) for r in requests]


def solve_highs(costs, least):
    import highspy

    requests, models = len(costs), len(costs[0])
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = requests * models, requests + models
    lp.col_cost_ = [cost for row in costs for cost in row]
    lp.col_lower_, lp.col_upper_ = [0.0] * lp.num_col_, [1.0] * lp.num_col_
    lp.row_lower_ = [1.0] * requests + [float(least)] * models
    lp.row_upper_ = [1.0] * requests + [highspy.kHighsInf] * models
    lp.integrality_ = [highspy.HighsVarType.kInteger] * lp.num_col_
    lp.a_matrix_.start_ = list(range(0, 2 * lp.num_col_ + 1, 2))
    lp.a_matrix_.index_ = [row for r in range(requests) for k in range(models) for row in (r, requests + k)]
    lp.a_matrix_.value_ = [1.0] * (2 * lp.num_col_)
    solver = highspy.Highs()
    solver.silent()
    solver.passModel(lp)
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal, solver.getModelStatus()
    values = solver.getSolution().col_value
    return [max(range(models), key=lambda k: values[r * models + k]) for r in range(requests)]


def solve_greedy(costs, least):
    """Each request in turn to its cheapest model, but for what the others' shares still need."""
    models, counts, chosen = range(len(costs[0])), [0] * len(costs[0]), []
    for r, row in enumerate(costs):
        owed = [max(0, least - count) for count in counts]
        must = sum(owed) >= len(costs) - r
        k = min((k for k in models if owed[k] > 0 or not must), key=lambda k: row[k])
        counts[k] += 1
        chosen.append(k)
    return chosen


SOLVERS = {"PuLP + CBC": solve_pulp, "HiGHS": solve_highs, "greedy": solve_greedy}


def solve(name, folder, zeta, share):
    _, costs = coefficients(folder, zeta)
    chosen = SOLVERS[name](costs, math.ceil(share * len(costs) * (1 - 1e-12)))
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    (folder / "result.json").write_text(json.dumps({"chosen": chosen, "mib": peak}))


# --- the comparison --------------------------------------------------------------------------------------------------------


def timed(command):
    started = time.perf_counter()
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return time.perf_counter() - started, output


def run_ours(binary, folder, models, zeta, share):
    files = [f"--{role}={folder / name}" for role, name in (("models", "models.json"), ("cluster", "cluster.toml"))]
    command = [binary, "plan", *files, f"--workload={folder / 'queue.csv'}", f"--accuracy={folder / 'accuracy.csv'}"]
    command += [f"--task={TASK}", "--deadline=1000h", f"--objective=zeta={zeta}", "--quiet", "--json"]
    command += [f"--model-share={model}={share}" for model in models]
    wall, output = timed(command + [f"--out={folder / 'plan'}"])
    plan = json.loads(output)
    with open(folder / "plan/instances.csv", newline="") as file:
        model = {row["instance"]: models.index(row["model"]) for row in csv.DictReader(file)}
    with open(folder / "plan/assignments.csv", newline="") as file:
        chosen = [model[row["instance"]] for row in csv.DictReader(file)]
    return wall, plan["peak_rss_mib"], chosen, plan


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=19366)
    parser.add_argument("--zeta", type=float, default=0.5)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--binary", default=str(ROOT / "target/release/jouleplan"))
    parser.add_argument("--solve", nargs=2, metavar=("SOLVER", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.solve:
        return solve(asked.solve[0], Path(asked.solve[1]), asked.zeta, asked.share)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, asked.requests)
        models, costs = coefficients(folder, asked.zeta)
        score = lambda chosen: math.fsum(row[k] for row, k in zip(costs, chosen))
        runs = [run_ours(asked.binary, folder, models, asked.zeta, asked.share) for _ in range(3)]
        wall, mib, chosen, plan = sorted(runs, key=lambda run: run[0])[1]
        ours, bound = score(chosen), plan["bound"]
        if abs(ours - plan["objective"]) > 1e-6 * abs(ours):
            sys.exit(f"jouleplan says its objective is {plan['objective']}, its assignment scores {ours}")
        print(f"{asked.requests} requests x {len(models)} models, zeta {asked.zeta}, shares {asked.share}; bound {bound:.6f}")
        print(f"{'':12} {'seconds':>9} {'x ours':>8} {'MiB':>8} {'x ours':>8} {'objective':>14} {'gap to the bound':>17}")
        line = lambda name, s, m, objective: print(
            f"{name:12} {s:9.2f} {s / wall:8.1f} {m:8.1f} {m / mib:8.1f} {objective:14.6f} "
            f"{(objective - bound) / abs(objective):17.2e}",
            flush=True,
        )
        line("jouleplan", wall, mib, ours)
        for solver in SOLVERS:
            command = [sys.executable, __file__, "--solve", solver, name]
            seconds, _ = timed(command + ["--zeta", str(asked.zeta), "--share", str(asked.share)])
            result = json.loads((folder / "result.json").read_text())
            theirs = score(result["chosen"])
            line(solver, seconds, result["mib"], theirs)
            if ours > theirs + 1e-9 * abs(theirs):
                sys.exit(f"{solver} found less than jouleplan: {theirs} against {ours}")
            if solver == "PuLP + CBC" and asked.requests >= 19366 and seconds < 100 * wall:
                print(f"only {seconds / wall:.0f} times faster than PuLP + CBC, not 100", file=sys.stderr)


if __name__ == "__main__":
    main()
