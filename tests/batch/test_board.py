"""`HedgeBoard` on one small run of `fit_many`, in which half of the pairs go wrong each in its way."""

import re

import jax
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit

from kfmodels import (
    Constant,
    HedgeBoard,
    HedgeData,
    HedgeFit,
    Quarantine,
    fit_many,
    hedge_ratio_model,
    plots,
    rank_hedges,
)
from kfmodels.batch.status import FITTED, Status, Verdict
from kfmodels.data import datasets
from kfmodels.evaluate.health import spread_health
from kfmodels.fitting import tree as trees
from kfmodels.kalman.density import Z90
from kfmodels.model.memory import q_to_memory
from kfmodels.sampling.importance import noise_at

ROWS, DEAD_FROM, FEW_ROWS = 300, 250, 20
GOOD = [("MTUM", "QUAL"), ("QUAL", "MTUM"), ("MTUM", "USMV"), ("USMV", "QUAL")]
BAD = [("MTUM", "ZERO"), ("MTUM", "DEAD"), ("TEXT", "QUAL"), ("FEW", "MTUM")]
NAMES = [f"{target}/{hedge}" for target, hedge in GOOD + BAD]
FINE = NAMES[: len(GOOD)]


def prices() -> pd.DataFrame:
    """Three sound tickers; one with a zero, one that dies, one with text, one that is hardly there."""
    table = datasets.factor_etfs().loc["2019":, ["MTUM", "QUAL", "USMV"]].copy()
    table["ZERO"] = table["MTUM"].where(table.index != table.index[7], 0.0)
    table["DEAD"] = table["QUAL"].where(np.arange(len(table)) < DEAD_FROM, 31.5)
    table["TEXT"] = table["USMV"].astype(object).where(table.index != table.index[5], "n/a")
    table["FEW"] = table["USMV"].where(np.arange(len(table)) >= ROWS - FEW_ROWS)
    table.iloc[-1, 0] = np.nan  # after the rows that are fitted
    return table


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("board") / "store"


@pytest.fixture(scope="module")
def board(store) -> HedgeBoard:
    pairs = HedgeData.pairs(prices().iloc[:ROWS], GOOD + BAD)
    model = hedge_ratio_model(noise=Constant())
    return fit_many(pairs, model, chunk_size=len(GOOD + BAD), store=store, progress=False)


@pytest.fixture(scope="module")
def fits(board) -> dict:
    return {name: board.sel(name) for name in FINE}


def test_a_leg_in_doubt_is_told_and_its_pairs_stay(board):
    """An unadjusted split of USMV is said of its pairs, which are fitted and put online as others."""
    split = prices().iloc[:ROWS, :3]
    split.iloc[:100, 2] *= 4
    day = split.index[100].date()
    with pytest.warns(UserWarning, match="in doubt") as caught:
        pairs = HedgeData.pairs(split, GOOD)
    assert len(caught) == 1
    # chunks of one size, as the board's: of another, all that they run would be compiled again
    model = hedge_ratio_model(noise=Constant())
    doubted = fit_many(pairs, model, chunk_size=len(GOOD + BAD), progress=False)
    assert (doubted.status == "ok").all()
    of_usmv = [name for name in FINE if "USMV" in name]
    table = doubted.table()
    assert list(table.index[table["doubts"] != ""]) == of_usmv
    for said in (str(doubted), *table["doubts"][of_usmv], *doubted.doubts[of_usmv]):
        assert f"at {day}, about 1/4 times, and stayed: a split?" in said
        assert f"repair={{'USMV': {{'{day}': 1/4}}}}" in said
    assert "in doubt, 2 pairs: USMV went from" in str(doubted)
    assert set(doubted.online().names) == set(table.index)
    assert doubted.sites == board.sites
    assert (board.doubts[FINE] == "").all()
    repaired = HedgeData.pairs(split, GOOD, repair={"USMV": {str(day): 1 / 4}})
    again = fit_many(repaired, model, chunk_size=len(GOOD + BAD), progress=False)
    assert (again.doubts == "").all()
    assert_allclose(again.table()["beta"], board.table().loc[FINE, "beta"], rtol=1e-6)


def test_a_board_of_which_nothing_was_fitted_says_so():
    """Not a `StopIteration`, which would end a loop around it without a word."""
    flat = prices().iloc[:ROWS, :3].assign(USMV=31.5)
    made = fit_many(HedgeData.pairs(flat, [("MTUM", "USMV")]), progress=False)
    for ask in (lambda: made.sites, made.online):
        with pytest.raises(ValueError, match=r"no pair was fitted: board\.reason says why"):
            ask()


