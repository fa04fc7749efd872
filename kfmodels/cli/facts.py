"""The sentences that tell a result, each written once; report, page and commands arrange them.

Ratios are those to hold until the next row, orders are against `POSITION` shares of the target, and
intervals hold 90 %. Shares have one sign, below 0 is sold; `hedge_shares` makes them and
`order_sentence` says them.

One file: whoever looks for a sentence looks here.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kfmodels.batch.few_legs import Beside
from kfmodels.cli.remedies import for_the_shell
from kfmodels.data.checks import day
from kfmodels.data.hedge_data import HedgeData
from kfmodels.data.scales import remedy
from kfmodels.evaluate.baselines import static_ratio
from kfmodels.evaluate.prior_check import MONTH
from kfmodels.fitting.alternatives import WITH
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.fitting.tables import tell_bounds
from kfmodels.kalman.density import Z90
from kfmodels.kalman.reversion import MeanReversion
from kfmodels.kalman.transforms import transform_of
from kfmodels.live.book import hedge_shares, order_sentence
from kfmodels.live.costs import Cost
from kfmodels.live.lags import tell_lags
from kfmodels.model.defaults import bars_of_day
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.ticks import Outcome, Tick

POSITION = 100
"""Shares of the target for which orders are told."""

INTERVAL = "{lower:.3g} .. {upper:.3g}"

CHANGES, LEVELS = "static OLS on changes", "static OLS on levels"
"""Rows of `hedge_effectiveness` with which a moving ratio is compared."""

STRONG = 3.0
"""Nats by which one of two models has to lead: "strong" in Kass and Raftery (1995), Bayes factors."""

LEANING = 1.0
"""Nats from which on evidence that is not strong is called one that leans: "positive" there."""

PRICE_RATIO = 5
"""Bars: a ratio learnt over fewer follows the level of prices, not their moves."""

_ORDINARY = 2.0
"""Sds of the forecast within which nothing is said of a spread."""

MONEY = 1e6
"""Position in the target for which the gain of a trade on the spread is told."""

COST = Cost()
"""What a trade on the spread is taken to cost in each leg, to enter and to leave."""

ASK = (
    "Can the spread be traded? This model has none that comes back: refit with spread=Reverting(), "
    "--spread in the shell, which infers whether there is one, its half-life and what a trade earns."
)
"""What is said of a model without a spread."""

EX_DAYS = (
    "Look at its largest moves before you trade it: in prices that are not adjusted, dividends that "
    "two funds pay on different days are a spread that comes back, and nobody earns it."
)
"""What is said where the evidence for a spread is strong."""

# -- the hedge -------------------------------------------------------------------------------------


class Hedge(NamedTuple):
    """The ratio to one hedge after the last row, and what it asks to hold."""

    target: str
    name: str
    ratio: float
    sd: float
    sd_if_known: float
    """The sd if the noise were known."""

    shares: float
    """Against `POSITION` shares of the target; negative: sell short."""


def hedges(live: OnlineFilter, prices: Mapping[str, float] | None = None) -> list[Hedge]:
    """The hedges that a filter asks for, at these prices or those of the last row it learnt from."""
    if prices is None:
        assert live.last_prices is not None  # a fit has complete rows
        prices = dict(zip(live.tickers, live.last_prices, strict=True))
    now = live.standing()
    of = {"target": live.target, "transform": live.transform}
    shares = hedge_shares(now.beta, prices, **of, position=POSITION)
    return [
        Hedge(live.target, name, beta, now.sd_total[name], now.sd_given_noise[name], shares[name])
        for name, beta in now.beta.items()
    ]


def static_hedges(
    fitted: HedgeFit,
    prices: Mapping[str, float] | None = None,
    factors: Mapping[str, float] | None = None,
) -> list[Hedge]:
    """The static hedges, least squares on the changes of the training rows.

    At these prices or the last of each ticker. Of prices in other units than the training rows
    `factors` has new over old by ticker.
    """
    table = static_ratio(fitted.data)
    if factors is not None and transform_of(fitted.data.transform).by_shares:
        table = table.mul(
            [factors[fitted.target] / factors[str(name)] for name in table.index], axis=0
        )
    at: Any = fitted.data.prices.ffill().iloc[-1].to_dict() if prices is None else prices
    of = {"target": fitted.target, "transform": fitted.data.transform}
    shares = hedge_shares(table["ratio"].to_dict(), at, **of, position=POSITION)
    return [
        Hedge(fitted.target, str(name), row["ratio"], row["sd"], row["sd"], shares[str(name)])
        for name, row in table.to_dict("index").items()
    ]


def static(fitted: HedgeFit, prices: Mapping[str, float] | None = None) -> list[str]:
    """What the static hedges ask to trade, in words like those of `order` and `ratio`."""
    return [
        f"{order(hedge)} (ratio {hedge.ratio:.4g} +- {hedge.sd:.2g})"
        for hedge in static_hedges(fitted, prices)
    ]


def order(hedge: Hedge) -> str:
    """What to trade."""
    return order_sentence(hedge.target, hedge.name, hedge.shares, position=POSITION)


def ratio(hedge: Hedge) -> str:
    """The ratio and how sure it is."""
    span = interval(hedge.ratio - Z90 * hedge.sd, hedge.ratio + Z90 * hedge.sd)
    known = f"+- {hedge.sd_if_known:.2g} if the noise were known"
    return f"ratio {hedge.ratio:.4g} +- {hedge.sd:.2g}, 90 % {span}; {known}"


def unit(transform: str) -> str:
    """What a ratio counts."""
    if transform_of(transform).by_shares:
        return "shares of the hedge per share of the target"
    return "money in the hedge per unit of money in the target"


def surprise(target: str, tick: Tick, *, reverts: bool = False) -> str:
    """How the last price of the target compares with its forecast.

    That it is rich or cheap is said only of a spread that `reverts`, as `spread_health` finds it.
    """
    if not tick.observed:
        return "a price was missing in the last row: the ratio only became less certain"
    said = f"spread {tick.spread:+.4g}, {tick.z:+.2f} sd of its forecast: {target} "
    side = "above" if tick.spread > 0 else "below"
    if tick.outcome is Outcome.QUARANTINED:
        return f"{said}is far {side} it, and the row is held until later ones confirm it"
    if abs(tick.z) <= _ORDINARY:
        return f"{said}is within the ordinary"
    if not reverts:
        return f"{said}is {side} it, beyond the ordinary"
    return f"{said}looks {'rich' if tick.spread > 0 else 'cheap'}"


# -- what was inferred -----------------------------------------------------------------------------


def pair(fitted: HedgeFit) -> str:
    """Target and hedges."""
    return f"{fitted.target} hedged with {', '.join(fitted.hedges)}"


def training(data: HedgeData) -> tuple[str, str]:
    """What was modelled, log prices for example, and over which rows."""
    gaps = int((~data.observed).sum())
    rows = f"{len(data)} rows {day(data.index[0])} .. {day(data.last_date)}"
    return transform_of(data.transform).words, rows + (f", {gaps} with a gap" if gaps else "")


def doubts(data: HedgeData) -> list[str]:
    """What is in doubt of the training rows, and what to do about it."""
    listed = data.doubts
    cure = remedy(listed)
    todo = (
        f"Until that is settled rely on no number below. If so, refit with {for_the_shell(cure)} (in "
        f"Python {cure}); if the price is right as it is, with 1 for what stands last."
    )
    lags = tell_lags(data.prices.to_numpy(), (data.target, *data.hedges), data.transform)
    return [*(str(doubt) for doubt in listed), *([todo] if listed else []), *lags]


def speeds(fitted: HedgeFit) -> list[str]:
    """How fast the ratio to each hedge moves."""
    table, data, clock = fitted.summary(), fitted.data, fitted.data.clock
    around = clock is not None and clock.bar is not None and clock.sessions is None
    month = f"a month ({MONTH} {'days' if around else 'sessions'})"
    bars = MONTH * bars_of_day(data)
    return [
        speed(name, np.sqrt(row["var"] * bars), row.effective_memory, len(data), month)
        for name, row in table.loc[list(fitted.hedges)].iterrows()
    ]


def speed(name: str, moves: float, memory: float, rows: int, month: str) -> str:
    """The same of one, by the sd of its move in a month and its effective memory in bars."""
    if memory < PRICE_RATIO:
        return (
            f"The ratio to {name} is learnt over about {memory:.1f} bars: it follows the price like a "
            "ratio of prices and is no hedge. Let the intercept move, or give delta a Memory prior "
            "with a longer low."
        )
    if moves == 0 or memory > rows:
        return (
            f"The ratio to {name} is learnt over more bars than there are ({rows}): in effect it is a "
            "static hedge."
        )
    return (
        f"The ratio to {name} moves by about {moves:.2g} in {month} (one sd) and is "
        f"learnt over about {memory:.0f} bars."
    )


def intercept(memory: float) -> str:
    """What a moving intercept leaves of the spread."""
    if memory < PRICE_RATIO:
        return (
            f"The intercept forgets in {memory:#.2g} bars: it follows the price, and the spread is the "
            "hedged one-bar move, not a level that comes back."
        )
    return (
        f"The intercept forgets in {memory:.0f} bars: a spread that reverts more slowly than that is "
        "absorbed into it."
    )


def sampling(fitted: HedgeFit) -> str:
    """Whether the draws can be relied on, and a posterior pressed against a bound of its prior."""
    found = fitted.convergence()
    if np.isnan(found.get("rhat", 0.0)):  # no site was sampled
        return "All noise is fixed: nothing was inferred."
    draws = f"effective draws {found['ess']:.0f}"
    if "rhat" in found:
        how = f"R-hat {found['rhat']:.3f}, {draws}, {found['diverging']:.1%} divergent"
    elif "pareto_k" in found:
        how = f"Pareto k-hat {found['pareto_k']:.2f}, {draws}"
    else:
        how = f"NUTS after importance sampling, {draws}"
    cure = "more draws" if "rhat" in found else "NUTS"
    well = "sampled well" if not fitted.faults() else f"refit with {cure} before relying on it"
    return " ".join([f"{how}: {well}.", *tell_bounds(fitted.tree, fitted.given)])


def motion(nats: float) -> str:
    """Whether a ratio moves, by the nats by which it leads a static one."""
    if np.isnan(nats):
        return "unknown"
    return "moves" if nats > STRONG else "static will do" if nats < -STRONG else "unclear"


def against_static(probability: float) -> float:
    """Nats by which a moving ratio leads a static one, by the probability of the latter."""
    # at even odds the log odds are the nats of evidence
    with np.errstate(divide="ignore"):
        return float(np.log1p(-probability) - np.log(probability))


def static_chance(name: str, probability: float) -> str:
    """The same in a sentence, by the probability that a static ratio is enough."""
    who = "a static ratio to every hedge" if name == "all" else f"a static ratio to {name}"
    if np.isnan(probability):
        return f"Whether {who} is enough could not be computed reliably."
    word = motion(against_static(probability))
    verdict = {"moves": "the ratio moves", "unclear": "these rows leave it open"}.get(word, word)
    return (
        f"Probability that {who} is enough, on the training rows at even odds: "
        f"{tell_odds(probability)}; {verdict}."
    )


# -- a spread that comes back ----------------------------------------------------------------------


def has_spread(fitted: HedgeFit) -> bool:
    """Whether the model of a fit has a spread that comes back."""
    return WITH in fitted.tree["posterior"]


def comes_back(nats: float, error: float) -> str:
    """Whether there is a spread that comes back, by the nats by which the model with one leads.

    `error` is their standard error: what is strong only by chance is not called so.
    """
    if abs(nats) - 2 * error > STRONG:
        return f"strong evidence that it {'comes back' if nats > 0 else 'does not'}"
    if abs(nats) < LEANING:
        return "the data cannot tell"
    return f"the data cannot tell, they only lean to {'yes' if nats > 0 else 'no'}"


def reversion(
    fitted: HedgeFit, live: OnlineFilter, held: list[Hedge], prices: Any, *, nats: bool = True
) -> list[str]:
    """The spread of a fit that comes back: how sure that is, where it stands, and a trade on it.

    Args:
        live: its filter, after the last row seen.
        held: the hedges after that row.
        prices: of the tickers then.
        nats: whether the evidence is told in nats too.
    """
    about, life = fitted.tree.attrs, dict[str, float](fitted.half_life())
    evidence, error = float(about["log_bayes"]), float(about["log_bayes_error"])
    told = f" ({evidence:+.2f} +- {error:.2f} nats)" if nats else ""
    said = [
        f"Probability that the spread of {fitted.target} comes back, on the training rows at even "
        f"odds: {tell_odds(float(about['probability']))}{told}; {comes_back(evidence, error)}."
    ]
    now = live.reversion()
    if now is None or np.isnan(life["median"]) or now.probability == 0:
        return said
    share = fitted.summary()["r2_mr"].iloc[-1]
    if evidence - 2 * error > STRONG:
        said.append(EX_DAYS)
    return [
        *said,
        f"If it does, half of it is gone after {life['median']:.3g} bars (90 % "
        f"{interval(life['lower'], life['upper'])}), and it explains {share:.0%} of a bar's surprise, "
        "the move of level and spread together; the rest stays.",
        f"Now {stands(fitted.target, now)}.",
        trade(now, life["median"], fitted, held, prices),
    ]


def stands(target: str, now: MeanReversion) -> str:
    """Where the spread that comes back stands after a row."""
    if abs(now.z) <= _ORDINARY:
        word = "may be neither rich nor cheap"
    else:
        word = "is rich" if now.mean > 0 else "is cheap"
    return (
        f"the spread that comes back stands at {now.mean:+.3g} +- {now.sd:.2g}, {now.z:+.2f} sd: "
        f"{target} {word}"
    )


def trade(now: MeanReversion, bars: float, fitted: HedgeFit, held: list[Hedge], prices: Any) -> str:
    """What a trade against the spread, entered now and closed after `bars`, is expected to earn."""
    target, shares = fitted.target, MONEY / prices[fitted.target]
    legs = {target: shares} | {one.name: one.shares * shares / POSITION for one in held}
    cost = 2 * sum(abs(count) * COST.of_one(prices[name]) for name, count in legs.items())
    by_shares = transform_of(fitted.data.transform).by_shares
    gain = now.expect(bars, money=shares if by_shares else MONEY)
    return (
        f"A trade entered now, {'buy' if gain.side > 0 else 'sell'} {MONEY:,.0f} of {target} against "
        f"its hedge, closed after {gain.bars:.3g} bars: expected gain {gain.mean:,.0f} +- "
        f"{gain.sd:,.0f}, that it may not come back weighed in; after costs of {cost:,.0f} "
        f"({COST.bp:g} basis point and {COST.per_share:g} a share, each leg both ways) "
        f"{gain.mean - cost:,.0f}."
    )


# -- what it was worth -----------------------------------------------------------------------------


def worth(target: str, scored: pd.DataFrame, ours: str) -> str:
    """Variance removed out of sample, by a table of `hedge_effectiveness`."""
    mine, changes, levels = (scored.loc[name] for name in (ours, CHANGES, LEVELS))
    gain = f"{mine.gain:+.3f}, 90 % {mine.gain_lower:+.3f} .. {mine.gain_upper:+.3f}"
    if mine.gain_lower > 0:
        verdict = f"that lead is beyond chance ({gain})"
    elif mine.gain_upper < 0:
        verdict = f"it did worse, beyond chance ({gain})"
    else:
        verdict = f"that is no difference to rely on ({gain})"
    return (
        f"Out of sample the moving ratio removed {mine.variance_removed:.1%} of the variance of "
        f"{target}; a static ratio on changes {changes.variance_removed:.1%}, on levels "
        f"{levels.variance_removed:.1%}. Against the former {verdict}."
    )


def keeps_static(scored: pd.DataFrame, ours: str) -> bool:
    """Whether to hold the static ratio, by the same table.

    A lead beyond chance decides, and without one the turnover; where no turnover is known the static
    ratio is held, which needs no filter.
    """
    mine = scored.loc[ours]
    if mine.gain_lower > 0 or mine.gain_upper < 0:
        return not mine.gain_lower > 0
    return not mine.turnover < scored.loc[CHANGES, "turnover"]


def reason(target: str, scored: pd.DataFrame, ours: str) -> str:
    """Why `keeps_static` decides as it does."""
    mine = scored.loc[ours]
    traded = turnovers(target, mine.turnover, scored.loc[CHANGES, "turnover"])
    if mine.gain_lower > 0 or mine.gain_upper < 0:
        how = "more" if mine.gain_lower > 0 else "less"
        said = f"on later prices the moving ratio removed {how} variance than the static one, "
        said = "; ".join(part for part in (f"{said}beyond chance", traded) if part)
        if how == "less" or not np.isfinite(mine.break_even_cost):
            return said
        cost = f"{mine.break_even_cost:.0f} basis points of what is traded"
        return f"{said}; the lead pays as long as trading costs less than {cost}"
    less = "static" if keeps_static(scored, ours) else "moving"
    what = f"trades less: {traded}" if traded else "needs no filter"
    said = "on later prices neither ratio removed more variance than the other beyond chance"
    return f"{said}, and the {less} one {what}"


def turnovers(target: str, moving: float, still: float) -> str:
    """What two ratios trade; nothing where a price that is not positive hides it."""
    if np.isnan(moving) or np.isnan(still):
        return ""
    moved = f"the moving ratio trades {moving:.1f} times the value of {target} a year"
    return f"{moved}, the static one {still:.1f}"


def intervals(inside: float, rows: int) -> str:
    """How many later prices lay within their 90 % intervals, by a row of `compare`."""
    return f"The 90 % intervals of the forecasts held {inside:.0%} of the {rows} later prices"


def bands(ticks: pd.DataFrame) -> str:
    """The same for spreads and the normal bands of the pictures; forecasts may be Student-t."""
    inside = (ticks["z"].abs() < Z90).to_numpy().mean()
    return f"{inside:.0%} of the spreads fell inside their 90 % band."


def beside(target: str, hedges: Iterable[str], found: Beside) -> str:
    """A pair beside all columns of its prices."""
    one, three = (", ".join(legs) for legs in found.legs)
    alone, together = found.few
    return (
        f"Of the {found.columns} columns, the best leg (mostly {one}) would have removed {alone:.0%} "
        f"of the variance of {target} and the best three (mostly {three}) {together:.0%}; "
        f"{' and '.join(hedges)} removed {found.own:.0%}. All by one rule, in the same {found.rows} "
        "rows and with ratios known the row before; the legs were chosen as the rows went by."
    )


# -- what to do next, and the parts of tables ------------------------------------------------------


def commands(fit: Path | str) -> list[str]:
    """The commands that go on from a saved fit."""
    return [
        f"kfmodels update {fit} --prices LATER.csv",
        f"kfmodels report {fit} --prices LATER.csv --out report.html",
        f"kfmodels live {fit} < ticks.ndjson",
    ]


def interval(lower: float, upper: float) -> str:
    """A range of numbers."""
    return INTERVAL.format(lower=lower, upper=upper)


def tabulate(rows: pd.DataFrame, columns: dict[str, str], corner: str = "") -> str:
    """Rows as indented lines: under each heading its format, such as "{lower:.3g} .. {upper:.3g}".

    A cell with NaN in it stays empty.
    """
    found = rows.to_dict("records")
    shown = {head: [_cell(form, row) for row in found] for head, form in columns.items()}
    return align(pd.DataFrame(shown, index=rows.index), corner)


def align(texts: pd.DataFrame, corner: str = "") -> str:
    """A table of texts, indented, with a word above the first column."""
    listed = texts.rename_axis(index=None, columns=corner)
    # two spaces between headings as between cells, where pandas leaves one
    return indent(listed.to_string(col_space=[len(str(head)) + 1 for head in texts]), "  ")


def _cell(form: str, row: dict[str, object]) -> str:
    text = form.format(**row)
    return "" if "nan" in text else text


def tell_odds(probability: float) -> str:
    """A probability, in words where two digits would say that something is impossible or certain."""
    if probability < 0.005:
        return "below 0.01"
    return f"{probability:.2f}" if probability < 0.995 else "above 0.99"
