"""A fit and what it was worth as one self-contained page, for those who decide.

One file: the sections of the page, in the order in which they are read.
"""

import base64
import warnings
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

from kfmodels.batch.few_legs import Beside, compare_with_universe
from kfmodels.cli import facts
from kfmodels.data.checks import day
from kfmodels.data.hedge_data import MIN_ROWS, rows_after
from kfmodels.data.later import Later, repair_later
from kfmodels.data.repairs import Repair, known_real
from kfmodels.evaluate.compare import Comparison, compare_rows
from kfmodels.evaluate.effectiveness import hedge_effectiveness
from kfmodels.evaluate.health import spread_health
from kfmodels.evaluate.landscape import likelihood_surface
from kfmodels.evaluate.prior_check import prior_and_posterior
from kfmodels.evaluate.published import table as published_table
from kfmodels.evaluate.sensitivity import prior_sensitivity
from kfmodels.evaluate.static import static_probability
from kfmodels.files.atomic import replacing
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.follow import follow_rows
from kfmodels.online.ticks import Tick
from kfmodels.plots.pair import hedge_ratio_and_spread
from kfmodels.plots.priors import likelihood, memories
from kfmodels.plots.priors import sensitivity as sensitivity_picture
from kfmodels.plots.reversion import reversion
from kfmodels.plots.scores import effectiveness, forecasts, published_bands

_OURS = "this fit, tick by tick"


@dataclass(frozen=True)
class Part:
    """A paragraph, a warning, a table or a picture with its caption."""

    text: str = ""
    warning: str = ""
    table: str = ""
    picture: str = ""
    caption: str = ""


class Section(NamedTuple):
    """A heading and what stands under it."""

    title: str
    parts: tuple[Part, ...]


class Scored(NamedTuple):
    """A fit on later prices: its filter after them, its ticks, the last, and two tables of scores."""

    later: Later
    live: OnlineFilter
    ticks: pd.DataFrame
    last: Tick
    worth: pd.DataFrame
    compared: Comparison
    beside: Beside | None


def write_page(
    fitted: HedgeFit,
    path: str | Path,
    later: pd.DataFrame | None = None,
    repair: Repair | None = None,
) -> None:
    """Write the page of a fit: the decision first, then what it rests on; no file beside it is needed.

    Args:
        fitted: the fit.
        path: where the HTML goes; replaced atomically.
        later: prices after the training rows (earlier rows are left out), to say what it was worth.
        repair: of the later prices, as for `HedgeData.from_prices`; what is said to be held is then in
            the shares of the last of them.

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
        5
    """
    text = page(fitted, later, repair)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def page(fitted: HedgeFit, later: pd.DataFrame | None = None, repair: Repair | None = None) -> str:
    """The page that `write_page` writes, as text."""
    scored = None if later is None else _scored(fitted, later, repair)
    prior = list(fitted.tree["log_prior"].data_vars) if "log_prior" in fitted.tree else []
    # with nothing inferred but the speed, a static ratio leaves no noise to integrate over
    inferred = "delta_beta" in prior and len(prior) > 1 and not fitted.model.sums_ratios
    static = static_probability(fitted) if inferred else None
    held = _held(fitted, scored)
    sections = [_now(fitted, held, scored)]
    if prior:
        sections.append(_inferred(fitted, static))
    if "delta_beta" in prior:
        sections.append(_landscape(fitted))
    if scored is not None:
        sections += [_value(scored.worth), _honesty(scored.compared)]
    if facts.has_spread(fitted):
        sections.append(_reversion(fitted, held, scored))
    sections += [_health(fitted, None if scored is None else scored.last), _folklore(fitted)]
    kind, rows = facts.training(fitted.data)
    until = "" if scored is None else f"; scored until {day(scored.later.prices.index[-1])}"
    about = fitted.tree.attrs
    return render(
        title=facts.pair(fitted),
        under=f"{kind}, noise inferred on {rows}{until}",
        doubts=facts.doubts(fitted.data),
        decision=_decision(fitted, held, static, scored),
        faults=[f"The draws may not represent the posterior: {fault}" for fault in fitted.faults()],
        sections=sections,
        footer=f"kfmodels {about['kfmodels_version']}, fit {about['fit_id']}; model {about['model']}",
    )


