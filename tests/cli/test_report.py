"""What is said of a fit agrees with its tables; the picture shows the numbers."""

import re

import numpy as np
import pandas as pd
import pytest

from kfmodels import Clock, Discounted, HedgeData, Reverting, fit, follow, hedge_ratio_model
from kfmodels.cli import facts
from kfmodels.cli.report import VARIANCE_MEMORIES, advice, discounted_gain, report, tell_better
from kfmodels.evaluate import prior_summary
from kfmodels.kalman import likelihood
from kfmodels.model import Absolute
from kfmodels.plots import hedge_ratio_and_spread
from tests.made_filters import made_filter
from tests.problems import ROWS, stock_prices, unsampled

PRICES = stock_prices(ROWS + 20)[["KO", "PEP"]]


@pytest.fixture(scope="module")
def data():
    return HedgeData.from_prices(PRICES.iloc[:ROWS], target="KO", hedges=["PEP"])


@pytest.fixture(scope="module")
def constant(data):
    return unsampled(data)


def test_the_report_quotes_the_tables(constant):
    text = " ".join(report(constant).split())
    table, last = constant.summary(), constant.hedge_ratio().iloc[-1]
    span = facts.interval(last["lower"], last["upper"])
    assert f"ratio {last['mean']:.4g} +- {last['sd']:.2g}, 90 % {span}" in text
    assert f" PEP {table.loc['PEP', 'delta']:.3g} {table.loc['PEP', 'memory']:.3g} " in text
    shares = constant.hedge_shares(100).iloc[-1]["PEP"]
    assert f"against 100 KO sell {-shares:.2f} PEP: ratio" in text
    first, last = (str(PRICES.index[row].date()) for row in (0, ROWS - 1))
    assert text.startswith(f"KO hedged with PEP: log prices, {ROWS} rows {first} .. {last} ")


def test_the_report_shows_the_static_ratio_with_its_sd(data, constant):
    """Least squares on simple returns with White's sd, by a plain loop."""
    returns = data.prices.pct_change().dropna().to_numpy()
    y, x = (returns - returns.mean(0)).T
    ratio = sum(x * y) / sum(x * x)
    left = [b - ratio * a for a, b in zip(x, y, strict=True)]
    meat = sum((a * e) ** 2 for a, e in zip(x, left, strict=True))
    sd = np.sqrt(meat * len(x) / (len(x) - 2)) / sum(x * x)
    last = data.prices.iloc[-1]
    shares = 100 * ratio * last["KO"] / last["PEP"]
    text = report(constant)
    order = f"against 100 KO sell {shares:.2f} PEP (ratio {ratio:.4g} +- {sd:.2g})"
    assert f"static OLS on changes, for comparison: {order}" in " ".join(text.split())
    assert "a ratio above 0 is sold" in text


@pytest.mark.parametrize("transform", ["log", "level", "return"])
def test_every_road_to_an_order_has_one_sign(transform):
    """Report, table of shares and book: below 0 is sold, and they agree on how many."""
    data = HedgeData.from_prices(
        PRICES.iloc[:ROWS], target="KO", hedges=["PEP"], transform=transform
    )
    fitted = unsampled(data)
    (hedge,) = facts.hedges(fitted.online())
    table = fitted.hedge_shares(facts.POSITION).iloc[-1]["PEP"]
    book = fitted.book(position=facts.POSITION)
    wanted = book.wanted({"PEP": hedge.ratio}, data.prices.iloc[-1].to_dict())["PEP"]
    assert hedge.shares == pytest.approx(table, rel=1e-9) == pytest.approx(wanted, rel=1e-9)
    assert f"against 100 KO sell {-table:.2f} PEP" == facts.order(hedge)


@pytest.mark.parametrize(
    ("price", "reverts", "words"),
    [
        (90.05, True, "XLE is within the ordinary"),
        (95.0, True, "XLE looks rich"),
        (85.0, True, "XLE looks cheap"),
        (95.0, False, "XLE is above it, beyond the ordinary"),
        (85.0, False, "XLE is below it, beyond the ordinary"),
    ],
)
def test_rich_and_cheap_are_said_only_of_a_spread_that_comes_back(price, reverts, words):
    tick = made_filter().update(y=price, x=500.0)
    assert facts.surprise("XLE", tick, reverts=reverts).endswith(words)
    assert not {"rich", "cheap"} & set(facts.surprise("XLE", tick).split())


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        (-2.8e-13, "sell 2.8e-13 PEP"),
        (0.0123, "buy 0.0123 PEP"),
        (-0.5, "sell 0.50 PEP"),
        (0.0, "buy 0.00 PEP"),
    ],
)
def test_a_hedge_of_tiny_size_is_not_called_nothing(shares, words):
    assert facts.order(facts.Hedge("KO", "PEP", 1.0, 0.1, 0.1, shares)) == f"against 100 KO {words}"


