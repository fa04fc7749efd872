"""The interface of the seed product, to all the digits it printed, and far from its settings."""

from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kfmodels import KalmanOLS
from tests import reference
from tests.faults.attacks import MANY
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


Matrix = tuple[Decimal, Decimal, Decimal]


def inverse(matrix: Matrix) -> Matrix:
    first, between, last = matrix
    size = first * last - between * between
    return last / size, -between / size, first / size


def by_information(rows: np.ndarray, setting: dict) -> np.ndarray:
    """Beta, alpha and the three covariances of the last row, by adding precisions in 120 digits."""
    noise = Decimal(setting["obs_cov"])
    start, step = (
        tuple(Decimal(setting[name][place]) for place in [(0, 0), (0, 1), (1, 1)])
        for name in ("init_cov", "trans_cov")
    )
    with localcontext(Context(prec=120)):
        precision, shift = inverse(start), (Decimal(0), Decimal(0))  # the mean of the start is 0
        for number, (y, x) in enumerate((Decimal(y), Decimal(x)) for y, x in rows.tolist()):
            if number > 0 and any(step):
                cov = inverse(precision)
                mean = cov[0] * shift[0] + cov[1] * shift[1], cov[1] * shift[0] + cov[2] * shift[1]
                xx, x1, ones = inverse((cov[0] + step[0], cov[1] + step[1], cov[2] + step[2]))
                precision = xx, x1, ones
                shift = xx * mean[0] + x1 * mean[1], x1 * mean[0] + ones * mean[1]
            xx, x1, ones = precision
            precision = xx + x * x / noise, x1 + x / noise, ones + 1 / noise
            shift = shift[0] + x * y / noise, shift[1] + y / noise
        cov = inverse(precision)
        mean = cov[0] * shift[0] + cov[1] * shift[1], cov[1] * shift[0] + cov[2] * shift[1]
        return np.array([float(number) for number in (*mean, *cov)])


def setting_of(seed: int) -> tuple[np.ndarray, dict]:
    """Prices and covariances, each size drawn from its whole range; the ends come often."""
    rng = np.random.default_rng(seed)

    def draw(low: float, high: float) -> float:
        size = rng.choice([0.0, rng.uniform(), 1.0], p=[0.2, 0.6, 0.2])
        return float(low * (high / low) ** size)

    def covariance(size: float) -> np.ndarray:
        other, between = size * draw(1e-3, 1), rng.choice([0.0, 0.9]) * size
        return np.array([[size, between * (other / size) ** 0.5], [0.0, other]])

    rows = int(draw(30, 1500))
    x = draw(1e-2, 1e5) * np.exp(draw(1e-5, 1e-2) * rng.normal(size=rows).cumsum())
    y = rng.normal() * x + x[0] * rng.normal() + draw(1e-4, 1) * x[0] * rng.normal(size=rows)
    init = covariance(draw(1e-6, 1e12))
    trans = covariance(draw(1e-12, 100)) * rng.choice([0.0, 1.0], p=[0.3, 0.7])
    for cov in (init, trans):
        cov[1, 0] = cov[0, 1]
    return np.column_stack([y, x]), {
        "init_cov": init,
        "trans_cov": trans,
        "obs_cov": draw(1e-6, 100),
    }


@pytest.mark.parametrize("seeds", [range(25), pytest.param(range(25, 625), marks=MANY)], ids=str)
def test_any_setting_is_right_to_the_digits_of_a_double(seeds):
    for seed in seeds:
        rows, setting = setting_of(seed)
        state = KalmanOLS(rows, **setting).state()
        found = [*state["mean"], *state["cov"][[0, 0, 1], [0, 1, 1]]]
        assert_allclose(found, by_information(rows, setting), rtol=1e-15, err_msg=str(seed))


def test_a_start_that_knows_nothing_gives_least_squares():
    """On prices of 100, where doubles lost the answer."""
    x = np.linspace(99.0, 101.0, 30)
    line = KalmanOLS(
        np.column_stack([2 * x + 3, x]), trans_cov=np.zeros((2, 2)), init_cov=1e12 * np.eye(2)
    )
    assert_allclose(line.state()["mean"], [2.0, 3.0], rtol=1e-9)


