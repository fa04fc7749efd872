"""What a board of online filters answers: one tick of every pair. NumPy only."""

from dataclasses import dataclass
from typing import Any

import numpy as np

_NUMBERS = ("spread", "spread_sd", "z", "dof", "gain", "log_score", "effective_draws")
_BELIEFS = ("beta", "alpha", "sd_given_noise", "sd_total", "alpha_sd_given_noise", "alpha_sd_total")


@dataclass(frozen=True, slots=True, eq=False)
class BoardTick:
    """What is known of every pair after one tick; arrays `(pair,)` in the order of `names`.

    As in `Tick`: `outcome` has the words of every pair, ratio, intercept and their sds are filtered,
    `spread` is the innovation and `z` is spread / spread_sd. Where a pair was not observed, `spread`,
    `spread_sd`, `z`, `dof` and `log_score` are NaN; where its row was not learnt from, `gain` is 0.
    Without an intercept `alpha` and its sds are 0.
    """

    names: tuple[str, ...]
    hedges: tuple[str, ...]
    intercept: bool
    at: Any
    outcome: tuple[str, ...]
    observed: np.ndarray
    beta: np.ndarray
    alpha: np.ndarray
    sd_given_noise: np.ndarray
    sd_total: np.ndarray
    alpha_sd_given_noise: np.ndarray
    alpha_sd_total: np.ndarray
    spread: np.ndarray
    spread_sd: np.ndarray
    z: np.ndarray
    dof: np.ndarray
    gain: np.ndarray
    log_score: np.ndarray
    effective_draws: np.ndarray

    def of(self, name: str) -> dict[str, Any]:
        """What `Tick.record` says of one pair.

        Raises:
            ValueError: there is no pair of that name.
        """
        number = number_of(name, self.names)
        hedge = self.hedges[number]
        sds = {}
        for kind in ("sd_given_noise", "sd_total"):
            sds[kind] = {hedge: float(getattr(self, kind)[number])}
            if self.intercept:
                sds[kind]["alpha"] = float(getattr(self, f"alpha_{kind}")[number])
        return {
            "at": self.at,
            "outcome": self.outcome[number],
            "observed": bool(self.observed[number]),
            "beta": {hedge: float(self.beta[number])},
            "alpha": float(self.alpha[number]),
            **sds,
            **{field: float(getattr(self, field)[number]) for field in _NUMBERS},
        }

    def learnt(self) -> tuple[np.ndarray, np.ndarray]:
        """`z` and `dof` of the pairs that learnt from their row; NaN and inf of the others."""
        taken = self.observed & (self.gain != 0)
        return np.where(taken, self.z, np.nan), np.where(taken, self.dof, np.inf)

    def record(self) -> dict[str, Any]:
        """All of it as a plain dict of lists, which a `pandas.DataFrame` takes as it is."""
        return {
            "pair": list(self.names),
            "at": self.at,
            "outcome": list(self.outcome),
            **{
                field: getattr(self, field).tolist() for field in ("observed", *_BELIEFS, *_NUMBERS)
            },
        }


def number_of(name: str, names: tuple[str, ...]) -> int:
    """Which of the pairs that is."""
    if name not in names:
        raise ValueError(
            f"{name} is not among the {len(names)} pairs of this board: there is {names[0]}"
        )
    return names.index(name)
