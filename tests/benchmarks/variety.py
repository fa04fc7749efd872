"""Sixty pairs of every kind against a grid over their posterior: is any answer off without a word?"""

from typing import Any

import pandas as pd

from kfmodels import Constant, Discounted, hedge_ratio_model
from tests.benchmarks.report import Report, Table
from tests.sampling.test_importance import compared, universe

WHAT = (
    "Simulated pairs whose ratio stands still, walks slowly, walks fast or jumps, short series, and "
    "outliers, ten of each, fitted as `fit_many` does. Means and sds of the noise parameters are "
    "compared with a fine grid over the posterior; an answer is off if a mean is wrong by more than "
    "0.15 sd or an sd by more than 15 %."
)


def measure(_: list[str]) -> Report:
    pairs, lines, failed = universe(10), [], []
    for name, model in (
        ("constant", hedge_ratio_model(noise=Constant())),
        ("discounted", hedge_ratio_model(noise=Discounted())),
    ):
        table: Any = compared(pairs, model)
        fine = table[table["status"] == "ok"]
        off = fine[(fine["mean"] > 0.15) | (fine["sd"] > 0.15)]
        lines.append(
            {
                "noise": name,
                "pairs": len(table),
                "ok": len(fine),
                "refitted by NUTS": int(table["refitted"].sum()),
                "off without a word": len(off),
                "worst mean, sds: median": fine["mean"].median(),
                "largest": fine["mean"].max(),
                "worst sd, share: median": fine["sd"].median(),
                "largest of sds": fine["sd"].max(),
                "largest k-hat": fine["pareto_k"].max(),
            }
        )
        failed += [f"{name}: off\n{off.round(3)}"] if len(off) else []
    title = "Sixty varied pairs against a grid"
    return Report(title, WHAT, [Table("errors", pd.DataFrame(lines))], failed="\n".join(failed))
