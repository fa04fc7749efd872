"""A model as text and back: a saved fit knows the priors it was made with, and pickles nothing."""

import json
from dataclasses import fields
from inspect import signature
from typing import Any

import numpy as np
import numpyro.distributions as dist

from kfmodels.model import assumptions, priors
from kfmodels.model.hedge_ratio import HedgeRatioModel

_STATEMENTS = {
    kind.__name__: kind
    for kind in (
        priors.Absolute,
        priors.Horseshoe,
        priors.Memory,
        priors.Moves,
        assumptions.Constant,
        assumptions.Diffuse,
        assumptions.Discounted,
        assumptions.Gaps,
        assumptions.Known,
        assumptions.RandomWalk,
        assumptions.StateDiscount,
        assumptions.Weak,
        assumptions.Zero,
    )
}


def to_json(model: HedgeRatioModel) -> str:
    """The model as JSON; a distribution that is more than its parameters is kept by its name only."""
    parts = {field.name: _written(getattr(model, field.name)) for field in fields(model)}
    return json.dumps(parts)


def from_json(text: str) -> HedgeRatioModel:
    """The model that `to_json` wrote.

    Raises:
        ValueError: it has a prior that could not be written.
    """
    return HedgeRatioModel(**{name: _read(part) for name, part in json.loads(text).items()})


def _written(part: Any) -> Any:
    if isinstance(part, dist.Distribution):
        return _written_distribution(part)
    if type(part).__name__ in _STATEMENTS:
        return {
            "kind": type(part).__name__,
            "with": {field.name: _written(getattr(part, field.name)) for field in fields(part)},
        }
    if isinstance(part, (tuple, list, np.ndarray)):
        return [_written(inner) for inner in part]
    if isinstance(part, (np.floating, np.integer)):
        return part.item()
    return part


def _written_distribution(prior: dist.Distribution) -> dict[str, Any]:
    name, made_of = type(prior).__name__, signature(type(prior).__init__).parameters.values()
    needed = {part.name for part in made_of if part.default is part.empty} - {"self"}
    plain = getattr(dist, name, None) is type(prior) and prior.arg_constraints
    # a truncated one lists its bounds only, and is made of another distribution as well
    plain = plain and needed <= set(prior.arg_constraints)
    given = {key: np.asarray(getattr(prior, key)) for key in prior.arg_constraints} if plain else {}
    if not plain or any(value.ndim for value in given.values()):
        return {"lost": repr(prior)}
    return {"distribution": name, "with": {key: float(value) for key, value in given.items()}}


def _read(part: Any) -> Any:
    if isinstance(part, list):
        return tuple(_read(inner) for inner in part)
    if not isinstance(part, dict):
        return part
    if "lost" in part:
        raise ValueError(
            f"the fit was made with the prior {part['lost']}, which a file cannot hold: "
            "use the fit before it is saved, or priors that are Memory, Moves, Horseshoe or a plain "
            "NumPyro distribution"
        )
    given = {key: _read(inner) for key, inner in part["with"].items()}
    if "distribution" in part:
        return getattr(dist, part["distribution"])(**given)
    return _STATEMENTS[part["kind"]](**given)
