"""A model as JSON and back, so that a saved fit knows its priors and needs no pickle."""

import json
from dataclasses import fields, is_dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import numpy as np
import numpyro.distributions as dist

from kfmodels.files.documents import Json
from kfmodels.model import priors
from kfmodels.model.assumptions import REGISTERED
from kfmodels.model.hedge_ratio import HedgeRatioModel

_PRIORS = {
    kind.__name__: kind for kind in (priors.Absolute, priors.Horseshoe, priors.Memory, priors.Moves)
}


def to_json(model: HedgeRatioModel) -> str:
    """The model as JSON; a distribution that its parameters do not determine is kept by name only.

    Raises:
        ValueError: it has an assumption that is not registered.
    """
    parts = {field.name: _written(getattr(model, field.name)) for field in fields(model)}
    return json.dumps(parts)


def from_json(text: str) -> HedgeRatioModel:
    """The model that `to_json` wrote.

    Raises:
        ValueError: it has a prior that could not be written, or an assumption that is not registered
            here.
    """
    lost = _lost(json.loads(text))
    if lost is not None:
        raise ValueError(
            f"the fit was made with the prior {lost}, which a file cannot hold: "
            "use the fit before it is saved, or priors that are Memory, Moves, Horseshoe or a plain "
            "NumPyro distribution"
        )
    return assumed(text)


@lru_cache(maxsize=32)
def assumed(text: str) -> HedgeRatioModel:
    """The model for all but sampling: a prior that the file could not hold is its name, as text."""
    return HedgeRatioModel(**{name: _read(part) for name, part in json.loads(text).items()})


def _lost(part: Json) -> str | None:
    """The first prior that could not be written."""
    if isinstance(part, dict) and "lost" in part:
        return str(part["lost"])
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return next((found for one in inner if (found := _lost(one)) is not None), None)


def _written(part: object) -> Json:
    if isinstance(part, dist.Distribution):
        return _written_distribution(part)
    if is_dataclass(part) and type(part) in (REGISTERED | _PRIORS).values():
        return {
            "kind": type(part).__name__,
            "with": {field.name: _written(getattr(part, field.name)) for field in fields(part)},
        }
    if isinstance(part, (tuple, list, np.ndarray)):
        return [_written(inner) for inner in part]
    if isinstance(part, (np.floating, np.integer)):
        return part.item()
    if not (part is None or isinstance(part, (str, int, float))):
        raise ValueError(
            f"a file cannot hold {part!r}: register its class, kfmodels.model.assumptions.register"
        )
    return part


def _written_distribution(prior: dist.Distribution) -> Json:
    name, made_of = type(prior).__name__, signature(type(prior).__init__).parameters.values()
    needed = {part.name for part in made_of if part.default is part.empty} - {"self"}
    plain = getattr(dist, name, None) is type(prior) and prior.arg_constraints
    # a truncated distribution lists its bounds only, though it takes a base distribution too
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
        return part["lost"]
    given = {key: _read(inner) for key, inner in part["with"].items()}
    if "distribution" in part:
        return getattr(dist, part["distribution"])(**given)
    kinds = REGISTERED | _PRIORS
    if part["kind"] not in kinds:
        raise ValueError(
            f"the model assumes {part['kind']}, which is not known here: import the module that "
            "registers it"
        )
    return kinds[part["kind"]](**given)
