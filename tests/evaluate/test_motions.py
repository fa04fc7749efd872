"""Laws of motion compared on rows that none has seen, refitted fold by fold."""

import warnings
from typing import Any

import pytest
from numpy.testing import assert_allclose

from kfmodels import Constant, HedgeData, fit
from kfmodels.evaluate import compare_motions
from kfmodels.evaluate.compare import compare_rows
from kfmodels.evaluate.motions import laws_of_motion
from tests.problems import FromPrior, stock_prices


class Quick(FromPrior):
    def run(self, model: Any, inputs: Any, seed: int, progress: bool) -> Any:
        return super().run(model, inputs, seed, progress)._replace(about={"log_evidence": 0.0})


QUICK = Quick(draws=8, chains=2)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the noise of")  # of draws that are the prior's
        yield


def data(transform: Any = "log") -> HedgeData:
    return HedgeData.from_prices(
        stock_prices(150), target="KO", hedges=["PEP"], transform=transform
    )


@pytest.mark.nightly
def test_each_fold_is_scored_by_fits_of_the_rows_before_it():
    rows = data()
    found = compare_motions(rows, noise=Constant(), folds=2, share=0.6, method=QUICK)
    assert set(found.table.index) == {"walk", "static", "reverting", "scales"}
    assert list(found.log_scores.index) == list(rows.index[90:])
    for begin, end in ((90, 120), (120, 150)):
        before = rows.before(rows.index[begin])
        fits = {
            name: fit(before, model, method=QUICK, progress=False)
            for name, model in laws_of_motion(Constant()).items()
        }
        part = rows.prices.iloc[begin:end]
        alone = compare_rows(fits, dict.fromkeys(fits, part)).log_scores
        assert_allclose(found.log_scores.loc[part.index, alone.columns], alone, rtol=1e-10)
    assert "Over 60 bars" in found.verdict()


def test_returns_have_no_spread_that_comes_back():
    found = compare_motions(data("return"), noise=Constant(), folds=1, share=0.7, method=QUICK)
    assert set(found.table.index) == {"walk", "static", "scales"}


@pytest.mark.parametrize("how", [{"folds": 0}, {"folds": 4}, {"share": 0.1}])
def test_too_few_rows_are_refused(how: dict[str, Any]):
    with pytest.raises(ValueError, match=r"150 complete rows leave fewer than 30 .* fewer folds"):
        compare_motions(data(), noise=Constant(), **how)
