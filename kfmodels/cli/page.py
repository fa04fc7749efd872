"""A fit and what it was worth as one self-contained page, for those who decide.

One file: the sections of one page, in the order in which they are read.
"""

import base64
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from kfmodels.data.hedge_data import MIN_ROWS, day, rows_after
from kfmodels.evaluate.compare import Comparison, compare
from kfmodels.evaluate.effectiveness import hedge_effectiveness
from kfmodels.evaluate.health import spread_health
from kfmodels.evaluate.landscape import likelihood_surface
from kfmodels.evaluate.prior_check import prior_and_posterior
from kfmodels.evaluate.published import table as published_table
from kfmodels.evaluate.sensitivity import prior_sensitivity
from kfmodels.evaluate.static import static_probability
from kfmodels.files.atomic import replacing
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.online.follow import follow
from kfmodels.plots.pair import hedge_ratio_and_spread
from kfmodels.plots.priors import likelihood, memories
from kfmodels.plots.priors import sensitivity as sensitivity_picture
from kfmodels.plots.scores import effectiveness, forecasts, published_bands

_OURS = "this fit, tick by tick"
_CHANGES, _LEVELS = "static OLS on changes", "static OLS on levels"
_SURE = 0.9


@dataclass(frozen=True)
class Part:
    """A paragraph, a warning, a table or a picture with its caption."""

    text: str = ""
    warning: str = ""
    table: str = ""
    picture: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: tuple[Part, ...]