def test_a_covariance_of_one_direction_may_be_rounded():
    """0.1 * 0.9 < 0.3 ** 2 in doubles; the same step of both coefficients is a covariance."""
    step = np.outer([0.1, 0.3], [0.1, 0.3])
    assert np.linalg.det(step) != 0
    x = np.arange(1.0, 9.0)
    line = KalmanOLS(np.column_stack([x, x]), trans_cov=step, init_cov=1e6 * step)
    assert (np.diag(line.state()["cov"]) > 0).all()


@pytest.mark.parametrize(
    ("tick", "words"),
    [
        ({"X": np.inf, "Y": 1.0}, r"row 3 \(y 1.0, x inf\) has an infinite price; give NaN"),
        ({"X": "a", "Y": 1.0}, "X must be a number, not 'a'"),
        ({"X": 1.0, "Y": None}, "Y must be a number, not None"),
        ({"X": 1e30, "Y": 1.0}, "at row 3 .* above 1e50 times obs_cov .*give a smaller init_cov"),
    ],
)
def test_a_refused_tick_leaves_the_state(tick, words):
    line = KalmanOLS(np.ones((3, 2)))
    before = line.state()
    with pytest.raises(ValueError, match=words):
        line.update(**tick)
    assert str(line.state()) == str(before)
    assert len(line.history()["mean"]) == 3


def test_the_remedy_for_variances_too_far_apart():
    with pytest.raises(
        ValueError, match="give a smaller init_cov or trans_cov, or a larger obs_cov"
    ):
        KalmanOLS([[1e10, 1e10]], obs_cov=1e-20, init_cov=1e12 * np.eye(2))
    KalmanOLS([[1e10, 1e10]], obs_cov=1e-20, init_cov=np.eye(2))
    KalmanOLS([[1e10, 1e10]], obs_cov=1e-6, init_cov=1e12 * np.eye(2))


def test_a_state_too_large_for_a_double_is_refused():
    huge = 1.5e308 * np.eye(2)
    with pytest.raises(ValueError, match="the state after row 1 .* give prices in a larger unit"):
        KalmanOLS(np.full((2, 2), np.nan), init_cov=huge, trans_cov=huge)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dataset": np.ones((3, 3))}, r"needs two columns, y then x.*\(3, 3\)"),
        ({"dataset": [["a", "b"]]}, r"dataset must be numbers, not \[\['a', 'b'\]\]"),
        ({"dataset": [[1.0, np.inf]]}, "row 0 .*has an infinite price"),
        ({"obs_cov": 0.0}, "obs_cov is a variance and must be positive, not 0.0"),
        ({"obs_cov": np.nan}, "obs_cov is a variance and must be positive, not nan"),
        ({"obs_cov": np.inf}, "obs_cov is a variance and must be positive, not inf"),
        ({"obs_cov": "one"}, "obs_cov must be a number, not 'one'"),
        ({"init_beta": np.nan}, "init_beta and init_alpha must be finite numbers, not nan and 0.0"),
        ({"trans_cov": np.eye(3)}, r"trans_cov must be \(2, 2\)"),
        ({"init_cov": [[1, 2], [2, 1]]}, "init_cov is not a covariance"),
        ({"init_cov": [[1, 0.5], [0, 1]]}, "init_cov is not a covariance"),
        ({"init_cov": [[1e12, 0], [0, -1e-3]]}, "init_cov is not a covariance"),
        ({"init_cov": [[1e12, 1], [1, 0]]}, "init_cov is not a covariance"),
        ({"trans_cov": [[1e-10, 5e-9], [0, 1e-10]]}, "trans_cov is not a covariance"),
        ({"trans_cov": [[1e-12, 2e-12], [2e-12, 1e-12]]}, "trans_cov is not a covariance"),
        ({"trans_cov": [[np.inf, 0], [0, 1]]}, "trans_cov is not a covariance"),
        ({"trans_cov": [["a", 0], [0, 1]]}, "trans_cov must be numbers"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        KalmanOLS(**{"dataset": np.ones((3, 2))} | arguments)