def test_what_a_moving_variance_would_gain_is_a_difference_of_two_log_likelihoods(constant, x64):
    """Recomputed with the scan itself, at the plug-in q and the memory that the report names."""
    from kfmodels.fitting import tree as trees
    from kfmodels.kalman.noise import DiscountedVariance

    nats, memory = discounted_gain(constant)
    assert memory in VARIANCE_MEMORIES
    assert f"scores {nats:+.1f} nats" in " ".join(report(constant).split())
    sites = trees.stored_sites(constant.tree, "plug_in")
    law, y = trees.posed(constant.tree, constant.data, sites)
    rows, start, drift, noise = law.recursion(y)
    moving = DiscountedVariance(noise.var, np.array([4.0]), np.array([1 - 1 / memory]))
    here = likelihood.log_likelihood(rows, start, drift, moving)
    there = likelihood.log_likelihood(rows, start, drift, noise)
    assert float((here - there)[0]) == pytest.approx(nats, rel=1e-10)


def test_a_variance_that_moves_gains_nothing_by_moving(data):
    discounted = unsampled(data, noise=Discounted())
    assert discounted_gain(discounted) is None
    assert "Discounted" not in report(discounted)


def test_a_fit_with_all_noise_fixed_says_so(data):
    model = hedge_ratio_model(delta=Absolute(1e-5), obs_scale=0.01, pivot=0)
    text = report(fit(data, model, progress=False))
    assert "All noise is fixed: nothing was inferred." in text


@pytest.mark.parametrize(
    ("nats", "error", "words"),
    [
        (3.2, 0.05, "strong evidence that it comes back"),
        (3.2, 0.2, "the data cannot tell, they only lean to yes"),  # strong by chance, perhaps
        (1.5, 0.05, "the data cannot tell, they only lean to yes"),
        (0.2, 0.05, "the data cannot tell"),
        (-2.0, 0.05, "the data cannot tell, they only lean to no"),
        (-3.2, 0.05, "strong evidence that it does not"),
    ],
)
def test_whether_a_spread_comes_back(nats, error, words):
    assert facts.comes_back(nats, error) == words


@pytest.mark.slow
@pytest.mark.parametrize("transform", ["log", "level"])
def test_the_report_tells_of_a_spread_what_its_tables_do(transform):
    data = HedgeData.from_prices(
        PRICES.iloc[:ROWS], target="KO", hedges=["PEP"], transform=transform
    )
    fitted = unsampled(data, spread=Reverting())
    text = " ".join(report(fitted).split())
    life, now = fitted.half_life(), fitted.reversion_now()
    assert (
        "even odds: 0.75 (+1.10 +- 0.14 nats); the data cannot tell, they only lean to yes" in text
    )
    span = facts.interval(life["lower"], life["upper"])
    assert f"half of it is gone after {life['median']:.3g} bars (90 % {span})" in text
    assert f"it explains {fitted.summary()['r2_mr'].iloc[-1]:.0%} of a bar's surprise" in text
    assert f"stands at {now.mean:+.3g} +- {now.sd:.2g}, {now.z:+.2f} sd" in text
    # a million in the target and its hedge, each bought and sold at a basis point and half a cent
    last, shares = data.prices.iloc[-1], fitted.hedge_shares().iloc[-1]["PEP"]
    held = 1e6 / last["KO"] * np.array([1.0, abs(shares)])
    cost = 2 * (held * (1e-4 * last.to_numpy() + 0.005)).sum()
    gain = now.expect(life["median"], money=1e6 if transform == "log" else held[0], cost=cost)
    assert f"expected gain {gain.mean + cost:,.0f} +- {gain.sd:,.0f}, that" in text
    assert f"after costs of {cost:,.0f} (" in text
    assert f"each leg both ways) {gain.mean:,.0f}." in text
    assert (
        f"now, {'sell' if now.expect(life['median']).side < 0 else 'buy'} 1,000,000 of KO" in text
    )
    # of its innovation nothing is said that is meant of a level, and it has a table of its own
    assert facts.ASK not in text
    assert "The intercept forgets" not in text