def render(**parts: object) -> str:
    """A page of its parts: title, under, doubts, decision, faults, sections, footer."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = files("kfmodels.cli").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(page).render(**parts)


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


def _held(fitted: HedgeFit, scored: Scored | None) -> list[facts.Hedge]:
    """The hedges after the last row seen, at the last price of each ticker."""
    live = fitted.online() if scored is None else scored.live
    return facts.hedges(live, _last_prices(fitted, scored))


def _last_prices(fitted: HedgeFit, scored: Scored | None) -> dict[str, float]:
    seen = fitted.data.prices
    if scored is not None:
        seen = pd.concat([seen * pd.Series(scored.later.factors), scored.later.prices])
    return seen.ffill().iloc[-1].to_dict()


def _decision(
    fitted: HedgeFit,
    held: list[facts.Hedge],
    static: pd.DataFrame | None,
    scored: Scored | None,
) -> list[str]:
    """What to do and how sure it is, in a few sentences."""
    at = day(fitted.fit_until if scored is None else scored.later.prices.index[-1])
    factors = None if scored is None else scored.later.factors
    still = facts.static(fitted, _last_prices(fitted, scored), factors)
    moving = [f"{facts.order(hedge)} ({facts.ratio(hedge)})" for hedge in held]
    if scored is not None and facts.keeps_static(scored.worth, _OURS):
        said = [f"After {at}, by the static ratio: {words}." for words in still]
        said += [f"By the moving ratio: {words}." for words in moving]
    else:
        said = [f"After {at}: {words}." for words in moving]
        said += [f"By the static ratio: {words}." for words in still]
    if static is not None:
        chances = static["probability"].to_dict().items()
        said += [facts.static_chance(name, chance) for name, chance in chances]
    if scored is not None:
        said += [
            facts.worth(fitted.target, scored.worth, _OURS),
            facts.advice(scored.worth, _OURS, still),
        ]
        if scored.beside is not None:
            said.append(facts.beside(fitted.target, fitted.hedges, scored.beside))
        row = scored.compared.table.iloc[0]
        shown = facts.intervals(row["inside_90"], int(row["bars"]))
        said.append(f"{shown}; sd of z {row['z_sd']:.2f} (1 is honest).")
    return said


def _now(fitted: HedgeFit, held: list[facts.Hedge], scored: Scored | None) -> Section:
    words = {"sd_if_known": "sd if the noise were known"}
    words["shares"] = f"shares against {facts.POSITION} {fitted.target}"
    table = pd.DataFrame(held).set_index("name").drop(columns="target").rename(columns=words)
    picture = hedge_ratio_and_spread(fitted, None if scored is None else scored.ticks)
    caption = "The hedge ratio with its 90 % band, and the spread with the band forecast for it."
    return Section("The hedge", (tabled(table.rename_axis(None)), drawn(picture, caption)))


def _inferred(fitted: HedgeFit, static: pd.DataFrame | None) -> Section:
    both = prior_and_posterior(fitted)
    both.columns = [" ".join(part for part in column if part) for column in both.columns]
    parts = [
        tabled(both),
        drawn(memories({"fit": fitted}), "Memory before (dashed) and after the data."),
    ]
    if doubted := fitted.model.doubted:
        what = {"spread": "a spread", "day": "a deviation of the day"}[doubted]
        said = "Its priors were not made stronger or weaker here: evidence weighs it against none."
        parts.append(Part(text=f"The model has {what} that may not be there. {said}"))
    else:
        asked = prior_sensitivity(fitted)
        answer = asked.loc[asked.index.str.startswith("ratio to"), "verdict"]
        verdict = "; ".join(f"{name}: {words}" for name, words in answer.items())
        parts += [
            Part(text=f"Whose answer is it, the prior's or the data's? {verdict}."),
            drawn(sensitivity_picture(asked), "How far a stronger prior or likelihood moves each."),
        ]
    if static is not None:
        parts.append(tabled(static))
    return Section("What was believed, and what the data say", tuple(parts))


def _landscape(fitted: HedgeFit) -> Section:
    surface = likelihood_surface(fitted.data, fitted.model)
    caption = "Best log likelihood at each memory of the ratio, and over both memories."
    notes = tuple(Part(text=f"{note}.") for note in surface.notes)
    return Section("The likelihood", (*notes, drawn(likelihood(surface), caption)))


def _value(worth: pd.DataFrame) -> Section:
    text = (
        "Every ratio is known at the close before the move it is held over. Turnover is the value of "
        "hedge traded a year over that of the target; break-even cost, in basis points of traded "
        "value, is what the trading may cost before static OLS on changes is as good for a "
        "mean-variance holder of risk aversion 4; it is left out where the lead is within chance."
    )
    within = (worth["gain_lower"] <= 0) & (worth["gain_upper"] >= 0)
    worth = worth.assign(break_even_cost=worth["break_even_cost"].mask(within))
    parts = Part(text=text), drawn(effectiveness(worth), "Variance removed."), tabled(worth)
    return Section("What it was worth, out of sample", parts)


def _honesty(compared: Comparison) -> Section:
    caption = "Left to right, top: PIT (flat is honest); below: log score, sd of z by year."
    return Section(
        "Were its bands honest, out of sample",
        (
            tabled(compared.table.drop(columns=["behind", "behind_se"])),
            drawn(forecasts(compared), caption),
        ),
    )


def _reversion(fitted: HedgeFit, held: list[facts.Hedge], scored: Scored | None) -> Section:
    live = fitted.online() if scored is None else scored.live
    said = facts.reversion(fitted, live, held, _last_prices(fitted, scored))
    picture = reversion(fitted, None if scored is None else scored.ticks)
    caption = (
        "The level, the spread beside it with its 90 % band, and the half-life before and after."
    )
    return Section(
        "The spread that comes back", (*(Part(text=one) for one in said), drawn(picture, caption))
    )


def _health(fitted: HedgeFit, last: Tick | None) -> Section:
    health, own = spread_health(fitted), facts.has_spread(fitted)
    warnings = tuple(Part(warning=warning) for warning in health.warnings)
    # rich and cheap are words for a spread that comes back
    reverts = not (own or health.warnings)
    said = facts.surprise(fitted.target, last, reverts=reverts) if last else ""
    now = (Part(text=f"The last row: {said}."),) if said else ()
    asked = () if own or fitted.data.transform.needs_last else (Part(text=facts.ASK),)
    return Section("The spread", (*now, tabled(health.table.T), *warnings, *asked))


def _folklore(fitted: HedgeFit) -> Section:
    table = published_table(fitted.data, {"this fit": fitted})
    caption = (
        "Published settings on the training rows: 1 is an honest band. This fit was inferred from "
        "these very rows, the published settings were not."
    )
    return Section("What published settings imply here", (drawn(published_bands(table), caption),))


def tabled(table: pd.DataFrame) -> Part:
    """A table of numbers with four digits."""
    return Part(table=table.to_html(border=0, float_format=lambda value: f"{value:.4g}", na_rep=""))


def drawn(figure: Figure, caption: str) -> Part:
    """A picture, held in the page itself.

    It is of PNG. Where matplotlib's fonts lack a letter of a name (贵, த) it is of SVG, whose text the
    browser sets in a font that has it.
    """
    held, kind = BytesIO(), "png"
    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("error", r"Glyph \d+ .* missing from font")
        try:
            figure.savefig(held, format=kind, dpi=90)
        except UserWarning:
            held, kind = BytesIO(), "svg+xml"
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
            figure.savefig(held, format="svg", metadata={"Date": None})
    coded = base64.b64encode(held.getvalue()).decode()
    return Part(picture=f"image/{kind};base64,{coded}", caption=caption)
