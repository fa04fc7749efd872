"""The night takes over the day: a book and its attribution go on where they stood."""

import numpy as np
import pytest

from kfmodels import HedgeData, fit, hedge_ratio_model
from kfmodels.live import Attribution, HedgeBook
from tests.problems import ROWS, stock_prices


@pytest.fixture(scope="module")
def fits():
    """The same pair under two noises, the second fitted on more rows."""
    prices = stock_prices(ROWS + 30)
    made = []
    for rows, delta in ((ROWS, 1e-3), (ROWS + 10, 3e-3)):
        data = HedgeData.from_prices(prices.iloc[:rows], target="KO", hedges=["PEP"])
        model = hedge_ratio_model(delta={"beta": delta, "alpha": 0.5}, obs_scale=0.005)
        made.append(fit(data, model, progress=False))
    return prices[["KO", "PEP"]].iloc[ROWS:], *made


def test_a_book_and_its_attribution_go_on_over_new_noise(fits, tmp_path):
    """The book trades from what it holds, and the account adds up to what its shares earned."""
    later, old, new = fits
    book = old.book(position=10_000.0)
    account, live = Attribution(book), old.go_live(journal=tmp_path / "j")
    earned, last, held = 0.0, None, {}
    for number, (at, row) in enumerate(later.iterrows()):
        prices = row.to_dict()
        if number == 20:
            engine = new.online()
            live.catch_up(engine)
            live.replace(engine)
            assert book.held == held
        signal = live.tick(prices, at=at)
        if last is not None:
            earned += 10_000 * (prices["KO"] - last["KO"])
            earned += held["PEP"] * (prices["PEP"] - last["PEP"])
        orders = book.act(signal, prices)
        account.add(signal, prices, orders=orders)
        last, held = prices, dict(book.held)
        wanted = -10_000 * signal.tick.beta["PEP"] * prices["KO"] / prices["PEP"]
        assert orders.wanted["PEP"] == pytest.approx(wanted)
    total = account.table().loc["total"]
    assert total["pnl"] - total["cost"] == pytest.approx(earned, rel=1e-9)
    live.close()
    with old.go_live(journal=tmp_path / "j") as again:  # the new noise is in the journal
        np.testing.assert_array_equal(again.engine.state()["mean"], live.engine.state()["mean"])


def test_a_book_says_what_it_takes():
    book = HedgeBook(target="KO", hedges=["PEP"], transform="log", position=100)
    with pytest.raises(
        ValueError, match="the tick of a filter or the signal of a live one, not 'x'"
    ):
        book.act("x", {"KO": 1.0, "PEP": 1.0})
