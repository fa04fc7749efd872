"""The monitor: false alarms as rare and changes found as soon as stated, on one pair or many."""

import json
import math
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from kfmodels.data import datasets
from kfmodels.live.monitor import BOUND, KINDS, Alarm, Monitor, Watch, normal_score
from tests import reference
from tests.tables import read_table

FIELDS = {"variance up": "variance_up", "variance down": "variance_down", "mean up": "mean"}
ACCURACY = 0.03  # of the rate of false alarms, stated at the head of the module


def ratio(kind: str, monitor: Monitor, z, last):
    """Log likelihood ratio of one bar, from densities."""
    near, before = np.clip(z, -BOUND, BOUND), np.clip(last, -BOUND, BOUND)
    sign = -1 if kind in ("negative autocorrelation", "mean down") else 1
    if kind.startswith("variance"):
        sd = math.sqrt(getattr(monitor, FIELDS[kind]))
        return stats.norm.logpdf(z, 0, sd) - stats.norm.logpdf(z)
    if kind.startswith("mean"):
        return stats.norm.logpdf(near, sign * monitor.mean) - stats.norm.logpdf(near)
    rho = sign * monitor.autocorrelation
    density = stats.norm.logpdf(near, rho * before, math.sqrt(1 - rho * rho))
    return density - stats.norm.logpdf(near)


def mean_delay(
    kind: str, size: float, threshold: float, cells: int, changed: bool = False
) -> float:
    """Mean bars until a CUSUM that starts at 0 passes its threshold, by its Markov chain.

    Source: Brook and Evans (1972), An approach to the probability distribution of CUSUM run length,
    Biometrika 59.
    """
    sd, mean = 1.0, 0.0
    if changed:
        sd, mean = (1.0, size) if kind == "mean up" else (math.sqrt(size), 0.0)
    width = 2 * threshold / (2 * cells - 1)
    step = (np.arange(1 - cells, cells) + 0.5) * width
    if kind == "mean up":
        z = (step + size * size / 2) / size
        below = np.where(z < BOUND, stats.norm.cdf(z - mean), 1)
    else:
        square = (step + math.log(size) / 2) / ((1 - 1 / size) / 2) / sd**2
        below = stats.chi2.cdf(square, 1) if size > 1 else stats.chi2.sf(square, 1)
    state = np.arange(cells)
    moves = np.diff(below[state - state[:, None] + cells - 1], axis=1, prepend=0)
    return np.linalg.solve(np.eye(cells) - moves, np.ones(cells))[0]


def alarms_of(z: pd.Series) -> list[tuple[pd.Timestamp, Alarm]]:
    watch = Monitor().start()
    return [(at, alarm) for at, value in z.items() for _, alarm in watch.update(value)]


@pytest.mark.parametrize(
    ("dof", "within", "var"), [(3, 0.029, 0.994), (5, 0.012, 0.998), (10, 0.003, 1.0)]
)
def test_the_normal_score_is_as_near_as_stated(dof, within, var):
    scale = math.sqrt((dof - 2) / dof)
    score = np.linspace(0.01, 4, 1000)
    z = stats.t.isf(stats.norm.sf(score), dof) * scale
    away = abs(normal_score(z, dof) / score - 1).max()
    assert within - 0.001 < away < within
    assert_array_equal(normal_score(-z, dof), -normal_score(z, dof))
    even = stats.t.ppf((np.arange(100_000) + 0.5) / 100_000, dof) * scale
    assert normal_score(even, dof).var() == pytest.approx(var, abs=5e-4)


def test_a_student_forecast_with_no_tails_is_normal():
    z = np.array([-30.0, -0.0, 1e-9, 2.0])
    assert_allclose(normal_score(z, math.inf), z, rtol=1e-6)
    assert np.isnan(normal_score(math.nan, 5.0))


