"""`kfmodels universe --book` in this process: the order list of a book, by prices or a saved one."""

import html
import json

import pytest

import kfmodels as kf
from tests.command import kfmodels

NAMES = ["XLE", "SPY", "XLB", "XLF", "TLT", "EWJ", "FXI"]
TABLE = kf.datasets.etfs()[NAMES].iloc[:320]
BOOK = "ticker,money,held\nXLE,1000000,\nXLF,-400000,\nSPY,,-200000\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("book")
    TABLE.to_csv(made / "prices.csv")
    (made / "book.csv").write_text(BOOK)
    (made / "written.csv").write_text('Ticker;Money\nXLE;"1.000.000,50"\nXLF;-400.000,0\n')
    kf.hedge_universe(TABLE).save(made / "u.json")
    return made


@pytest.fixture(scope="module")
def universe(folder):
    return kf.load(folder / "u.json")


def test_prices_and_a_saved_universe_print_the_same_orders(folder, universe):
    order = universe.book({"XLE": 1e6, "XLF": -4e5}, held={"SPY": -2e5})
    for source in ("prices.csv", "u.json"):
        done = kfmodels("universe", source, "--book", "book.csv", folder=folder)
        assert str(order) in done.stdout
    assert "SPY" in order.orders.index


def test_the_options_of_a_book_are_those_of_hedge_book(folder, universe):
    options = "--hedges", "SPY,XLB,TLT", "--legs", 2, "--cost", 3, "--days", 5, "--json"
    done = kfmodels("universe", "u.json", "--book", "book.csv", *options, folder=folder)
    order = universe.book(
        {"XLE": 1e6, "XLF": -4e5},
        hedges=["SPY", "XLB", "TLT"],
        held={"SPY": -2e5},
        legs=2,
        cost=3.0,
        days=5.0,
    )
    found = json.loads(done.stdout)
    assert found["orders"] == json.loads(json.dumps(order.orders.to_dict("index")))
    assert (found["after"], found["left"]) == (order.after, order.left)


def test_numbers_are_read_as_desks_write_them(folder, universe):
    done = kfmodels("universe", "u.json", "--book", "written.csv", folder=folder)
    assert str(universe.book({"XLE": 1000000.5, "XLF": -4e5})) in done.stdout


def test_the_page_leads_with_the_book(folder, universe):
    kfmodels("universe", "prices.csv", "--book", "book.csv", "--out", "page.html", folder=folder)
    page = (folder / "page.html").read_text()
    order = universe.book({"XLE": 1e6, "XLF": -4e5}, held={"SPY": -2e5})
    places = [
        page.index(html.escape(text))
        for text in (*order.why, "The hedge of the book", "Each asset alone", "rows that no ratio")
    ]
    assert places == sorted(places)
    sold = order.trades.idxmin()
    assert f">{order.trades[sold]:,.0f}</td>" in page[places[-3] : places[-2]]


def test_a_saved_universe_reports_without_a_book(folder, universe):
    text = kfmodels("universe", "u.json", folder=folder).stdout
    assert universe.table().loc["XLE", "legs"] in text


REFUSED = {
    "--cost and --days are of a book: name its positions with --book": (["--cost", 2], ""),
    "--target needs prices, and u.json is a saved universe": (["--target", "XLE"], ""),
    "--legs needs prices, and u.json is a saved universe": (["--legs", 2], ""),
    "--out needs prices, and u.json is a saved universe": (["--out", "p.html"], BOOK),
    "positions: QQQ is not among the 7 tickers of the universe": ([], "ticker,money\nQQQ,5\n"),
    "positions names XLE twice": ([], "ticker,money\nXLE,5\nXLE,6\n"),
    "bad.csv begins with name, money: its first line must be ticker,money": (
        [],
        "name,money\nXLE,5\n",
    ),
    "bad.csv: money of XLF is 'many', no number: write its money": (
        [],
        "ticker,money\nXLE,5\nXLF,many\n",
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_errors_are_a_sentence(folder, text):
    options, book = REFUSED[text]
    (folder / "bad.csv").write_text(book)
    given = ["--book", "bad.csv"] if book else []
    done = kfmodels("universe", "u.json", *given, *options, folder=folder, code=2)
    assert text in done.stderr
