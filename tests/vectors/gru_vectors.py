"""Outputs, pinball loss and gradients of a GRU with a linear head, by PyTorch, written to gru.json beside this file.

Made once, with torch 2.15 on a processor: `python gru_vectors.py`. The weights are random but for the seed, and larger than
a fresh network's, so that gates saturate in part and every gradient counts.
"""

import json
import pathlib

import torch

LEVELS = torch.tensor([0.05, 0.5, 0.95])
SEQUENCES, STEPS, INPUTS, HIDDEN, OUTPUTS = 3, 20, 3, 5, 2


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(INPUTS, HIDDEN, batch_first=True)
        self.head = torch.nn.Linear(HIDDEN, OUTPUTS * len(LEVELS))

    def forward(self, sequences):
        _, last = self.gru(sequences)
        return self.head(last[0])


def main():
    torch.manual_seed(7)
    network = Network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)
    sequences = torch.randn(SEQUENCES, STEPS, INPUTS) * 1.5
    truth = torch.randn(SEQUENCES, OUTPUTS)
    outputs = network(sequences)
    error = truth.unsqueeze(-1) - outputs.view(SEQUENCES, OUTPUTS, len(LEVELS))
    loss = torch.maximum(LEVELS * error, (LEVELS - 1.0) * error).mean()
    loss.backward()
    flat = lambda tensor: [float(value) for value in tensor.detach().flatten()]
    vectors = {
        "torch": torch.__version__,
        "shape": {"inputs": INPUTS, "hidden": HIDDEN, "outputs": OUTPUTS * len(LEVELS)},
        "steps": STEPS,
        "sequences": flat(sequences),
        "truth": flat(truth),
        "weights": {name: flat(parameter) for name, parameter in network.named_parameters()},
        "outputs": flat(outputs),
        "loss": loss.item(),
        "gradients": {name: flat(parameter.grad) for name, parameter in network.named_parameters()},
    }
    path = pathlib.Path(__file__).with_name("gru.json")
    path.write_text(json.dumps(vectors, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