@pytest.mark.parametrize(("odds", "strong"), [(100.0, True), (3.0, False)])
def test_where_a_spread_is_all_but_sure_its_prices_are_doubted(data, odds, strong):
    text = " ".join(report(unsampled(data, spread=Reverting(), odds=odds)).split())
    assert (facts.EX_DAYS in text) == strong


def test_a_spread_without_a_draw_has_a_probability_only(data):
    text = report(unsampled(data, spread=Reverting(), odds=1e-6))
    section = text[text.index("The spread that comes back") : text.index("What it means")]
    assert section.count("\n- ") == 1
    said = "below 0.01 (-13.82 +- 0.14 nats); strong evidence that it does not."
    assert " ".join(section.split()).endswith(said)


def test_a_fit_without_a_spread_says_how_to_ask_for_one(data, constant):
    """And what it names can be done."""
    assert facts.ASK in " ".join(report(constant).split())
    named = re.search(r"spread=\S+\)", facts.ASK)
    assert named
    asked = eval(f"dict({named[0]})", {"Reverting": Reverting})
    assert unsampled(data, **asked).reversion_now().probability == pytest.approx(0.75)


def test_a_static_hedge_is_called_static(data):
    text = report(unsampled(data, delta={"beta": 0.0}))
    assert "in effect it is a static hedge" in " ".join(text.split())


@pytest.mark.parametrize(
    ("clock", "every", "bars", "month"),
    [
        (None, "B", 21, "a month (21 sessions)"),
        (None, "7D", 21 / 5, "a month (21 sessions)"),
        (
            Clock.hours("09:00", "16:00", zone="UTC", bar="1h"),
            "1h",
            21 * 7,
            "a month (21 sessions)",
        ),
        (Clock("1h"), "1h", 21 * 24, "a month (21 days)"),
    ],
)
def test_a_ratio_moves_in_the_month_of_its_prior(clock, every, bars, month):
    """As far as `prior_summary` says under "monthly_move", whatever a bar is."""
    dates = pd.date_range("2020-01-06", periods=24 * ROWS, freq=every)
    if clock is not None and clock.sessions:
        dates = dates[(dates.hour > 9) & (dates.hour <= 16) & (dates.day_of_week < 5)]
    prices = PRICES.iloc[:ROWS].set_axis(dates[:ROWS])
    data = HedgeData.from_prices(prices, target="KO", hedges=["PEP"], clock=clock, transform="log")
    fitted = unsampled(data, delta={"beta": 1e-3, "alpha": 0.5}, obs_scale=0.01)
    moves = np.sqrt(bars * fitted.summary().loc["PEP", "var"])
    assert f"moves by about {moves:.2g} in {month} (one sd)" in facts.speeds(fitted)[0]
    known = prior_summary(data, fitted.model).loc[("PEP", "monthly_move"), "median"]
    assert known == pytest.approx(moves)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (facts.order(facts.Hedge("KO", "PEP", -1, 1, 1, 12.3)), "against 100 KO buy 12.30 PEP"),
        (facts.unit("level"), "shares of the hedge per share of the target"),
        (facts.unit("return"), "money in the hedge per unit of money in the target"),
        (facts.speed("PEP", 0.05, 3.0, 100, ""), "follows the price like a ratio of prices"),
        (facts.intercept(40.0), "reverts more slowly than that"),
        (facts.motion(3.1), "moves"),
        (facts.motion(-3.1), "static will do"),
        (facts.motion(0.0), "unclear"),
        (facts.static_chance("PEP", 0.0), "below 0.01; the ratio moves."),
        (facts.static_chance("PEP", 0.5), "0.50; these rows leave it open."),
        (facts.static_chance("all", 1.0), "a static ratio to every hedge is enough"),
        (facts.static_chance("PEP", float("nan")), "could not be computed reliably"),
        (
            facts.bands(pd.DataFrame({"z": [0.1, -1.6, 1.7, -3.0]})),
            "50% of the spreads fell inside",
        ),
        (facts.intervals(0.912, 250), "held 91% of the 250 later prices"),
    ],
)
def test_a_fact(said, words):
    assert words in said


