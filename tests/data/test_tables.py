"""Tables as people have them: each works, or is refused with a remedy that does what it promises."""

import re
import warnings
from datetime import datetime
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

from kfmodels import (
    Constant,
    HedgeData,
    HedgeFit,
    compare,
    follow,
    hedge_effectiveness,
    hedge_ratio_model,
)
from kfmodels.data.hedge_data import rows_after
from tests.data import made_prices
from tests.data.made_prices import make
from tests.problems import unsampled

ROWS = 120


class PolarsSeries:
    """What kfmodels sees of a series of polars, which need not be installed."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def to_pandas(self) -> Any:
        return self._given


class PolarsFrame(PolarsSeries):
    """The same of a frame."""

    @property
    def columns(self) -> list[str]:
        return list(self._given.columns)


def prices(rows: int = ROWS) -> pd.DataFrame:
    return made_prices.prices(rows)


def dated(index: Any) -> pd.DataFrame:
    return prices().set_axis(index, axis=0)


def texts(frame: pd.DataFrame) -> pd.DataFrame:
    """A column with thousands set apart."""
    return frame.assign(AAA=[f"{price * 1000:,.2f}" for price in frame["AAA"]])


DATES = prices().index
MONTHS = pd.date_range("2010-01-01", periods=ROWS, freq="MS")
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
    "seconds since 1970": (
        dated([int(at.timestamp()) for at in DATES]),
        "whole numbers that look like seconds since 1970 (first: 1577836800)",
        'frame.index = pd.to_datetime(frame.index, unit="s", utc=True)',
        DATES.tz_localize("UTC"),
    ),
    "nanoseconds since 1970": (
        dated(DATES.as_unit("ns").asi8),
        "whole numbers that look like nanoseconds since 1970",
        'frame.index = pd.to_datetime(frame.index, unit="ns", utc=True)',
        DATES.tz_localize("UTC"),
    ),
    "seconds since 1970 with a point": (
        dated([at.timestamp() for at in DATES]),
        "float64 that look like seconds since 1970 (first: 1577836800)",
        'frame.index = pd.to_datetime(frame.index, unit="s", utc=True)',
        DATES.tz_localize("UTC"),
    ),
    "thousandths since 1970 with a point": (
        dated([1000 * at.timestamp() for at in DATES]),
        "float64 that look like milliseconds since 1970",
        'frame.index = pd.to_datetime(frame.index, unit="ms", utc=True)',
        DATES.tz_localize("UTC"),
    ),
    "whole-number dates with a point": (
        dated([float(at.strftime("%Y%m%d")) for at in DATES]),
        "float64 that look like dates (first: 20200101)",
        'frame.index = pd.to_datetime(frame.index.astype("int64").astype(str), format="%Y%m%d")',
        DATES,
    ),
    "days and hours of a spreadsheet": (
        dated((DATES - pd.Timestamp("1899-12-30")).days + 16 / 24),
        "days of a spreadsheet (43831.7 is 2020-01-01 16:00:00)",
        'frame.index = pd.to_datetime(frame.index, origin="1899-12-30", unit="D").round("s")',
        DATES + pd.Timedelta(hours=16),
    ),
    "the day first": (
        dated(DATES.strftime("%d/%m/%Y")),
        "not dates: day first they run 2020-01-01 .. 2020-06-16",
        "frame.index = pd.to_datetime(frame.index, dayfirst=True)",
        DATES,
    ),
    "the day first, with points": (
        dated(DATES.strftime("%d.%m.%Y %H:%M")),
        "not dates: day first they run 2020-01-01 .. 2020-06-16",
        "frame.index = pd.to_datetime(frame.index, dayfirst=True)",
        DATES,
    ),
    "a day first that shows at once": (
        dated((DATES + pd.Timedelta(days=12)).strftime("%d-%m-%Y")),
        "not dates: day first they run 2020-01-13 .. 2020-06-28",
        "frame.index = pd.to_datetime(frame.index, dayfirst=True)",
        DATES + pd.Timedelta(days=12),
    ),
    "the month first": (
        dated(DATES.strftime("%m/%d/%Y")),
        "not dates: month first they run 2020-01-01 .. 2020-06-16",
        "frame.index = pd.to_datetime(frame.index, dayfirst=False)",
        DATES,
    ),
    "either first, and it is the day": (
        dated(MONTHS.strftime("%d/%m/%Y")),
        "two ways: day first they run 2010-01-01 .. 2019-12-01, set frame.index = pd.to_datetime(",
        "frame.index = pd.to_datetime(frame.index, dayfirst=True)",
        MONTHS,
    ),
    "either first, and it is the month": (
        dated(MONTHS.strftime("%m/%d/%Y")),
        "; month first they run 2010-01-01 .. 2019-12-01, set frame.index = pd.to_datetime(",
        "frame.index = pd.to_datetime(frame.index, dayfirst=False)",
        MONTHS,
    ),
    "text": (
        dated(DATES.strftime("%Y-%m-%d")),
        "labelled with text (first: '2020-01-01')",
        "frame.index = pd.to_datetime(frame.index)",
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
    "dates beside numbered rows": (
        prices().reset_index(),
        "the rows are numbered and their dates stand in the column date",
        "frame = frame.set_index('date')",
        DATES,
    ),
    "a Timestamp beside numbered rows": (
        prices().reset_index(names="Timestamp").astype({"Timestamp": "str"}),
        "their dates stand in the column Timestamp",
        "frame['Timestamp'] = pd.to_datetime(frame['Timestamp']); frame = frame.set_index('Timestamp')",
        DATES,
    ),
    "two levels of columns": (
        pd.concat({"Volume": prices()[::-1].set_axis(DATES), "Close": prices()}, axis=1),
        "the columns have 2 levels",
        "frame = frame.xs('Close', axis=1, level=0)",
        DATES,
    ),
    "the ticker first": (
        pd.concat({"Close": prices(), "Open": 2 * prices() + 1}, axis=1).swaplevel(axis=1),
        "the columns have 2 levels",
        "frame = frame.xs('Close', axis=1, level=1)",
        DATES,
    ),
    "polars": (
        PolarsFrame(prices().reset_index(names="Date")),
        "must be a pandas DataFrame",
        "frame = frame.to_pandas().set_index('Date')",
        DATES,
    ),
    "Arrow": (
        pa.Table.from_pandas(prices().reset_index()),
        "must be a pandas DataFrame",
        "frame = frame.to_pandas().set_index('date')",
        DATES,
    ),
    "Arrow that knows its index": (
        pa.Table.from_pandas(prices()),
        "must be a pandas DataFrame",
        "frame = frame.to_pandas()",
        DATES,
    ),
    "columns by name": (
        dict(prices().items()),
        "must be a pandas DataFrame",
        "frame = pd.DataFrame(frame)",
        DATES,
    ),
    "dates of Python with offsets that differ": (
        dated(pd.Index([datetime.fromisoformat(str(at)) for at in NEW_YORK], dtype=object)),
        "labelled with datetime objects of Python",
        'frame.index = pd.to_datetime(frame.index, utc=True).tz_convert("America/New_York")',
        NEW_YORK,
    ),
    "a file with two columns of a name": (
        pd.read_csv(
            StringIO(prices().to_csv().replace("BBB,CCC", "BBB,BBB")), index_col=0, parse_dates=True
        ),
        "BBB, BBB.1, as pandas names the columns of a file in which several are called BBB",
        "frame = frame.drop(columns=['BBB.1'])",
        DATES,
    ),
    "a ticker that looks like one": (
        prices().set_axis(["AAA", "BBB", "BBB.1"], axis=1),
        "the prices have BBB, BBB.1",
        "frame = frame.rename(columns={'BBB.1': 'BBB_1'})",
        DATES,
    ),
    "two columns of a name": (
        prices().set_axis(["AAA", "BBB", "BBB"], axis=1),
        "BBB names several columns of the prices",
        "frame = frame.loc[:, ~frame.columns.astype(str).duplicated()]",
        DATES,
    ),
}


LEGS = ["AAA", "BBB"]
DOORS = {
    "one pair": make,
    "pairs": lambda frame: HedgeData.pairs(frame, [LEGS]),
    "every pair": HedgeData.all_pairs,
    "one target": lambda frame: HedgeData.one_target(frame, "AAA"),
    "effectiveness": lambda frame: hedge_effectiveness(
        frame, target="AAA", hedges=["BBB"], train=ROWS // 2
    ),
    "later rows": lambda frame: rows_after(
        frame, pd.Timestamp("2000-01-01", tz=getattr(frame.index, "tz", None)), LEGS
    ),
}


def complaint(door: str, frame: Any) -> str:
    """What is said of a table; of many pairs, what is said of a ticker."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            done = DOORS[door](frame)
        except ValueError as error:
            return str(error)
    return " ".join(getattr(done, "faults", {}).values())


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_is_refused_is_taken_once_its_remedy_is_done(name):
    frame, says, remedy, index = REFUSED[name]
    # a file of later prices is asked for its dates, and so for all of this but for frames of others
    doors = [door for door in DOORS if door != "later rows" or isinstance(frame, pd.DataFrame)]
    for door in doors:
        said = complaint(door, frame)
        assert says in said
        assert remedy in said
    names = {"frame": frame, "pd": pd}
    exec(remedy, names)
    table: Any = names["frame"]
    data = make(table)
    assert len(data) == ROWS
    assert (data.index == index).all()
    assert data.observed.all()
    assert data.index.is_unique
    moves, right = (np.diff(np.log(one[LEGS]), axis=0) for one in (data.prices, prices()))
    assert_allclose(moves, right, atol=1e-6)
    assert {door: complaint(door, table) for door in DOORS} == dict.fromkeys(DOORS, "")


