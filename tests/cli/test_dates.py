"""Dates of a price file are read in the one way there is, or refused with the ways there are."""

import re
import shlex
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kfmodels.cli.dates import EXCEL, Dating, read_dates
from kfmodels.cli.shell import read_prices
from kfmodels.data.spacing import describe
from tests.command import kfmodels

JANUARY = [date(2020, 1, day) for day in (2, 3, 13, 14)]
"""Two dates that can be read both ways, and two that cannot."""

EARLY = [date(2020, 2, 1), date(2020, 2, 3), date(2020, 2, 4)]
"""Dates of which each can be read both ways."""

SAFE = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d"),
    *(
        "%d-%b-%Y",
        "%d %B %Y",
        "%b %d, %Y",
        "%d-%b-%y",
        "%m/%d/%y",
        "%Y-%m-%dT%H:%M",
        "%d/%m/%Y %H:%M",
    ),
)
NEEDS_FORMAT = ("%d%m%Y", "%y%m%d", "%d%b%y", "%d/%m/%y", "%y/%m/%d")


def read(labels: list, form: str | None = None, dayfirst: bool | None = None) -> list[date]:
    found = read_dates(pd.Index(labels), Dating(form, dayfirst), "x.csv")
    return [at.date() for at in found]


def refusal(labels: list, *how) -> str:
    with pytest.raises(ValueError, match=r"date|number") as caught:
        read(labels, *how)
    return str(caught.value)


@pytest.mark.parametrize("form", SAFE)
def test_dates_that_say_what_they_are_are_read_right(form: str):
    labels = [day.strftime(form) for day in JANUARY]
    assert read(labels) == JANUARY
    assert read(labels, form) == JANUARY


@pytest.mark.parametrize("form", NEEDS_FORMAT)
def test_others_are_refused_until_their_format_is_given(form: str):
    labels = [day.strftime(form) for day in JANUARY]
    said = refusal(labels)
    assert "x.csv" in said
    assert "--date-format" in said
    assert read(labels, form) == JANUARY


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y %H:%M", "%d/%m/%y"])
def test_dates_of_two_readings_are_refused_and_each_option_that_is_named_settles_it(form: str):
    labels = [day.strftime(form) for day in EARLY]
    said = refusal(labels)
    assert "day first from " in said
    assert "month first from " in said
    named = re.findall(r"from (\S+)(?: \S+)? to (\S+)(?: \S+)? \((--[^()]+)\)", said)
    assert len(named) == (3 if form.endswith("y") else 2)
    for first, last, option in named:
        how = {"--dayfirst": (None, True), "--monthfirst": (None, False)}
        found = read(labels, *how.get(option, (option.removeprefix("--date-format "), None)))
        assert [str(min(found)), str(max(found))] == [first, last]
    assert read(labels, None, not form.startswith("%m")) == EARLY


def test_a_column_that_mixes_ways_is_refused_with_one_of_each():
    assert "'01/13/2020' is none day first, '14/01/2020' is none month first" in refusal(
        ["01/13/2020", "14/01/2020"]
    )
    said = refusal(["2020-01-02", "13/01/2020"])
    assert "mix ways to write them: '2020-01-02' and '13/01/2020'" in said
    assert "'01/13/2020' is none day first" in refusal(["01/13/2020"], None, True)
    assert "row 2 of x.csv has no date" in refusal(["2020-01-02", ""])
    assert "leave out --dayfirst" in refusal(["2020-01-02"], "%Y-%m-%d", True)
    assert "does not read '14.01.2020'" in refusal(["13/01/2020", "14.01.2020"], "%d/%m/%Y")


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
def test_counts_since_1970_are_instants(per_second: int):
    at = [datetime(2020, 1, 2, 14, 30, tzinfo=UTC), datetime(2020, 1, 2, 14, 31, tzinfo=UTC)]
    labels = [int(one.timestamp()) * per_second for one in at]
    for form in (None, "epoch"):
        for kind in (int, str):
            found = read_dates(pd.Index([kind(one) for one in labels]), Dating(form), "x.csv")
            assert [one.to_pydatetime() for one in found] == at


