"""The rows of the table of a board, from the arrays that a chunk of pairs left."""

import numpy as np
import pandas as pd
from scipy.special import expit

from kfmodels.batch.chunk import Arrays
from kfmodels.kalman.density import Z90, student_variance
from kfmodels.model.memory import q_to_memory

COLUMNS = [
    *("beta", "sd", "lower", "upper", "memory", "memory_lower", "memory_upper", "effective_memory"),
    *("intercept_memory", "obs_scale", "z", "half_life", "static_half_life", "log_evidence"),
    *("against_static", "static_probability", "pareto_k", "ess", "refitted"),
]


def describe_pairs(names: list[str], arrays: Arrays, parts: tuple[int, ...]) -> pd.DataFrame:
    """The rows of `HedgeBoard.table` for the pairs of one chunk; `parts` as in `Coordinates`."""
    # the plug-in comes last and is not part of the mixture
    mean, cov = (arrays[k][:, :-1] for k in ("mean", "cov"))
    noise = arrays["last_obs_var"] if "last_obs_var" in arrays else arrays["obs_scale"] ** 2
    # a variance that is learnt makes the coefficients Student-t, whose variance is larger
    widened = noise * student_variance(arrays["dof"], np) if "dof" in arrays else noise
    widened = arrays.get("fixed_unit", widened)
    scale = arrays["scale"]
    count = mean.shape[-1]
    ratio = np.array([0, *(count - len(parts) + np.flatnonzero(np.equal(parts, 0)))], int)
    with np.errstate(divide="ignore", invalid="ignore"):
        beta = mean[..., ratio].sum(-1) / scale[:, None]
        var = cov[..., ratio[:, None], ratio].sum((-2, -1))
        given = (var * widened[:, :-1]).mean(1) / scale**2
        sd = np.sqrt(given + beta.var(1))  # law of total variance over the draws of the noise
        centre = beta.mean(1)
        # a fast ratio has a short memory: the lower end of the one comes from the upper of the other
        upper, middle, lower = q_to_memory(arrays["q_ends"]).swapaxes(0, 1)
        effective = 1 + arrays["cov"][:, -1, 0, 0] / arrays["q"][:, -1, 0]
        if len(ratio) > 1:  # a sum of states has no speed of its own
            effective = np.full(len(effective), np.nan)
        level = middle[:, 1] if middle.shape[-1] == 2 else np.nan
    found = {
        "beta": centre,
        "sd": sd,
        "lower": centre - Z90 * sd,
        "upper": centre + Z90 * sd,
        "memory": middle[:, 0],
        "memory_lower": lower[:, 0],
        "memory_upper": upper[:, 0],
        "effective_memory": effective,
        "intercept_memory": level,
        "obs_scale": np.sqrt(noise[:, -1]),
        "z": arrays["spread"] / arrays["spread_sd"],
        "half_life": arrays["half_life"],
        "static_half_life": arrays["static_half_life"],
        "log_evidence": arrays["log_evidence"],
        "against_static": -arrays["log_static"],
        "static_probability": expit(arrays["log_static"]),
        "pareto_k": arrays["pareto_k"],
        "ess": arrays["effective_draws"],
        "refitted": arrays["refitted"],
    }
    columns = COLUMNS
    if "probability" in arrays:  # of a model with a spread that comes back
        found["comes_back"], columns = arrays["probability"], [*COLUMNS, "comes_back"]
    return pd.DataFrame(found, index=pd.Index(names), columns=columns)