@pytest.mark.parametrize("door", [door for door in DOORS if door != "later rows"])
def test_days_of_a_spreadsheet_are_no_numbers_of_rows(door):
    frame = dated((DATES - pd.Timestamp("1899-12-30")).days)
    said = complaint(door, frame)
    assert "days of a spreadsheet (43831 is 2020-01-01)" in said
    for remedy, index in (
        ('frame.index = pd.to_datetime(frame.index, origin="1899-12-30", unit="D")', DATES),
        ("frame = frame.reset_index(drop=True)", pd.RangeIndex(ROWS)),
    ):
        assert remedy in said
        names = {"frame": frame.copy(), "pd": pd}
        exec(remedy, names)
        table: Any = names["frame"]
        assert complaint(door, table) == ""
        assert (make(table).index == index).all()


def test_numbers_with_a_point_that_are_no_dates_number_the_rows_or_count_time():
    frame = dated(np.arange(ROWS) / 2)
    said = complaint("one pair", frame)
    for remedy in (
        "frame = frame.reset_index(drop=True)",
        'pd.to_datetime(frame.index, origin="1970-01-01", unit="s")',
    ):
        assert remedy in said
    assert len(make(frame.reset_index(drop=True))) == ROWS
    assert len(make(dated(pd.to_datetime(frame.index, origin="1970-01-01", unit="s")))) == ROWS