@pytest.mark.parametrize(
    ("low", "high", "turnover", "worth", "reason"),
    [
        (0.01, 0.03, 2.0, "that lead is beyond chance (+0.020", "costs less than 7 basis points"),
        (-0.03, -0.01, 2.0, "it did worse, beyond chance", "removed less variance"),
        (-0.01, 0.03, 2.0, "no difference to rely on", "the static one trades less: the moving"),
        (-0.01, 0.03, 0.5, "no difference to rely on", "the moving one trades less: the moving"),
        (-0.01, 0.03, np.nan, "no difference to rely on", "the static one needs no filter."),
    ],
)
def test_what_a_hedge_was_worth_and_the_one_to_hold(low, high, turnover, worth, reason):
    row = {"variance_removed": 0.5, "gain": 0.02, "gain_lower": low, "gain_upper": high}
    rows = {name: row | {"turnover": 1.0} for name in (facts.CHANGES, facts.LEVELS)}
    rows["ours"] = row | {"turnover": turnover, "break_even_cost": 7.0}
    table = pd.DataFrame.from_dict(rows, orient="index")
    assert worth in facts.worth("KO", table, "ours")
    said = advice("KO", table, "ours", ["against 100 KO sell 30.00 PEP (ratio 0.6 +- 0.02)"])
    assert reason in said
    moves = low > 0 or (high > 0 and turnover < 1)
    assert facts.keeps_static(table, "ours") == (not moves)
    assert ("run the moving ratio. Why:" in said) == moves
    assert ("sell 30.00 PEP (ratio 0.6 +- 0.02)" in said) == (not moves)
    told = f"trades {turnover:.1f} times the value of KO a year, the static one 1.0"
    assert (told in said) == (turnover == turnover)


def test_a_plain_rival_that_does_better_for_less_is_named():
    rows = {"held": (0.50, 2.0), "dear": (0.60, 3.0), "cheap": (0.55, 1.0), "worse": (0.40, 0.5)}
    rows["held, half EWMAs"] = (0.58, 1.0)  # which is none
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["variance_removed", "turnover"])
    assert tell_better(table, "held") == [
        "Yet a plain one, cheap, removed more (55.0% against 50.0%) and traded no more: where neither "
        "band nor alarm is needed, hold that."
    ]
    assert tell_better(table, "dear") == []


def test_the_picture_shows_training_and_live_rows(constant):
    table = follow(constant.online(), PRICES.iloc[ROWS:])
    figure = hedge_ratio_and_spread(constant, table, static=0.6)
    above, below = figure.axes
    ratio = above.lines[0].get_ydata()
    np.testing.assert_array_equal(ratio[:ROWS], constant.hedge_ratio()["mean"])
    np.testing.assert_array_equal(ratio[ROWS:], table["beta PEP"])
    np.testing.assert_array_equal(below.lines[0].get_ydata()[-len(table) :], table["spread"])
    assert set(above.lines[1].get_ydata()) == {0.6}
    assert above.lines[1].get_linestyle() == "--"
    low, high = above.get_ylim()
    assert low <= 0.6 <= high
    assert [text.get_text() for text in above.get_legend().get_texts()] == [
        "filtered, 90 % band",
        "static, fitted overnight",
    ]
    band = above.collections[0].get_paths()[0].get_extents()
    assert band.height > np.ptp(ratio[60:])
    alone, spread = hedge_ratio_and_spread(constant).axes
    assert len(alone.lines) == 1
    assert len(spread.lines[0].get_ydata()) == ROWS


def test_the_picture_shows_every_hedge_with_its_static_ratio():
    prices = stock_prices(ROWS + 20)
    both = HedgeData.from_prices(prices.iloc[:ROWS], target="KO", hedges=["PEP", "SPX"])
    fitted = unsampled(both)
    static = {"SPX": 0.2, "PEP": 0.6}
    figure = hedge_ratio_and_spread(
        fitted, follow(fitted.online(), prices.iloc[ROWS:]), static=static
    )
    *ratios, spread = figure.axes
    assert spread.get_ylabel() == "spread of KO (log)"
    for axes, name in zip(ratios, both.hedges, strict=True):
        assert axes.get_ylabel() == f"ratio of KO to {name}"
        path, line, _ = axes.lines
        np.testing.assert_array_equal(path.get_ydata()[:ROWS], fitted.hedge_ratio()[name]["mean"])
        assert len(path.get_ydata()) == ROWS + 20
        assert set(line.get_ydata()) == {static[name]}
