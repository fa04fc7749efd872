"""Checks of the arguments that several functions of this room take."""

from kfmodels.data.hedge_data import HedgeData
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.model.defaults import in_bars
from kfmodels.model.hedge_ratio import HedgeRatioModel


def check_data_and_model(data: object, model: object) -> HedgeRatioModel:
    """The model with its days made bars of the data; raises unless these are data and a model."""
    if not (isinstance(data, HedgeData) and isinstance(model, HedgeRatioModel)):
        raise ValueError(
            f"give HedgeData, then what hedge_ratio_model made; not {type(data)} and {type(model)}"
        )
    return in_bars(model, data)


def check_fit(fitted: object, name: str = "") -> None:
    """Raise unless this is a fit; `name` is what the caller calls it."""
    if not isinstance(fitted, HedgeFit):
        what = f"{name} is" if name else "what was given is"
        raise ValueError(f"{what} no HedgeFit, made by fit(data, model), but {type(fitted)}")


def check_inferred(fitted: HedgeFit) -> None:
    """Raise unless this is a fit with something to infer in it."""
    check_fit(fitted)
    if "log_prior" not in fitted.tree:
        raise ValueError(
            f"all noise of {fitted.target} on {', '.join(fitted.hedges)} was fixed, so there is no "
            "prior to ask about: give delta or obs_scale one"
        )


def check_one_model(model: HedgeRatioModel, asks: str) -> None:
    """Raise where the draws are of a model with a part and of the same without."""
    if model.doubted:
        part = getattr(model, model.doubted)
        raise ValueError(
            f"{asks} answers for draws of one model, but {model.doubted}={type(part).__name__}(...) is "
            "weighed by its evidence against none, which another prior changes too: fit(data, model) "
            "anew with each prior"
        )