def test_later_rows_of_a_long_table_are_numbered():
    frame = dated(pd.RangeIndex(44_000, 44_000 + ROWS))
    assert "days of a spreadsheet" in complaint("one pair", frame)
    assert len(rows_after(frame, 44_009, LEGS)) == ROWS - 10


def test_columns_of_two_levels_without_a_close_are_joined():
    frame = pd.concat({"mid": prices(), "size": prices()[::-1].set_axis(DATES)}, axis=1)
    remedy = 'frame.columns = ["_".join(map(str, name)) for name in frame.columns]'
    with pytest.raises(ValueError, match=re.escape(remedy)):
        make(frame)
    exec(remedy, {"frame": frame})
    made = make(frame, target="mid_AAA", hedges=["mid_BBB"])
    assert_allclose(made.prices, prices()[LEGS], rtol=1e-15)


@pytest.mark.parametrize("wrap", [pd.Series, PolarsSeries])
def test_series_are_put_into_a_table(wrap):
    """Those of polars have no index, so their dates are a series of their own."""
    target, hedge = (prices()[name] for name in LEGS)
    names = {"target": target, "hedge": hedge, "pd": pd}
    if wrap is PolarsSeries:
        names |= {name: wrap(names[name].reset_index(drop=True)) for name in ("target", "hedge")}
        names["dates"] = wrap(pd.Series(DATES))
    with pytest.raises(
        ValueError, match="a Series is one ticker, put all of them into a table"
    ) as no:
        make(names["target"])
    exec(re.search(r"frame = .*", str(no.value)).group(), names)
    made = make(names["frame"], target="TARGET", hedges=["HEDGE"])
    assert_allclose(made.prices, prices()[LEGS], rtol=1e-15)
    assert (made.index == DATES).all()


