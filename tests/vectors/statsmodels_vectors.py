"""Regressions as statsmodels sees them, for tests/statsmodels.rs.

    pip install statsmodels pandas
    python3 tests/vectors/statsmodels_vectors.py [FOLDER OF REFERENCE DATA]

writes ols.json (seeded synthetic data with their results) and, given the folder, wilkins.json: results alone, on data
that the test reads from that folder itself.
"""

import json
import pathlib
import sys

import numpy as np
import pandas as pd
import statsmodels
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

HERE = pathlib.Path(__file__).parent
LEVEL = 0.95
LENGTHS = [8, 16, 32, 64, 128, 256, 512, 1024, 2048]


def results(frame, formula, weights=None, new=None, new_weights=None):
    """What the test compares. Terms keep the order of the formula."""
    if weights is None:
        fit = smf.ols(formula, frame).fit()
    else:
        fit = smf.wls(formula, frame, weights=weights).fit()
    interval = fit.conf_int(1 - LEVEL)
    table = anova_lm(fit, typ=2)
    has_constant = bool(fit.model.k_constant)
    out = {
        "names": [{"Intercept": "1"}.get(name, name) for name in fit.params.index],
        "coefficients": fit.params.tolist(),
        "standard_errors": fit.bse.tolist(),
        "t": fit.tvalues.tolist(),
        "p": fit.pvalues.tolist(),
        "intervals": interval.to_numpy().tolist(),
        "covariance": fit.cov_params().to_numpy().tolist(),
        "residual_df": int(fit.df_resid),
        "residual_variance": fit.mse_resid,
        "r2_centred": 1 - fit.ssr / fit.centered_tss,
        "r2_uncentred": 1 - fit.ssr / fit.uncentered_tss,
        "f": fit.fvalue,
        "f_p": fit.f_pvalue,
        "f_df": int(fit.df_model),
        "has_constant": has_constant,
        "anova": [
            {"name": name, "sum_of_squares": row["sum_sq"], "f": row["F"], "p": row["PR(>F)"]}
            for name, row in table.iterrows()
            if name not in ("Residual", "Intercept")
        ],
    }
    if new is not None:
        extra = {} if new_weights is None else {"weights": new_weights}
        predicted = fit.get_prediction(new, **extra).summary_frame(alpha=1 - LEVEL)
        out["predictions"] = [
            {
                "at": at.tolist(),
                "weight": 1.0 if new_weights is None else float(new_weights[k]),
                "mean": row["mean"],
                "mean_interval": [row["mean_ci_lower"], row["mean_ci_upper"]],
                "observation_interval": [row["obs_ci_lower"], row["obs_ci_upper"]],
            }
            for k, (at, (_, row)) in enumerate(
                zip(design(out["names"], new), predicted.iterrows())
            )
        ]
    return out


def design(names, new):
    """Rows of the design matrix for new data."""
    product = {"1": np.ones(len(new)), "i": new.i, "o": new.o, "i:o": new.i * new.o}
    return np.column_stack([product[name] for name in names])


def synthetic():
    rng = np.random.default_rng(20240704)
    rows = 40
    frame = pd.DataFrame({"i": rng.choice(LENGTHS, rows), "o": rng.choice(LENGTHS, rows)}).astype(float)
    mean = 30 + 0.4 * frame.i + 3.0 * frame.o + 0.002 * frame.i * frame.o
    frame["y"] = mean * np.exp(rng.normal(0, 0.1, rows))
    # Nothing depends on o here, little on i: p values in the middle.
    frame["noise"] = 100 + 0.002 * frame.i + rng.normal(0, 5, rows)
    frame["tight"] = mean + rng.normal(0, 0.1, rows)
    # Five, since statsmodels 0.15 refuses as many weights as there are columns.
    new = pd.DataFrame({"i": [8.0, 700.0, 4096.0, 32.0, 64.0], "o": [8.0, 90.0, 4096.0, 1024.0, 2.0]})
    relative = 1 / frame.y**2
    at = 1 / np.array([50.0, 500.0, 30000.0, 3000.0, 60.0]) ** 2
    cases = [
        ("with intercept", "y", "i + o + i:o", None, None),
        ("without intercept", "y", "0 + i + o + i:o", None, None),
        ("relative weights", "y", "i + o + i:o", relative, at),
        ("relative weights without intercept", "y", "0 + i + o + i:o", relative, at),
        ("nothing to see", "noise", "i + o + i:o", None, None),
        ("almost exact", "tight", "i + o + i:o", None, None),
        ("one column", "y", "0 + o", None, None),
    ]
    written = []
    for name, target, formula, weights, new_weights in cases:
        expected = results(frame, f"{target} ~ {formula}", weights, new, new_weights)
        written.append(
            {
                "name": name,
                "x": design(expected["names"], frame).tolist(),
                "y": frame[target].tolist(),
                "weights": None if weights is None else weights.tolist(),
                "expected": expected,
            }
        )
    return written


def wilkins(folder):
    grid = pd.read_csv(pathlib.Path(folder) / "energy/wilkins/grid_a100.csv")
    grid = grid[~grid.warmup_suspect.astype(bool)]
    grid["i"] = grid.in_actual.astype(float)
    grid["o"] = (grid.total_tokens_actual - grid.in_actual).astype(float)
    grid["energy"], grid["runtime"] = grid.gpu_energy_j, grid.runtime_s
    written = []
    for model, rows in grid.groupby("model"):
        for target in ("energy", "runtime"):
            for formula in ("0 + i + o + i:o", "i + o + i:o"):
                expected = results(rows, f"{target} ~ {formula}")
                written.append({"model": model, "target": target, "rows": len(rows), "expected": expected})
    return written


def write(name, cases):
    document = {"statsmodels": statsmodels.__version__, "level": LEVEL, "cases": cases}
    (HERE / name).write_text(json.dumps(document, indent=1) + "\n")


write("ols.json", synthetic())
if len(sys.argv) > 1:
    write("wilkins.json", wilkins(sys.argv[1]))