def test_pairs_that_fail_keep_the_rest_and_say_why(board):
    dates = prices().index
    status, reason = board.status, board.reason
    assert list(status.index) == list(reason.index) == NAMES
    assert (status == ["ok"] * len(GOOD) + ["unusable"] * len(BAD)).all()
    assert (reason[FINE] == "").all()
    says = {
        "MTUM/ZERO": f"ZERO is 0 at {dates[7]}: a log transform needs positive",
        "TEXT/QUAL": "TEXT holds something that is not a number: 'n/a' at",
        "FEW/MTUM": f"only {FEW_ROWS} common rows of FEW and MTUM",
        "MTUM/DEAD": f"hedge DEAD constant since {dates[DEAD_FROM].date()}",
    }
    for name, start in says.items():
        assert reason[name].startswith(start)


def test_the_table_has_a_row_a_pair_and_nan_where_nothing_was_fitted(board):
    table = board.table()
    assert list(table.index) == NAMES
    assert list(zip(table["target"], table["hedge"], strict=True)) == GOOD + BAD
    numbers = table.select_dtypes("number")
    assert numbers.loc[NAMES[len(GOOD) :]].isna().all(axis=None)
    assert numbers.loc[FINE].notna().all(axis=None)
    assert table["refitted"].dtype == bool
    assert_array_equal(table["status"], board.status)
    assert_array_equal(table["reason"], board.reason)
    table["beta"] = 0.0
    assert (board.table()["beta"] != 0).all()


@pytest.mark.parametrize("name", FINE)
def test_each_number_is_that_of_the_pair_alone(board, fits, name):
    row, fitted = board.table().loc[name], fits[name]
    ratio, spread = fitted.hedge_ratio().iloc[-1], fitted.spread()
    plug_in = fitted.tree["plug_in"].to_dataset()
    expected = {
        "beta": ratio["mean"],
        "sd": ratio["sd"],
        "lower": ratio["lower"],
        "upper": ratio["upper"],
        "effective_memory": fitted.summary().loc[fitted.hedges[0], "effective_memory"],
        "obs_scale": float(plug_in["obs_scale"].squeeze()),
        "z": spread["z"].iloc[-1],
        "half_life": half_life(plug_in_spread(fitted)),
        "static_half_life": spread_health(fitted).table.loc["static OLS", "half_life"],
        "log_evidence": fitted.tree.attrs["log_evidence"],
        "static_probability": expit(-row["against_static"]),
        "pareto_k": fitted.convergence()["pareto_k"],
        "ess": fitted.convergence()["ess"],
    }
    for column, value in expected.items():
        assert_allclose(row[column], value, rtol=1e-10, atol=1e-12, err_msg=column)
    told = {"doubts", "target", "hedge", "against_static", "refitted", "status", "reason"}
    spans = {"memory", "memory_lower", "memory_upper", "intercept_memory"}
    assert set(expected) | told | spans == set(row.index)
    assert not row["refitted"]
    assert_allclose(row["upper"] - row["beta"], Z90 * row["sd"], rtol=1e-12)


@pytest.mark.parametrize("name", FINE)
def test_a_memory_is_that_of_all_draws_by_their_weights(board, name):
    at = NAMES.index(name)
    ((_, arrays),) = board.chunks()
    with jax.enable_x64(True):
        inputs = jax.tree.map(
            lambda a: np.asarray(a)[None], board.model.inputs(board.pairs.data(name))
        )
        every = noise_at(arrays["points"][[at]], inputs, model=board.model)["q"][0]
    weights = np.exp(arrays["log_weights"][at])

    def share_within(column, coef):
        """Of the posterior, how much has no longer a memory than the table says."""
        return weights[
            q_to_memory(every[:, coef]) <= board.table().loc[name, column] * (1 + 1e-9)
        ].sum()

    assert_allclose(weights.sum(), 1, rtol=1e-6)
    spans = {"memory_lower": (0.05, 0), "memory": (0.5, 0), "memory_upper": (0.95, 0)}
    for column, (share, coef) in (spans | {"intercept_memory": (0.5, 1)}).items():
        assert_allclose(share_within(column, coef), share, atol=0.02, err_msg=column)