def test_numbers_that_are_two_things_or_none_are_refused():
    said = refusal(["2001020930"])
    assert "(--date-format epoch); by a year of two digits from 2020-01-02 09:30:00" in said
    assert read(["2001020930"], "%y%m%d%H%M") == [date(2020, 1, 2)]
    assert read(["2001020930"], "epoch") == [date(2033, 5, 29)]
    for label in ("0", "2020", "Monday", "01-02-2020;1,2;3"):
        assert "first column of x.csv should hold dates" in refusal([label])


def test_days_of_a_spreadsheet_are_taken_when_they_are_said_to_be_that():
    serials = [(day - date(1899, 12, 30)).days for day in JANUARY]
    assert "from 2020-01-02 to 2020-01-14; if they are that, give --date-format excel" in refusal(
        serials
    )
    assert read(serials, EXCEL) == JANUARY
    (noon,) = read_dates(pd.Index(["43832.5"]), Dating(EXCEL), "x.csv")
    assert noon == pd.Timestamp("2020-01-02 12:00")
    assert "reads numbers of days" in refusal(["20200102"], EXCEL)


SPACED = {
    "one every business day": pd.bdate_range("2020-01-01", periods=60),
    "one every day": pd.date_range("2020-01-01", periods=60),
    "one every week": pd.date_range("2020-01-03", periods=60, freq="7D"),
    "one every month": pd.date_range("2020-01-01", periods=20, freq="MS"),
    "one every 5 minutes": pd.date_range("2020-01-02 09:30", periods=60, freq="5min"),
    "one every hour": pd.date_range("2020-01-02 09:30", periods=60, freq="h"),
    "unevenly, 2 to 30 days apart": pd.DatetimeIndex(["2020-01-01", "2020-01-03", "2020-02-02"]),
}


@pytest.mark.parametrize("words", SPACED)
def test_what_was_read_is_told(words: str):
    index = SPACED[words]
    said = describe(index[::-1])
    assert said.startswith(f"{len(index)} rows from {index[0]}".removesuffix(" 00:00:00"))
    assert said.endswith(f", {words}")


def written(table: pd.DataFrame, path: Path, form: str) -> None:
    table.set_axis(table.index.strftime(form)).to_csv(path)


QUARTERS = pd.date_range("2005-01-01", "2019-10-01", freq="QS")
DAYS = pd.bdate_range("2015-01-02", "2016-02-25")


@pytest.mark.parametrize("head", ["", "date"])
@pytest.mark.parametrize("form", ["%d%m%Y", "%m%d%Y", "%y%m%d", "%Y%m%d"])
@pytest.mark.parametrize("days", [QUARTERS, DAYS], ids=["quarters", "days"])
def test_a_first_digit_that_is_0_is_kept(tmp_path: Path, days: pd.DatetimeIndex, form, head):
    table = pd.DataFrame({"Y": 1.5, "X": 2}, days.strftime(form)).rename_axis(head or None)
    table.to_csv(tmp_path / "digits.csv")
    found = read_prices(tmp_path / "digits.csv", date_format=form)
    assert list(found.index) == list(days)
    assert list(found.columns) == ["Y", "X"]
    assert (found == [1.5, 2]).all(axis=None)


def test_dates_that_are_numbers_and_have_lost_their_0_are_refused(tmp_path: Path):
    table = pd.DataFrame({"Y": 1.5}, [int(day) for day in QUARTERS.strftime("%d%m%Y")])
    table.to_parquet(tmp_path / "numbers.parquet")
    said = "reads 1012005 of .* as 2005-01-10, which it writes 10012005: a number has lost the 0"
    with pytest.raises(ValueError, match=said):
        read_prices(tmp_path / "numbers.parquet", date_format="%d%m%Y")
    iso = table.set_axis(QUARTERS.strftime("%Y-%m-%d"))  # as the sentence says
    iso.to_parquet(tmp_path / "text.parquet")
    assert list(read_prices(tmp_path / "text.parquet").index) == list(QUARTERS)
    found = read_dates(pd.Index(["20200102093000123"]), Dating("%Y%m%d%H%M%S%f"), "x.csv")
    assert found[0] == pd.Timestamp("2020-01-02 09:30:00.123")