def test_a_column_of_dates_that_is_not_called_one_is_told_from_a_ticker():
    frame = prices().reset_index(names="row")
    faults = HedgeData.all_pairs(frame).faults
    assert set(faults) == {"row"}
    remedy = re.search(r"frame = \S+", faults["row"]).group()
    names = {"frame": frame}
    exec(remedy, names)
    assert HedgeData.all_pairs(names["frame"]).names == HedgeData.all_pairs(prices()).names


def test_numbered_rows_are_not_cut_by_a_date():
    data = make(prices().reset_index(drop=True))
    assert len(data.before(40)) == 40
    with pytest.raises(
        ValueError, match=re.escape("the rows are numbered (0 .. 119), so '2020-02-01'")
    ):
        data.before("2020-02-01")


def test_a_file_with_thousands_set_apart_is_read_as_told():
    text = texts(prices()).to_csv()
    with pytest.raises(ValueError, match=re.escape('pd.read_csv(..., thousands=",")')):
        make(pd.read_csv(StringIO(text), index_col=0, parse_dates=True))
    read = pd.read_csv(StringIO(text), index_col=0, parse_dates=True, thousands=",")
    assert_allclose(make(read).prices["AAA"], prices()["AAA"] * 1000, atol=0.005)


@pytest.mark.parametrize("how", [{"index_col": 0}, {}])
def test_a_file_whose_tickers_stand_below_is_read_as_told(how):
    """As yfinance writes it."""
    kinds = {"Close": prices(), "High": prices() * 1.01}
    text = pd.concat(kinds, axis=1, names=["Price", "Ticker"]).rename_axis("Date").to_csv()
    assert text.startswith(
        "Price,Close,Close,Close,High,High,High\nTicker,AAA,BBB,CCC,AAA,BBB,CCC\n"
    )
    remedy = "frame = pd.read_csv(..., header=[0, 1], index_col=0, parse_dates=True)['Close']"
    for door in DOORS:
        assert remedy in complaint(door, pd.read_csv(StringIO(text), **how))
    names: dict[str, Any] = {"pd": pd}
    exec(remedy.replace("...", f"StringIO({text!r})"), names | {"StringIO": StringIO}, names)
    assert_allclose(make(names["frame"]).prices["AAA"], prices()["AAA"])


@pytest.mark.parametrize("column", ["day first", "whole numbers", "seconds"])
def test_dates_beside_numbered_rows_are_told_from_a_ticker(column):
    days = {
        "day first": DATES.strftime("%d/%m/%Y"),
        "whole numbers": [int(at.strftime("%Y%m%d")) for at in DATES],
        "seconds": [int(at.timestamp()) for at in DATES],
    }[column]
    frame = prices().reset_index(drop=True)
    with pytest.raises(ValueError, match=r"column time: .*them, frame = frame.set_index\('time'\)"):
        make(frame.assign(time=days))
    for named in ("DAY", "DATE", "TIME"):  # the first is a share in New York
        assert len(make(frame.rename(columns={"AAA": named}), target=named)) == ROWS


RETURNS = {  # what makes prices of returns, by how they were made
    "(1 + frame).cumprod()": lambda frame: frame.pct_change(),
    "(1 + frame / 100).cumprod()": lambda frame: 100 * frame.pct_change(),
    "np.exp(frame.cumsum())": lambda frame: np.log(frame).diff(),
}


@pytest.mark.parametrize("remedy", RETURNS)
@pytest.mark.parametrize("transform", ["log", "return", "level"])
def test_returns_are_told_from_prices_and_made_into_them(transform, remedy):
    frame = prices(300)
    returns = RETURNS[remedy](frame).iloc[1:]
    if transform == "level":
        with pytest.warns(UserWarning, match="AAA: these look like returns") as caught:
            make(returns, transform=transform)
        said = str(caught[0].message)
        with pytest.warns(UserWarning, match="BBB: these look like returns"):
            HedgeData.all_pairs(returns, transform=transform)
        with pytest.warns(UserWarning, match="these look like returns"):
            hedge_effectiveness(returns, target="AAA", hedges=["BBB"], train=150, transform="level")
    else:
        with pytest.raises(ValueError, match="AAA is -.* and these look like returns") as refused:
            make(returns, transform=transform)
        said = str(refused.value)
        assert set(HedgeData.all_pairs(returns, transform=transform).faults) == {*frame}
    assert remedy in said
    made = make(eval(remedy, {"frame": returns, "np": np}), transform=transform)
    assert made.doubts == ()
    moves, right = (np.diff(np.log(one[LEGS]), axis=0) for one in (made.prices, frame))
    assert_allclose(moves, right[-len(moves) :], atol=1e-12)


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


