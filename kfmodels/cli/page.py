"""A fit and what it was worth as one self-contained page, for those who decide.

One file: the sections of the page, in the order in which they are read.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kfmodels.batch.few_legs import Beside, compare_with_universe
from kfmodels.cli import facts
from kfmodels.cli.report import tell_better
from kfmodels.data.checks import day
from kfmodels.data.hedge_data import MIN_ROWS, rows_after
from kfmodels.data.later import Later, repair_later
from kfmodels.data.repairs import Repair, known_real
from kfmodels.evaluate.baselines import bars_per_year, static_ratio
from kfmodels.evaluate.compare import Comparison, compare_rows
from kfmodels.evaluate.effectiveness import hedge_effectiveness, value_traded
from kfmodels.evaluate.health import SpreadHealth, burn_in, spread_health
from kfmodels.evaluate.landscape import likelihood_surface
from kfmodels.evaluate.prior_check import prior_and_posterior
from kfmodels.evaluate.sensitivity import prior_sensitivity
from kfmodels.evaluate.static import static_probability
from kfmodels.files.atomic import replacing
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.follow import follow_rows
from kfmodels.online.ticks import Tick
from kfmodels.plots import hover
from kfmodels.plots.pair import draw_paths, ratio_paths, spread_path
from kfmodels.plots.priors import likelihood, memories
from kfmodels.plots.reversion import reversion
from kfmodels.plots.scores import effectiveness, forecasts
from kfmodels.plots.sheet import (
    Part,
    Section,
    drawn,
    give_or_take,
    render,
    tabled,
    write_ranges,
)
from kfmodels.words.progress import wait_for

_OURS = "this fit, tick by tick"


class Scored(NamedTuple):
    """A fit on later prices: its filter after them, its ticks, the last, and two tables of scores."""

    later: Later
    live: OnlineFilter
    ticks: pd.DataFrame
    last: Tick
    worth: pd.DataFrame
    compared: Comparison
    beside: Beside | None


class Choice(NamedTuple):
    """What the page says to hold, why, and both ratios after the last row seen."""

    static: bool
    why: str
    moving: list[facts.Hedge]
    still: list[facts.Hedge]
    prices: dict[str, float]
    """The last price of each ticker."""

    @property
    def held(self) -> list[facts.Hedge]:
        """The hedges of the ratio that is chosen."""
        return self.still if self.static else self.moving


def write_page(
    fitted: HedgeFit,
    path: str | Path,
    later: pd.DataFrame | None = None,
    repair: Repair | None = None,
    *,
    progress: bool = True,
) -> None:
    """Write the page of a fit: the decision first, then what it rests on; no file beside it is needed.

    Args:
        fitted: the fit.
        path: where the HTML goes; replaced atomically.
        later: prices after the training rows (earlier rows are left out), to say what it was worth.
        repair: of the later prices, as for `HedgeData.from_prices`; what is said to be held is then in
            the shares of the last of them.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Raises:
        ValueError: a column is missing in `later`, or fewer than 60 of its rows are later than the fit
            and complete.

    Example:
        >>> import tempfile
        >>> from kfmodels import HedgeData, datasets, fit, hedge_ratio_model
        >>> prices = datasets.stocks()[["KO", "PEP"]]
        >>> data = HedgeData.from_prices(prices, target="KO", hedges=["PEP"])
        >>> fixed = fit(data.after("2021-01-01").before("2022-01-01"), hedge_ratio_model(
        ...     delta={"beta": 1e-4, "alpha": 0.5}, obs_scale=0.005))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_page(fixed, f"{folder}/report.html", prices)
        ...     Path(folder, "report.html").read_text().count("<h2>")
        4
    """
    with wait_for("writing the page", shown=progress, kept="no page was written; run it again"):
        text = page(fitted, later, repair)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def page(fitted: HedgeFit, later: pd.DataFrame | None = None, repair: Repair | None = None) -> str:
    """The page that `write_page` writes, as text."""
    scored = None if later is None else _scored(fitted, later, repair)
    inferred = [*map(str, fitted.tree["log_prior"].data_vars)] if "log_prior" in fitted.tree else []
    # with nothing inferred but the speed, a static ratio leaves no noise to integrate over
    asked = "delta_beta" in inferred and len(inferred) > 1 and not fitted.model.sums_ratios
    static = static_probability(fitted) if asked else None
    choice = choose(fitted, static, scored)
    paths, spread = _paths(fitted, scored)
    pictures = _pictures(fitted, paths, spread, choice, scored)
    script, live = hover.embed(pictures)
    still = draw_paths(fitted, paths, spread, {one.name: one.ratio for one in choice.still})
    paper, dotted = drawn(still, _PATHS, still=True), scored is not None
    sections = [_what_to_hold(fitted, choice, live, paper, dotted)]
    if scored is not None:
        sections.append(_worth(fitted, scored, live))
    if facts.has_spread(fitted):
        sections.append(_reversion(fitted, choice, scored, live))
    sections.append(_watch(fitted, health := spread_health(fitted), scored, live))
    kind, rows = facts.training(fitted.data)
    until = "" if scored is None else f"; scored until {day(scored.later.prices.index[-1])}"
    about = fitted.tree.attrs
    failed = ["The inference did not succeed: rely on no number below before a refit. " + _SEE]
    return render(
        title=facts.pair(fitted),
        under=f"{kind}, noise inferred on {rows}{until}. \u00b1 is one standard deviation (sd).",
        doubts=facts.doubts(fitted.data),
        decision=_decision(fitted, choice, scored),
        faults=failed if fitted.faults() else [],
        sections=sections,
        appendix=_appendix(fitted, inferred, static, choice, health, scored),
        footer=f"kfmodels {about['kfmodels_version']}, fit {about['fit_id']}",
        script=script,
    )


_DOTTED = "Left of a dotted line the noise was inferred; right of it the filter ran tick by tick."
_SEE = "The appendix says what is wrong with it."
_PATHS = (
    "The hedge ratios with their 90 % bands, each as it was known at the time, and the static ratios "
    "(dashed); the spread with the band forecast for it."
)


def _scored(fitted: HedgeFit, prices: pd.DataFrame, repair: Repair | None) -> Scored:
    later = rows_after(prices, fitted.fit_until, [fitted.target, *fitted.hedges])
    complete, least = int(later.notna().all(axis=1).sum()), 2 * MIN_ROWS
    if complete < least:
        raise ValueError(
            f"only {complete} complete rows are later than {day(fitted.fit_until)}, where the fit "
            f"ends; {least} are needed to say what it was worth: leave the later prices out, or give "
            "more"
        )
    before, transform, live = fitted.data.prices, fitted.data.transform, fitted.online()
    repaired = repair_later(before, later, repair)
    # what is in doubt of the training rows leads the page, and is not warned of again
    known = (*fitted.data.real, *((doubt.ticker, day(doubt.at)) for doubt in fitted.data.doubts))
    worth = hedge_effectiveness(
        pd.concat([before, repaired.as_fitted]),
        target=fitted.target,
        hedges=list(fitted.hedges),
        train=len(before) - transform.needs_last,  # the first of the rows given has no return
        models={_OURS: fitted},
        transform=transform,
        repair=known_real((*known, *repaired.real)),
    )
    compared = compare_rows({_OURS: fitted}, {_OURS: repaired.as_fitted})
    seen: list[Tick] = []
    if repaired.changed:
        live.requote(repaired.changed)
    ticks = follow_rows(live, repaired.prices, seen=seen.append)
    every = pd.concat([before, repaired.as_fitted])
    beside = compare_with_universe(every, prices, transform=transform, since=fitted.fit_until)
    return Scored(repaired, live, ticks, seen[-1], worth, compared, beside)


def _last_prices(fitted: HedgeFit, scored: Scored | None) -> dict[str, float]:
    seen = fitted.data.prices
    if scored is not None:
        seen = pd.concat([seen * pd.Series(scored.later.factors), scored.later.prices])
    return seen.ffill().iloc[-1].to_dict()


# -- the decision ----------------------------------------------------------------------------------


def choose(fitted: HedgeFit, static: pd.DataFrame | None, scored: Scored | None) -> Choice:
    """The one ratio to hold: by later prices; without them by the odds, and else by the turnover."""
    prices = _last_prices(fitted, scored)
    live = fitted.online() if scored is None else scored.live
    factors = None if scored is None else scored.later.factors
    both = facts.hedges(live, prices), facts.static_hedges(fitted, prices, factors)
    if scored is not None:
        why = facts.reason(fitted.target, scored.worth, _OURS)
        return Choice(facts.keeps_static(scored.worth, _OURS), why, *both, prices)
    data, paths = fitted.data, ratio_paths(fitted)
    held = pd.DataFrame([static_ratio(data)["ratio"]] * len(data), data.index)
    moved = pd.DataFrame({name: path["mean"] for name, path in paths.items()})
    moving, still = _turnover(fitted, moved), _turnover(fitted, held)
    traded = facts.turnovers(fitted.target, moving, still)
    keep, end = not moving < still, f"; {traded}" if traded else ""
    if static is None:
        said = "it is that of this model, with no later prices to weigh it against a static one"
        return Choice(False, f"{said}{end}", *both, prices)
    # of several hedges the last row is of all together
    chance = float(static["probability"].iloc[-1])
    word = facts.motion(facts.against_static(chance))
    if word in ("moves", "static will do"):
        said = "on the training rows the probability that a static ratio is enough is"
        return Choice(word != "moves", f"{said} {facts.tell_odds(chance)}{end}", *both, prices)
    less = f"the {'static' if keep else 'moving'} one {'trades less' if traded else 'is simpler'}"
    said = f"the training rows leave open whether the ratio moves, and {less}"
    return Choice(keep, f"{said}{f': {traded}' if traded else ''}", *both, prices)


def _turnover(fitted: HedgeFit, ratio: pd.DataFrame) -> float:
    """What a ratio would have traded in a year of the training rows, over the value of the target."""
    traded = value_traded(fitted.data, ratio).iloc[burn_in(len(ratio)) :].mean()
    return float(traded * bars_per_year(fitted.data.index))


def _decision(fitted: HedgeFit, choice: Choice, scored: Scored | None) -> list[str]:
    """What to hold and why, in a few sentences."""
    at = day(fitted.fit_until if scored is None else scored.later.prices.index[-1])
    word, target = "static" if choice.static else "moving", fitted.target
    shares = "; ".join(facts.order(hedge) for hedge in choice.held)
    if min(choice.prices.values()) > 0:
        legs = [
            f"{'sell' if money < 0 else 'buy'} {give_or_take(abs(money), sd)} of {name}"
            for name, money, sd in _money(fitted, choice)
        ]
        what = f"against every {facts.POSITION} of money in {target} {' and '.join(legs)}"
        said = [f"After {at} hold the {word} ratio: {what}.", f"In shares: {shares}."]
    else:  # of a price below zero, as of a spread, there is no share of its value
        said = [f"After {at} hold the {word} ratio, in shares: {shares}."]
    said.append(f"Why the {word} one: {choice.why}.")
    if scored is not None:
        held = facts.CHANGES if choice.static else _OURS
        if scored.worth.loc[held, "variance_removed"] <= 0:
            said.append(f"But on later prices {target} unhedged did no worse: it removed nothing.")
        said += tell_better(scored.worth, held)
    else:
        said.append("What it is worth on later prices, kfmodels report --prices LATER.csv says.")
    return said


def _money(fitted: HedgeFit, choice: Choice) -> list[tuple[str, float, float]]:
    """By hedge: money to hold against `POSITION` of the target, below 0 sold, and its sd."""
    worth, target = choice.prices, choice.prices[fitted.target]
    each = worth if fitted.data.transform.by_shares else dict.fromkeys(worth, target)
    both = [(one, facts.POSITION * each[one.name] / target) for one in choice.held]
    return [(hedge.name, -unit * hedge.ratio, unit * hedge.sd) for hedge, unit in both]


# -- what to hold, its worth, and what to watch ----------------------------------------------------


def _paths(fitted: HedgeFit, scored: Scored | None) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Ratios and spread by date, training rows first, all in the units of the last row."""
    live = None if scored is None else scored.ticks
    each = ratio_paths(fitted, live).items()
    paths = {name: _in_last_units(path, fitted, scored, name) for name, path in each}
    return paths, _in_last_units(spread_path(fitted, live), fitted, scored)


