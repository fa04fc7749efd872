"""The main job on embedded prices, from two price columns to a live hedge ratio and its worth."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from kfmodels.cli.report import report
from kfmodels.data import datasets
from kfmodels.data.hedge_data import HedgeData
from kfmodels.evaluate.baselines import ols_on_changes
from kfmodels.evaluate.effectiveness import hedge_effectiveness
from kfmodels.files.atomic import replacing
from kfmodels.fitting.fit import fit
from kfmodels.kalman.density import Z90
from kfmodels.model.assumptions import Discounted
from kfmodels.model.hedge_ratio import hedge_ratio_model
from kfmodels.online.follow import follow
from kfmodels.plots.pair import hedge_ratio_and_spread

TARGET, HEDGE = "AAPL", "SPX"
TRAIN, LIVE = slice("2018-01-01", "2021-12-31"), slice("2022-01-01", "2022-12-31")
_OURS = "kfmodels, tick by tick"
_LEVELS, _CHANGES = "static OLS on levels", "static OLS on changes"


def run(out: Path, *, say: Callable[[str], object]) -> None:
    """Fit four years, run the fifth tick by tick, score it, save fit, live filter and picture."""
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    prices = datasets.stocks()[[TARGET, HEDGE]]
    overnight, later = prices.loc[TRAIN], prices.loc[LIVE]
    data = HedgeData.from_prices(overnight, target=TARGET, hedges=[HEDGE])
    say(f"1. Overnight: inferring the noise of {data!r}")
    fitted = fit(data, hedge_ratio_model(noise=Discounted()))
    say(f"\n{report(fitted)}")

    live = fitted.online()
    say(f"\n2. The next year: {len(later)} ticks, one at a time, nothing refitted")
    started = time.perf_counter()
    table = follow(live, later)
    each = (time.perf_counter() - started) / len(later)
    say(_last_ticks(table))
    inside = (table["z"].abs() < Z90).to_numpy().mean()
    say(
        f"{each * 1e6:.0f} microseconds a tick with {live.draws} noise draws. "
        f"{inside:.0%} of the spreads fell inside their 90 % band."
    )

    say("\n3. What each hedge was worth in that year (share of daily variance removed)")
    scored = hedge_effectiveness(
        pd.concat([overnight, later]),
        target=TARGET,
        hedges=[HEDGE],
        train=len(overnight),
        models={_OURS: fitted},
        transform="log",
    )
    say(_worth(scored))

    paths = [out / name for name in ("aapl-spx.nc", "aapl-spx.nc.live.json", "aapl-spx.png")]
    fitted.save(paths[0])
    live.save(paths[1])
    picture = hedge_ratio_and_spread(fitted, table, static=float(ols_on_changes(data).loc[HEDGE]))
    with replacing(paths[2]) as temporary:
        picture.savefig(temporary, format="png", dpi=110)
    took = time.perf_counter() - began
    say(f"\nSaved {', '.join(str(path) for path in paths)} ({took:.0f} s in all).")
    say("Next (after `python3 -m uv run` if that is how this was started):")
    say(f"  kfmodels show {paths[0]}")
    say(f"  kfmodels report {paths[0]} --out {out / 'aapl-spx.html'}")
    say(f"  kfmodels update {paths[0]} --tick {TARGET}=130.5 --tick {HEDGE}=3825 --at 2023-01-03")
    say("  kfmodels fit YOUR_PRICES.csv --target Y --hedges X1,X2 --discounted --out yours.nc")


def _last_ticks(table: pd.DataFrame) -> str:
    shown = table.iloc[[0, *range(-4, 0)]]
    lines = [
        f"{'date':12}{'ratio':>8}{'sd':>8}{'known':>8}{'spread':>9}{'its sd':>9}{'z':>7}{'gain':>7}"
    ]
    for at, row in shown.iterrows():
        lines.append(
            f"{str(at)[:10]:12}{row[f'beta {HEDGE}']:8.3f}{row[f'sd_total {HEDGE}']:8.3f}"
            f"{row[f'sd_given_noise {HEDGE}']:8.3f}{row['spread']:+9.4f}{row['spread_sd']:9.4f}"
            f"{row['z']:+7.2f}{row['gain']:7.2f}"
        )
    lines.append(
        "(ratio: per cent of AAPL per per cent of SPX; known: its sd if the noise were known)"
    )
    return "\n".join(lines)


def _worth(scored: pd.DataFrame) -> str:
    lines = [
        f"{'':30}{'removed':>9}  {'90 % interval':16}{'turnover':>9}{'lead over ' + _CHANGES:>32}"
    ]
    for name, row in scored.iterrows():
        lead = f"{row.gain:+.3f} ({row.gain_lower:+.3f} .. {row.gain_upper:+.3f})"
        lines.append(
            f"{name:30}{row.variance_removed:9.3f}  {row.lower:6.3f} .. {row.upper:.3f} "
            f"{row.turnover:9.1f}{'' if name == _CHANGES else lead:>32}"
        )
    ours, levels = scored.loc[_OURS], scored.loc[_LEVELS]
    sure = np.sign(ours.gain_lower) == np.sign(ours.gain_upper)
    verdict = (
        f"{'more' if ours.gain < 0 else 'less'} than that, beyond chance"
        if sure
        else "no difference to rely on"
    )
    lines += [
        f"(turnover: value of {HEDGE} traded a year, as a multiple of the value of {TARGET})",
        "",
        f"In this year the moving ratio removed {ours.variance_removed:.1%} of {TARGET}'s variance.",
        f"The static ratio fitted overnight on changes removed "
        f"{scored.loc[_CHANGES].variance_removed:.1%}: {verdict}.",
        f"The static ratio fitted on price levels, often the one that is loaded in the morning, "
        f"removed {levels.variance_removed:.1%}.",
    ]
    if not sure:
        lines.append(
            "What the moving ratio adds here is not variance removed, but an honest sd on ratio and "
            "spread,\nand no window to choose."
        )
    return "\n".join(lines)
