"""What a REPL and a notebook show of a result: words within 80 columns, and the same in HTML."""

import inspect
import re

import numpy as np
import pytest

import kfmodels as kf
from kfmodels import evaluate
from kfmodels.words.shown import wrap_prose
from tests.problems import ROWS, stock_prices

MODEL = kf.hedge_ratio_model(noise=kf.Discounted())
METHOD = kf.ImportanceSampling(draws=64, rounds=4)


@pytest.fixture(scope="module")
def results():
    prices = stock_prices(2 * ROWS)
    data = kf.HedgeData.from_prices(prices.iloc[:ROWS], target="KO", hedges=["PEP"])
    fitted = kf.fit(data, MODEL, method=METHOD, progress=False)
    book, row = fitted.book(position=1000), prices.iloc[ROWS].to_dict()
    pairs = kf.HedgeData.all_pairs(prices[["KO", "PEP"]].iloc[:ROWS])
    other = kf.hedge_ratio_model(delta={"beta": kf.Memory(20, 5, 90)}, noise=kf.Discounted())
    tick = fitted.online().update(y=row["KO"], x=row)
    return {
        "data": data,
        "fit": fitted,
        "board": kf.fit_many(pairs, MODEL, method=METHOD, progress=False),
        "book before": kf.live.HedgeBook(
            target="KO", hedges=["PEP"], transform="log", position=9.5
        ),
        "orders": book.act(tick, row),
        "book": book,
        "comparison": kf.compare({"KO": fitted}, prices.iloc[ROWS:]),
        "health": fitted.spread_health(),
        "surface": fitted.likelihood_surface(),
        "paths": evaluate.prior_predictive(data, MODEL, draws=20),
        "what if": fitted.what_if(other),
        **seen_live(fitted, prices),
    }


def seen_live(fitted, prices):
    funds = kf.datasets.etfs().loc["2012":"2013", ["EWG", "EWQ", "EWU", "SPY"]]
    universe = kf.hedge_universe(funds)
    row, at = prices.iloc[ROWS].to_dict(), prices.index[ROWS]
    live = fitted.go_live()
    signal, of_all = live.tick(row, at=at), universe.online()
    return {
        "live": live,
        "signal": signal,
        "tick": signal.tick,
        "filter": fitted.online(),
        "basket": of_all,
        "basket tick": of_all.standing(),
        "universe": universe,
    }


def test_help_is_read_without_latex_for_letters_and_types_for_arrays():
    assert "p(δ, v ∣ y) ∝ p(δ, v) ∏_t p(y_t ∣ y_{<t}, δ, v)" in (kf.fit.__doc__ or "")
    of_arrays = str(inspect.signature(kf.KalmanRegression))
    assert len(of_arrays) < 400
    assert of_arrays.startswith("(design, initial_mean, initial_cov, drift: ")
    letters = re.compile(
        r"\\(alpha|beta|delta|theta|epsilon|propto|sim|prod|sum|mid|cdot)(?![a-z])"
    )
    for name in ("fit", "KalmanRegression", "Moves", "Memory", "Anchored", "compare", "Gaps"):
        assert not letters.search(getattr(kf, name).__doc__), name


SHOWN = {
    "data": "KO on PEP",
    "fit": "Against 100 KO",
    "board": "of 2 pairs fitted",
    "book before": "9.5 KO against 0 PEP",
    "orders": "sold",
    "book": "1000 KO against -",
    "comparison": "alone",
    "health": "static OLS",
    "surface": "beta_memory",
    "paths": "20 paths",
    "what if": "effective of",
    "live": "KO/PEP (log) after",
    "signal": "accepted",
    "tick": "ratio to PEP",
    "filter": "OnlineFilter of KO/PEP (log), 64 draws",
    "basket": "Basket of EWG",
    "basket tick": "of 4 pairs",
    "universe": "4 targets",
}


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWN)
def test_a_result_shows_itself_in_words_that_fit_a_terminal(results, name):
    text = repr(results[name])
    assert SHOWN[name] in text
    assert max(map(len, text.splitlines())) <= 80, text


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SHOWN if name != "data"])
def test_a_notebook_shows_the_same_as_text_and_never_as_code(results, name, monkeypatch):
    assert SHOWN[name] in results[name]._repr_html_()
    monkeypatch.setattr(type(results[name]), "__str__", lambda _: "<b>x</b>")
    assert "<b>" not in results[name]._repr_html_()


@pytest.mark.slow
def test_a_fit_answers_what_is_asked_of_it(results):
    fitted = results["fit"]
    assert fitted.report().splitlines()[0].startswith("KO hedged with PEP")
    assert max(map(len, fitted.report().splitlines())) <= 80
    assert fitted.plot().axes
    expected = evaluate.static_probability(fitted)
    np.testing.assert_array_equal(fitted.static_probability(), expected)
    np.testing.assert_array_equal(fitted.prior_sensitivity(), evaluate.prior_sensitivity(fitted))
    assert list(fitted.summary().columns[:2]) == ["memory", "effective_memory"]


def test_tables_and_paths_keep_their_lines():
    table, path = f"  EWG  {'1.087 ' * 15} 0.087", f"/home/{'folder/' * 15}"
    text = wrap_prose(f"{table}\n{path}\n  {'word ' * 20}end")
    first, second, *prose = text.split("\n")
    assert (first, second) == (table, path)
    assert [len(line) < 80 for line in prose] == [True, True]
    assert prose[1].startswith("    word")