def plug_in_spread(fitted: HedgeFit) -> np.ndarray:
    """Innovations of the filter at the posterior mean."""
    with jax.enable_x64(True):
        plug_in = trees.stored_sites(fitted.tree, "plug_in")
        law, y = trees.posed(fitted.tree, fitted.data, plug_in)
        return np.asarray(law.filter(y).error).squeeze()[: len(fitted.data)]


def half_life(spread: np.ndarray) -> float:
    """Of least squares on the bar before, the first 30 left out."""
    before, after = spread[30:-1], spread[31:]
    rho = np.cov(before, after)[0, 1] / np.var(before, ddof=1)
    return -np.log(2) / np.log(rho) if rho > 0 else 0.0


def test_hedge_ratios_have_targets_in_rows(board):
    ratios = board.hedge_ratios()
    assert list(ratios.index) == ["MTUM", "QUAL", "USMV", "TEXT", "FEW"]
    assert list(ratios.columns) == ["MTUM", "QUAL", "USMV", "ZERO", "DEAD"]
    for target, hedge in GOOD:
        assert ratios.loc[target, hedge] == board.table().loc[f"{target}/{hedge}", "beta"]
    assert int(ratios.notna().to_numpy().sum()) == len(GOOD)
    assert board.matrix("sd").loc["USMV", "QUAL"] == board.table().loc["USMV/QUAL", "sd"]
    assert board.matrix("reason").loc["MTUM", "DEAD"] == board.reason["MTUM/DEAD"]


@pytest.mark.parametrize("share", [0.0, 0.002])
def test_all_filters_tick_as_each_alone(board, fits, share):
    """Five later rows, a price missing in one of them; with the grid of each pair as well."""
    live = board.online(share=share)
    assert live.draws == (80 if share else 64)
    assert live.names == tuple(FINE)
    alone = {name: fits[name].online(share=share) for name in FINE}
    later = prices().iloc[ROWS : ROWS + 5, :3].copy()
    later.iloc[2, 1] = np.nan
    for at, row in later.iterrows():
        together = live.update(row, at=at)
        for place, (target, hedge) in enumerate(GOOD):
            one = alone[FINE[place]].update(y=row[target], x=[row[hedge]], at=at)
            assert together.observed[place] == one.observed
            assert_allclose(together.beta[place], one.beta[hedge], rtol=1e-10)
            assert_allclose(together.sd_total[place], one.sd_total[hedge], rtol=1e-10)
            assert_allclose(together.memory[place], one.memory[hedge], rtol=1e-8)
            words = ("alpha", "spread", "spread_sd", "z", "log_score", "effective_draws", "moved")
            for word in words:
                found = getattr(together, word)[place]
                assert_allclose(found, getattr(one, word), rtol=1e-8, atol=1e-12, err_msg=word)
    assert live.until == fits[FINE[0]].fit_until


def test_a_board_goes_live_as_all_its_filters(board, tmp_path):
    row = prices().iloc[ROWS][["MTUM", "QUAL", "USMV"]].astype(float)
    alone = board.online(share=0.002, shocks=Quarantine())
    expected = alone.update(row, at=row.name.isoformat())
    with board.go_live(journal=tmp_path / "board.journal") as live:
        signal = live.tick(row.to_dict(), at=row.name)
        assert signal.accepted
        assert signal.tick.record() == expected.record()


def test_the_book_of_a_pair_takes_its_ticks(board):
    """By hand: a ratio of money is shares at P_y / P_x."""
    row = prices().iloc[ROWS][["MTUM", "QUAL", "USMV"]].astype(float)
    tick = board.online().update(row).of("MTUM/QUAL")
    book = board.book("MTUM/QUAL", position=1e6)
    held = book.act(tick, row.to_dict()).held["QUAL"]
    expected = -1e6 * tick.beta["QUAL"] * row["MTUM"] / row["QUAL"]
    assert held == pytest.approx(expected, abs=0.51)


def test_online_takes_some_targets(board):
    assert board.online(["MTUM"]).names == ("MTUM/QUAL", "MTUM/USMV")


REFUSED = [
    (lambda board: board.matrix("betta"), "there is no column betta: target, hedge, beta, sd"),
    (lambda board: board.sel("A/B"), "A/B is not among the 8 pairs; .* like MTUM/QUAL"),
    (lambda board: board.book("A/B", position=1), "A/B is not among the 8 pairs; .* like MTUM"),
    (lambda board: board.sel("MTUM/DEAD"), "MTUM/DEAD was not fitted: hedge DEAD constant since"),
    (lambda board: board.online(["FEW"]), "no pair (of FEW )?was fitted"),
    (lambda board: board.go_live(draws=8), "the draws it was fitted with: leave draws out"),
    (lambda board: board.go_live(share=1.0), "from 0 to below 1"),
    (
        lambda board: rank_hedges(board, "MTUM", prices().iloc[: ROWS + 20]),
        "only 20 rows are later than .*, 30 are needed",
    ),
    (
        lambda board: rank_hedges(board, "MTUM", prices().drop(columns="USMV")),
        "the prices have no column USMV",
    ),
]


