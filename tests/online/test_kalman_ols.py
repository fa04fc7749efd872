"""The interface of the seed product, to all the digits it printed."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kfmodels import KalmanOLS
from tests.tables import read_table

AFTER_294 = (
    [0.5862619781348402, 0.0034064598573656443],
    [0.005189436104539258, -1.2330712005856919, 293.98884752492955],
)
AFTER_295 = (
    [0.5861620741470888, 0.003405671636829966],
    [0.005238177410697875, -1.2409605965399522, 294.9887852793271],
)
TICK = {"X": 237.97, "Y": 139.34}
TICK_AFTER_294 = (
    [0.5855217106683254, 0.0034016229939260647],
    [0.005226738319753954, -1.23960489716516, 294.9888048341461],
)
TICK_AFTER_295 = (
    [0.5855216995507875, 0.0034038488248975996],
    [0.005244396950524588, -1.243807056418034, 295.98877718694285],
)


def matrix(three: list[float]) -> np.ndarray:
    slope, cross, level = three
    return np.array([[slope, cross], [cross, level]])


def agrees(state: dict, printed: tuple[list[float], list[float]], last: float = 1e-12) -> None:
    mean, cov = printed
    assert_allclose(state["mean"], mean, rtol=1e-12)
    found = [state["cov"][0, 0], state["cov"][0, 1], state["cov"][1, 1]]
    assert_allclose(found[:2], cov[:2], rtol=1e-12)
    assert_allclose(found[2], cov[2], rtol=last)


def standing_at(printed: tuple[list[float], list[float]]) -> KalmanOLS:
    """A filter whose last state is the printed one: no rows, and the step of the next row added."""
    (beta, alpha), cov = printed
    return KalmanOLS(np.empty((0, 2)), init_alpha=alpha, init_beta=beta, init_cov=matrix(cov))


@pytest.mark.parametrize(
    ("before", "after", "last"),
    # one digit of the second print is wrong: 295.98877718694285 for what the recursion gives
    [(AFTER_294, TICK_AFTER_294, 1e-12), (AFTER_295, TICK_AFTER_295, 1e-7)],
)
def test_one_tick_from_a_printed_state(before, after, last):
    agrees(standing_at(before).update(**TICK), after, last)


@pytest.mark.parametrize(
    ("rows", "state", "after", "last"),
    [(294, AFTER_294, TICK_AFTER_294, 1e-12), (295, AFTER_295, TICK_AFTER_295, 1e-7)],
)
def test_the_whole_dataset(rows, state, after, last):
    prices = read_table("aapl_spy_close_2016_2017.csv")
    line = KalmanOLS(dataset=prices[["AAPL", "SPY"]].iloc[:rows])
    agrees(line.state(), state)
    agrees(line.getState(), state)
    agrees(line.update(**TICK), after, last)
    assert len(line.history()["mean"]) == rows + 1


def textbook(rows: np.ndarray, mean: np.ndarray, cov: np.ndarray, trans: np.ndarray, obs: float):
    """The recursion as a book prints it, in absolute units, Joseph's form."""
    means, covs = [], []
    for number, (y, x) in enumerate(rows):
        cov = cov + trans * (number > 0)
        if not np.isnan(y + x):
            h = np.array([x, 1.0])
            gain = cov @ h / (h @ cov @ h + obs)
            mean = mean + gain * (y - h @ mean)
            keep = np.eye(2) - np.outer(gain, h)
            cov = keep @ cov @ keep.T + obs * np.outer(gain, gain)
        means.append(mean)
        covs.append(cov)
    return np.array(means), np.array(covs)


def test_every_argument_does_what_a_textbook_loop_does():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(40, 2)) * [1, 3] + [5, 20]
    rows[[7, 8], 0], rows[20, 1] = np.nan, np.nan
    trans, start = np.array([[0.02, -0.01], [-0.01, 0.3]]), np.array([[2.0, 0.5], [0.5, 1.0]])
    line = KalmanOLS(
        rows, init_alpha=1.5, init_beta=-0.3, trans_cov=trans, obs_cov=0.4, init_cov=start
    )
    means, covs = textbook(rows, np.array([-0.3, 1.5]), start, trans, 0.4)
    history = line.history()
    assert history["mean"].shape == (40, 2)
    assert history["cov"].shape == (40, 2, 2)
    assert_allclose(history["mean"], means, rtol=1e-10)
    assert_allclose(history["cov"], covs, rtol=1e-10)
    assert_allclose(line.state()["mean"], means[-1], rtol=1e-10)


def test_history_grows_with_each_update():
    line = KalmanOLS(np.array([[2.0, 1.0], [4.1, 2.0]]))
    state = line.update(X=3.0, Y=6.0)
    assert len(line.history()["mean"]) == 3
    assert_allclose(line.history()["mean"][-1], state["mean"])


def test_a_row_without_a_price_only_diffuses():
    line = KalmanOLS(np.array([[2.0, 1.0]]))
    before = line.state()
    after = line.update(X=1.0, Y=np.nan)
    assert_allclose(after["mean"], before["mean"])
    assert_allclose(after["cov"], before["cov"] + np.eye(2))


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