def test_whole_numbers_as_tickers_go_all_the_way():
    """As their text does, through filter, feed, book, scores and tables of later rows."""
    named = prices()
    numbered = named.set_axis([7203, 9984, 6758], axis=1)
    answers = []
    for frame, (target, hedge) in ((named, LEGS), (numbered, (7203, 9984))):
        data = HedgeData.from_prices(frame.iloc[:60], target=target, hedges=[hedge])
        fitted = unsampled(data)
        row = frame.iloc[60].to_dict()
        live = fitted.go_live(monitor=None)
        tick = live.tick(row, at=frame.index[60]).tick
        assert tick.observed
        options = {"target": target, "hedges": [hedge], "transform": "log"}
        answers.append(
            [
                list(tick.beta.values()),
                list(fitted.book(position=100).act(tick, row).wanted.values()),
                follow(fitted.online(), frame.iloc[60:]).to_numpy(),
                hedge_effectiveness(frame, train=60, models={"fit": fitted}, **options).to_numpy(),
                compare({"fit": fitted}, frame.iloc[60:]).table.to_numpy(),
            ]
        )
    for one, other in zip(*answers, strict=True):
        assert_allclose(np.array(one, float), np.array(other, float), rtol=1e-12)


def test_a_leg_that_stopped_is_refused_at_the_fit_with_its_date():
    frame = prices()
    frame.iloc[35:, 1] = frame.iloc[35, 1]
    with pytest.warns(UserWarning, match="BBB stands still"):
        data = make(frame)
    model = hedge_ratio_model(noise=Constant())
    with pytest.raises(
        ValueError, match="hedge BBB constant since 2020-02-19: fit the rows before"
    ):
        model.inputs(data)
    model.inputs(data.before("2020-02-19"))


# -- later rows ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half() -> HedgeFit:
    return unsampled(make(prices().iloc[:60]))


LATER = {
    "compare": lambda fitted, frame, **options: compare({"fit": fitted}, frame, **options).z["fit"],
    "follow": lambda fitted, frame, **options: follow(fitted.online(), frame, **options)["z"],
}


@pytest.mark.parametrize("door", LATER)
@pytest.mark.parametrize("leg", LEGS)
def test_a_split_after_the_fit_is_told_and_the_repair_that_is_named_mends_it(half, door, leg):
    """The z are those of prices that were never split."""
    right = LATER[door](half, prices().iloc[60:])
    later = prices().iloc[60:]
    later.iloc[30:, later.columns.get_loc(leg)] *= 8
    with pytest.warns(UserWarning, match=f"{leg} went from .*about 8 times, and stayed") as caught:
        wrong = LATER[door](half, later)
    said = [str(each.message) for each in caught if each.category is UserWarning]
    assert len(said) == 1
    assert np.abs(wrong - right).max() > 1
    named = re.search(r"repair=(\{.*\}\})", said[0])
    assert named is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mended = LATER[door](half, later, repair=eval(named.group(1)))
    assert_allclose(mended, right, rtol=1e-9, atol=1e-9)


def test_a_filter_that_followed_a_split_stands_in_the_new_units(half):
    later = prices().iloc[60:]
    later.iloc[30:, 1] *= 8
    live, plain = half.online(), half.online()
    follow(live, later, repair={"BBB": {later.index[30]: 8}})
    follow(plain, prices().iloc[60:])
    plain.rescale(hedges={"BBB": 8.0})
    assert_allclose(live.state()["mean"], plain.state()["mean"], rtol=1e-9)
    assert live.last == pytest.approx(plain.last)


@pytest.mark.parametrize("door", LATER)
@pytest.mark.parametrize("name", ["polars", "two columns of a name", "two levels of columns"])
def test_later_rows_are_refused_as_those_of_a_fit_are(half, door, name):
    frame, says, remedy, _ = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        LATER[door](half, frame)
    assert remedy in str(caught.value)
    names = {"frame": frame, "pd": pd}
    exec(remedy, names)
    table: Any = names["frame"]
    assert len(LATER[door](half, table[table.index > half.fit_until])) == ROWS - 60
