"""The page for those who decide: what it says, and that it stands alone."""

import base64
import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import kfmodels as kf
from kfmodels.batch.few_legs import compare_with_universe
from kfmodels.cli import facts
from kfmodels.cli.page import page, write_page
from tests.command import kfmodels
from tests.online.test_sessions import data_of, frame
from tests.problems import stocks_between, unsampled

pytestmark = pytest.mark.slow

PRICES = kf.datasets.stocks()[["KO", "PEP"]]


@pytest.fixture(scope="module")
def data() -> kf.HedgeData:
    return stocks_between("2020-01-01", "2021-01-01")


@pytest.fixture(scope="module")
def fitted(data) -> kf.HedgeFit:
    model = kf.hedge_ratio_model(noise=kf.Discounted())
    return kf.fit(data, model, method=kf.NUTS(warmup=300, draws=300), progress=False)


@pytest.fixture(scope="module")
def text(fitted) -> str:
    return page(fitted, PRICES)


FIXED = kf.hedge_ratio_model(delta={"beta": 1e-3, "alpha": 0.9}, obs_scale=0.004)


@pytest.fixture(scope="module")
def alone() -> str:
    """The page of a fit that inferred nothing, without later prices, of an odd name."""
    prices = PRICES.loc["2020":"2020"].rename(columns={"PEP": "<PEP>&co"})
    return page(kf.fit(kf.HedgeData.from_prices(prices, target="KO", hedges=["<PEP>&co"]), FIXED))


class Reader(HTMLParser):
    """Everything outside that a page asks for, and whether its tags close."""

    void = ("meta", "img", "br", "link")

    def __init__(self) -> None:
        super().__init__()
        self.sources, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_is_well_formed(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.sources) >= 6
    for source in reader.sources:
        kind, _, coded = source.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(coded)[:4] == b"\x89PNG"
    assert "http" not in text
    assert "<script" not in text


def test_the_decision_comes_first_with_the_figures_of_the_tables(text, fitted):
    decision = text[text.index('class="decision"') : text.index("<section>")]
    later = PRICES.loc["2021":]
    last = kf.follow(fitted.online(), later).iloc[-1]
    shares = 100 * last["beta PEP"] * later["KO"].iloc[-1] / later["PEP"].iloc[-1]
    moving = f"against 100 KO sell {shares:.2f} PEP"
    (static,) = facts.static(fitted, later.iloc[-1])
    compared = kf.compare({"fit": fitted}, later).table.iloc[0]
    assert facts.intervals(compared["inside_90"], int(compared["bars"])) in decision
    worth = kf.hedge_effectiveness(
        PRICES.loc["2020":],
        target="KO",
        hedges=["PEP"],
        train=len(fitted.data),
        models={"fit": fitted},
        transform="log",
    )
    assert facts.worth("KO", worth, "fit") in decision
    # the first sentence is what the advice comes to
    assert facts.advice(worth, "fit", [static]) in decision
    first = re.search(r"After 2022-12-28(.*?) \(", decision)
    assert first
    kept = facts.keeps_static(worth, "fit")
    assert first[1] == (
        f", by the static ratio: {static.split(' (')[0]}" if kept else f": {moving}"
    )
    assert moving in decision
    assert static in decision
    chance = kf.evaluate.static_probability(fitted)["probability"].iloc[0]
    assert facts.static_chance("PEP", chance) in decision


def test_the_sections_are_there_and_the_fit_is_named(text, fitted):
    titles = re.findall(r"<h2>\d+\. (.*?)</h2>", text)
    assert titles == [
        "The hedge",
        "What was believed, and what the data say",
        "The likelihood",
        "What it was worth, out of sample",
        "Were its bands honest, out of sample",
        "The spread",
        "What published settings imply here",
    ]
    assert f"fit {fitted.tree.attrs['fit_id']}; model" in text


def test_without_later_prices_nothing_is_said_of_worth_and_names_are_escaped(alone):
    assert "out of sample" not in alone.lower()
    assert "Probability that" not in alone  # nothing was inferred
    assert re.findall(r"<h2>\d+\. (.*?)</h2>", alone)[0] == "The hedge"
    assert "<PEP>" not in alone
    assert "&lt;PEP&gt;&amp;co" in alone


GAPS = PRICES.loc["2021":].assign(KO=np.nan)
SHORT = PRICES.loc[:"2021-02-15"]


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        (PRICES[["KO"]], "the prices have no column PEP"),
        (SHORT, f"only {len(SHORT.loc['2021':])} complete rows are later than 2020-12-31"),
        (PRICES.tz_localize("UTC"), "time zones do not match"),
        (GAPS, "only 0 complete rows"),
    ],
)
def test_later_prices_must_be_later_complete_and_have_the_columns(fitted, tmp_path, prices, words):
    with pytest.raises(ValueError, match=words):
        write_page(fitted, tmp_path / "a.html", prices)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_the_page_of_a_saved_fit(data, tmp_path):
    kf.fit(data, FIXED).save(tmp_path / "ko.nc")
    PRICES.to_csv(tmp_path / "prices.csv")
    options = ["--prices", "prices.csv", "--out", "report.html"]
    done = kfmodels("report", "ko.nc", *options, folder=tmp_path)
    assert "\nSaved to report.html" in done.output
    assert "Out of sample the moving ratio removed" in (tmp_path / "report.html").read_text()


def test_the_page_tells_what_the_other_columns_would_have_removed(data, text):
    table = kf.datasets.stocks()[["KO", "PEP", "XOM", "CVX"]].loc["2020":"2021"]
    fitted = kf.fit(data, FIXED)
    found = compare_with_universe(table[["KO", "PEP"]], table, since=fitted.fit_until)
    assert found.rows == len(table.loc[table.index > fitted.fit_until])
    assert facts.beside("KO", ["PEP"], found) in html.unescape(page(fitted, table))
    assert "Of the 2 columns" not in text


def test_a_spread_has_a_section_with_its_numbers_after_the_last_row(data):
    fitted = unsampled(data, spread=kf.Reverting())
    later = PRICES.loc["2021"]
    text = html.unescape(page(fitted, later))
    titles = re.findall(r"<h2>\d+\. (.*?)</h2>", text)
    assert titles[titles.index("The spread") - 1] == "The spread that comes back"
    live, ticks = fitted.online(), []
    kf.follow(live, later, seen=ticks.append)
    prices = later.iloc[-1]
    for sentence in facts.reversion(fitted, live, facts.hedges(live, prices), prices):
        assert sentence in text
    assert facts.stands("KO", ticks[-1].reversion) in text
    assert facts.ASK not in text
    assert facts.ASK in html.unescape(page(kf.fit(data, FIXED)))


def test_a_deviation_of_the_day_that_may_not_be_there_is_said():
    day = {"tilt": kf.model.Tilt(), "profile": kf.model.Profile(), "gaps": kf.Gaps()}
    day |= {"day": kf.model.OfTheDay(spike=True), "intercept": "none"}
    method = kf.ImportanceSampling(draws=64, rounds=3)
    fitted = kf.fit(data_of(frame()), kf.hedge_ratio_model(**day), method=method, progress=False)
    assert "The model has a deviation of the day that may not be there." in page(fitted)
    assert fitted.report().startswith("Y hedged with X: returns")
