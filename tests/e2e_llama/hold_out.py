#!/usr/bin/env python3
"""Parts samples into those to fit on and those to test on: one cell of each row and column of the grid, no corner, so that
every cell left out lies between others."""

import csv
import sys

samples, fitted, left_out = sys.argv[1:]
with open(samples, newline="") as file:
    reader = csv.DictReader(file)
    rows = list(reader)
inputs = sorted({float(row["input_tokens"]) for row in rows})
outputs = sorted({float(row["output_tokens"]) for row in rows})
if len(inputs) != 5 or len(outputs) != 5:
    sys.exit(f"hold_out: {samples} is no grid of 5 x 5, but {inputs} x {outputs}")
place = [1, 3, 0, 4, 2]
cells = {(value, outputs[place[index]]) for index, value in enumerate(inputs)}


def is_left_out(row):
    return (float(row["input_tokens"]), float(row["output_tokens"])) in cells


for path, wanted in ((fitted, False), (left_out, True)):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, reader.fieldnames)
        writer.writeheader()
        writer.writerows(row for row in rows if is_left_out(row) is wanted)
