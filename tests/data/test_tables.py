"""Tables as people have them: each works, or is refused with a remedy that does what it promises."""

import re
import warnings
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from kfmodels import HedgeData, hedge_ratio_model
from tests.data.made_prices import ROWS, make, prices


class Polars:
    """What kfmodels sees of a frame of polars, which need not be installed."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def to_pandas(self) -> pd.DataFrame:
        return self._frame


def dated(index: Any) -> pd.DataFrame:
    return prices().set_axis(index, axis=0)


def texts(frame: pd.DataFrame) -> pd.DataFrame:
    """A column with thousands set apart."""
    return frame.assign(AAA=[f"{price * 1000:,.2f}" for price in frame["AAA"]])


DATES = prices().index
AUTUMN = pd.date_range("2020-10-31 22:00", periods=ROWS, freq="15min", tz="America/New_York")
NEW_YORK = pd.date_range("2020-10-20 16:00", periods=ROWS, tz="America/New_York")

REFUSED = {  # (the table, what is said, the remedy in it, the index that comes out)
    "dates of Python": (
        dated([at.date() for at in DATES]),
        "labelled with date objects of Python",
        "frame.index = pd.to_datetime(frame.index)",
        DATES,
    ),
    "whole-number dates": (
        dated([int(at.strftime("%Y%m%d")) for at in DATES]),
        "whole numbers that look like dates (first: 20200101)",
        'frame.index = pd.to_datetime(frame.index.astype(str), format="%Y%m%d")',
        DATES,
    ),
    "two offsets": (
        dated([str(at) for at in NEW_YORK]),
        "the offsets change with the season",
        'frame.index = pd.to_datetime(frame.index, utc=True).tz_convert("America/New_York")',
        NEW_YORK,
    ),
    "the hour that comes twice": (
        dated(AUTUMN.tz_localize(None)),
        "as in a night in which clocks go back",
        'frame.index = frame.index.tz_localize("America/New_York", ambiguous="infer")',
        AUTUMN,
    ),
    "thousands set apart": (
        texts(prices()),
        "AAA holds something that is not a number",
        'frame["AAA"] = frame["AAA"].astype(str).str.replace(",", "").astype(float)',
        DATES,
    ),
    "two levels of columns": (
        pd.concat({"Close": prices(), "Volume": prices()}, axis=1),
        "the columns have 2 levels",
        "frame = frame.xs('Close', axis=1, level=0)",
        DATES,
    ),
    "the ticker first": (
        pd.concat({"Close": prices(), "Open": prices()}, axis=1).swaplevel(axis=1),
        "the columns have 2 levels",
        "frame = frame.xs('Close', axis=1, level=1)",
        DATES,
    ),
    "polars": (
        Polars(prices().reset_index()),
        "must be a pandas DataFrame",
        'frame = frame.to_pandas().set_index("date")',
        DATES,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_is_refused_is_taken_once_its_remedy_is_done(name):
    frame, says, remedy, index = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        make(frame)
    assert remedy in str(caught.value)
    names = {"frame": frame, "pd": pd}
    exec(remedy, names)
    data = make(names["frame"])
    assert len(data) == ROWS
    assert (data.index == index).all()
    assert data.observed.all()
    assert data.index.is_unique


def test_a_file_with_thousands_set_apart_is_read_as_told():
    text = texts(prices()).to_csv()
    with pytest.raises(ValueError, match=re.escape('pd.read_csv(..., thousands=",")')):
        make(pd.read_csv(StringIO(text), index_col=0, parse_dates=True))
    read = pd.read_csv(StringIO(text), index_col=0, parse_dates=True, thousands=",")
    assert_allclose(make(read).prices["AAA"], prices()["AAA"] * 1000, atol=0.005)


@pytest.mark.parametrize("transform", ["log", "return", "level"])
def test_returns_are_told_from_prices_and_made_into_them(transform):
    frame = prices(300)
    returns = frame.pct_change().iloc[1:]
    remedy = "(1 + frame).cumprod()"
    if transform == "level":
        with pytest.warns(UserWarning, match="AAA: these look like returns") as caught:
            make(returns, transform=transform)
        assert remedy in str(caught[0].message)
    else:
        with pytest.raises(ValueError, match=re.escape(remedy)):
            make(returns, transform=transform)
    made = make(eval(remedy, {"frame": returns}), transform=transform)
    again = make(frame.iloc[1:], transform=transform)
    assert made.doubts == ()
    if transform == "return":
        assert_allclose(made.y, again.y, atol=1e-12)


def test_a_spread_that_comes_back_is_not_called_returns():
    noise = np.random.default_rng(0).normal(size=(300, 2))
    slow = pd.DataFrame(noise, columns=["AAA", "BBB"]).ewm(alpha=0.1).mean()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(slow, transform="level")


def test_whole_numbers_as_tickers_are_their_text():
    frame = prices().set_axis([7203, 9984, 6758], axis=1)
    data = HedgeData.from_prices(frame, target=7203, hedges=[9984])
    assert (data.target, data.hedges) == ("7203", ("9984",))
    assert HedgeData.all_pairs(frame).names[0] == "7203/9984"
    assert HedgeData.one_target(frame, 7203).pairs[0] == ("7203", "9984")
    assert HedgeData.pairs(frame, [(7203, 9984)]).data((7203, 9984)).hedges == ("9984",)


def test_a_leg_that_stopped_is_refused_at_the_fit_with_its_date():
    frame = prices()
    frame.iloc[35:, 1] = frame.iloc[35, 1]
    with pytest.warns(UserWarning, match="BBB stands still"):
        data = make(frame)
    model = hedge_ratio_model()
    with pytest.raises(
        ValueError, match="hedge BBB constant since 2020-02-19: fit the rows before"
    ):
        model.inputs(data)
    model.inputs(data.before("2020-02-19"))