def _in_last_units(
    path: pd.DataFrame, fitted: HedgeFit, scored: Scored | None, hedge: str | None = None
) -> pd.DataFrame:
    """A ratio to a hedge, or a spread, whose training rows are in units of before a split."""
    if scored is None or not fitted.data.transform.by_shares:
        return path
    factors = scored.later.factors
    factor = factors[fitted.target] / (1.0 if hedge is None else factors[hedge])
    before = pd.Series(path.index <= fitted.fit_until, path.index)
    return path.mul(before.map({True: factor, False: 1.0}), axis=0)


def _reversions(fitted: HedgeFit, scored: Scored | None) -> pd.DataFrame:
    parts = [fitted.reversion().drop(columns=["z", "level"])]
    if scored is not None:
        later = {"mean": scored.ticks["reversion"], "sd": scored.ticks["reversion_sd"]}
        parts.append(pd.DataFrame(later))
    return pd.concat(parts)


def _pictures(
    fitted: HedgeFit,
    paths: dict[str, pd.DataFrame],
    spread: pd.DataFrame,
    choice: Choice,
    scored: Scored | None,
) -> dict[str, Any]:
    """What answers to the pointer: a picture a hedge, numbered, the spread and the worth."""
    found: dict[str, Any] = {}
    for number, static in enumerate(choice.still):
        path, first = paths[static.name], found.get("ratio 0")
        found[f"ratio {number}"] = hover.draw_ratio(
            path, static.ratio, fitted.fit_until, beside=first
        )
    found["spread"] = hover.draw_spread(spread, fitted.fit_until, beside=found["ratio 0"])
    if facts.has_spread(fitted):
        back = _in_last_units(_reversions(fitted, scored), fitted, scored)
        found["reversion"] = hover.draw_reversion(back, fitted.fit_until, beside=found["ratio 0"])
    if scored is not None:
        found["worth"] = hover.draw_worth(scored.worth, _OURS)
    return found