def test_a_watch_is_the_textbook_cusum():
    monitor = Monitor(250)
    z = np.random.default_rng(0).standard_t(3, 3000)  # tails, so that all kinds of bar occur
    watch, level, since = monitor.start(), dict.fromkeys(KINDS, 0.0), dict.fromkeys(KINDS, 0)
    seen, ratios = set(), {kind: ratio(kind, monitor, z, np.append(0.0, z[:-1])) for kind in KINDS}
    for t, value in enumerate(z):
        rung = {alarm.kind: alarm for _, alarm in watch.update(value)}
        for kind, top in monitor.thresholds().items():
            level[kind] = max(0.0, level[kind] + ratios[kind][t])
            since[kind] = since[kind] + 1 if level[kind] else 0
            assert (kind in rung) == (level[kind] > top)
            if kind in rung:
                check_alarm(rung[kind], z, t)
                assert rung[kind].evidence == pytest.approx(level[kind])
                assert (rung[kind].bars, rung[kind].threshold) == (since[kind], top)
                level[kind] = since[kind] = 0
        seen |= rung.keys()
        assert_allclose(watch.evidence, list(level.values()), atol=1e-9)
    assert seen >= set(KINDS) - {"variance down", "mean down"}


def check_alarm(alarm: Alarm, z: np.ndarray, t: int) -> None:
    """Its size is that of z in the last bars, and its sentence says so."""
    now, last = (np.concatenate([[0.0], z])[t + k - alarm.bars : t + k] for k in (2, 1))
    near, last = np.clip(now, -BOUND, BOUND), np.clip(last, -BOUND, BOUND)
    size = {
        "variance": math.sqrt((now**2).mean()),
        "mean": near.mean(),
        "autocorrelation": 2 * near @ last / (near @ near + last @ last),
    }[next(word for word in ("variance", "mean", "autocorrelation") if word in alarm.kind)]
    assert alarm.size == pytest.approx(size)
    span = "this bar" if alarm.bars == 1 else f"{alarm.bars} bars"
    assert alarm.message.startswith(f"{alarm.kind}: for {span} z had ")
    assert f"{size:.2f}" in alarm.message


@pytest.mark.parametrize("bars", [250, 2520])
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("mean up", (0.25, 0.5, 1.0, 1.5)),
        ("variance up", (1.5, 2.0, 3.0, 4.0)),
        ("variance down", (0.25, 0.4, 0.5, 0.7)),
    ],
)
def test_the_thresholds_give_the_rate_asked_for(kind, sizes, bars):
    for size in sizes:
        top = Monitor(bars, **{FIELDS[kind]: size}).thresholds()[kind]
        coarse, fine = (mean_delay(kind, size, top, cells) / (6 * bars) for cells in (300, 600))
        assert fine == pytest.approx(1, abs=ACCURACY + abs(fine - coarse))


@pytest.mark.parametrize("rho", [0.1, 0.3, 0.5, 0.7, -0.3])
def test_the_thresholds_give_the_rate_asked_for_with_autocorrelation(rho):
    """Chance that a cycle of the CUSUM passes, sampled under the alternative and weighted back."""
    random, bars = np.random.default_rng(1), 2520
    monitor = Monitor(bars, autocorrelation=abs(rho))
    kind = "positive autocorrelation" if rho > 0 else "negative autocorrelation"
    threshold, rest = monitor.thresholds()[kind], 1 - rho * rho

    def told(z, last):
        return -math.log(rest) / 2 - (rho**2 * (z**2 + last**2) - 2 * rho * z * last) / 2 / rest

    def bounded(z, last):
        return told(np.clip(z, -BOUND, BOUND), np.clip(last, -BOUND, BOUND))

    level, last, starts = np.zeros(2000), random.standard_normal(2000), []
    for t in range(600):
        z = random.standard_normal(2000)
        level, last = np.maximum(0, level + bounded(z, last)), z
        if t >= 100:
            starts.append(last[level == 0])
    length = 500 * 2000 / sum(map(len, starts))

    cycles = 40_000
    last = random.choice(np.concatenate(starts), cycles)
    level, log_ratio, weights = np.zeros(cycles), np.zeros(cycles), np.zeros(0)
    while len(last):
        z = rho * last + math.sqrt(rest) * random.standard_normal(len(last))
        level, log_ratio, last = level + bounded(z, last), log_ratio + told(z, last), z
        weights = np.append(weights, np.exp(-log_ratio[level > threshold]))
        on = (level > 0) & (level <= threshold)
        level, log_ratio, last = level[on], log_ratio[on], last[on]
    chance = weights.sum() / cycles
    error = math.sqrt((weights**2).sum() / cycles - chance**2) / math.sqrt(cycles) / chance
    assert error < 0.02
    assert length / chance / (6 * bars) == pytest.approx(1, abs=ACCURACY + 3 * error)


