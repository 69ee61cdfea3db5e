#!/usr/bin/env python3
"""Plans a queue for the fitted CPU family and lets the plan's script run on a CPU node of a throw-away Slurm.

usage: on_slurm.py FOLDER SERVER JOULEPLAN WATTS     with models.json and engines.toml in FOLDER; needs root and Slurm.

The queue is of prompts of known length, since the model has a token a byte. The node's idle and base power are stated here
and measured nowhere, like WATTS, what the processor draws while it serves: the plan has to say so.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

BED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "slurm_testbed", "bed.py")
NODE = {"prefix": "cpun", "count": 1, "cpus": 1, "sockets": 1, "memory_mib": 4000, "gres": "", "features": "cpu"}
PATIENCE_S = 900

CLUSTER = """[[pool]]
name = "cpu"
nodes = "cpun1"
device = "cpu"
device_kind = "cpu"
devices_per_node = 1
host_memory_gib = 3
cpus_per_device = 1
idle_power_w = {idle}
base_power_w = {idle}
partition = "cpu"
constraint = "cpu"
"""

def queue(folder, requests=80):
    """Lengths between those that were measured, in the caller's own lines and a table of their tokens."""
    draw = random.Random(7)
    lengths = {}
    with open(os.path.join(folder, "queue.jsonl"), "w") as lines, open(os.path.join(folder, "tokens.csv"), "w") as table:
        table.write("custom_id,input_tokens,output_tokens\n")
        for k in range(requests):
            name, given, wanted = "r%d" % k, draw.randint(16, 512), draw.randint(8, 128)
            lengths[name] = (given, wanted)
            prompt = "".join(draw.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(given))
            body = {"model": "any", "prompt": prompt, "max_tokens": wanted, "ignore_eos": True, "cache_prompt": False}
            lines.write(json.dumps({"custom_id": name, "method": "POST", "url": "/v1/completions", "body": body}) + "\n")
            table.write("%s,%d,%d\n" % (name, given, wanted))
    return lengths


class Bed:
    def __init__(self, folder):
        spec = os.path.join(folder, "spec.json")
        with open(spec, "w") as out:
            json.dump({"database": True, "nodes": [NODE]}, out)
        self.folder = os.path.join(folder, "bed")
        self.process = subprocess.Popen(
            [sys.executable, BED, self.folder, spec], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = self.process.stdout.readline().strip()
        if answer != "ready":
            sys.exit("e2e-llama: no Slurm: %s" % answer)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    folder, server, jouleplan, watts = sys.argv[1], *map(os.path.abspath, sys.argv[2:4]), float(sys.argv[4])
    folder = os.path.abspath(folder)
    idle = watts / 4
    with open(os.path.join(folder, "cluster.toml"), "w") as out:
        out.write(CLUSTER.format(idle=idle))
    lengths = queue(folder)
    shutil.rmtree(os.path.join(folder, "plan"), ignore_errors=True)
    temporary = tempfile.mkdtemp(prefix="jouleplan-e2e-")
    # The database's own user enters it.
    os.chmod(temporary, 0o755)
    bed = Bed(temporary)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "JOULEPLAN"))}
    environment.update(SLURM_CONF=os.path.join(bed.folder, "etc/slurm.conf"), JOULEPLAN_BED=bed.folder,
                       PATH=os.path.dirname(server) + os.pathsep + os.environ["PATH"])

    def run(*words):
        done = subprocess.run(words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit("e2e-llama: %s ended with %d\n%s%s" % (" ".join(words), done.returncode, done.stdout, logs(folder)))
        return done.stdout

    try:
        bed.tell("watts cpun1 %f" % (watts + idle))
        plan = json.loads(run(
            jouleplan, "plan", "--models", "models.json", "--cluster", "cluster.toml", "--engines", "engines.toml", "--workload",
            "queue.jsonl", "--sidecar", "tokens.csv", "--deadline", "8h", "--baselines", "none", "--out", "plan", "--json"))
        run(jouleplan, "check", "plan")
        run(jouleplan, "submit", "plan", "--yes", "--asap")
        end = time.monotonic() + PATIENCE_S
        while run("squeue", "-h"):
            if time.monotonic() > end:
                sys.exit("e2e-llama: the job has not ended after %d s\n%s" % (PATIENCE_S, logs(folder)))
            time.sleep(1)
        run(jouleplan, "collect", "plan")
        answered(os.path.join(folder, "plan/collected"), lengths)
        reconciled = json.loads(run(jouleplan, "reconcile", "plan", "--json"))
    finally:
        bed.end()
        shutil.rmtree(temporary, ignore_errors=True)
    # Joules are those of the scripted counter and tell nothing.
    for instance in reconciled["instances"]:
        print("on Slurm: %(instance)s of %(deployment)s took %(seconds).0f s, planned with margins were %(predicted_s).0f s" % instance)
    print("on Slurm: %d requests answered with the tokens asked for; planned at %.0f J, of which %.0f %% is estimated" % (
        len(lengths), plan["objective_j"], 100 * plan["estimated_share"]))


def answered(folder, lengths):
    """Every request once, with the tokens that it has and asked for."""
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name)) as lines:
            for line in map(json.loads, lines):
                usage = ((line["response"] or {}).get("body") or {}).get("usage") or {}
                found.setdefault(line["custom_id"], []).append((usage.get("prompt_tokens"), usage.get("completion_tokens")))
    wrong = {name: found.get(name) for name, asked in lengths.items() if found.get(name) != [asked]}
    if wrong or len(found) != len(lengths):
        sys.exit("e2e-llama: %d of %d answers are not what was asked for: %s" % (len(wrong), len(lengths), str(wrong)[:2000]))


def logs(folder):
    results, text = os.path.join(folder, "plan/results"), ""
    for name in sorted(os.listdir(results)) if os.path.isdir(results) else []:
        if name.endswith(".log"):
            with open(os.path.join(results, name), errors="replace") as log:
                text += "== %s\n%s\n" % (name, log.read()[-3000:])
    return text


if __name__ == "__main__":
    main()
