"""A fit in plain words: what was inferred, how sure it is, what it means, what to do next."""

from textwrap import fill

import jax
import numpy as np
import pandas as pd

from kfmodels.cli import facts
from kfmodels.data.hedge_data import day
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.fitting.passes import NoiseDraws

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
    parts = [title, _noise(fitted), _gaps(fitted), _hedge(fitted), _meaning(fitted)]
    return "\n\n".join(part for part in parts if part)


def _noise(fitted: HedgeFit) -> str:
    head = ["", "delta", "q", "gain", "memory", "90 % interval", "effective", "sd per bar"]
    head += ["R-hat", "ESS"]
    rows = {name: _cells(row) for name, row in fitted.summary().iterrows()}
    return f"Inferred noise (posterior medians; memories in bars)\n{facts.table(head, rows)}"


def _cells(row: pd.Series) -> list[str]:
    """One coefficient, or the observation noise, which has a memory and no delta."""
    still = "constant" if np.isnan(row.delta) else "static"
    return [
        _number(row.delta, ".3g"),
        _number(row.q, ".3g"),
        _number(row.gain, ".3f"),
        _bars(row.memory, still),
        _span(row.memory_lower, row.memory_upper),
        _bars(row.effective_memory, still),
        f"{np.sqrt(row['var']):.3g}",
        _number(row.rhat, ".3f"),
        _number(row.ess, ".0f") or "fixed",
    ]


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else ""


def _bars(memory: float, still: str) -> str:
    return still if np.isinf(memory) else _number(memory, ".3g")


def _span(lower: float, upper: float) -> str:
    return facts.interval(lower, upper) if lower < upper < np.inf else ""


def _gaps(fitted: HedgeFit) -> str:
    said = [f"  {facts.closed_period(str(name), row)}" for name, row in fitted.gaps().iterrows()]
    head = "Closed periods (posterior medians, 90 % intervals)"
    return "\n".join([head, *said]) if said else ""


def _hedge(fitted: HedgeFit) -> str:
    held = facts.hedges(fitted.online(), fitted.data.prices.ffill().iloc[-1])
    said = [f"  {facts.order(hedge)}: {facts.ratio(hedge)}" for hedge in held]
    head = f"Hedge after the close of {day(fitted.fit_until)} (hold it until the next)"
    return "\n".join([head, *said])


def _meaning(fitted: HedgeFit) -> str:
    table, rows = fitted.summary(), len(fitted.index)
    notes = [
        facts.speed(name, row["var"], row.effective_memory, rows)
        for name, row in table.loc[list(fitted.hedges)].iterrows()
    ]
    if "alpha" in table.index and table.loc["alpha", "var"] > 0:
        notes.append(facts.intercept(table.loc["alpha", "memory"]))
    gain = discounted_gain(fitted)
    if gain is not None:
        notes.append(facts.moving_variance(*gain, rows, len(VARIANCE_MEMORIES)))
    notes.append(facts.sampling(fitted))
    wrapped = [fill(note, 100, initial_indent="- ", subsequent_indent="  ") for note in notes]
    return "\n".join(["What it means", *wrapped])


def discounted_gain(fitted: HedgeFit) -> tuple[float, float] | None:
    """Nats by which a discounted variance beats the constant one, and its best memory in bars.

    Both at the plug-in q; the memory is the best of `VARIANCE_MEMORIES`, as obs_scale was the one
    that was inferred. None when the fit's variance is not constant.
    """
    held = trees.stored_draws(fitted.tree, "plug_in")
    if held.variance_discount is not None:
        return None
    count = len(VARIANCE_MEMORIES)
    many = NoiseDraws(*(None if v is None else np.repeat(v, count, axis=0) for v in held))
    many = many._replace(
        moving=held.moving,
        variance_discount=1 - 1 / np.array(VARIANCE_MEMORIES),
        variance_dof=np.full(count, 4.0),
    )
    with jax.enable_x64(True):
        rows = trees.rows(fitted.tree, fitted.data)
        constant = float(passes.log_likelihood(rows, held)[0])
        moving = np.asarray(passes.log_likelihood(rows, many))
    return float(moving.max() - constant), VARIANCE_MEMORIES[int(moving.argmax())]
