"""The lasso against another solver and folds by hand, published code, and its own conditions."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from kfmodels.data import datasets
from kfmodels.evaluate.lasso import PENALTIES, descend, lasso

WINDOW = 504


def returns(rows: int | None = None) -> pd.DataFrame:
    return datasets.factor_etfs().pct_change().iloc[1:rows]


def split(rows: np.ndarray, penalty: float) -> np.ndarray:
    """Lasso coefficients by the split into two parts that are not negative."""
    x, y, n = rows[:, 1:], rows[:, 0], rows.shape[1] - 1

    def cost(parts):
        b = parts[:n] - parts[n:]
        left = y - x @ b
        slope = -x.T @ left / len(rows)
        value = left @ left / 2 / len(rows) + penalty * parts.sum()
        return value, np.concatenate([slope + penalty, -slope + penalty])

    found = minimize(
        cost,
        np.zeros(2 * n),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * 2 * n,
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000},
    ).x
    return found[:n] - found[n:]


def by_hand(rows: np.ndarray) -> np.ndarray:
    """Ratios of the last row, by folds of rows that are left out in turn."""
    size = np.sqrt((rows**2).mean(0))
    rows = rows / size
    folds = np.array_split(np.arange(len(rows)), 5)
    errors = []
    for penalty in (0.003, 0.01, 0.02, 0.04, 0.08, 0.16):
        error = 0.0
        for fold in folds:
            b = split(np.delete(rows, fold, axis=0), penalty)
            error += ((rows[fold, 0] - rows[fold, 1:] @ b) ** 2).sum()
        errors.append((error, penalty))
    return split(rows, min(errors)[1]) * size[0] / size[1:]


def test_the_ratios_are_those_of_another_solver_and_of_folds_by_hand():
    """Before the window is full and after, through a gap, in very different units."""
    table = returns(580) * [1.0, 1e3, 1e-3, 1.0, 10.0]
    table.iloc[70, 2] = np.nan
    found = lasso(table, 100, WINDOW)
    seen = table.dropna().to_numpy()
    size = np.sqrt((seen**2).mean(0))
    for known in (100, 121, 100 + 21 * 22):
        expected = by_hand(seen[max(known - WINDOW, 0) : known])
        # row 70 being a gap, `known` rows are known at row `known`
        for row in (known, min(known + 20, len(table) - 1)):
            error = (found.iloc[row] - expected) * size[1:] / size[0]
            np.testing.assert_allclose(error, 0, atol=1e-5)
    assert found.iloc[:100].isna().all().all()


SKLEARN = {
    "MTUM": [0.5184734, 0.3587676, 0, 0],
    "QUAL": [0.1035581, 0.5982969, 0.4363327, -0.002898],
    "SIZE": [0.0518076, 0.5405257, 0.0493047, 0.358189],
    "USMV": [0, 0.5882213, 0.0707574, 0.0034019],
    "VLUE": [0, 0, 0.8712898, 0],
}
"""scikit-learn 1.9: LassoCV on the last 504 rows with KFold(5), columns in units of their size."""


@pytest.mark.parametrize("target", SKLEARN)
def test_the_ratios_are_those_of_scikit_learn(target):
    table = returns().pipe(lambda t: t[[target, *t.columns.drop(target)]])
    found = lasso(table, len(table) - 1, WINDOW)
    np.testing.assert_allclose(found.iloc[-1], SKLEARN[target], atol=2e-7)


@pytest.mark.parametrize("hedges", [2, 12])
def test_no_small_change_of_a_coefficient_is_worth_it(hedges):
    """The conditions of Karush, Kuhn and Tucker; one hedge has not moved, two are copies."""
    rng = np.random.default_rng(hedges)
    rows = rng.normal(size=(3, 80, hedges + 1)) + 2 * rng.normal(size=(3, 80, 1))
    if hedges > 2:
        rows[:, :, 3], rows[:, :, 4] = 0.0, rows[:, :, 5]
    size = np.sqrt((rows**2).mean(1, keepdims=True))
    rows = rows / np.where(size > 0, size, 1)
    moments = np.einsum("fti,ftj->fij", rows, rows) / 80
    found = descend(moments, np.zeros((3, len(PENALTIES), hedges)))
    for problem, moment in zip(found, moments, strict=True):
        for b, penalty in zip(problem, PENALTIES, strict=True):
            slope = moment[1:, 0] - moment[1:, 1:] @ b
            assert (np.abs(slope) <= penalty + 1e-6).all()
            np.testing.assert_allclose(slope[b != 0], penalty * np.sign(b[b != 0]), atol=1e-6)
    if hedges > 2:
        assert (found[..., 2] == 0).all()


def test_useless_hedges_are_left_out():
    """The target is half of X and noise; of nine others hardly a ratio is left."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 10))
    table = pd.DataFrame(np.column_stack([x[:, 0] / 2 + 0.5 * rng.normal(size=800), x]))
    found = lasso(table, 600, WINDOW).iloc[600:]
    assert found[1].between(0.4, 0.55).all()
    assert (found.drop(columns=1).abs().max() < 0.06).all()
    assert (found.drop(columns=1) == 0).to_numpy().mean() > 0.5
