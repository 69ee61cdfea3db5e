#!/usr/bin/env python3
"""Writes profiles/samples/cpu_estimated.csv: Llama-3.1-8B at 8 bits on one CPU socket, by arithmetic, not by measurement.

Every number below is either published (socket, architecture) or an assumption, and says which. profiles/README.md
repeats them. Run from the repository root: python3 profiles/make_cpu_estimates.py
"""

import csv

# Intel Xeon Platinum 8480+, one socket (published).
BANDWIDTH = 8 * 4800e6 * 8  # byte/s: 8 channels of DDR5-4800
PEAK_INT8 = 56 * 4096 * 2.0e9  # op/s: 56 cores, 2048 multiply-adds per cycle and core (AMX), base clock
TDP = 350.0  # W

# Assumptions: what llama.cpp reaches of it, and what the memory draws beside the package.
BANDWIDTH_SHARE = 0.70
COMPUTE_SHARE = 0.05
DRAM_POWER = 8 * 5.0  # W: 5 W a module under load

# Llama-3.1-8B (published configuration), weights as Q8_0: blocks of 32 with one 16-bit scale.
PARAMETERS = 8.03e9
WEIGHTS = PARAMETERS * 34 / 32  # bytes
LAYERS, HEADS, KV_HEADS, HEAD_DIMENSION = 32, 32, 8, 128
KV_BYTES = 2 * KV_HEADS * HEAD_DIMENSION * 2 * LAYERS  # per token, 16 bit

INPUTS = (128, 512, 2048)
OUTPUTS = (64, 256, 1024)
BATCHES = (1, 2, 4, 8, 16, 32, 64)

bandwidth = BANDWIDTH * BANDWIDTH_SHARE
compute = PEAK_INT8 * COMPUTE_SHARE
power = TDP + DRAM_POWER  # a socket that decodes is taken to be at its limit all the time


def seconds(i, o, b):
    """Instance-seconds of one request of i input and o output tokens at batch b: the sum of four parts."""
    prefill = (2 * PARAMETERS * i + 4 * LAYERS * HEADS * HEAD_DIMENSION * i * i / 2) / compute
    read_weights = o / b * WEIGHTS / bandwidth
    read_cache = (o * i + o * (o - 1) / 2) * KV_BYTES / bandwidth
    decode = o * 2 * PARAMETERS / compute
    return prefill + read_weights + read_cache + decode


COLUMNS = (
    "model,precision,device,node,devices,tensor_parallel,expert_parallel,data_parallel,pipeline_parallel,max_num_seqs,"
    "batch_size,sm_clock_mhz,power_limit_w,sm_share,kv_cache,input_tokens,output_tokens,input_sq_mean,output_sq_mean,"
    "input_output_mean,requests,measurement,trial,warmup,runtime_s,gpu_energy_j,cpu_energy_j,cpu_energy_scope,"
    "node_energy_j,idle_power_w,output_throughput_tok_s,ttft_s,ttft_p99_s,tbt_p50_s,tbt_p99_s,engine,engine_version,"
    "driver_version,data_set,provenance,source,measured_at"
).split(",")

with open("profiles/samples/cpu_estimated.csv", "w", newline="") as out:
    table = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    for b in BATCHES:
        for i in INPUTS:
            for o in OUTPUTS:
                time = seconds(i, o, b)
                table.writerow({
                    "model": "meta-llama/Llama-3.1-8B-Instruct",
                    "precision": "q8_0",
                    "device": "Xeon-8480+",
                    "devices": 1,
                    "tensor_parallel": 1,
                    "max_num_seqs": b,
                    "batch_size": b,
                    "kv_cache": "true",
                    "input_tokens": i,
                    "output_tokens": o,
                    "input_sq_mean": i * i,
                    "output_sq_mean": o * o,
                    "input_output_mean": i * o,
                    "requests": 1,
                    "measurement": "steady_state",
                    "warmup": "false",
                    "runtime_s": f"{time:.8g}",
                    "cpu_energy_j": f"{time * power:.8g}",
                    "cpu_energy_scope": "package+dram",
                    "output_throughput_tok_s": f"{o / time:.6g}",
                    "engine": "llama.cpp",
                    "data_set": "cpu_estimate/roofline",
                    "provenance": "estimated",
                    "source": "profiles/make_cpu_estimates.py",
                })
