"""Sixty pairs chosen for variety against a fine grid: `python -m tests.benchmarks variety`."""

from kfmodels import Discounted, hedge_ratio_model
from tests.sampling.test_importance import compared, universe


def main(_: list[str]) -> int:
    """Print the worst errors of means and sds; ends with 1 if a pair is off and does not say so."""
    pairs, missed = universe(10), 0
    for name, model in (
        ("constant", hedge_ratio_model()),
        ("discounted", hedge_ratio_model(noise=Discounted())),
    ):
        table = compared(pairs, model)
        fine = table[table["status"] == "ok"]
        off = fine[(fine["mean"] > 0.15) | (fine["sd"] > 0.15)]
        missed += len(off)
        print(f"{name}: {len(fine)} of {len(table)} pairs ok, {table['refitted'].sum()} refitted")
        print(table[["mean", "sd", "pareto_k"]].describe().loc[["50%", "max"]].round(3))
        print(f"off by more than 0.15 sd, or 15 % of an sd, without a word: {len(off)}")
        if len(off):
            print(off.round(3))
    return int(missed > 0)
