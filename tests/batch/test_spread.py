"""A board whose pairs may have a spread that comes back, or ratios on several scales."""

import numpy as np
import pytest

from kfmodels import (
    Constant,
    HedgeBoard,
    HedgeData,
    Reverting,
    Scales,
    fit,
    fit_many,
    hedge_ratio_model,
    pool,
)
from kfmodels.cli import board_report
from kfmodels.sampling.importance import ImportanceSampling
from tests.problems import stock_prices

MODEL = hedge_ratio_model(spread=Reverting(), noise=Constant())
QUICK = ImportanceSampling()


@pytest.fixture(scope="module")
def board() -> HedgeBoard:
    prices = stock_prices()
    # two targets that revert to a leg within days, and one that does not
    random = np.random.default_rng(4)
    spread = np.zeros(len(prices))
    for t in range(1, len(prices)):
        spread[t] = 0.7 * spread[t - 1] + random.normal(0, 0.01)
    prices["BACK"] = prices["KO"] * np.exp(spread)
    pairs = HedgeData.pairs(prices, [("BACK", "KO"), ("PEP", "KO")])
    return fit_many(pairs, MODEL, method=QUICK, progress=False)


@pytest.mark.nightly
def test_the_table_tells_which_pairs_come_back(board: HedgeBoard):
    table = board.table()
    assert table.loc["BACK/KO", "comes_back"] > 0.9 > table.loc["PEP/KO", "comes_back"]
    assert (table["status"] == "ok").all()


@pytest.mark.nightly
@pytest.mark.slow
def test_the_shell_names_them_and_asks_for_them_again(board: HedgeBoard):
    text = board_report.universe(board, 5)
    assert "\n1 of 2 spreads come back with a probability of 95 % or more: BACK/KO\n" in text
    assert " --spread --out" in text.split("refit")[1]
    listed = board_report.one_target(board, "BACK", board_report.hedges_of(board, "BACK"), 5)
    assert "spread comes back" in listed


@pytest.mark.nightly
def test_a_pair_is_what_its_own_fit_says(board: HedgeBoard):
    for name in ("BACK/KO", "PEP/KO"):
        alone = fit(board.pairs.data(name), MODEL, progress=False)
        mine = board.sel(name)
        p, q = (one.tree.attrs["probability"] for one in (mine, alone))
        error = np.hypot(*(one.tree.attrs["log_bayes_error"] for one in (mine, alone)))
        assert abs(np.log(p / (1 - p)) - np.log(q / (1 - q))) < 5 * error + 0.05
        assert board.table().loc[name, "comes_back"] == pytest.approx(p)
        mixed = mine.tree["mixture"].to_dataset()["spread_scale"].values > 0
        assert abs(mixed.mean() - p) <= 0.5 / len(mixed)
        if p > 0.5:
            lives = np.log(alone.half_life())
            # the standard error of a median is 1.25 sds over the root of the number of draws
            error = 1.25 * (lives["upper"] - lives["lower"]) / 3.29 * np.sqrt(2 / 200)
            assert abs(np.log(mine.half_life()["median"]) - lives["median"]) < 4 * error
        plug_in = float(mine.tree["plug_in"].to_dataset()["spread_scale"].values[0])
        assert (plug_in > 0) == (p > 0.5)


@pytest.mark.slow
def test_online_each_pair_goes_on_as_alone(board: HedgeBoard):
    live = board.online()
    alone = {name: board.sel(name).online() for name in board.pairs.names}
    last = board.pairs.prices.iloc[-1] * 1.01
    tick = live.update(last.to_dict())
    for name, one in alone.items():
        target, hedge = name.split("/")
        mine, own = tick.of(name), one.update(y=last[target], x=[last[hedge]])
        assert mine.beta[hedge] == pytest.approx(own.beta[hedge], rel=1e-9)
        assert mine.reversion is not None
        assert own.reversion is not None
        assert mine.reversion.mean == pytest.approx(own.reversion.mean, rel=1e-8)
        assert mine.reversion.probability == pytest.approx(own.reversion.probability)


@pytest.mark.slow
def test_a_population_has_no_such_parts(board: HedgeBoard):
    with pytest.raises(ValueError, match="cannot be pooled, for a population has no spread"):
        pool(board)


@pytest.mark.nightly
def test_the_ratio_of_several_scales_is_their_sum():
    pairs = HedgeData.pairs(stock_prices(), [("KO", "PEP"), ("PEP", "KO")])
    found = fit_many(
        pairs, hedge_ratio_model(drift=Scales(), noise=Constant()), method=QUICK, progress=False
    )
    row, one = found.table().loc["KO/PEP"], found.sel("KO/PEP")
    last = one.hedge_ratio().iloc[-1]
    assert row["beta"] == pytest.approx(last["mean"], rel=1e-9)
    assert row["sd"] == pytest.approx(last["sd"], rel=1e-9)
    assert found.online().update({"KO": 41.0, "PEP": 95.0}).beta[0] != row["beta"]
