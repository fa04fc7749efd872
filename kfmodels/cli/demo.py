"""The main job on prices of the package: from two columns to a live hedge ratio and its worth."""

import time
from collections.abc import Callable
from pathlib import Path
from textwrap import fill

import pandas as pd

from kfmodels.cli import facts
from kfmodels.cli.report import report
from kfmodels.data import datasets
from kfmodels.data.hedge_data import HedgeData
from kfmodels.evaluate.baselines import ols_on_changes
from kfmodels.evaluate.effectiveness import hedge_effectiveness
from kfmodels.files.atomic import replacing
from kfmodels.fitting.fit import fit
from kfmodels.model.assumptions import Discounted
from kfmodels.model.hedge_ratio import hedge_ratio_model
from kfmodels.online.follow import follow
from kfmodels.plots.pair import hedge_ratio_and_spread

TARGET, HEDGE = "AAPL", "SPX"
TRAIN, LIVE = slice("2018-01-01", "2021-12-31"), slice("2022-01-01", "2022-12-31")
_OURS = "kfmodels, tick by tick"


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
    say(f"{each * 1e6:.0f} microseconds a tick with {live.draws} noise draws.")
    say(facts.bands(table))

    say("\n3. What each hedge was worth in that year (share of daily variance removed)")
    scored = hedge_effectiveness(
        pd.concat([overnight, later]),
        target=TARGET,
        hedges=[HEDGE],
        train=len(overnight),
        models={_OURS: fitted},
        transform="log",
    )
    say(f"{_worth(scored)}\n")
    static = facts.static(fitted, later.iloc[-1])
    for sentence in (facts.worth(TARGET, scored, _OURS), facts.advice(scored, _OURS, static)):
        say(fill(sentence, 100))

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
    columns = {
        "ratio": f"{{beta {HEDGE}:.3f}}",
        "sd": f"{{sd_total {HEDGE}:.3f}}",
        "known": f"{{sd_given_noise {HEDGE}:.3f}}",
        "spread": "{spread:+.4f}",
        "its sd": "{spread_sd:.4f}",
        "z": "{z:+.2f}",
        "gain": "{gain:.2f}",
    }
    ratio = f"per cent of {TARGET} for one per cent of {HEDGE}"
    note = f"(ratio: {ratio}; known: its sd if the noise were known)"
    return f"{facts.tabulate(table.iloc[[0, *range(-4, 0)]], columns, 'date')}\n{note}"


def _worth(scored: pd.DataFrame) -> str:
    columns = {
        "removed": "{variance_removed:.3f}",
        "90 % interval": "{lower:.3f} .. {upper:.3f}",
        "turnover": "{turnover:.1f}",
        f"lead over {facts.CHANGES}": "{gain:+.3f} ({gain_lower:+.3f} .. {gain_upper:+.3f})",
    }
    others = scored.assign(gain=scored["gain"].drop(facts.CHANGES))
    note = f"(turnover: value of {HEDGE} traded a year, as a multiple of the value of {TARGET})"
    return f"{facts.tabulate(others, columns)}\n{note}"
