"""The legs chosen against every set of legs, the lots against every number of lots."""

import itertools

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from kfmodels.universe.netting import hedge_book
from tests.universe.books import book, objectives, real, simulated


def least_of_all_sets(
    cov: pd.DataFrame,
    positions: dict[str, float],
    hedges: list[str],
    *,
    most: int,
    cost: float,
    held: dict[str, float],
    greatest: float,
) -> float:
    """Least J over all sets of at most `most` legs, by coordinate descent in all sets at once."""
    n = len(hedges)
    sets = np.array([s for s in itertools.product([0, 1], repeat=n) if sum(s) <= most])
    own = pd.Series(positions).reindex(cov.columns, fill_value=0.0)
    sd = float(own @ cov @ own) ** 0.5
    curve = 2 * cov.loc[hedges, hedges].to_numpy() / sd
    pull = 2 * (cov @ own)[hedges].to_numpy() / sd
    before = np.array([held.get(name, 0.0) for name in hedges])
    x = np.zeros(sets.shape)
    for _ in range(3000):
        old = x.copy()
        for j in range(n):
            rest = -(pull[j] + x @ curve[j] - curve[j, j] * x[:, j]) / curve[j, j] - before[j]
            moved = np.sign(rest) * np.maximum(np.abs(rest) - 1e-4 * cost / curve[j, j], 0.0)
            x[:, j] = sets[:, j] * np.clip(before[j] + moved, -greatest, greatest)
        if np.abs(x - old).max() < 1e-6:
            break
    return float(objectives(cov, positions, hedges, x, held=held, cost=cost).min())


@pytest.mark.parametrize("kind", [simulated, real])
@pytest.mark.parametrize(
    ("seed", "most", "cost", "greatest"),
    [
        (0, 1, 0.0, np.inf),
        (1, 2, 5.0, np.inf),
        (2, 3, 1.0, 4e5),
        (3, 4, 20.0, np.inf),
        (4, 5, 1.0, 1e6),
    ],
)
def test_no_set_of_ten_legs_is_better_by_a_hundredth(kind, seed, most, cost, greatest):
    cov = kind(seed)
    positions, hedges = book(cov, seed)
    held = {hedges[0]: 3e5, hedges[4]: -2e5} if seed % 2 else {}
    options = {"cost": cost, "greatest": greatest, "held": held}
    found = hedge_book(cov, positions, hedges=hedges, legs=most, band=0.0, **options)
    wanted = found.orders["wanted"]
    assert (wanted != 0).sum() <= most
    money = wanted.reindex(hedges, fill_value=0.0).to_numpy()[None]
    assert_allclose(
        found.objective, objectives(cov, positions, hedges, money, held=held, cost=cost), rtol=1e-9
    )
    least = least_of_all_sets(cov, positions, hedges, most=most, **options)
    assert least * (1 - 1e-7) <= found.objective <= 1.01 * least


@pytest.mark.parametrize("seed", range(6))
def test_least_sizes_are_kept_at_the_least_objective(seed):
    """Against every side of every leg: out, long at least so much, short at least so much."""
    cov = simulated(seed)
    positions, hedges = book(cov, seed, legs=4)
    least = 4e5
    found = hedge_book(cov, positions, hedges=hedges, least=least, band=0.0, cost=3.0)
    sizes = found.orders["wanted"].abs()
    assert (sizes[sizes > 0] >= least * (1 - 1e-9)).all()
    grid = least * np.array([-4, -3, -2.5, -2, -1.5, -1.25, -1, 0, 1, 1.25, 1.5, 2, 2.5, 3, 4])
    ways = np.array(list(itertools.product(grid, repeat=4)))
    best = objectives(cov, positions, hedges, ways, cost=3.0).min()
    assert found.objective <= best * (1 + 1e-9)
    free = hedge_book(cov, positions, hedges=hedges, band=0.0, cost=3.0)
    assert found.objective >= free.objective * (1 - 1e-9)


def test_two_legs_that_help_only_together_are_found():
    """The slope of a curve: one leg alone, at its least size, adds more of the level than it hedges."""
    names = ["P", "A", "B", "C", "D"]
    level, slope = np.array([0, 1, 1, 0.9, 0.8]), np.array([1, 0.1, -0.1, 0, 0])
    cov = 1e-4 * (np.outer(level, level) + np.outer(slope, slope)) + 1e-7 * np.eye(5)
    found = hedge_book(
        pd.DataFrame(cov, names, names), {"P": 1e6}, hedges=names[1:], least=2e6, cost=5.0, legs=2
    )
    assert list(found.trades.index) == ["A", "B"]
    assert found.removed > 0.7


@pytest.mark.parametrize("seed", range(8))
def test_whole_lots_are_within_a_hundredth_of_every_number_of_lots(seed):
    cov = simulated(seed)
    positions, hedges = book(cov, seed, legs=3)
    prices, held = {"A0": 40.0, "A1": 55.0, "A2": 130.0}, {"A1": 123_456.0}
    found = hedge_book(
        cov, positions, hedges=hedges, held=held, prices=prices, lots=5000, band=0.0, cost=2.0
    )
    lots = found.orders["lots"]
    closed = found.orders["wanted"] == 0
    assert_allclose(lots[~closed], lots[~closed].round(), atol=1e-9)
    tried = []
    for name in hedges:
        before, lot = held.get(name, 0.0), 5000 * prices[name]
        tried.append([0.0, *(before + lot * np.arange(-15, 16))])
    ways = np.array(list(itertools.product(*tried)))
    least = objectives(cov, positions, hedges, ways, held=held, cost=2.0).min()
    assert least * (1 - 1e-9) <= found.objective <= 1.01 * least


@pytest.mark.parametrize("seed", range(6))
def test_the_band_leaves_legs_as_held_for_less_than_its_share(seed):
    cov = real(seed)
    positions, hedges = book(cov, seed)
    exact = hedge_book(cov, positions, hedges=hedges, band=0.0)
    rng = np.random.default_rng(seed)
    held = {name: money * rng.uniform(0.7, 1.3) for name, money in exact.trades.items()}
    best = hedge_book(cov, positions, hedges=hedges, held=held, band=0.0)
    some = hedge_book(cov, positions, hedges=hedges, held=held, band=0.02)
    assert len(some.trades) < len(best.trades)
    assert best.objective <= some.objective < 1.02 * best.objective
    kept = some.orders.drop(some.trades.index)
    assert (kept["wanted"] == kept["held"]).all()
    # one leg more left alone would cost more than the band
    for name in some.trades.index:
        fixed = {leg: held.get(leg, 0.0) for leg in [*some.left, name]}
        others = [leg for leg in hedges if leg not in fixed]
        if others:
            again = hedge_book(
                cov,
                positions | fixed,
                hedges=others,
                held={leg: held.get(leg, 0.0) for leg in others},
                band=0.0,
                risk_price=best.risk_price,
            )
            assert again.objective >= 1.02 * best.objective * (1 - 1e-9)
