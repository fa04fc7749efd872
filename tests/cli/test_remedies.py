"""What a command says to do with a file can be done, with the file or an option, and then it runs."""

import re
import shlex
from collections.abc import Callable
from functools import partial

import pandas as pd
import pytest

from kfmodels import HedgeFit, load
from kfmodels.cli.remedies import for_the_shell
from kfmodels.cli.shell import read_prices
from kfmodels.sampling import nuts
from tests.command import kfmodels
from tests.problems import FromPrior

pytestmark = pytest.mark.slow

FIT = "fit x.csv --target XOM --hedges CVX --out x.nc"
PYTHON = r"frame|pd\.|prices\.|NaN|\w\(|transform=|board\.|hedges="
"""Words of remedies for users of Python."""


@pytest.fixture
def table(prices) -> pd.DataFrame:
    return prices.loc["2021":"2021-06"].rename_axis("date")


@pytest.fixture
def saved(monkeypatch) -> Callable[[], HedgeFit]:
    """The last fit, from its file. It is written where a test reads it: most of a fit's time."""
    save, last = HedgeFit.save, []
    monkeypatch.setattr(HedgeFit, "save", lambda made, path: last.append((made, path.absolute())))

    def read() -> HedgeFit:
        save(*last[-1])
        return load(last[-1][1])

    return read


@pytest.fixture
def fit(tmp_path, monkeypatch, saved) -> Callable[..., str]:
    """Fit a file of this text; the last line on stderr."""
    monkeypatch.setattr(nuts, "NUTS", FromPrior)

    def run(text: str, *options: str, code: int = 0) -> str:
        (tmp_path / "x.csv").write_text(text)
        done = kfmodels(*FIT.split(), *options, folder=tmp_path, code=code)
        said = done.stderr.splitlines()[-1] if done.stderr else ""
        assert not re.search(PYTHON, said)
        return said

    return run


def test_a_file_that_is_newest_first_is_turned_and_said(table, fit, tmp_path, saved):
    said = fit(table.iloc[::-1].to_csv())
    assert said.endswith("one every business day, newest first in the file")
    assert saved().data.index.equals(table.index)
    table.iloc[::-1].to_parquet(tmp_path / "x.parquet")
    assert read_prices(tmp_path / "x.parquet", "2021-03-31").index.equals(
        table.loc[:"2021-03"].index
    )


def test_another_order_is_refused_until_the_file_is_sorted(table, fit):
    mixed = table.iloc[[*range(5, len(table)), *range(5)]]
    assert "sort the rows of the file by date, if its dates" in fit(mixed.to_csv(), code=2)
    fit(mixed.sort_index().to_csv())


def test_a_date_that_stands_twice(table, fit, saved):
    text = table.to_csv()
    last = text.splitlines(keepends=True)[-1]
    assert "stands more than once: keep one of its rows in the file" in fit(text + last, code=2)
    fit(text)
    assert len(saved().data) == len(table)


def test_an_hour_that_comes_twice_is_told_apart_by_its_offset(table, fit):
    times = pd.date_range(
        "2020-11-01 00:30", periods=len(table), freq="10min", tz="America/New_York"
    )
    twice = table.set_axis(times.tz_localize(None))
    said = fit(twice.to_csv(), code=2)
    assert "write the times with their offset from UTC, such as 2020-11-01 01:30:00-04:00" in said
    fit(twice.set_axis(times.map(str)).to_csv())


def test_two_columns_of_one_name(table, fit):
    text = table.assign(again=table["XOM"]).to_csv()
    double = text.replace("again", "XOM")
    said = fit(double, code=2)
    assert (
        "several are called XOM: in the file keep one of them, or give each a name of its own"
        in (said)
    )
    fit(text)


@pytest.mark.parametrize(
    ("bad", "words"), [(0.0, "XOM is 0 at"), (float("inf"), "XOM is infinite")]
)
def test_a_bad_print_is_made_a_gap_by_the_option_that_is_named(table, fit, saved, bad, words):
    table.iloc[50, 0] = bad
    said = fit(table.to_csv(), code=2)
    assert words in said
    (option,) = re.findall(r"--repair \S+:gap", said)
    fit(table.to_csv(), *shlex.split(option))
    assert saved().data.observed.sum() == len(table) - 1


