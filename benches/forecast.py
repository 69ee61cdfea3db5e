#!/usr/bin/env python3
"""A training step of the GRU by jouleplan (candle) and by PyTorch, same sizes, and 1,000 devices forecast.

128 sequences of 20 steps with 3 numbers each, 24 hidden, 12 quantiles: forward, pinball loss, backward, AdamW; on the
processor, all threads, medians of 21. Needs `torch`, which is in no requirements file: two gigabytes for one figure.

    python benches/forecast.py
"""

import json
import statistics
import subprocess
import time

import torch

BATCH, STEPS, INPUTS, HIDDEN, OUTPUTS, RUNS = 128, 20, 3, 24, 4, 21
LEVELS = torch.tensor([0.05, 0.5, 0.95])


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(INPUTS, HIDDEN, batch_first=True)
        self.head = torch.nn.Linear(HIDDEN, OUTPUTS * len(LEVELS))

    def forward(self, sequences):
        _, last = self.gru(sequences)
        return self.head(last[0]).view(-1, OUTPUTS, len(LEVELS))


def torch_step_ms():
    network = Network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
    sequences, truth = torch.ones(BATCH, STEPS, INPUTS), torch.ones(BATCH, OUTPUTS)
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        optimiser.zero_grad()
        error = truth.unsqueeze(-1) - network(sequences)
        torch.maximum(LEVELS * error, (LEVELS - 1.0) * error).mean().backward()
        optimiser.step()
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times)


def main():
    command = ["cargo", "bench", "--quiet", "--bench", "forecast"]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    theirs = torch_step_ms()
    print(f"{ours['devices']} devices, both horizons: {ours['forecast_ms']:.1f} ms")
    ratio = ours["training_step_ms"] / theirs
    print(f"training step: {ours['training_step_ms']:.1f} ms, PyTorch {torch.__version__} {theirs:.1f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