def _what_to_hold(
    fitted: HedgeFit, choice: Choice, live: dict[str, str], still: Part, dotted: bool
) -> Section:
    unit = facts.unit(fitted.data.transform)
    parts = [
        Part(head=f"Ratio of {fitted.target} to {name}", live=live[f"ratio {number}"])
        for number, name in enumerate(fitted.hedges)
    ]
    both = {"moving": choice.moving, "static": choice.still}
    columns = {
        f"{word} {said}": [getattr(hedge, field) for hedge in held]
        for word, held in both.items()
        for field, said in (("ratio", "ratio"), ("sd", "its sd"))
    }
    word = "static" if choice.static else "moving"
    columns[f"shares of the {word} ratio"] = [hedge.shares for hedge in choice.held]
    table = pd.DataFrame(columns, list(fitted.hedges))
    said = (
        f"A ratio is {unit}; one above 0 is sold against {fitted.target}. Shares are against "
        f"{facts.POSITION} {fitted.target}, below 0 sold.{f' {_DOTTED}' if dotted else ''}"
    )
    return Section("What to hold", (*parts, still, tabled(table), Part(text=said)))


def _worth(fitted: HedgeFit, scored: Scored, live: dict[str, str]) -> Section:
    worth = scored.worth
    within = (worth["gain_lower"] <= 0) & (worth["gain_upper"] >= 0)
    cost = worth["break_even_cost"].mask(within)
    shown = pd.DataFrame(
        {
            "variance removed": [f"{share:.1%}" for share in worth["variance_removed"]],
            "90 % interval": write_ranges(worth["lower"], worth["upper"], "{:.1%}"),
            "lead over static OLS on changes": [
                f"{round(100 * lead, 1) + 0.0:+.1f}" for lead in worth["gain"]
            ],
            "90 % interval of the lead": write_ranges(
                worth["gain_lower"], worth["gain_upper"], "{:+.1%}"
            ),
            "traded a year": worth["turnover"],
            "break-even cost": cost,
        },
        worth.index,
    )
    said = (
        "Every ratio was known at the close before the move it was held over. Leads are in points of "
        "the variance removed. Traded a year: value of hedges over that of the target. Break-even "
        "cost, in basis points of traded value: what trading may cost before static OLS on changes is "
        "as good for a mean-variance holder of risk aversion 4; left out where the lead is within "
        "chance."
    )
    parts = [
        Part(text=facts.worth(fitted.target, worth, _OURS)),
        Part(live=live["worth"]),
        drawn(effectiveness(worth), "Variance removed, and what was traded.", still=True),
        tabled(shown),
        Part(text=said),
    ]
    if scored.beside is not None:
        parts.append(Part(text=facts.beside(fitted.target, fitted.hedges, scored.beside)))
    return Section("What it was worth on later prices", tuple(parts))


