#!/usr/bin/env python3
"""Whether a study and the models made of it are as good as promised: every answer with the tokens that were asked for, and
the runtime of cells left out within a tenth."""

import json
import sys

PROMISED = 0.10

study, evaluation = (json.load(open(path)) for path in sys.argv[1:])
cells = study["cells"]
failed = [cell for cell in cells if cell["failed"]]
trials = sum(cell["trials"] for cell in cells)
print("%d trials of %d cells; failed in %d of them" % (trials, len(cells), len(failed)))
if failed or len(cells) != 50 or any(cell["trials"] < 3 for cell in cells):
    sys.exit("e2e-llama: not every cell was measured with the tokens asked for: %s" % failed)
errors = [group["runtime_mape"] for group in evaluation["groups"]]
print("runtime MAPE on cells left out: %s" % ", ".join("%.1f %%" % (100 * error) for error in errors))
if not errors or any(error is None or error > PROMISED for error in errors):
    sys.exit("e2e-llama: runtime on cells left out is off by %s; at most %s was promised" % (errors, PROMISED))
