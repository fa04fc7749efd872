"""The page for those who decide: what it says, and that it stands alone."""

import base64
import gzip
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kfmodels as kf
from kfmodels.batch.few_legs import compare_with_universe
from kfmodels.cli import facts
from kfmodels.cli.page import choose, page, write_page
from kfmodels.evaluate.baselines import static_ratio
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
    """What a page asks for from outside, whether its tags close, its tables and what it says."""

    void = ("meta", "img", "br", "link", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources, self.open, self.tables, self.said = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [
            value for name, value in attrs if name in ("src", "href", "data", "srcset")
        ]
        if tag not in self.void:
            self.open.append(tag)
        if tag == "wbr":  # a place to break a word, and no end of it
            self.said = self.said.rstrip()
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append((tag, dict(attrs).get("data-head")))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.said += f"{data} "


def read_lead(text: str) -> str:
    """What stands above the first picture."""
    return html.unescape(text[text.index("<body>") : text.index("<section>")])


def test_the_page_stands_alone_and_is_well_formed(text):
    reader = Reader(text)
    assert reader.open == []
    assert len(reader.sources) >= 6
    for source in reader.sources:
        kind, _, coded = source.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(coded)[:4] == b"\x89PNG"
    page_of_ours = re.sub("<script.*?</script>", "", text, flags=re.DOTALL)
    assert "http" not in page_of_ours
    assert "@import" not in page_of_ours
    assert "url(" not in page_of_ours
    assert len(text) < 3_000_000


def test_the_first_thing_said_is_the_one_ratio_to_hold(text, fitted):
    lead, later = read_lead(text), PRICES.loc["2021":]
    assert text.count('class="decision"') == 1
    worth = kf.hedge_effectiveness(
        PRICES.loc["2020":],
        target="KO",
        hedges=["PEP"],
        train=len(fitted.data),
        models={"fit": fitted},
        transform="log",
    )
    kept = facts.keeps_static(worth, "fit")
    last = kf.follow(fitted.online(), later).iloc[-1]
    moving = last["beta PEP"], last["sd_total PEP"]
    still = tuple(static_ratio(fitted.data).loc["PEP"])
    ratio, sd = still if kept else moving
    word = "static" if kept else "moving"
    money = re.search(rf"<p>After 2022-12-28 hold the {word} ratio: (.*?)\.</p>", lead)
    assert money
    found = re.fullmatch(r"against every 100 of money in KO sell (\S+) ± (\S+) of PEP", money[1])
    assert found
    assert [*map(float, found.groups())] == pytest.approx([100 * ratio, 100 * sd], abs=0.06)
    shares = 100 * ratio * later["KO"].iloc[-1] / later["PEP"].iloc[-1]
    assert f"<p>In shares: against 100 KO sell {shares:.2f} PEP.</p>" in lead
    assert lead.count("against 100 KO") == 1  # the other ratio is no order
    assert f"Why the {word} one: {facts.reason('KO', worth, 'fit')}." in lead
    said = html.unescape(text)
    assert facts.worth("KO", worth, "fit") in said
    compared = kf.compare({"fit": fitted}, later).table.iloc[0]
    assert facts.intervals(compared["inside_90"], int(compared["bars"])) in said
    chance = kf.evaluate.static_probability(fitted)["probability"].iloc[0]
    assert said.index(facts.static_chance("PEP", chance)) > said.index("Appendix")


@pytest.mark.parametrize(
    ("chance", "static", "words"),
    [
        (0.001, False, "the probability that a static ratio is enough is below 0.01; the moving"),
        (
            0.99,
            True,
            "the probability that a static ratio is enough is 0.99; the moving ratio trades",
        ),
        (0.5, None, "leave open whether the ratio moves, and the {} one trades less: the moving"),
        (
            np.nan,
            None,
            "leave open whether the ratio moves, and the {} one trades less: the moving",
        ),
    ],
)
def test_without_later_prices_the_odds_decide_and_else_the_turnover(fitted, chance, static, words):
    odds = pd.DataFrame({"probability": [0.5, chance]}, ["PEP", "all"])
    choice = choose(fitted, odds, None)
    traded = re.search(
        r"trades (\S+) times the value of KO a year, the static one (\S+)$", choice.why
    )
    assert traded
    moving, still = map(float, traded.groups())
    if static is None:
        static = moving >= still
    assert choice.static == static
    assert words.format("static" if static else "moving") in choice.why
    assert choice.held == (choice.still if static else choice.moving)
    # shares follow the ratio of money at each close, here of half a year or so
    ratio = fitted.hedge_ratio()["mean"] * (PRICES["KO"] / PRICES["PEP"]).loc["2020":"2020"]
    each = (ratio.diff().abs() * PRICES["PEP"] / PRICES["KO"]).dropna()
    assert moving == pytest.approx(each.iloc[29:].mean() * 252, rel=0.02)


def test_a_ratio_whose_speed_was_not_inferred_is_held_as_it_is(alone):
    lead = read_lead(alone)
    assert "hold the moving ratio" in lead
    assert "it is that of this model, with no later prices to weigh it" in lead
    assert "kfmodels report --prices LATER.csv" in lead


def test_the_sections_are_there_and_the_fit_is_named(text, fitted):
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [
        "1. What to hold",
        "2. What it was worth on later prices",
        "3. What to watch",
        "Appendix: how it was inferred",
    ]
    assert f"fit {fitted.tree.attrs['fit_id']}</footer>" in text
    assert str(fitted.tree.attrs["model"]) in html.unescape(text[text.index("Appendix") :])


TERMS = (
    "mcse",
    "pareto_k",
    "log q",
    "nats",
    "PIT",
    "log_score",
    "gain",
    "posterior",
    "prior",
    "z_sd",
)


def test_words_of_the_trade_stay_in_the_appendix_and_are_explained_there(text):
    before, _, after = Reader(text).said.partition("Appendix: how it was inferred")
    assert [
        word for word in (*TERMS, "log score", "rhat") if re.search(rf"\b{word}\b", before)
    ] == []
    assert "{" not in before
    assert [word for word in TERMS if not re.search(rf"\b{word}\b", after)] == []
    explained = " ".join(re.findall("<d[td]>(.*?)</d[td]>", text))
    named = (
        "mcse",
        "pareto_k",
        "q",
        "nats",
        "PIT",
        "log score",
        "gain",
        "memory",
        "R-hat",
        "sd of z",
    )
    assert [word for word in named if not re.search(rf"\b{word}\b", explained)] == []


def test_every_hedge_is_drawn_with_its_static_ratio(data):
    prices = kf.datasets.stocks()[["KO", "PEP", "SPX"]].loc["2020"]
    both = kf.HedgeData.from_prices(prices, target="KO", hedges=["PEP", "SPX"])
    text = page(kf.fit(both, FIXED))
    ratios = static_ratio(both)["ratio"]
    assert re.findall(r'<div class="live"><h3>Ratio of KO to (\w+)</h3>', text) == [*ratios.index]
    pictures = draw_pictures(text)
    drawn = [one for one in pictures if "static" in one]
    assert [one["static"][0] for one in drawn] == pytest.approx(ratios.to_list(), rel=1e-6)
    filtered = kf.fit(both, FIXED).hedge_ratio()
    for one, name in zip(drawn, ratios.index, strict=True):
        np.testing.assert_allclose(one["value"], filtered[name]["mean"], rtol=1e-5)
    # on paper, where no script runs, one picture has them all
    assert text.count('<figure class="still">') == 1
    style = text[text.index("<style>") : text.index("</style>")]
    assert (
        ".live { display: none; } .still { display: flex; }" in style[style.index("@media print") :]
    )
    assert "<noscript><style>.live { display: none; } .still { display: flex; }" in text
    assert text.index('class="live"') < text.index("<table")


def draw_pictures(text: str) -> list[dict[str, np.ndarray]]:
    """The columns of each source of Bokeh's document, which a page holds as a string."""
    (coded,) = re.findall(r"const docs_json = '(.*?)';", text)
    (document,) = json.loads(html.unescape(coded.replace("\\\\", "\\"))).values()
    found: list[dict[str, np.ndarray]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("name") == "ColumnDataSource":
                entries = dict(node["attributes"]["data"]["entries"])
                kinds = {name: one for name, one in entries.items() if isinstance(one, dict)}
                found.append({name: decode(one) for name, one in kinds.items()})
            for part in node.values():
                walk(part)
        elif isinstance(node, list):
            for part in node:
                walk(part)

    walk(document)
    return found


def decode(array: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(gzip.decompress(base64.b64decode(array["array"]["data"])), array["dtype"])


def test_no_table_loses_a_column(text):
    """A row has a cell for each heading, which a phone shows beside it; and all text may wrap."""
    tables = Reader(text).tables
    assert len(tables) >= 6
    for head, *rows in tables:
        assert rows
        for row in rows:
            assert [tag for tag, _ in row] == ["th", *["td"] * (len(head) - 1)]
            assert all(name for tag, name in row if tag == "td")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "overflow-x" not in style
    phone = style[style.index("@media screen and (max-width: 40rem)") :]
    assert "td::before { content: attr(data-head);" in phone
    assert "overflow-wrap: anywhere" in style
    assert "h1, h2, h3, dt { break-after: avoid; }" in style
    assert "img { max-width: 100%;" in style


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

MEASURE = """<script>addEventListener("load", () => setTimeout(() => parent.postMessage([
  document.documentElement.scrollWidth,
  Math.max(...[...document.body.querySelectorAll("*")].map(e => e.getBoundingClientRect().right)),
  [...document.querySelectorAll(".live")].map(e => e.getBoundingClientRect().height)
], "*"), 1500));</script></body>"""

FRAME = """<body><script>addEventListener("message", event =>
  document.body.append("found:" + JSON.stringify(event.data) + ":end"));</script>
<iframe src="page.html" style="width: {width}px; height: 900px; border: 0"></iframe></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_whole_width(text, tmp_path, width):
    (tmp_path / "page.html").write_text(text.replace("</body>", MEASURE))
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
    options += [f"--user-data-dir={tmp_path}/profile", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command = [str(CHROMIUM), *options, "--dump-dom", f"file://{tmp_path}/frame.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    measured = re.search("found:(.*?):end", done.stdout.rpartition("<iframe")[2])
    assert measured, done.stderr
    whole, right, heights = json.loads(measured[1])
    assert max(whole, right) <= width
    assert len(heights) == 3
    assert min(heights) > 200  # the pictures were drawn, without a network


def test_without_later_prices_nothing_is_said_of_worth_and_names_are_escaped(alone, text):
    said = Reader(alone).said
    assert "dotted line" not in said  # as there is none
    assert "Left of a dotted line the noise was inferred" in Reader(text).said
    assert "worth on later prices" not in re.findall("<h2>(.*?)</h2>", alone)
    assert "Probability that" not in said  # nothing was inferred
    assert re.findall(r"<h2>\d+\. (.*?)</h2>", alone)[0] == "What to hold"
    assert "<PEP>" not in alone
    assert "&lt;PEP&gt;&amp;co" in alone


def test_a_price_below_zero_is_hedged_in_shares_alone():
    prices = kf.datasets.stocks()[["KO", "PEP"]].loc["2020"] - [70.0, 0.0]
    data = kf.HedgeData.from_prices(prices, target="KO", hedges=["PEP"], transform="level")
    lead = read_lead(page(kf.fit(data, FIXED)))
    assert re.search(r"hold the moving ratio, in shares: against 100 KO sell \S+ PEP\.", lead)
    assert "of money" not in lead
    assert "times the value" not in lead


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


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="there is no pdftotext either")
def test_a_browser_leaves_no_sheet_of_paper_half_empty(text, tmp_path):
    """But for the last one, the lowest words stand in the lowest quarter."""
    (tmp_path / "page.html").write_text(text)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    options += ["--no-pdf-header-footer", f"--print-to-pdf={tmp_path}/page.pdf"]
    command = [str(CHROMIUM), *options, f"file://{tmp_path}/page.html"]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    boxes = subprocess.run(
        ["pdftotext", "-bbox", f"{tmp_path}/page.pdf", "-"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    *sheets, _ = boxes.split("<page ")[1:]
    assert 3 <= len(sheets) <= 5
    for sheet in sheets:
        height = float(re.findall(r'height="([\d.]+)"', sheet)[0])
        assert max(map(float, re.findall(r'yMax="([\d.]+)"', sheet))) > 0.75 * height


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


@pytest.mark.nightly
def test_a_spread_has_a_section_with_its_numbers_after_the_last_row(data):
    fitted = unsampled(data, spread=kf.Reverting())
    later = PRICES.loc["2021"]
    text = html.unescape(page(fitted, later))
    titles = re.findall(r"<h2>\d+\. (.*?)</h2>", text)
    assert titles[titles.index("What to watch") - 1] == "The spread that comes back"
    live, ticks = fitted.online(), []
    kf.follow(live, later, seen=ticks.append)
    prices = later.iloc[-1]
    said = facts.reversion(fitted, live, facts.hedges(live, prices), prices, nats=False)
    assert all(sentence in text for sentence in said)
    assert facts.stands("KO", ticks[-1].reversion) in text
    before, _, after = text.partition("Appendix: how it was inferred")
    assert "nats" not in before
    nats = float(fitted.tree.attrs["log_bayes"])
    assert f"Evidence for a spread that comes back: {nats:+.2f} +-" in after
    assert facts.ASK not in text
    assert facts.ASK in html.unescape(page(kf.fit(data, FIXED)))


@pytest.mark.nightly
def test_a_deviation_of_the_day_that_may_not_be_there_is_said():
    day = {"tilt": kf.model.Tilt(), "profile": kf.model.Profile(), "gaps": kf.Gaps()}
    day |= {"day": kf.model.OfTheDay(spike=True), "intercept": "none"}
    method = kf.ImportanceSampling(draws=64, rounds=3)
    fitted = kf.fit(
        data_of(frame()),
        kf.hedge_ratio_model(**{"noise": kf.Constant()} | day),
        method=method,
        progress=False,
    )
    assert "The model has a deviation of the day that may not be there." in page(fitted)
    assert fitted.report().startswith("Y hedged with X: returns")