def _reversion(
    fitted: HedgeFit, choice: Choice, scored: Scored | None, live: dict[str, str]
) -> Section:
    running = fitted.online() if scored is None else scored.live
    said = facts.reversion(fitted, running, choice.moving, choice.prices, nats=False)
    picture = reversion(fitted, None if scored is None else scored.ticks)
    caption = (
        "The level, the spread beside it with its 90 % band, and the half-life before and after."
    )
    parts = *(Part(text=one) for one in said), Part(live=live["reversion"])
    return Section("The spread that comes back", (*parts, drawn(picture, caption, still=True)))


def _watch(
    fitted: HedgeFit, health: SpreadHealth, scored: Scored | None, live: dict[str, str]
) -> Section:
    """When to look again: how fast the ratio moves, the last row, and whether the bands held."""
    said, own = facts.speeds(fitted), facts.has_spread(fitted)
    if scored is not None:
        row = scored.compared.table.iloc[0]
        said.append(f"{facts.intervals(row['inside_90'], int(row['bars']))}.")
        # rich and cheap are words for a spread that comes back
        reverts = not (own or health.warnings)
        last = facts.surprise(fitted.target, scored.last, reverts=reverts)
        said.append(f"The last row: {last}.")
    picture = Part(head=f"Spread of {fitted.target}, against its forecast", live=live["spread"])
    if not (own or fitted.data.transform.needs_last):
        said.append(facts.ASK)
    return Section("What to watch", (*(Part(text=one) for one in said), picture))


