"""The engine against a plain loop that shares nothing with it, and its parts against mathematics."""

import numpy as np
import pytest
from scipy import stats

from kfmodels.basket.basket import Basket
from kfmodels.basket.moments import Others
from kfmodels.basket.settings import FixedShare, Forgetting
from kfmodels.basket.structures import choose_legs, invert_by_halves, place
from kfmodels.basket.tails import TAILS, Mixture, student_below
from tests.basket.conftest import TICKERS, draw_moves, feed, prices_of
from tests.basket.plain import forward, replay

WAYS = {
    "all with all": {},
    "one leg": {"legs": 1},
    "three legs": {"legs": 3},
    "few hedges": {"hedges": ["A", "C", "D"]},
    "few hedges, few targets": {"hedges": ["A", "C", "D"], "targets": ["B", "C"]},
    "targets that are no hedges": {"hedges": ["A", "C", "D", "E"], "targets": ["F", "B"]},
    "three legs of few": {"hedges": ["A", "C", "D", "E"], "legs": 3},
    "fixed share": {"weighing": FixedShare()},
}


@pytest.mark.variants
@pytest.mark.parametrize("way", WAYS)
def test_the_engine_is_the_plain_loop(way, moves, prices):
    settings = WAYS[way]
    numbers = {
        role: [TICKERS.index(name) for name in settings[role]]
        for role in ("hedges", "targets")
        if role in settings
    }
    share = 0.003 if "weighing" in settings else None
    plain = replay(moves, limit=settings.get("legs"), share=share, **numbers)
    basket = Basket(TICKERS, shocks=None, **settings)
    ticks = feed(basket, prices)[1:]
    own = [TICKERS.index(name) for name in basket.targets]
    scores, below = (np.array([getattr(t, of) for t in ticks]) for of in ("log_score", "below"))
    np.testing.assert_allclose(scores[:, own], plain.scores, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(below[:, own], plain.below, rtol=1e-9, atol=1e-9)
    assert np.isnan(np.delete(scores, own, 1)).all()
    np.testing.assert_allclose(basket.ratios(), plain.ratios, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(basket.sd(), plain.sd, rtol=1e-7, atol=1e-9)
    if legs := settings.get("legs"):
        assert ((basket.ratios() != 0).sum(1) <= legs).all()


@pytest.mark.parametrize("hedges", [range(9), [0, 2, 3, 5, 8]])
def test_legs_are_chosen_as_least_squares_would(hedges):
    rng = np.random.default_rng(3)
    corr = np.corrcoef(draw_moves(4, 80, 9).T + 0.002 * rng.normal(size=(9, 80)))
    hedges = list(hedges)
    chosen, useful = choose_legs(corr, place(np.arange(9), np.array(hedges)), 4)
    assert useful.all()
    for target, legs in enumerate(chosen):
        others = [j for j in hedges if j != target]
        assert [hedges[leg] for leg in legs] == forward(corr, target, others, 4)


def test_a_hedge_that_adds_nothing_is_no_leg():
    corr = np.corrcoef(draw_moves(5, 80, 3).T)
    twice = corr[np.ix_([0, 1, 1, 2], [0, 1, 1, 2])]
    chosen, useful = choose_legs(twice, place(np.array([0]), np.arange(4)), 3)
    assert sorted(chosen[0, useful[0]].tolist()) in ([1, 3], [2, 3])


def test_gaps_are_filled_as_a_gaussian_says():
    rng = np.random.default_rng(6)
    corr, sd = np.corrcoef(rng.normal(size=(5, 30))), rng.uniform(0.5, 2, 5)
    move, missing = rng.normal(size=5), np.array([0, 1, 0, 0, 1], bool)
    filled, gap = Others.of(corr, sd).fill(np.where(missing, np.nan, move), missing)
    cov = (corr + 0.03 * np.eye(5)) * np.outer(sd, sd)
    seen = cov[np.ix_(~missing, ~missing)]
    across = cov[np.ix_(missing, ~missing)]
    np.testing.assert_allclose(filled[missing], across @ np.linalg.solve(seen, move[~missing]))
    np.testing.assert_array_equal(filled[~missing], move[~missing])
    left = (corr * np.outer(sd, sd))[np.ix_(missing, missing)]
    left = left - across @ np.linalg.solve(seen, across.T)
    np.testing.assert_allclose(gap.covariance, left, rtol=1e-9)
    # and what all other moves that were seen say of one of them
    for i in np.flatnonzero(~missing):
        others = [j for j in np.flatnonzero(~missing) if j != i]
        said = cov[i, others] @ np.linalg.solve(cov[np.ix_(others, others)], move[others])
        found = Others.of(corr, sd).surprise(filled, missing)[i]
        np.testing.assert_allclose(found, move[i] - said, rtol=1e-9)


def test_a_gap_is_filled_without_the_move_of_one_asset_as_though_it_were_missing_too():
    rng = np.random.default_rng(7)
    others = Others.of(np.corrcoef(rng.normal(size=(6, 30))), rng.uniform(0.5, 2, 6))
    move, missing = rng.normal(size=6), np.array([0, 1, 0, 0, 1, 0], bool)
    filled, gap = others.fill(move, missing)
    for i in np.flatnonzero(~missing):
        also = missing | (np.arange(6) == i)
        without, wider = others.fill(move, also)
        same = np.isin(wider.where, gap.where)
        np.testing.assert_allclose(filled[missing] + gap.shift[:, i], without[missing])
        covariance = gap.covariance + np.outer(gap.widen[:, i], gap.widen[:, i])
        np.testing.assert_allclose(covariance, wider.covariance[np.ix_(same, same)])
    assert not gap.shift[:, missing].any()
    assert not gap.widen[:, missing].any()


def test_distribution_and_quantiles_are_those_of_t():
    values = np.array([-80.0, -3.0, -0.2, 0.0, 1e-3, 2.0, 500.0])
    found = student_below(np.repeat(values[:, None], 3, 1))
    np.testing.assert_allclose(found, stats.t.cdf(values[:, None], TAILS), rtol=1e-12, atol=1e-16)
    one = Mixture(np.zeros((1, 1)), np.full((1, 1), 1.5), np.ones((1, 1)), np.eye(3)[1:2])
    for level in (1e-9, 0.01, 0.5, 0.95, 1 - 1e-9):
        # squared scale 1.5 * 4 / 6 = 1
        np.testing.assert_allclose(
            one.quantile(level), stats.t.ppf(level, 6), rtol=1e-7, atol=1e-12
        )
    with pytest.raises(ValueError, match="between 0 and 1"):
        one.quantile(1.0)
    two = Mixture(
        np.array([[-1.0, 2.0]]), np.array([[0.5, 2.0]]), np.array([[0.3, 0.7]]), np.ones((1, 3)) / 3
    )
    np.testing.assert_allclose(two.below(two.quantile(0.2)), 0.2, rtol=1e-12)
    assert two.centre()[0] == pytest.approx(1.1)
    assert two.centre()[1] ** 2 == pytest.approx(0.3 * 0.5 + 0.7 * 2 + 0.3 * 0.7 * 9)


def test_a_forecast_is_what_the_next_row_is_scored_by(prices):
    basket = Basket(TICKERS)
    feed(basket, prices[:-1])
    row = dict(zip(TICKERS, prices[-1].tolist(), strict=True))
    forecast = basket.forecast(row)
    before, held = basket.last, basket.ratios()
    tick = basket.update(row)
    np.testing.assert_allclose(forecast.log_density(tick.move), tick.log_score, rtol=1e-12)
    np.testing.assert_allclose(forecast.below(tick.move), tick.below, rtol=1e-12)
    np.testing.assert_allclose(forecast.mean, held @ tick.move, rtol=1e-9)
    np.testing.assert_allclose(tick.spread, tick.move - held @ tick.move, rtol=1e-9)
    fair = forecast.price()
    assert (forecast.price(0.05) < fair).all()
    assert (fair < forecast.price(0.95)).all()
    np.testing.assert_allclose(
        fair, [before[name] for name in TICKERS] * np.exp(forecast.quantile(0.5))
    )


def test_nothing_depends_on_units_or_on_the_order_of_tickers(prices):
    plain, mixed = Basket(TICKERS), Basket(TICKERS[::-1])
    feed(plain, prices)
    feed(mixed, (prices * np.array([1, 7, 0.01, 1, 300, 1]))[:, ::-1])
    np.testing.assert_allclose(mixed.ratios()[::-1, ::-1], plain.ratios(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mixed.sd()[::-1, ::-1], plain.sd(), rtol=1e-7, atol=1e-12)


def test_weights_add_up(prices):
    basket = Basket(TICKERS)
    feed(basket, prices)
    np.testing.assert_allclose(basket.weights().sum((1, 2)), 1)
    np.testing.assert_allclose(sum(basket.shares().values()), 1)
    assert list(basket.shares()) == ["legs", "ridge", "factors", "reweighted"]
    assert (basket.memory() > 50).all()
    assert (basket.memory() < 500).all()
    assert Forgetting(1.0, 1.0).weigh(np.log([[0.2, 0.8]])) == pytest.approx(np.array([[0.2, 0.8]]))


@pytest.mark.parametrize("legs", [None, 2])
def test_intervals_of_a_ratio_hold_it(legs):
    """Of independent moves the true ratios are those of their covariance, here constant."""
    rng = np.random.default_rng(8)
    root = rng.normal(0, 0.3, (6, 6)) + np.eye(6)
    if legs:  # as many legs as the truth has: B and C on A alone
        root = np.eye(6)
        root[1, 0] = root[2, 0] = 0.8
    inside = []
    for _ in range(3):
        basket = Basket(TICKERS, legs=legs, shocks=None)
        feed(basket, prices_of(0.01 * rng.normal(size=(500, 6)) @ root.T))
        inverse = np.linalg.inv(root @ root.T)
        truth = -inverse / np.diag(inverse)[:, None]
        off = np.abs(basket.ratios() - truth) / np.maximum(basket.sd(), 1e-12)
        where = ~np.eye(6, dtype=bool)
        inside.append(off[where] < 1.645)
    assert np.mean(inside) > 0.8


@pytest.mark.parametrize("size", [5, 24, 25, 61])
def test_inverses_by_halves_are_inverses(size):
    rng = np.random.default_rng(size)
    rows = rng.normal(size=(3, 2 * size, size))
    matrices = rows.swapaxes(1, 2) @ rows + 0.01 * np.eye(size)
    found = invert_by_halves(matrices)
    np.testing.assert_allclose(found @ matrices, np.repeat(np.eye(size)[None], 3, 0), atol=1e-10)
