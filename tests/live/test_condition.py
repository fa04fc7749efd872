"""The condition of many pairs as one word, and in a sentence."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from kfmodels.basket.basket import Basket
from kfmodels.live.feed import LiveFilter
from kfmodels.live.monitor import Monitor
from kfmodels.live.signals import find_conditions
from kfmodels.online.shocks import Hold
from tests.basket.conftest import TICKERS, draw_moves, feed, prices_of

FINE = ("ok", {})
SPLIT = Hold("scale", 1, 1)

# targets, hedges that are none, broken ones, ones close to an alarm, of the feed, held; then the words
CASES = {
    "all fine": (45, 0, 0, 0, FINE, {}, "ok: 45 of 45 ok"),
    "chance": (45, 0, 2, 0, FINE, {}, "ok: 43 of 45 ok; broken: T0, T1"),
    "a fifth": (45, 0, 9, 0, FINE, {}, "ok: 36 of 45 ok; broken: T0, T1, T2, T3, T4 and 4 more"),
    "more": (45, 0, 10, 0, FINE, {}, "broken: 35 of 45 ok; broken: T0, T1, T2, T3, T4 and 5 more"),
    "both": (
        45,
        0,
        1,
        9,
        FINE,
        {},
        "watch: 35 of 45 ok; broken: T0; watch: T1, T2, T3, T4, T5 and 4 more",
    ),
    "one pair": (1, 0, 1, 0, FINE, {}, "broken: 0 of 1 ok; broken: T0"),
    "one of four": (4, 0, 1, 0, FINE, {}, "broken: 3 of 4 ok; broken: T0"),
    "hedges do not count": (4, 40, 1, 0, FINE, {}, "broken: 3 of 4 ok; broken: T0"),
    "a hedge is missing": (
        *(5, 5, 0, 0, ("watch", {7: "broken"}), {}),
        "watch: 5 of 5 ok; broken: H2",
    ),
    "a dead feed": (9, 0, 0, 0, ("broken", {}), {}, "broken: 9 of 9 ok"),
    "a split": (9, 0, 0, 0, FINE, {"T3": SPLIT}, "watch: 8 of 9 ok; watch: T3"),
    "a split of a broken one": (9, 0, 1, 0, FINE, {"T0": SPLIT}, "watch: 8 of 9 ok; broken: T0"),
    "a shock": (9, 0, 0, 0, FINE, {"T3": Hold("shock", 1, 1)}, "ok: 9 of 9 ok"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_whole_is_what_more_than_a_fifth_are(case):
    targets, hedges, broken, close, of_feed, holds, sentence = CASES[case]
    names = [f"T{n}" for n in range(targets)] + [f"H{n}" for n in range(hedges)]
    watch = Monitor().board(len(names))
    number = np.arange(len(names))
    watch.broken_left = np.where(number < broken, 5, 0)
    watch.evidence = np.where((broken <= number) & (number < broken + close), 6.0, 0.0) * np.ones(
        (6, 1)
    )
    if len(names) == 1:
        watch.broken_left, watch.evidence = broken, [0.0] * 6
    engine = SimpleNamespace(targets=names[:targets], pairs=[(n,) for n in names], holds=holds)
    feed_watch = SimpleNamespace(conditions=(of_feed[0], dict(of_feed[1])), names=names)
    found = find_conditions(watch, engine, feed_watch)
    assert found.sentence == sentence
    assert found.whole == sentence.partition(":")[0]


def test_a_live_universe_says_who_is_not_in_order():
    """One hedge of six stops coming: the targets go on, and are in order."""
    prices = prices_of(draw_moves(1, 320))
    basket = Basket(TICKERS, targets=["A", "B"])
    feed(basket, prices[:300])
    live = LiveFilter(basket, monitor=None)
    for at, row in enumerate(prices[300:], 400):
        given = dict(zip(TICKERS, row.tolist(), strict=True))
        del given["F"]
        signal = live.tick(given, at=at)
        assert signal.condition == ("ok" if at < 409 else "watch")
    record = json.loads(json.dumps(signal.record(), default=str))
    assert record["condition"] == "watch"
    assert record["pair_conditions"] == {"F": "broken"}
    assert record["standing"] == "watch: 2 of 2 ok; broken: F"
