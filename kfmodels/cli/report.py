"""A fit in plain words: what was inferred, how sure it is, what it means, what to do next."""

from dataclasses import replace

import jax
import numpy as np
import pandas as pd

from kfmodels.cli import facts
from kfmodels.data.checks import day
from kfmodels.evaluate.effectiveness import COMBINED
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.density import Z90
from kfmodels.model.assumptions import Discounted
from kfmodels.words.shown import wrap

VARIANCE_MEMORIES = (5.0, 7.0, 10.0, 14.0, 20.0, 28.0, 40.0, 60.0, 90.0)
"""Memories of the observation variance that the report tries, in bars."""


def report(fitted: HedgeFit) -> str:
    """The report of one fit, as text.

    Example:
        >>> from kfmodels import HedgeData, NUTS, datasets, fit
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> year = data.after("2019-01-01").before("2020-01-01")
        >>> text = report(fit(year, method=NUTS(draws=500, chains=2), progress=False))
        >>> text.splitlines()[0]
        'KO hedged with PEP: log prices, 252 rows 2019-01-02 .. 2019-12-31'
    """
    title = f"{facts.pair(fitted)}: {', '.join(facts.training(fitted.data))}"
    parts = [
        title,
        _doubts(fitted),
        _noise(fitted),
        _gaps(fitted),
        _hedge(fitted),
        _spread(fitted),
        _meaning(fitted),
    ]
    return "\n\n".join(part for part in parts if part)


def summarise(fitted: HedgeFit) -> str:
    """What a REPL shows of a fit: whose it is, what to hold and how sure that is, and what to ask."""
    held = facts.hedges(fitted.online(), fitted.data.prices.ffill().iloc[-1])
    effective = fitted.summary()["effective_memory"]
    rows = [
        {
            "trade": f"{'sell' if one.shares < 0 else 'buy'} {abs(one.shares):.4g}",
            "ratio": one.ratio,
            "sd": one.sd,
            "90 % interval": facts.interval(one.ratio - Z90 * one.sd, one.ratio + Z90 * one.sd),
            "learnt over": f"{effective[one.name]:.3g} bars",
        }
        for one in held
    ]
    forms = {name: f"{{{name}}}" for name in rows[0]} | {"ratio": "{ratio:.4g}", "sd": "{sd:.2g}"}
    table = facts.tabulate(pd.DataFrame(rows, [one.name for one in held]), forms)
    return "\n".join(
        [
            f"{facts.pair(fitted)}: {', '.join(facts.training(fitted.data))}",
            f"Against {facts.POSITION} {fitted.target} after the close of {day(fitted.fit_until)}:",
            table,
            wrap(facts.sampling(fitted)),
            ".report() says more, .plot() draws it, .go_live() runs it on a feed.",
        ]
    )


def _doubts(fitted: HedgeFit) -> str:
    return list_notes("The prices are in doubt", facts.doubts(fitted.data))


def _noise(fitted: HedgeFit) -> str:
    table = fitted.summary()
    if facts.has_spread(fitted):  # which has a section of its own
        table = table.iloc[:-1]
    lower, upper = table["memory_lower"], table["memory_upper"]
    shown = table.assign(
        sd=np.sqrt(table["var"]),
        memory=table["memory"].map(_bars),
        effective=table["effective_memory"].map(_bars),
        lower=lower.where(lower < upper),  # what is fixed has no interval
        draws=[f"{ess:.0f}" if np.isfinite(ess) else "fixed" for ess in table["ess"]],
    )
    columns = {
        "delta": "{delta:.3g}",
        "memory": "{memory}",
        "90 % interval": "{lower:.3g} .. {memory_upper:.3g}",
        "effective": "{effective}",
        "sd/bar": "{sd:.3g}",
        "R-hat": "{rhat:.3f}",
        "ESS": "{draws}",
    }
    head = "Inferred noise (posterior medians; memories in bars)"
    return f"{head}\n{facts.tabulate(shown, columns)}"


def _bars(memory: float) -> str:
    return "constant" if np.isinf(memory) else f"{memory:.3g}"


def _gaps(fitted: HedgeFit) -> str:
    said = [f"  {_closed_period(str(name), row)}" for name, row in fitted.gaps().iterrows()]
    head = "Closed periods (posterior medians, 90 % intervals)"
    return "\n".join([head, *said]) if said else ""


def _closed_period(name: str, row: pd.Series) -> str:
    """What a night or a weekend is worth, by a row of `HedgeFit.gaps`."""
    worth = (
        f"{name}: worth {row.bars:.3g} open bars ({facts.interval(row.bars_lower, row.bars_upper)})"
    )
    if row.noise_upper != 1:
        span = facts.interval(row.noise_lower, row.noise_upper)
        worth += f", the variance of the bar after it times {row.noise:.3g} ({span})"
    return worth if row.crossed else f"{worth}; none in these rows: this is the prior"


