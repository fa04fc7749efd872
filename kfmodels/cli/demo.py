"""The main job on prices of the package: from a table of funds to the hedge to hold, and its worth."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from kfmodels.batch.board import HedgeBoard
from kfmodels.batch.fit_many import fit_many
from kfmodels.cli import facts
from kfmodels.cli.report import advice, summarise
from kfmodels.data import datasets
from kfmodels.data.hedge_data import HedgeData
from kfmodels.evaluate.baselines import ols_on_changes
from kfmodels.evaluate.effectiveness import hedge_effectiveness
from kfmodels.files.atomic import replacing
from kfmodels.online.follow import follow
from kfmodels.plots.pair import hedge_ratio_and_spread
from kfmodels.universe.universe import HedgeUniverse, hedge_universe
from kfmodels.words.shown import wrap

TARGET, HEDGE = "EWG", "SPY"
TRAIN, LIVE = slice("2011", "2013"), slice("2014", "2014")
_OURS = "kfmodels, tick by tick"


def run(out: Path, *, say: Callable[[str], object]) -> None:
    """Infer on three years of 22 funds, run the fourth tick by tick, score it, save what was found."""
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    prices = datasets.etfs()
    overnight, later = prices.loc[TRAIN], prices.loc[LIVE]
    pairs = [(name, HEDGE) for name in prices.columns if name != HEDGE]
    say(f"1. Overnight: {len(pairs)} funds, each hedged with {HEDGE}; the noise of every pair is")
    say("   inferred on 2011 to 2013")
    board = fit_many(HedgeData.pairs(overnight, pairs))
    say(f"\n{_lively(board)}")

    say(f"\n2. {TARGET}, Germany: the hedge to hold on the last evening of 2013\n")
    fitted = board.sel(f"{TARGET}/{HEDGE}")
    say(summarise(fitted).rpartition("\n")[0])
    say(f"  static OLS on changes, loaded and kept: {facts.static(fitted)[0]}")

    live = fitted.online()
    say(f"\n3. The next year: {len(later)} ticks, one at a time, nothing refitted")
    started = time.perf_counter()
    table = follow(live, later)
    each = (time.perf_counter() - started) / len(later)
    say(_last_ticks(table))
    say(f"{each * 1e6:.0f} microseconds a tick with {live.draws} noise draws.")
    say(facts.bands(table))

    say(
        f"\n4. What each hedge of {TARGET} was worth in that year (share of daily variance removed)"
    )
    both = pd.concat([overnight, later])
    scored = hedge_effectiveness(
        both,
        target=TARGET,
        hedges=[HEDGE],
        train=len(overnight),
        models={_OURS: fitted},
        transform="log",
    )
    say(f"{_worth(scored)}\n")
    static = facts.static(fitted, later.iloc[-1])
    for sentence in (
        facts.worth(TARGET, scored, _OURS),
        advice(TARGET, scored, _OURS, static),
    ):
        say(wrap(sentence))

    say(
        f"\n5. {TARGET} was chosen because its ratio moved. All {len(pairs)} funds, and all legs:\n"
    )
    say(_of_all(board, hedge_universe(both), overnight, later))

    paths = [out / name for name in ("ewg-spy.nc", "ewg-spy.nc.live.json", "ewg-spy.png")]
    fitted.save(paths[0])
    live.save(paths[1])
    kept = float(ols_on_changes(fitted.data).loc[HEDGE])
    picture = hedge_ratio_and_spread(fitted, table, static=kept)
    with replacing(paths[2]) as temporary:
        picture.savefig(temporary, format="png", dpi=110)
    took = time.perf_counter() - began
    say(f"\nSaved {', '.join(path.name for path in paths)} in {out} ({took:.0f} s in all).")
    say("Next (after `python3 -m uv run` if that is how this was started):")
    say(f"  kfmodels show {paths[0]}")
    say(f"  kfmodels report {paths[0]} --out {out / 'ewg-spy.html'}")
    say(f"  kfmodels update {paths[0]} --tick {TARGET}=27.28 --tick {HEDGE}=205.43 --at 2015-01-02")
    say("  kfmodels fit YOUR_PRICES.csv --target Y --hedges X1,X2 --out yours.nc")
    say("  kfmodels universe YOUR_PRICES.csv --target Y --legs 3")


def _lively(board: HedgeBoard) -> str:
    """Three pairs whose ratios move most beyond doubt, and three that move least."""
    order = board.table().sort_values("against_static", ascending=False)
    columns = {
        "ratio": "{beta:.3f}",
        "sd": "{sd:.3f}",
        "90 % interval": "{lower:.2f} .. {upper:.2f}",
        "learnt over": "{effective_memory:.0f} bars",
        "evidence that it moves": "{against_static:+.1f} nats",
    }
    ends = pd.concat([order.head(3), order.tail(3)])
    doubtless = int(np.sum(order["against_static"].to_numpy() > facts.STRONG))
    said = (
        f"Of {len(order)} ratios {doubtless} move beyond doubt (over {facts.STRONG:g} nats against one "
        "that stands still); shown are the three clearest and the three least clear."
    )
    return f"{facts.tabulate(ends, columns)}\n{wrap(said)}"


def _last_ticks(table: pd.DataFrame) -> str:
    columns = {
        "ratio": f"{{beta {HEDGE}:.3f}}",
        "sd": f"{{sd_total {HEDGE}:.3f}}",
        "known": f"{{sd_given_noise {HEDGE}:.3f}}",
        "spread": "{spread:+.4f}",
        "its sd": "{spread_sd:.4f}",
        "z": "{z:+.2f}",
    }
    quarters = table.iloc[[0, *(np.arange(1, 5) * len(table) // 4 - 1)]]
    note = (
        f"(ratio: per cent of {TARGET} for one of {HEDGE}; known: its sd if the noise were known)"
    )
    return f"{facts.tabulate(quarters, columns, 'date')}\n{note}"


def _worth(scored: pd.DataFrame) -> str:
    columns = {
        "removed": "{variance_removed:.3f}",
        "90 % interval": "{lower:.3f} .. {upper:.3f}",
        "turnover": "{turnover:.1f}",
        "lead": "{gain:+.3f} ({gain_lower:+.3f} .. {gain_upper:+.3f})",
    }
    others = scored.assign(gain=scored["gain"].drop(facts.CHANGES))
    note = (
        f"(lead: over {facts.CHANGES}; turnover: value of {HEDGE} traded a year, as a multiple of the "
        f"value of {TARGET})"
    )
    return f"{facts.tabulate(others, columns)}\n{wrap(note)}"


def _of_all(
    board: HedgeBoard, universe: HedgeUniverse, overnight: pd.DataFrame, later: pd.DataFrame
) -> str:
    """Share of the variance removed: of the target as `hedge_effectiveness` has it, on average over all
    funds, and for how many more than by the static ratio."""
    targets = list(board.table()["target"])
    moves = pd.concat([overnight, later])[[*targets, HEDGE]].pct_change().iloc[1:]
    # the first ratio that is known is that of the first later row
    before, after = moves.iloc[: len(overnight) - 1], moves.iloc[len(overnight) :]
    known, engine = [], board.online()
    for at, row in zip(later.index, later.to_dict("records"), strict=True):
        engine.update(row, at=at)
        known.append(engine.standing().beta)
    ratios = {
        f"{HEDGE}, static ratio": before[targets].apply(before[HEDGE].cov) / before[HEDGE].var(),
        f"{HEDGE}, kfmodels tick by tick": np.array(known).reshape(len(later), -1)[:-1],
    }
    x = after[[HEDGE]].to_numpy()
    left = {name: after[targets] - x * np.asarray(ratio) for name, ratio in ratios.items()}
    removed = {name: 1 - part.var() / after[targets].var() for name, part in left.items()}
    logs = np.log1p(after[targets])
    for few, name in {1: "best leg of all", 3: "three legs of all", None: "all legs"}.items():
        spread = universe.spreads(few).loc[after.index, targets]
        removed[f"{name}, kfmodels universe"] = 1 - spread.var() / logs.var()
    removed = pd.DataFrame(removed).T
    better: list[float] = (removed > removed.iloc[0]).sum(axis=1).to_list()
    shown = pd.DataFrame({"target": removed[TARGET], "mean": removed.mean(axis=1)})
    shown["better"] = [np.nan, *better[1:]]
    columns = {TARGET: "{target:.3f}", "mean of all": "{mean:.3f}"}
    columns["better than static"] = "{better:.0f}"
    lead = removed.iloc[1] - removed.iloc[0]
    most, least = (f"{end} {lead[end]:+.3f}" for end in (lead.idxmax(), lead.idxmin()))
    said = (
        f"A static ratio is enough where the ratio stands still: tick by tick {better[1]} of "
        f"{len(lead)} funds did better (most {most}, least {least}). Which legs are held matters more."
    )
    return f"{facts.tabulate(shown, columns)}\n{wrap(said)}"