@pytest.mark.parametrize(("call", "text"), REFUSED)
def test_what_a_board_cannot_answer_is_said(board, call, text):
    with pytest.raises(ValueError, match=text):
        call(board)


def test_the_text_counts_and_names(board):
    lines = str(board).splitlines()
    assert lines[0] == f"4 of 8 pairs fitted on prices until {prices().index[ROWS - 1].date()}"
    assert any(line.startswith("  MTUM/ZERO: ZERO is 0 at") for line in lines)
    table = board.table().loc[FINE, "against_static"]
    assert lines[-1].startswith(f"{(table > 3).sum()} hedge ratios move beyond doubt")
    assert f"for {(table < 0).sum()} a static one explains" in lines[-1]
    left = table.between(0, 3).sum()
    assert lines[-1].endswith(f"; for {left} the rows leave it open" if left else "or better")
    # all are counted
    numbers = [int(number) for number in re.findall(r"(?:^|for )(\d+) ", lines[-1])]
    assert sum(numbers) == len(table)


def test_pairs_with_one_reason_share_a_line(board, store):
    late, odd = (Verdict(Status.FAILED, reason) for reason in ("late", "odd"))
    other = HedgeBoard.open(store)
    other.verdicts = dict(zip(NAMES, [late, odd, late, late, late, *3 * [FITTED]], strict=True))
    lines = str(other).splitlines()  # a pair of DEAD counts as fitted here, so its doubt leads
    assert lines[1].startswith("  in doubt, 1 pair: DEAD went from")
    assert lines[2:4] == ["  MTUM/QUAL, MTUM/USMV, USMV/QUAL and 1 more: late", "  QUAL/MTUM: odd"]


def test_a_board_is_read_again_from_its_folder(board, store):
    again = HedgeBoard.open(store)
    pd.testing.assert_frame_equal(again.table(), board.table())
    assert again.model == board.model
    assert again.fit_until == prices().index[ROWS - 1]
    assert len(again) == len(NAMES)


def test_later_rows_begin_after_the_fit(board):
    later = board.later(prices(), ["MTUM", "QUAL"])
    assert list(later.index) == list(prices().index[ROWS:])
    assert list(later.columns) == ["MTUM", "QUAL"]


def test_the_maps_show_the_board(board):
    figure = plots.board(board)
    figure.canvas.draw()
    maps = figure.axes[:4]
    ratio, share, memory, evidence = (axes.images[0].get_array().filled(np.nan) for axes in maps)
    table = board.hedge_ratios()
    assert_array_equal(ratio, table)
    assert_array_equal(share, 100 * board.matrix("sd") / table.abs())
    assert_array_equal(memory, board.matrix("effective_memory"))
    assert_array_equal(evidence, board.matrix("against_static"))
    for axes in maps:
        assert [text.get_text() for text in axes.get_yticklabels()] == list(table.index)
        assert [text.get_text() for text in axes.get_xticklabels()] == list(table.columns)
        assert len(axes.texts) == len(GOOD)


def test_colours_diverge_where_it_means_something():
    both = pd.DataFrame([[-1.0, 4.0]], ["A"], ["B", "C"])
    limits = {"signs": (both, (-4, 4)), "ratios": (both.abs() / 2, (-0.0, 2.0))}
    limits["sizes"] = (both.abs() + 1, (2.0, 5.0))
    for name, (matrix, expected) in limits.items():
        image = plots.heat_map(matrix, title=name).axes[0].images[0]
        assert image.get_clim() == expected
    empty = plots.heat_map(both * np.nan)
    empty.canvas.draw()
    assert not empty.axes[0].texts
    assert empty.axes[0].images[0].get_array().mask.all()


def test_a_large_map_has_colours_only():
    many = pd.DataFrame(np.arange(400.0).reshape(20, 20), map(str, range(20)), map(str, range(20)))
    axes = plots.heat_map(many).axes[0]
    assert not axes.texts
    assert len(axes.get_xticklabels()) == 20