# -- the appendix ----------------------------------------------------------------------------------


def _appendix(
    fitted: HedgeFit,
    inferred: list[str],
    static: pd.DataFrame | None,
    choice: Choice,
    health: SpreadHealth,
    scored: Scored | None,
) -> Section:
    """How it was inferred and checked, for those who know the words, which stand first."""
    faults = fitted.faults()
    parts = [Part(warning=f"The draws may not represent the posterior: {one}") for one in faults]
    parts += [Part(text=facts.sampling(fitted))]
    if inferred:
        parts += _prior(fitted, choice)
    if static is not None:
        parts += _chances(static)
    if "delta_beta" in inferred:
        surface = likelihood_surface(fitted.data, fitted.model)
        caption = "Best log likelihood at each memory of the ratio, and over both memories."
        parts.append(drawn(likelihood(surface), caption, head="The likelihood", apart=True))
        parts += [Part(text=f"{note[0].upper()}{note[1:]}.") for note in surface.notes]
    if scored is not None:
        parts += _honesty(scored.compared)
    model = Part(head="The model", text=f"{fitted.tree.attrs['model']}", small=True)
    return Section("Appendix: how it was inferred", (*parts, *_spread(fitted, health), model))


def _prior(fitted: HedgeFit, choice: Choice) -> list[Part]:
    both = prior_and_posterior(fitted)
    shown = pd.DataFrame(
        {
            f"{group} {word}": column
            for group in ("prior", "posterior")
            for word, column in (
                ("median", both[group]["median"]),
                ("90 % interval", write_ranges(both[group]["lower"], both[group]["upper"])),
            )
        },
        both.index,
    ).assign(narrowed=both["narrowed"])
    known = {"sd": "sd", "sd_if_known": "sd if the noise were known"}
    sds = {said: [getattr(hedge, word) for hedge in choice.moving] for word, said in known.items()}
    parts = [
        tabled(shown, head="What was believed, and what the data say"),
        drawn(memories({"fit": fitted}), "Memory before (dashed) and after the data.", apart=True),
        tabled(pd.DataFrame(sds, [f"ratio to {name}" for name in fitted.hedges])),
    ]
    if doubted := fitted.model.doubted:
        what = {"spread": "a spread", "day": "a deviation of the day"}[doubted]
        said = "Its priors were not made stronger or weaker here: evidence weighs it against none."
        return [*parts, Part(text=f"The model has {what} that may not be there. {said}")]
    asked = prior_sensitivity(fitted)
    words = {"prior": "moved by the prior", "likelihood": "moved by the data"}
    parts.append(tabled(asked.rename(columns=words), head="Whose answer is it?"))
    return parts


def _chances(static: pd.DataFrame) -> list[Part]:
    chances = static["probability"].to_dict().items()
    said = " ".join(facts.static_chance(name, chance) for name, chance in chances)
    return [tabled(static, head="Does the ratio move?"), Part(text=said)]


def _honesty(compared: Comparison) -> list[Part]:
    caption = "PIT (flat is honest), and sd of z by year (1 is honest)."
    table = compared.table.drop(columns=["behind", "behind_se"])
    return [
        tabled(table, head="Were the bands honest on later prices?"),
        drawn(forecasts(compared), caption, apart=True),
    ]


def _spread(fitted: HedgeFit, health: SpreadHealth) -> list[Part]:
    warnings = [Part(warning=warning) for warning in health.warnings]
    if facts.has_spread(fitted):
        about = fitted.tree.attrs
        said = f"{float(about['log_bayes']):+.2f} +- {float(about['log_bayes_error']):.2f} nats"
        warnings.append(Part(text=f"Evidence for a spread that comes back: {said}."))
    return [tabled(health.table.T, head="The spread"), *warnings]
