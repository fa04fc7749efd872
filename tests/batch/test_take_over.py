"""New noise for a live board: the ratios are carried over, and nothing else of it is lost."""

import json
import os
import re
import signal

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import HedgeBoard, HedgeData, LiveFilter, Quarantine, fit_many
from kfmodels.data import datasets
from kfmodels.fitting.carry import carry
from kfmodels.live.feed_watch import MISSING
from tests.made_filters import MINUTE, START, board_of, made_board, made_filter
from tests.processes import python

pytestmark = pytest.mark.slow

PRICES = datasets.factor_etfs().loc["2019":, ["MTUM", "QUAL", "USMV"]]
BEFORE = [("MTUM", "QUAL"), ("QUAL", "MTUM"), ("MTUM", "USMV")]
TONIGHT = [("USMV", "QUAL"), ("MTUM", "QUAL"), ("QUAL", "MTUM")]
"""One pair joins, one is missing, and the order is another."""


@pytest.fixture(scope="module")
def day() -> HedgeBoard:
    return fit_many(HedgeData.pairs(PRICES.iloc[:100], BEFORE), progress=False)


@pytest.fixture(scope="module")
def night() -> HedgeBoard:
    return fit_many(HedgeData.pairs(PRICES.iloc[:115], TONIGHT), progress=False)


def feed(live: LiveFilter, first: int, last: int) -> list:
    return [live.tick(row.to_dict(), at=at) for at, row in PRICES.iloc[first:last].iterrows()]


def test_ratios_and_holds_are_carried_over_and_the_journal_stands_at_the_same_bits(
    day, night, tmp_path
):
    live = day.go_live(journal=tmp_path / "j")
    feed(live, 100, 120)
    # a bad print, which two pairs hold when the night comes
    wrong = PRICES.iloc[120].to_dict() | {"USMV": 90.0}
    assert "quarantined" in str(live.tick(wrong, at=PRICES.index[120]).tick.of("MTUM/USMV").outcome)
    before, old = live.engine.belief(), live.engine.arguments()
    said = night.take_over(live)
    assert said == (
        "MTUM/USMV keeps the noise it had: it is not on the new board",
        "USMV/QUAL joins",
    )
    after, new = live.engine.belief(), live.engine.arguments()
    assert new["names"] == ("MTUM/QUAL", "QUAL/MTUM", "MTUM/USMV", "USMV/QUAL")
    assert_allclose(after.mean[:3], before.mean, rtol=1e-9)
    assert_allclose(after.covs[1][:3], before.covs[1], rtol=1e-9)
    for name in ("at", "share", "shocks"):
        assert new[name] == old[name]
    assert_array_equal(new["last_prices"][:3], old["last_prices"])
    assert new["holds"]["MTUM/USMV"] == old["holds"]["MTUM/USMV"]
    fitted = night.online(share=0.002).arguments()
    for part in ("drift", "noise"):
        for mine, theirs, kept in zip(new[part], fitted[part], old[part], strict=True):
            if mine.shape[-2] > 1:
                assert_array_equal(mine[..., [3, 0, 1], :], theirs)
                assert_array_equal(mine[..., 2, :], kept[..., 2, :])
    feed(live, 121, 130)
    document = json.dumps(live.to_json())
    live.close()
    with day.go_live(journal=tmp_path / "j") as again:
        assert json.dumps(again.to_json()) == document


def test_each_draw_of_a_carried_pair_has_the_whole_covariance(day, night):
    """By hand, draw by draw: theta = A inner + shift, with A and shift by definition of the units."""
    live = day.go_live()
    feed(live, 100, 118)
    now = live.engine.filter("MTUM/QUAL").state()
    night.take_over(live)
    one = live.engine.filter("MTUM/QUAL").arguments()
    where, dof = one["coordinates"], one["noise"].dof(one["carried"])
    pivot, scale = float(where.pivot[0]), float(where.scale[0])
    a, shift = np.array([[1 / scale, 0], [-pivot / scale, 1]]), np.array([0, where.offset])
    for draw in range(len(one["log_weights"])):
        var = one["noise"].unit(one["carried"])[draw]
        var *= 1 if dof is None else dof[draw] / (dof[draw] - 2)
        assert_allclose(a @ one["state"].mean[:, draw] + shift, now["mean"], rtol=1e-9)
        assert_allclose(a @ one["state"].cov[..., draw] @ a.T * var, now["cov"], rtol=1e-9)


def test_a_pair_that_joins_has_learnt_the_rows_since_its_fit(day, night):
    live = day.go_live(shocks=Quarantine())
    feed(live, 100, 120)
    night.take_over(live)
    alone = night.online(share=0.002, shocks=Quarantine())
    for at, row in PRICES.iloc[115:120].iterrows():
        alone.update(row, at=at.isoformat())
    assert_array_equal(live.engine.belief().mean[3], alone.belief().mean[0])
    assert_array_equal(live.engine.belief().covs[1][3], alone.belief().covs[1][0])
    # and ticks go on for all four
    assert feed(live, 120, 121)[0].tick.observed.all()


def test_a_new_leg_is_missing_only_after_as_many_bars_as_one_that_has_just_come():
    pairs = (("XLE", "SPY"), ("XOM", "SPY"))
    live = LiveFilter(made_board(pairs), monitor=None)

    def tick(number: int) -> list[str]:
        row = {"XLE": 90 + number / 9, "SPY": 500.0 + number, "XOM": 90 - number / 9}
        signal = live.tick(row, at=START + number * MINUTE)
        return [alarm.kind for _, alarm in signal.alarms]

    for number in range(30):
        assert "missing leg" not in tick(number)
    live.replace(carry(made_board((*pairs, ("XOM", "USO")), seed=9), live.engine))
    rung = [tick(30 + number) for number in range(MISSING + 3)]
    assert [number for number, kinds in enumerate(rung, 1) if "missing leg" in kinds] == [MISSING]