def _hedge(fitted: HedgeFit) -> str:
    # the last price of each ticker, where the last row has a gap
    held = facts.hedges(fitted.online(), fitted.data.prices.ffill().iloc[-1])
    said = [f"{facts.order(hedge)}: {facts.ratio(hedge)}" for hedge in held]
    said += [f"{facts.CHANGES}, for comparison: {words}" for words in facts.static(fitted)]
    said = [wrap(sentence, "  ", "    ") for sentence in said]
    head = f"Hedge after the close of {day(fitted.fit_until)} (until the next; a ratio above 0 is sold)"
    return "\n".join([head, *said])


def _spread(fitted: HedgeFit) -> str:
    if not facts.has_spread(fitted):
        return ""
    live, prices = fitted.online(), fitted.data.prices.ffill().iloc[-1]
    said = facts.reversion(fitted, live, facts.hedges(live, prices), prices)
    return list_notes(
        "The spread that comes back (medians and 90 % intervals, if there is one)", said
    )


def _meaning(fitted: HedgeFit) -> str:
    table, rows = fitted.summary(), len(fitted.index)
    notes, spread = facts.speeds(fitted), facts.has_spread(fitted)
    if "alpha" in table.index and table.loc["alpha", "var"] > 0 and not spread:
        notes.append(facts.intercept(table.loc["alpha", "memory"]))
    if not spread and not fitted.data.transform.needs_last:  # returns have no level to come back to
        notes.append(facts.ASK)
    gain = discounted_gain(fitted)
    if gain is not None:
        notes.append(_moving_variance(*gain, rows, len(VARIANCE_MEMORIES)))
    notes.append(facts.sampling(fitted))
    return list_notes("What it means", notes)


def _moving_variance(nats: float, memory: float, rows: int, tried: int) -> str:
    """What a discounted variance would gain over a constant one."""
    verdict = (
        "refit with noise=Discounted(), without --constant in the shell"
        if nats > facts.STRONG
        else "constant noise will do"
    )
    return (
        f"A variance that moves (Discounted, memory {memory:.0f} bars) scores {nats:+.1f} nats over "
        f"these same rows, {nats / rows:+.3f} a bar (best of {tried} memories, which stand in for "
        f"obs_scale): {verdict}."
    )


def list_notes(head: str, notes: list[str]) -> str:
    """A heading and what is said under it; nothing where nothing is."""
    wrapped = [wrap(note, "- ", "  ") for note in notes]
    return "\n".join([head, *wrapped]) if notes else ""


def advice(target: str, scored: pd.DataFrame, ours: str, static: list[str]) -> str:
    """What to do, by the same table; `static` is what the static ratio asks for, by `facts.static`."""
    held = f"hold the static ratio on changes: {'; '.join(static)}"
    keep = facts.keeps_static(scored, ours)
    also = " ".join(tell_better(scored, facts.CHANGES if keep else ours))
    said = f"So: {held if keep else 'run the moving ratio'}. Why: {facts.reason(target, scored, ours)}."
    return f"{said} {also}".rstrip()


def tell_better(scored: pd.DataFrame, held: str) -> list[str]:
    """A sentence where a plain ratio of the same table did better for no more trading, else none."""
    mine = scored.loc[held]
    more = scored["variance_removed"] > mine.variance_removed
    more &= ~scored.index.str.endswith(COMBINED)
    others = scored.loc[more & (scored["turnover"] <= mine.turnover)]
    if not len(others):
        return []
    best = others.loc[others["variance_removed"].idxmax()]
    than = f"{best.variance_removed:.1%} against {mine.variance_removed:.1%}"
    said = f"Yet a plain one, {best.name}, removed more ({than}) and traded no more"
    return [f"{said}: where neither band nor alarm is needed, hold that."]


def discounted_gain(fitted: HedgeFit) -> tuple[float, float] | None:
    """Nats by which a discounted variance beats the constant one, and its best memory in bars.

    Both are scored at the same q, the plug-in one of the fit. None where the variance of the fit moves
    already.
    """
    model = trees.assumed(fitted.tree)
    if model.noise.moves:
        return None
    sites, count = trees.stored_sites(fitted.tree, "plug_in"), len(VARIANCE_MEMORIES)
    many = {name: np.repeat(value, count, 0) for name, value in sites.items()}
    # the best of these stands against the obs_scale that was inferred: one parameter each
    many["variance_memory"] = np.array(VARIANCE_MEMORIES, float)
    inputs = model.inputs(fitted.data)
    with jax.enable_x64(True):
        law = trees.regression(model, inputs, sites)
        constant = float(passes.log_likelihood(law, inputs.y)[0])
        law = trees.regression(replace(model, noise=Discounted()), inputs, many)
        moving = np.asarray(passes.log_likelihood(law, inputs.y))
    return float(moving.max() - constant), VARIANCE_MEMORIES[int(moving.argmax())]
