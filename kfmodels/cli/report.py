"""A fit in plain words: what was inferred, how sure it is, what it means, what to do next."""

from textwrap import fill
from typing import Any

import jax
import numpy as np

from kfmodels.data.hedge_data import day
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.fitting.passes import NoiseDraws

VARIANCE_MEMORIES = (5.0, 7.0, 10.0, 14.0, 20.0, 28.0, 40.0, 60.0, 90.0)
"""Memories of the observation variance that the report tries, in bars."""

_MONTH = 21

_PRICE_RATIO = 5
"""Bars: a ratio learnt over fewer follows the price level, not the moves."""


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
    parts = [_title(fitted), _noise_table(fitted), _gaps(fitted), _now(fitted), _meaning(fitted)]
    return "\n\n".join(part for part in parts if part)


def _title(fitted: HedgeFit) -> str:
    data = fitted.data
    kind = {"log": "log prices", "level": "prices", "return": "returns"}[data.transform]
    gaps = int((~data.observed).sum())
    gap_text = f", {gaps} rows with a gap" if gaps else ""
    return (
        f"{fitted.target} hedged with {', '.join(fitted.hedges)}: {kind}, {len(data)} rows "
        f"{day(fitted.index[0])} .. {day(fitted.fit_until)}{gap_text}"
    )


def _noise_table(fitted: HedgeFit) -> str:
    table = fitted.summary()
    lines = [
        "Inferred noise (posterior medians)",
        f"{'':10}{'delta':>10}{'q':>10}{'gain':>8}{'memory':>10}  {'90 % interval':18}"
        f"{'effective':>10}{'sd per bar':>12}{'R-hat':>7}{'ESS':>7}",
    ]
    for name, row in table.iterrows():
        if name == "noise":
            shown = "constant" if np.isinf(row.memory) else f"{row.memory:.3g} bars"
            fast = f"{'':28}{shown:>10}  {_interval(row):18}{'':>10}"
        else:
            fast = (
                f"{row.delta:10.3g}{row.q:10.3g}{row.gain:8.3f}{_bars(row.memory):>10}  "
                f"{_interval(row):18}{_bars(row.effective_memory):>10}"
            )
        mixing = f"{row.rhat:7.3f}" if np.isfinite(row.rhat) else f"{'':7}"
        mixing = f"{mixing}{row.ess:7.0f}" if np.isfinite(row.ess) else f"{'fixed':>14}"
        lines.append(f"{name!s:10}{fast}{np.sqrt(row['var']):12.3g}{mixing}")
    return "\n".join(lines)


def _gaps(fitted: HedgeFit) -> str:
    lines = ["Closed periods (posterior medians, 90 % intervals)"]
    for kind, row in fitted.gaps().iterrows():
        worth = f"worth {row.bars:.3g} open bars ({row.bars_lower:.3g} .. {row.bars_upper:.3g})"
        noise = ""
        if row.noise_upper != 1:
            span = f"{row.noise_lower:.3g} .. {row.noise_upper:.3g}"
            noise = f", the variance of the bar after it times {row.noise:.3g} ({span})"
        never = "" if row.crossed else "; none in these rows: this is the prior"
        lines.append(f"  {kind}: {worth}{noise}{never}")
    return "\n".join(lines) if len(lines) > 1 else ""


def _now(fitted: HedgeFit) -> str:
    lines = [f"Hedge after the close of {day(fitted.fit_until)} (hold it until the next)"]
    shares = fitted.hedge_shares(100).iloc[-1]
    group: Any = fitted.tree["filtered"].isel(time=-1)
    for name in fitted.hedges:
        mean, sd = (float(group[k].sel(coef=name)) for k in ("mean", "sd"))
        known = float(group["sd_given_noise"].sel(coef=name))
        side = "sell" if shares[name] < 0 else "buy"
        lines.append(
            f"  ratio to {name}: {mean:.4g} +- {sd:.2g} (sd; {known:.2g} if the noise were known). "
            f"Against 100 {fitted.target} {side} {abs(shares[name]):.2f} {name}"
        )
    return "\n".join(lines)


def _meaning(fitted: HedgeFit) -> str:
    table = fitted.summary()
    rows = len(fitted.index)
    notes = []
    for name in fitted.hedges:
        row = table.loc[name]
        if row.effective_memory < _PRICE_RATIO:
            notes.append(
                f"The ratio to {name} is learnt over about {row.effective_memory:.1f} bars: it "
                "follows the price like a ratio of prices and is no hedge. Let the intercept move, or "
                "give delta a Memory prior with a longer low."
            )
            continue
        if row["var"] == 0 or row.effective_memory > rows:
            notes.append(
                f"The ratio to {name} is learnt over more bars than there are ({rows}): in effect it "
                "is a static hedge."
            )
            continue
        month = np.sqrt(row["var"] * _MONTH)
        notes.append(
            f"The ratio to {name} moves by about {month:.2g} in {_MONTH} bars (one sd) and is learnt "
            f"over about {row.effective_memory:.0f} bars."
        )
    if "alpha" in table.index and table.loc["alpha", "var"] > 0:
        notes.append(_regime(table.loc["alpha", "memory"]))
    gain = discounted_gain(fitted)
    if gain is not None:
        nats, bars = gain
        verdict = (
            "refit with noise=Discounted(), --discounted in the shell"
            if nats > 3
            else "constant noise will do"
        )
        notes.append(
            f"A variance that moves (Discounted, memory {bars:.0f} bars) scores {nats:+.1f} nats over "
            f"these same rows, {nats / rows:+.3f} a bar (best of {len(VARIANCE_MEMORIES)} memories, "
            f"which stand in for obs_scale): {verdict}."
        )
    notes.append(_trust(fitted))
    wrapped = [fill(note, 100, initial_indent="- ", subsequent_indent="  ") for note in notes]
    return "\n".join(["What it means", *wrapped])


def _regime(memory: float) -> str:
    if memory < 5:
        return (
            f"The intercept forgets in {memory:.2g} bars: it follows the price, and the spread is the "
            "hedged one-bar move, not a level that comes back."
        )
    return (
        f"The intercept forgets in {memory:.0f} bars: a spread that reverts more slowly than that is "
        "absorbed into it."
    )


def _trust(fitted: HedgeFit) -> str:
    found = fitted.convergence()
    if "rhat" not in found:
        verdict = "refit with NUTS before relying on it" if fitted.faults() else "sampled well"
        k = found.get("pareto_k")
        how = "NUTS after importance sampling" if k is None else f"Pareto k-hat {k:.2f}"
        return f"{how}, effective draws {found['ess']:.0f}: {verdict}."
    if np.isnan(found["rhat"]):
        return "All noise is fixed: nothing was inferred."
    verdict = "refit with more draws before relying on it" if fitted.faults() else "sampled well"
    return (
        f"R-hat {found['rhat']:.3f}, effective draws {found['ess']:.0f}, "
        f"{found['diverging']:.1%} divergent: {verdict}."
    )


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


def _bars(memory: float) -> str:
    if np.isnan(memory):
        return ""
    return "static" if np.isinf(memory) else f"{memory:.3g}"


def _interval(row: Any) -> str:
    if np.isinf(row.memory) or row.memory_lower == row.memory_upper:
        return ""
    return f"{row.memory_lower:.3g} .. {row.memory_upper:.3g}"