def doubted(pairs: tuple) -> LiveFilter:
    live = LiveFilter(made_board(pairs, shocks=Quarantine()), monitor=None)
    live.tick({"XLE": 90.0, "SPY": 500.0, "USO": 500.0}, at=START)
    live.tick({"XLE": 90.0, "SPY": 500.0, "USO": 1500.0}, at=START + MINUTE)
    return live


def test_what_is_in_doubt_goes_by_the_name_of_the_pair_and_not_by_its_number():
    pairs = (("XLE", "SPY"), ("XLE", "USO"))
    live, turned = doubted(pairs), doubted(pairs)
    assert list(turned.engine.holds) == ["XLE/USO"]
    turned.replace(carry(made_board(pairs[::-1], seed=7), turned.engine))
    singles = {name: turned.engine.filter(name) for name in ("XLE/USO", "XLE/SPY")}
    turned.replace(board_of(singles))
    # USO has no new price: its pair waits in both, and the other does not
    row = {"XLE": 90.1, "SPY": 500.5}
    for each in (live, turned):
        signal = each.tick(row, at=START + 2 * MINUTE)
        assert signal.tick.of("XLE/SPY").observed
        assert not signal.tick.of("XLE/USO").observed
        assert list(each.engine.holds) == ["XLE/USO"]


def levels() -> HedgeBoard:
    return fit_many(
        HedgeData.pairs(PRICES.iloc[:100], BEFORE[:1], transform="level"), progress=False
    )


def halved() -> HedgeBoard:
    table = PRICES.iloc[:115].copy()
    table["QUAL"] /= 2
    return fit_many(HedgeData.pairs(table, BEFORE[:1]), progress=False)


def short() -> HedgeBoard:
    return fit_many(HedgeData.pairs(PRICES.iloc[:90], BEFORE[:1]), progress=False)


def stranger() -> HedgeBoard:
    return fit_many(HedgeData.pairs(PRICES.iloc[:115], [("USMV", "MTUM")]), progress=False)


REFUSED = [
    (levels, "the fit is of MTUM, QUAL (level), the filter of MTUM, QUAL (log)"),
    (halved, "fit prices in the units of the feed, or call live.rescale({'QUAL': 0.5}) first"),
    (short, "before the rows that the live filter remembers"),
    (stranger, "none of the 1 pairs of the board (one is USMV/MTUM) is running"),
]


@pytest.mark.parametrize(("made", "text"), REFUSED)
def test_what_cannot_take_over_is_refused_and_nothing_changes(day, made, text):
    live = day.go_live()
    feed(live, 100, 118)
    before = json.dumps(live.to_json())
    with pytest.raises(ValueError, match=re.escape(text)):
        made().take_over(live)
    assert json.dumps(live.to_json()) == before


def test_the_remedy_of_other_units_works(day):
    live = day.go_live()
    feed(live, 100, 118)
    live.rescale({"QUAL": 0.5})
    halved().take_over(live)
    assert str(live.engine.until.date()) == str(PRICES.index[114].date())


def test_a_pair_that_would_keep_noise_of_another_kind_is_refused():
    pairs = (("XLE", "SPY"), ("XOM", "SPY"))
    for other in ({"draws": 4}, {"walks": False}, {"discounted": True}):
        with pytest.raises(ValueError, match="XOM/SPY would keep the noise of before"):
            carry(made_board(pairs[:1], **other), made_board(pairs))
    with pytest.raises(ValueError, match=r"runs an OnlineFilter and no board: kf.refresh\(live\)"):
        HedgeBoard.take_over(None, LiveFilter(made_filter()))


KILLED = """
import os, signal, sys
from kfmodels.live.feed import LiveFilter
from kfmodels.fitting.carry import carry
from kfmodels.live.feed_watch import MISSING
from tests.batch.test_take_over import begun, tonight
live, at = begun(sys.argv[1]), int(sys.argv[2])

def count(statement):
    global at
    at -= 1
    if at < 0:
        os.kill(os.getpid(), signal.SIGKILL)

live.journal._connection.set_trace_callback(count)
live.replace(carry(tonight(), live.engine))
print("done", flush=True)
"""


def begun(journal: object) -> LiveFilter:
    live = LiveFilter(made_board((("XLE", "SPY"), ("XOM", "SPY"))), journal=journal)
    for number in range(live.seq, 9):
        live.tick({"XLE": 90.0 + number, "SPY": 500.0, "XOM": 91.0}, at=START + number * MINUTE)
    return live


def tonight():
    return made_board((("XLE", "SPY"), ("XOM", "SPY"), ("XOM", "XLE")), seed=11)


@pytest.mark.nightly
@pytest.mark.faults
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("at", [*range(7), 99])
def test_a_kill_in_between_leaves_the_old_noise_or_the_new(tmp_path, at):
    """At each statement of the one transaction, and at none."""
    before = begun(None)
    after = begun(None)
    after.replace(carry(tonight(), after.engine))
    run = python("-c", KILLED, tmp_path / "j", at)
    printed, noted = run.communicate(timeout=120)
    assert run.returncode == (0 if at == 99 else -signal.SIGKILL), noted
    assert printed or at != 99
    with LiveFilter(before.engine, journal=tmp_path / "j") as again:
        found = json.dumps(again.to_json())
    ends = [json.dumps(each.to_json()) for each in (before, after)]
    assert found in (ends[1:] if printed else ends)
