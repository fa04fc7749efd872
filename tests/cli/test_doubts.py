"""Prices in doubt lead what is said of a fit, and `--repair` settles them in every command."""

import json
import re
import shlex
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kfmodels import HedgeData, HedgeFit, fit, hedge_ratio_model, load
from kfmodels.cli import facts
from kfmodels.cli.page import page
from kfmodels.cli.report import report
from kfmodels.sampling import nuts
from tests.cli.test_page import draw_pictures
from tests.command import kfmodels
from tests.problems import ROWS, FromPrior, stock_prices, unsampled

NOTHING = hedge_ratio_model(delta=0.01, obs_scale=0.01)
RIGHT = stock_prices(ROWS + 80)[["KO", "PEP"]]
SPLIT_AT, LATER_AT = 50, ROWS + 30
DAY, LATER_DAY = (str(RIGHT.index[row].date()) for row in (SPLIT_AT, LATER_AT))
PAIR = {"target": "KO", "hedges": ["PEP"]}


def split_at(row: int, factor: float = 4.0) -> pd.DataFrame:
    """The prices before a reverse split of KO, and those after it."""
    table = RIGHT.copy()
    table.iloc[row:, 0] *= factor
    return table


@pytest.fixture(scope="module")
def doubted() -> HedgeFit:
    with pytest.warns(UserWarning, match="in doubt"):
        data = HedgeData.from_prices(split_at(SPLIT_AT).iloc[:ROWS], **PAIR)
    return unsampled(data)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The prices as files, in a house where sampling costs nothing."""
    monkeypatch.setattr(nuts, "NUTS", FromPrior)
    RIGHT.to_csv(tmp_path / "right.csv")
    split_at(SPLIT_AT).to_csv(tmp_path / "split.csv")
    split_at(LATER_AT).to_csv(tmp_path / "later.csv")
    return tmp_path


def fit_command(table: str, out: str) -> list[str]:
    until = str(RIGHT.index[ROWS - 1].date())
    return ["fit", table, *shlex.split(f"--target KO --hedges PEP --until {until} --out {out}")]


def test_report_and_json_begin_with_what_is_in_doubt(doubted, tmp_path):
    lines = [line for line in report(doubted).splitlines() if line]
    assert lines[1] == "The prices are in doubt"
    assert lines[2].startswith(f"- KO went from {RIGHT.iloc[SPLIT_AT - 1, 0]:g} to ")
    end = lines.index("Inferred noise (posterior medians; memories in bars)")
    said = " ".join(" ".join(lines[2:end]).split())  # as it was before it was wrapped
    assert f"at {DAY}, about 4 times, and stayed: a split?" in said
    assert f"refit with --repair KO:{DAY}:4 (in Python repair=" in said
    doubted.save(tmp_path / "ko.nc")
    found = json.loads(kfmodels("show", "ko.nc", "--json", folder=tmp_path).stdout)
    assert list(found)[:4] == ["target", "hedges", "fit_until", "doubts"]
    assert found["doubts"] == facts.doubts(doubted.data)
    assert found["doubts"][0] == str(doubted.data.doubts[0])


def test_a_leg_that_may_have_stopped_is_told_in_the_fit_the_report_and_the_board():
    table = RIGHT.iloc[:ROWS].copy()
    table.iloc[-15:, 1] = table.iloc[-15, 1]
    told = f"PEP stands still at {table.iloc[-1, 1]:g}, {table.index[-15].date()} .. "
    with pytest.warns(UserWarning, match=re.escape(told)):
        data = HedgeData.from_prices(table, **PAIR)
    with pytest.warns(UserWarning, match=re.escape(told)) as caught:
        fit(data, NOTHING, method=FromPrior())
    (remedy,) = re.findall(r"fit the rows before: (.*)", str(caught[0].message))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit(eval(remedy, {"data": data}), NOTHING, method=FromPrior())
    assert fitted.data.last_date == table.index[-16]
    assert told in " ".join(report(unsampled(data)).split())
    with pytest.warns(UserWarning, match=re.escape(told)):
        pairs = HedgeData.all_pairs(table)
    assert {name: len(doubts) for name, doubts in pairs.doubts.items()} == {"PEP": 1}


def test_a_fit_without_doubts_says_nothing_of_them():
    clean = unsampled(HedgeData.from_prices(RIGHT.iloc[:ROWS], **PAIR))
    assert "in doubt" not in report(clean)


@pytest.mark.slow
def test_the_option_that_a_fit_offers_repairs_it(folder):
    """To the bit: a factor of 4 is exact. Said to be real, the move stays without a word."""
    raw = kfmodels(*fit_command("split.csv", "raw.nc"), folder=folder)
    option = f"--repair KO:{DAY}:4"
    assert option in raw.stderr
    assert f"refit with {option}" in " ".join(raw.stdout.split())
    done = kfmodels(*fit_command("split.csv", "mended.nc"), *option.split(), folder=folder)
    kfmodels(*fit_command("right.csv", "right.nc"), folder=folder)
    assert "in doubt" not in done.stdout + done.stderr
    mended, right = (load(folder / name) for name in ("mended.nc", "right.nc"))
    pd.testing.assert_series_equal(mended.data.prices["KO"] / 4, right.data.prices["KO"])
    pd.testing.assert_frame_equal(mended.hedge_ratio(), right.hedge_ratio(), rtol=1e-10)
    real = kfmodels(*fit_command("split.csv", "real.nc"), *f"{option[:-1]}1".split(), folder=folder)
    assert "in doubt" not in real.stdout + real.stderr
    assert load(folder / "real.nc").data.real == (("KO", DAY),)
    assert "in doubt" not in kfmodels("show", "real.nc", folder=folder).stdout


@pytest.mark.parametrize("command", ["report raw.nc --out x.html", "board pairs"])
def test_a_repair_without_prices_is_refused(tmp_path, command):
    (tmp_path / "raw.nc").touch()  # both are there, and neither is read
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "job.json").touch()
    done = kfmodels(*command.split(), "--repair", f"KO:{DAY}:4", folder=tmp_path, code=2)
    assert "the prices of a fit are repaired as it is made" in done.stderr


# -- pages, with their pictures --------------------------------------------------------------------


@pytest.mark.slow
def test_the_page_leads_with_what_is_in_doubt(doubted):
    text = page(doubted)
    body = text[text.index("<body") :]
    assert body.index("about 4 times, and stayed: a split?") < body.index('class="decision"')
    assert f"--repair KO:{DAY}:4" in body


def orders(text: str) -> dict[str, float]:
    """Shares by the sentence that asks for them."""
    words = text[text.index('class="decision"') : text.index("<section>")]
    found = {}
    for part in words.split("against 100 KO ")[1:]:
        side, shares, *_ = part.split()
        found[words[: words.index(part)].split("<")[-1]] = float(shares) * (
            -1 if side == "sell" else 1
        )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("transform", ["log", "level"])
def test_a_split_after_the_fit_is_repaired_in_the_report(folder, transform):
    """The scores are those of prices without it; a new share of KO asks for four times the hedge."""
    data = HedgeData.from_prices(RIGHT.iloc[:ROWS], **PAIR, transform=transform)
    fitted = unsampled(data, delta={"beta": 1e-3, "alpha": 0.9}, obs_scale=0.004)
    fitted.save(folder / "ko.nc")
    command = ["report", "ko.nc", "--out", "page.html", "--prices"]
    raw = kfmodels(*command, "later.csv", folder=folder)
    option = f"--repair KO:{LATER_DAY}:4"
    assert option in raw.stderr
    done = kfmodels(*command, "later.csv", *option.split(), folder=folder)
    assert "in doubt" not in done.stderr
    mended = (folder / "page.html").read_text()
    kfmodels(*command, "right.csv", folder=folder)
    right = (folder / "page.html").read_text()
    for words in ("Out of sample the moving ratio removed", "The 90 % intervals of the forecasts"):
        sentences = {one[one.index(words) :].split("</")[0] for one in (mended, right)}
        assert len(sentences) == 1
    assert len(orders(right)) == 1
    assert orders(mended).keys() == orders(right).keys()
    ratio = np.array([*orders(mended).values()]) / [*orders(right).values()]
    assert ratio == pytest.approx(4, rel=1e-3)
    # a share of KO that became four: of the pictures too, before the split and after
    factor = 4 if transform == "level" else 1
    drawn = [one for one in draw_pictures(mended) if "value" in one]
    for one, other in zip(drawn, [e for e in draw_pictures(right) if "value" in e], strict=True):
        np.testing.assert_allclose(one["value"], factor * other["value"], rtol=1e-3, atol=1e-4)
        if "static" in one:
            np.testing.assert_allclose(one["static"], factor * other["static"], rtol=1e-5)