def test_an_update_says_which_dates_it_used_and_never_drops_a_file_that_it_misread(desk, prices):
    days = prices.loc["2022-01-03":"2022-01-12"]
    written(days, desk / "both.csv", "%d/%m/%Y")
    (desk / "pair.nc.live.json").unlink(missing_ok=True)
    command = ["update", "pair.nc", "--prices", "both.csv"]
    said = kfmodels(*command, folder=desk, code=2).stderr
    assert "day first from 2022-01-03 to 2022-01-12 (--dayfirst)" in said
    assert "month first from 2022-03-01 to 2022-12-01 (--monthfirst)" in said
    page = ["report", "pair.nc", "--prices", "both.csv", "--out", "page.html"]
    assert said == kfmodels(*page, folder=desk, code=2).stderr
    done = kfmodels(*command, "--dayfirst", folder=desk)
    assert done.stderr == "both.csv: 8 rows from 2022-01-03 to 2022-01-12, one every business day\n"
    assert "8 rows taken, up to 2022-01-12" in done.stdout
    again = kfmodels(*command, *shlex.split("--date-format %d/%m/%Y"), folder=desk)
    assert "nothing later than 2022-01-12" in again.stdout
    (desk / "pair.nc.live.json").unlink()
    (desk / "both.csv").unlink()


@pytest.mark.parametrize(
    "command",
    [
        "fit both.csv --target MTUM --hedges QUAL --out x.nc",
        "fit-many both.csv --store new",
        "board pairs --target MTUM --later both.csv",
    ],
)
def test_the_others_refuse_the_same_dates(universe, funds, command):
    first = date(2020, 1, 2)
    days = [first + timedelta(days=k) for k in range(9)]
    table = funds.iloc[: len(days)].set_axis([f"{day:%d/%m/%Y}" for day in days])
    table.to_csv(universe / "both.csv")
    said = kfmodels(*command.split(), folder=universe, code=2).stderr
    assert "day first from 2020-01-02 to 2020-01-10 (--dayfirst)" in said
    told = kfmodels(*command.split(), "--dayfirst", "--date-format", "%d", folder=universe, code=2)
    assert "--date-format says all" in told.stderr


def test_until_is_read_as_the_dates_are(universe, funds):
    written(funds, universe / "day.csv", "%d/%m/%Y")
    month = funds.index[40].strftime("01/%m/%Y")
    with pytest.raises(ValueError, match="can be read in 2 ways"):
        read_prices(universe / "day.csv", month)
    end = pd.to_datetime(month, format="%d/%m/%Y")
    for until in (month, str(end.date())):
        found = read_prices(universe / "day.csv", until, dayfirst=True)
        assert list(found.index) == list(funds.index[funds.index <= end])


def test_a_file_with_its_tickers_in_a_second_line_is_refused_and_the_remedy_works(tmp_path):
    days = pd.bdate_range("2020-01-01", periods=40, name="Date")
    columns = pd.MultiIndex.from_product([["Close", "Volume"], ["XLE", "SPY"]])
    columns.names = ["Price", "Ticker"]
    frame = pd.DataFrame(np.arange(160.0).reshape(40, 4) + 50, days, columns)
    frame.to_csv(tmp_path / "downloaded.csv")
    with pytest.raises(ValueError, match=r'second line.*frame\["Close"\]\.to_csv'):
        read_prices(tmp_path / "downloaded.csv")
    frame["Close"].to_csv(tmp_path / "closes.csv")
    assert list(read_prices(tmp_path / "closes.csv")) == ["XLE", "SPY"]
