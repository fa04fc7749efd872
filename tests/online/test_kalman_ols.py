"""The interface of the seed product, to all the digits it printed."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kfmodels import KalmanOLS
from tests import reference
from tests.tables import read_table
from tests.test_oracles import SEED_STATES, TICKS, full

TICK = {"X": 237.97, "Y": 139.34}


def agrees(state: dict, printed: tuple[list[float], list[float]]) -> None:
    mean, cov = printed
    assert_allclose(state["mean"], mean, rtol=1e-12)
    assert_allclose(state["cov"], full(cov), rtol=1e-12)


def standing_at(printed: tuple[list[float], list[float]]) -> KalmanOLS:
    """A filter whose last state is the printed one: no rows, and the step of the next row added."""
    (beta, alpha), cov = printed
    return KalmanOLS(np.empty((0, 2)), init_alpha=alpha, init_beta=beta, init_cov=full(cov))


@pytest.mark.parametrize("rows", [294, 295])
def test_one_tick_from_a_printed_state(rows):
    agrees(standing_at(SEED_STATES[rows]).update(**TICK), TICKS[rows])


@pytest.mark.parametrize("rows", [294, 295])
def test_the_whole_dataset(rows):
    prices = read_table("aapl_spy_close_2016_2017.csv")
    line = KalmanOLS(dataset=prices[["AAPL", "SPY"]].iloc[:rows])
    for state in (line.state(), line.getState()):
        agrees(state, SEED_STATES[rows])
    agrees(line.update(**TICK), TICKS[rows])
    assert len(line.history()["mean"]) == rows + 1


def test_every_argument_does_what_a_textbook_loop_does():
    """Rows given at once and rows given one by one; among both some without a price."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(40, 2)) * [1, 3] + [5, 20]
    rows[[7, 8, 31], 0], rows[20, 1] = np.nan, np.nan
    trans, start = np.array([[0.02, -0.01], [-0.01, 0.3]]), np.array([[2.0, 0.5], [0.5, 1.0]])
    line = KalmanOLS(
        rows[:30], init_alpha=1.5, init_beta=-0.3, trans_cov=trans, obs_cov=0.4, init_cov=start
    )
    for y, x in rows[30:]:
        line.update(X=x, Y=y)
    seen = ~np.isnan(rows).any(1)
    known = np.where(seen[:, None], rows, 0.0)
    loop = reference.loop(
        known[:, 0],
        design=np.column_stack([known[:, 1], np.ones(40)]),
        initial_mean=np.array([-0.3, 1.5]),
        initial_cov=start,
        obs_var=0.4,
        state_cov=trans,
        observed=seen,
    )
    history = line.history()
    assert_allclose(history["mean"], loop.filtered_mean, rtol=1e-10)
    assert_allclose(history["cov"], loop.filtered_cov, rtol=1e-10)
    assert_allclose(line.state()["mean"], history["mean"][-1], rtol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dataset": np.ones((3, 3))}, r"needs two columns, y then x.*\(3, 3\)"),
        ({"obs_cov": 0.0}, "obs_cov is a variance and must be positive, not 0.0"),
        ({"trans_cov": np.eye(3)}, r"trans_cov must be \(2, 2\)"),
        ({"init_cov": [[1, 2], [2, 1]]}, "init_cov is not a covariance"),
        ({"init_cov": [[1, 0.5], [0, 1]]}, "init_cov is not a covariance"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        KalmanOLS(**{"dataset": np.ones((3, 2))} | arguments)