@pytest.mark.parametrize("dof", [None, 10.0])
def test_false_alarms_are_as_seldom_as_stated(dof):
    random, pairs, settle, bars = np.random.default_rng(2), 2000, 200, 1500
    board, counts, close = Monitor(2520).board(pairs), np.zeros(pairs), []
    for t in range(settle + bars):
        z = random.standard_normal(pairs) if dof is None else random.standard_t(dof, pairs)
        found = board.update(z if dof is None else z * math.sqrt((dof - 2) / dof), dof)
        if t >= settle:
            np.add.at(counts, [pair for pair, _ in found], 1)
        if t % 100 == 99 and t >= settle:
            close.append(board.conditions.count("watch") / pairs)
    assert counts.sum() > 1000
    expected = bars / 2520
    assert counts.mean() == pytest.approx(expected, abs=3 * counts.std() / math.sqrt(pairs))
    assert np.mean(close) == pytest.approx(0.038, abs=0.002)


def after(kind: str, size: float, noise: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The next z after the change."""
    if kind.startswith("variance"):
        return noise * math.sqrt(size)
    if kind.startswith("mean"):
        return noise + size
    return size * last + math.sqrt(1 - size**2) * noise


def delays(kind: str, size: float, settle: int) -> np.ndarray:
    """Bars from a change to the alarm of its kind, of 1000 pairs that were right until then."""
    random, pairs = np.random.default_rng(3), 1000
    board, last, bars = Monitor().board(pairs), np.zeros(pairs), np.zeros(pairs)
    for _ in range(settle):
        last = random.standard_normal(pairs)
        board.update(last)
    for t in range(1, 2000):
        last = after(kind, size, random.standard_normal(pairs), last)
        for pair, alarm in board.update(last):
            if alarm.kind == kind and not bars[pair]:
                bars[pair] = t
        if bars.all():
            return bars
    raise AssertionError(f"{(bars == 0).sum()} changes were never found")


@pytest.mark.parametrize(
    ("kind", "size", "stated"),
    [
        ("variance up", 2.0, 41),
        ("variance up", 1.54**2, 26),
        ("variance down", 0.5, 62),
        ("positive autocorrelation", 0.3, 110),
        ("negative autocorrelation", -0.3, 110),
        ("mean up", 0.5, 49),
        ("mean down", -0.5, 49),
    ],
)
def test_changes_are_found_as_soon_as_stated(kind, size, stated):
    bars = delays(kind, size, settle=200)
    assert bars.mean() == pytest.approx(stated, abs=0.5 + 3 * bars.std() / math.sqrt(len(bars)))


@pytest.mark.parametrize("kind", list(FIELDS))
def test_delays_from_the_start_are_those_of_the_markov_chain(kind):
    monitor = Monitor()
    size, top = getattr(monitor, FIELDS[kind]), monitor.thresholds()[kind]
    bars = delays(kind, size, settle=0)
    exact = mean_delay(kind, size, top, 600, changed=True)
    assert bars.mean() == pytest.approx(exact, abs=3 * bars.std() / math.sqrt(len(bars)))


def test_each_pair_of_a_board_is_watched_as_if_alone():
    """One pair goes through numbers of Python, many through arrays."""
    random, pairs = np.random.default_rng(4), 30
    z = random.standard_normal((800, pairs)) * np.linspace(0.6, 1.6, pairs)
    z[200:, ::3] += 0.7
    z[random.random(z.shape) < 0.05] = np.nan
    dof = random.uniform(2.5, 30, z.shape)
    dof[np.isnan(z)] = np.nan
    dof[random.random(z.shape) < 0.1] = np.inf
    monitor, many = Monitor(500, broken_bars=10), 0
    board, watches = monitor.board(pairs), [monitor.start() for _ in range(pairs)]
    for t in range(len(z)):
        degrees = [None] * pairs if t % 7 == 0 else dof[t]
        together = board.update(z[t], None if t % 7 == 0 else degrees)
        alone = [
            (pair, alarm)
            for pair, watch in enumerate(watches)
            for _, alarm in watch.update(z[t, pair], degrees[pair])
        ]
        for (pair, found), (number, alarm) in zip(together, alone, strict=True):
            assert (pair, found.kind, found.bars) == (number, alarm.kind, alarm.bars)
            assert (found.action, found.message) == (alarm.action, alarm.message)
            assert_allclose((found.size, found.evidence), (alarm.size, alarm.evidence), rtol=1e-9)
        assert board.conditions == [watch.condition for watch in watches]
        many += len(alone)
    assert many > 100
    assert board.condition == max(board.conditions, key=["ok", "watch", "broken"].index)
    for name in ("evidence", "sums", "bars", "last", "broken_left"):
        singles = np.array([getattr(watch, name) for watch in watches]).T
        assert_allclose(getattr(board, name), singles, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pairs", [1, 3])
def test_a_reload_goes_on_to_the_last_bit(pairs):
    z, rung = np.random.default_rng(5).standard_t(4, (400, pairs)), 0
    watch = Monitor(250).board(pairs)
    for row in z[:200]:
        watch.update(row, 7.0)
    again = Watch.from_json(json.loads(json.dumps(watch.to_json(), allow_nan=False)))
    copy = Watch.from_json(watch.to_json())
    for row in z[200:]:
        found = watch.update(row, 7.0)
        assert found == again.update(row, 7.0) == copy.update(row, 7.0)
        assert watch.to_json() == again.to_json() == copy.to_json()
        rung += len(found)
    assert rung > 0


def seasoned(pairs: int) -> Watch:
    watch = Monitor().board(pairs)
    for z in (0.5, -2.0, 3.0):
        watch.update([z, -z][:pairs])
    return watch


NOT_A_Z = "a standardised innovation is finite; pass NaN"


@pytest.mark.parametrize(
    ("pairs", "z", "dof", "message"),
    [
        (1, math.nan, None, None),
        (1, [math.nan], 5.0, None),
        (2, [math.nan, math.nan], [math.nan, 5.0], None),
        (1, math.inf, None, f"z of pair 0 is inf: {NOT_A_Z}"),
        (1, -1e200, 5.0, f"z of pair 0 is -1e+200: {NOT_A_Z}"),
        (1, 1.0, 2.0, "dof is 2: a Student-t forecast has an sd"),
        (1, [1.0, 2.0], None, "z has the shape (2,), not (1,), one for each pair"),
        (2, [0.0, math.inf], None, f"z of pair 1 is inf: {NOT_A_Z}"),
        (2, [0.0, 0.0], [5.0, 1.0], "dof is 1: a Student-t forecast has an sd"),
        (2, [0.0], None, "z has the shape (1,), not (2,), one for each pair"),
    ],
)
def test_no_z_and_what_is_none_change_nothing(pairs, z, dof, message):
    watch = seasoned(pairs)
    before = watch.to_json()
    if message is None:
        assert watch.update(z, dof) == []
    else:
        with pytest.raises(ValueError, match=re.escape(message)):
            watch.update(z, dof)
    assert watch.to_json() == before


def test_a_bad_print_and_its_return_do_not_call_the_pair_drifted():
    watch, random = Monitor().start(), np.random.default_rng(7)
    for z in random.standard_normal(200):
        assert watch.update(z) == []
    for z in (80.0, -80.0):
        assert [found.kind for _, found in watch.update(z)] == ["variance up"]
    message = Monitor().start().update(80.0)[0][1].message
    assert "for this bar z had 80.00 in size; look for a bad print or a split first" in message


def test_the_condition_follows_the_evidence():
    watch, told = Monitor(broken_bars=5).start(), []
    while not (told and watch.update(0.9)):
        told.append(watch.condition)
    assert told == sorted(told)  # "ok" until two thirds of a threshold, then "watch"
    assert set(told) == {"ok", "watch"}
    after = [(watch.condition, watch.update((-1.0) ** t))[0] for t in range(6)]
    assert after == ["broken"] * 5 + ["ok"]


def test_each_kind_names_what_to_do():
    third = np.tile([1.9, -0.5, -0.6], 60)
    series = (
        np.tile([2.5, -2.5], 9),
        np.tile([0.1, 0.1, -0.1, -0.1], 30),
        np.tile(np.repeat([1.0, -1.0], 5), 5),
        np.tile([1.2, -1.2, 0.8, -0.8], 30),
        third + 0.5,
        -third - 0.5,
    )
    found = {alarm.kind: alarm.action for z in series for _, alarm in alarms_of(pd.Series(z))}
    words = "widen", "refresh noise", "refresh noise", "fall back to static", "stop", "stop"
    assert found == dict(zip(KINDS, words, strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Monitor(20), "bars_between_false_alarms is 20: take it from 250 to 1e+09"),
        (lambda: Monitor(variance_up=0.5), "variance_up is 0.5: take it from"),
        (lambda: Monitor(mean=math.nan), "mean is nan: take it from"),
        (lambda: normal_score([1.0, 1.0], [2.0, 5.0]), "dof is 2: a Student-t forecast has an sd"),
        (lambda: Watch.from_json({"monitor": {}}), "not a watch written by to_json: TypeError("),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_ewa_ewc_breaks_in_2008():
    """The filter with the noise that fits the whole file best: sd of z by year 0.82 to 1.54."""
    prices = read_table("chan_ewa_ewc_close.csv")
    passed = reference.loop(
        prices["EWC"].to_numpy(),
        design=np.column_stack([prices["EWA"], np.ones(len(prices))]),
        initial_mean=np.zeros(2),
        initial_cov=np.eye(2) * 1e4,
        obs_var=8.211e-3,
        state_var=np.array([1.680e-5, 5.029e-2]),
    )
    z = pd.Series(passed.error / np.sqrt(passed.forecast_var), prices.index).iloc[20:]
    assert z.groupby(z.index.year).std().loc[2007:2009].round(2).to_list() == [0.95, 1.54, 1.0]
    alarms = alarms_of(z)
    years = Counter((at.year, alarm.kind) for at, alarm in alarms)
    assert years[2008, "variance up"] >= 5
    assert years[2009, "variance up"] + years[2009, "variance down"] == 0
    assert years[2010, "variance down"] >= 3  # sd of z 0.68
    early = [at for at, alarm in alarms if alarm.kind == "variance up" and at.year == 2008]
    assert early[0] < pd.Timestamp("2008-04-01")


def test_real_pairs_break_in_2008_and_less_with_a_forecast_that_follows():
    moves = np.log(datasets.stocks()).diff().dropna()
    for target, hedge in (("KO", "PEP"), ("XOM", "CVX"), ("AAPL", "SPX")):
        train = moves.loc["2003":"2006"]
        ratio = (train[target] @ train[hedge]) / (train[hedge] @ train[hedge])
        spread = moves[target] - ratio * moves[hedge]
        fixed = alarms_of((spread / spread.loc["2003":"2006"].std()).loc["2007":"2010"])
        assert Counter(alarm.kind for at, alarm in fixed if at.year == 2008)["variance up"] >= 5
        var = (spread**2).ewm(com=19).mean().shift(1)
        watch, count = Monitor().start(), 0
        for z in (spread / np.sqrt(var)).loc["2007":"2010"]:
            count += len(watch.update(z, 5.0))
        assert count <= len(fixed) / 4