def test_a_bad_print_at_a_time_of_day_is_named_for_the_shell(table, fit):
    table = table.set_axis(table.index + pd.Timedelta("16h")).rename(columns={"XOM": "X OM"})
    table.iloc[50, 0] = 0.0
    said = fit(table.to_csv(), "--target", "X OM", code=2)
    (option,) = re.findall(r"--repair '.*?:gap'", said)
    fit(table.to_csv(), "--target", "X OM", *shlex.split(option))


def test_prices_that_may_be_below_0_are_modelled_as_levels(table, fit):
    table.iloc[50, 0] = -1.0
    assert "or fit with --transform level" in fit(table.to_csv(), code=2)
    fit(table.to_csv(), "--transform", "level")


def test_returns(table, fit):
    said = fit(table.pct_change().iloc[1:].to_csv(), code=2)
    assert "look like returns: give a file of the prices that they are returns of" in said


def test_gross_returns(table, fit):
    said = fit((table / table.shift(1)).iloc[1:].to_csv())
    assert "look like gross returns, 1 + r: give a file of the prices that they are" in said
    assert "look like" not in fit(table.to_csv())


def test_few_draws_and_draws_that_diverge(table, fit, monkeypatch):
    for given, wrong in (("20", 0.0), ("1000", 0.02)):
        monkeypatch.setattr(nuts, "NUTS", partial(FromPrior, diverging=wrong))
        said = fit(table.to_csv(), "--draws", given)
        assert "may be sampled badly" in said
        assert said.endswith("Refit with --draws 4000.")
    monkeypatch.setattr(nuts, "NUTS", FromPrior)
    assert "badly" not in fit(table.to_csv(), "--draws", "4000")


def test_a_leg_that_ends_in_one_price_is_fitted_up_to_there(table, fit, saved):
    still = table.copy()
    still.iloc[-15:, 1] = still.iloc[-15, 1]
    first = str(still.index[-15].date())
    said = fit(still.to_csv())
    assert f"warning: CVX stands still at {still.iloc[-1, 1]:g}, {first} .." in said
    assert f"fit the rows before {first}, with --until" in said
    before = fit(still.to_csv(), "--until", str(still.index[-16].date()))
    assert "stands still" not in before
    assert len(saved().data) == len(table) - 15
    still.iloc[-25:, 1] = still.iloc[-25, 1]
    said = fit(still.to_csv(), code=2)
    assert f"CVX constant since {still.index[-25].date()}: fit the rows before, --until" in said


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("date,Soci\xe9t\xe9,CVX\n2020-01-02,1,2\n".encode("latin-1"), r"'Soci\xe9t\xe9'"),
        ("date,XOM,CVX,note\n2020-01-02,1,2,Z\xfcrich\n".encode("latin-1"), r"'Z\xfcrich'"),
        ("date,XOM\n".encode("utf-16"), "begins with "),
    ],
    ids=["header", "cell", "utf-16"],
)
def test_a_file_that_is_not_utf_8(table, fit, tmp_path, text, word):
    (tmp_path / "latin.csv").write_bytes(text)
    done = kfmodels(*FIT.replace("x.csv", "latin.csv").split(), folder=tmp_path, code=2)
    (said,) = done.stderr.splitlines()
    assert said.startswith(
        "error: latin.csv is not text in UTF-8, the first that is none begins with"
    )
    assert word.replace("\\", "\\\\") in said
    assert said.endswith('save it as csv in UTF-8, which spreadsheets list as "CSV UTF-8"')
    fit(table.rename(columns={"CVX": "Soci\xe9t\xe9"}).to_csv(), "--hedges", "Soci\xe9t\xe9")