def write_page(fitted: HedgeFit, path: str | Path, later: pd.DataFrame | None = None) -> None:
    """Write the page of a fit: the decision first, then what it rests on; no file beside it is needed.

    Args:
        fitted: the fit.
        path: where the HTML goes; replaced atomically.
        later: prices after the training rows (earlier rows are left out), to say what it was worth.

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
    text = page(fitted, later)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def page(fitted: HedgeFit, later: pd.DataFrame | None = None) -> str:
    """The page that `write_page` writes, as text."""
    worth, compared, table = None, None, None
    if later is not None:
        later = _after(fitted, later)
        worth = _worth(fitted, later)
        compared = compare({_OURS: fitted}, later)
        table = follow(fitted.online(), later)
    inferred = "log_prior" in fitted.tree
    speed = inferred and "delta_beta" in fitted.tree["log_prior"]
    static = static_probability(fitted) if speed and _others_inferred(fitted) else None
    sections = [_now(fitted, later, table)]
    if inferred:
        sections.append(_inferred(fitted, static))
    if speed:
        sections.append(_landscape(fitted))
    if worth is not None and compared is not None:
        sections += [_value(worth), _honesty(compared)]
    sections += [_health(fitted), _folklore(fitted)]
    data = fitted.data
    kind = {"log": "log prices", "level": "prices", "return": "returns"}[data.transform]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(
        files("kfmodels.cli").joinpath("page.html").read_text(encoding="utf-8")
    )
    return template.render(
        title=f"{fitted.target} hedged with {', '.join(fitted.hedges)}",
        under=(
            f"{kind}, noise inferred on {len(data)} rows {day(fitted.index[0])} .. "
            f"{day(fitted.fit_until)}"
            + (f"; scored until {day(later.index[-1])}" if later is not None else "")
        ),
        decision=_decision(fitted, static, worth, compared, later, table),
        faults=[f"The draws may not represent the posterior: {fault}" for fault in fitted.faults()],
        sections=sections,
        footer=(
            f"kfmodels {fitted.tree.attrs['kfmodels_version']}, fit {fitted.tree.attrs['fit_id']}; "
            f"model {fitted.tree.attrs['model']}"
        ),
    )


def _after(fitted: HedgeFit, prices: pd.DataFrame) -> pd.DataFrame:
    later = rows_after(prices, fitted.fit_until, [fitted.target, *fitted.hedges])
    complete = int(later.notna().all(axis=1).sum())
    if complete < 2 * MIN_ROWS:
        raise ValueError(
            f"only {complete} complete rows are later than {day(fitted.fit_until)}, where the fit "
            f"ends; {2 * MIN_ROWS} are needed to say what it was worth: leave the later prices out, "
            "or give more"
        )
    return later


def _others_inferred(fitted: HedgeFit) -> bool:
    return len(fitted.tree["log_prior"].data_vars) > 1


def _worth(fitted: HedgeFit, later: pd.DataFrame) -> pd.DataFrame:
    before = fitted.data.prices
    return hedge_effectiveness(
        pd.concat([before, later]),
        target=fitted.target,
        hedges=list(fitted.hedges),
        train=len(before) - (fitted.data.transform == "return"),
        models={_OURS: fitted},
        transform=fitted.data.transform,
    )


def _decision(
    fitted: HedgeFit,
    static: pd.DataFrame | None,
    worth: pd.DataFrame | None,
    compared: Comparison | None,
    later: pd.DataFrame | None,
    table: pd.DataFrame | None,
) -> list[str]:
    """What to do and how sure it is, in a few sentences."""
    hedge = _last_hedge(fitted, later, table)
    said = [
        f"After {day(at)}: against 100 {fitted.target} {'sell' if row['shares'] < 0 else 'buy'} "
        f"{abs(row['shares']):.2f} {name} (ratio {row['ratio']:.3f}, sd {row['sd']:.3f})."
        for (at, name), row in hedge.to_dict("index").items()
    ]
    if static is not None:
        chances = static["probability"].to_dict()
        said += [_static_sentence(str(name), chance) for name, chance in chances.items()]
    if worth is not None:
        said.append(_worth_sentence(fitted, worth))
        said.append(_action(worth))
    if compared is not None:
        row = compared.table.iloc[0]
        said.append(
            f"Its 90 % bands held {row['inside_90']:.0%} of the {int(row['bars'])} later prices; sd of "
            f"z {row['z_sd']:.2f} (1 is honest)."
        )
    return said


def _last_hedge(
    fitted: HedgeFit, later: pd.DataFrame | None, table: pd.DataFrame | None
) -> pd.DataFrame:
    """Ratio, sd and shares against 100 of the target after the last row seen, by date and hedge."""
    group: Any = fitted.tree["filtered"].isel(time=-1)
    at = fitted.fit_until if table is None else table.index[-1]
    prices = fitted.data.prices if later is None else pd.concat([fitted.data.prices, later])
    last_prices: Any = prices.ffill().iloc[-1]
    rows = {}
    for name in fitted.hedges:
        if table is None:
            words = ("mean", "sd", "sd_given_noise")
            mean, sd, given = (float(group[word].sel(coef=name)) for word in words)
        else:
            last = table.iloc[-1]
            words = ("beta", "sd_total", "sd_given_noise")
            mean, sd, given = (float(last[f"{word} {name}"]) for word in words)
        by_money = fitted.data.transform != "level"
        shares = -100 * mean * (last_prices[fitted.target] / last_prices[name] if by_money else 1.0)
        rows[(at, name)] = {
            "ratio": mean,
            "sd": sd,
            "sd if the noise were known": given,
            "shares": shares,
        }
    return pd.DataFrame(rows).T


def _action(worth: pd.DataFrame) -> str:
    """One line that says what to do about it."""
    ours = worth.loc[_OURS]
    if ours["gain_lower"] > 0:
        cost = f"{ours['break_even_cost']:.0f} basis points of what is traded"
        return f"So: run the moving ratio, as long as trading costs less than {cost}."
    if ours["gain_upper"] < 0:
        return "So: hold the static ratio on changes, and look at the prior on how fast it moves."
    return (
        "So: whether or not the ratio moves, moving with it did not pay in variance. Hold the static "
        "ratio on changes, or run the filter for its honest bands, whichever trades less "
        f"({ours['turnover']:.1f} against {worth.loc[_CHANGES, 'turnover']:.1f} times the target a "
        "year)."
    )


def _static_sentence(name: str, probability: float) -> str:
    who = "a hedge that stands still" if name == "all" else f"a static ratio to {name}"
    if np.isnan(probability):
        return f"Whether {who} is enough could not be computed reliably."
    if probability > _SURE:
        verdict = "static is enough"
    elif probability < 1 - _SURE:
        verdict = "the ratio moves"
    else:
        verdict = "these rows leave it open"
    shown = f"{probability:.2f}" if probability >= 0.005 else "below 0.01"
    return (
        f"Probability that {who} is enough, on the training rows at even odds: {shown}; {verdict}."
    )


def _worth_sentence(fitted: HedgeFit, worth: pd.DataFrame) -> str:
    ours, changes, levels = (worth.loc[name] for name in (_OURS, _CHANGES, _LEVELS))
    lead = f"{ours['gain']:+.3f}, 90 % {ours['gain_lower']:+.3f} .. {ours['gain_upper']:+.3f}"
    if ours["gain_lower"] > 0:
        verdict = f"that lead is beyond chance ({lead})"
    elif ours["gain_upper"] < 0:
        verdict = f"it did worse, beyond chance ({lead})"
    else:
        verdict = f"that is no difference to rely on ({lead})"
    return (
        f"Out of sample the moving ratio removed {ours['variance_removed']:.1%} of the variance of "
        f"{fitted.target}; a static ratio on changes {changes['variance_removed']:.1%}, on levels "
        f"{levels['variance_removed']:.1%}. Against the former {verdict}."
    )


def _now(fitted: HedgeFit, later: pd.DataFrame | None, table: pd.DataFrame | None) -> Section:
    hedge = _last_hedge(fitted, later, table).droplevel(0)
    hedge = hedge.rename(columns={"shares": f"shares against 100 {fitted.target}"})
    picture = hedge_ratio_and_spread(fitted, table)
    caption = "The hedge ratio with its 90 % band, and the spread inside the band it was allowed."
    return Section("The hedge", (_tabled(hedge), _drawn(picture, caption)))


def _inferred(fitted: HedgeFit, static: pd.DataFrame | None) -> Section:
    both = prior_and_posterior(fitted)
    both.columns = [" ".join(part for part in column if part) for column in both.columns]
    asked = prior_sensitivity(fitted)
    answer = asked.loc[asked.index.str.startswith("ratio to"), "verdict"]
    verdict = "; ".join(f"{name}: {words}" for name, words in answer.items())
    parts = [
        _tabled(both),
        _drawn(memories({"fit": fitted}), "Memory before (dashed) and after the data."),
        Part(text=f"Whose answer is it, the prior's or the data's? {verdict}."),
        _drawn(sensitivity_picture(asked), "How far raising the prior or the likelihood moves it."),
    ]
    if static is not None:
        parts.append(_tabled(static))
    return Section("What was believed, and what the data say", tuple(parts))


def _landscape(fitted: HedgeFit) -> Section:
    surface = likelihood_surface(fitted.data, fitted.model)
    caption = "Best log likelihood at each memory of the ratio, and over both memories."
    notes = tuple(Part(text=f"{note}.") for note in surface.notes)
    return Section("The likelihood", (*notes, _drawn(likelihood(surface), caption)))


def _value(worth: pd.DataFrame) -> Section:
    text = (
        "Every ratio is known at the close before the move it is held over. Turnover is the value of "
        "hedge traded a year over that of the target; break-even cost, in basis points of traded "
        "value, is what the trading may cost before static OLS on changes is as good for a "
        "mean-variance holder of risk aversion 4; it is left out where the lead is within chance."
    )
    within = (worth["gain_lower"] <= 0) & (worth["gain_upper"] >= 0)
    worth = worth.assign(break_even_cost=worth["break_even_cost"].mask(within))
    parts = Part(text=text), _drawn(effectiveness(worth), "Variance removed."), _tabled(worth)
    return Section("What it was worth, out of sample", parts)


def _honesty(compared: Comparison) -> Section:
    caption = "Left to right, top: PIT (flat is honest); below: log score, sd of z by year."
    return Section(
        "Were its bands honest, out of sample",
        (
            _tabled(compared.table.drop(columns=["behind", "behind_se"])),
            _drawn(forecasts(compared), caption),
        ),
    )


def _health(fitted: HedgeFit) -> Section:
    health = spread_health(fitted)
    warnings = tuple(Part(warning=warning) for warning in health.warnings)
    return Section("The spread", (_tabled(health.table.T), *warnings))


def _folklore(fitted: HedgeFit) -> Section:
    table = published_table(fitted.data, {"this fit": fitted})
    caption = (
        "Published settings on the training rows: 1 is an honest band. This fit was inferred from "
        "these very rows, the published settings were not."
    )
    return Section("What published settings imply here", (_drawn(published_bands(table), caption),))


def _tabled(table: pd.DataFrame) -> Part:
    return Part(table=table.to_html(border=0, float_format=lambda value: f"{value:.4g}", na_rep=""))


def _drawn(figure: Figure, caption: str) -> Part:
    held = BytesIO()
    figure.savefig(held, format="png", dpi=90)
    return Part(picture=base64.b64encode(held.getvalue()).decode(), caption=caption)
