"""Books to hedge: covariances simulated and real, and the objective as a plain sum."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kfmodels import datasets


def simulated(seed: int, assets: int = 16) -> pd.DataFrame:
    """Covariance of one-day log moves with a few strong factors."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(assets, 3)) * 0.01
    names = [f"A{i}" for i in range(assets)]
    own = np.diag(rng.uniform(0.2, 2.0, assets) * 1e-4)
    return pd.DataFrame(factors @ factors.T + own, names, names)


def real(seed: int) -> pd.DataFrame:
    """Covariance of 260 days of the ETFs, a tenth of it moved to the diagonal; in random order."""
    rng = np.random.default_rng(seed)
    moves = np.log(datasets.etfs()).diff().iloc[1:]
    start = int(rng.integers(0, len(moves) - 260))
    cov = moves.iloc[start : start + 260].cov()
    cov = 0.9 * cov + 0.1 * np.diag(np.diag(cov))
    order = rng.permutation(cov.columns)
    return cov.loc[order, order]


def book(cov: pd.DataFrame, seed: int, legs: int = 10) -> tuple[dict[str, float], list[str]]:
    """Positions in up to six assets after the first `legs`, which are the legs allowed."""
    rng = np.random.default_rng(seed)
    names = list(cov.columns)
    return dict(zip(names[legs : legs + 6], rng.normal(size=6) * 1e6, strict=True)), names[:legs]


def objectives(
    cov: pd.DataFrame,
    positions: dict[str, float],
    legs: Sequence[str],
    wanted: np.ndarray,
    *,
    held: dict[str, float] | None = None,
    cost: float = 1.0,
) -> np.ndarray:
    """J over one day, written out, of the money wanted in the legs, (ways, legs)."""
    own = pd.Series(positions).reindex(cov.columns, fill_value=0.0)
    whole = np.tile(own.to_numpy(), (len(wanted), 1))
    whole[:, [cov.columns.get_loc(leg) for leg in legs]] += wanted
    variance = ((whole @ cov.to_numpy()) * whole).sum(axis=1)
    traded = np.abs(wanted - [(held or {}).get(leg, 0.0) for leg in legs]).sum(axis=1)
    return variance / float(own @ cov @ own) ** 0.5 + 1e-4 * cost * traded