def test_a_file_that_is_only_named_parquet(table, tmp_path):
    table.to_csv(tmp_path / "x.parquet")
    with pytest.raises(
        ValueError, match="named as parquet and is none: save it as parquet, or name"
    ):
        read_prices(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").rename(tmp_path / "x.csv")
    assert len(read_prices(tmp_path / "x.csv")) == len(table)


def test_a_cell_that_is_no_number(table, fit, saved):
    text = table.astype(object)
    text.iloc[50, 0] = "halted"
    said = fit(text.to_csv(), code=2)
    assert "'halted' at " in said
    assert "leave its cell in the file empty to make it a gap" in said
    fit(text.to_csv().replace("halted", ""))
    assert saved().data.observed.sum() == len(table) - 1


NOTATIONS = {
    "commas between thousands": (",", "{:,.2f}", str.maketrans("", "")),
    "decimal commas": (";", "{:,.2f}", str.maketrans(",.", ".,")),
}


@pytest.mark.parametrize("words", NOTATIONS)
@pytest.mark.parametrize("scale", [1, 100])
def test_numbers_are_read_as_desks_write_them(table, fit, tmp_path, words, scale):
    between, form, swapped = NOTATIONS[words]
    table = (table * scale).round(2)
    text = table.map(lambda one: form.format(one).translate(swapped))
    said = fit(text.to_csv(sep=between))
    assert said.endswith(words) == (scale == 100 or between == ";")
    pd.testing.assert_frame_equal(read_prices(tmp_path / "x.csv"), table, check_names=False)


@pytest.mark.parametrize("between", [";", "\t"])
def test_other_separators_with_decimal_points(table, fit, tmp_path, between):
    fit(table.to_csv(sep=between))
    pd.testing.assert_frame_equal(read_prices(tmp_path / "x.csv"), table, check_names=False)


def test_numbers_of_two_readings_are_refused_until_they_are_written_plainly(table, fit):
    table = (table * 1000).round()
    said = fit(table.map("{:,.0f}".format).to_csv(), code=2)
    assert "can be read in 2 ways: " in said
    assert "write all with a decimal point and nothing between thousands" in said
    fit(table.to_csv())
    mixed = table.map("{:,.2f}".format).assign(
        CVX=table["CVX"].map("{:.2f}".format).str.replace(".", ",")
    )
    said = fit(mixed.to_csv(), code=2)
    assert "write all numbers of the file with a decimal point" in said or "leave its cell" in said


def test_a_line_with_more_cells_than_the_first_is_refused(table, fit, tmp_path):
    head, *rows = table.to_csv().splitlines()
    cases = {
        "decimal commas": [head, *(row.replace(".", ",") for row in rows)],
        "a comma at the end": [head, *(f"{row}," for row in rows)],
        "no name of the dates": [head.removeprefix("date,"), *rows],
        "one decimal comma": [head, *(row[::-1].replace(".", ",", 1)[::-1] for row in rows)],
    }
    for lines in cases.values():
        said = fit("\n".join(lines), code=2)
        assert (
            "cells in its first line and more below it: name the column of dates too, take" in said
        )
    for text in (table.to_csv(), table.to_csv(sep=";", decimal=",")):
        fit(text)
        pd.testing.assert_frame_equal(read_prices(tmp_path / "x.csv"), table, check_names=False)


def test_a_note_beside_prices_does_not_matter(table, fit, saved):
    fit(table.assign(note="a, b").to_csv())
    assert len(saved().data) == len(table)


def test_a_file_that_is_no_table(fit):
    assert "x.csv is no table, a line of tickers" in fit("", code=2)
    assert "x.csv is no table" in fit("date,XOM\n2020-01-02,1\n2020-01-03,1,2,3\n", code=2)


def test_a_board_names_the_option_that_makes_a_gap_of_a_bad_print(universe, until):
    command = ["fit-many", "all.csv", "--target", "BAD", "--until", until, "--store"]
    said = kfmodels(*command, "bad", folder=universe, code=2).stdout
    (option,) = set(re.findall(r"--repair BAD:\S+:gap", said))
    assert not re.search(r"NaN|transform=", said)
    kfmodels(*command, "good", *option.split(), folder=universe)


@pytest.mark.parametrize("options", [("--json",), ("--csv", "board.csv")])
def test_a_table_for_programs_names_options_too(universe, until, funds, options):
    funds = funds.drop(columns="BAD")
    day = str(funds.index[50].date())
    funds.iloc[50:, 0] *= 8
    funds.to_csv(universe / "split.csv")
    command = ["fit-many", "split.csv", "--until", until, "--store"]
    kfmodels(*command, "raw", folder=universe)
    said = kfmodels("board", "raw", *options, folder=universe).stdout
    said = (universe / "board.csv").read_text() if "--csv" in options else said
    assert not re.search(r"repair=|\bNone\b", said)
    (option,) = set(re.findall(r"--repair MTUM:\S+:8", said))
    assert day in option
    mended = kfmodels(*command, "mended", *option.split(), folder=universe)
    assert "in doubt" not in mended.stdout + mended.stderr


def test_no_remedy_changes_another_text():
    said = "XOM is not among the 5 columns: is it at 2020-01-01: no"
    assert for_the_shell(said) == said
