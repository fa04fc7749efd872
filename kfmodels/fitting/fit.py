"""`fit`: infer the noise of one pair."""

from kfmodels.data.arrays import Inputs, lengthen
from kfmodels.data.hedge_data import HedgeData
from kfmodels.data.scales import tell_end
from kfmodels.fitting.alternatives import fit_each
from kfmodels.fitting.forks import check_process
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.fitting.tables import tell_bounds
from kfmodels.live.lags import tell_lags
from kfmodels.model.defaults import default_model, in_bars
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.sampling.importance import ImportanceSampling
from kfmodels.sampling.nuts import NUTS
from kfmodels.words.caller import check_seed, explain_kinds, warn
from kfmodels.words.progress import wait_for

FOR_SPREADS = ImportanceSampling(draws=512)
"""Of five parameters, two of them hardly known, 128 draws a round see too little of the tails: in 120
simulations (`tests.benchmarks.spreads.hold`) 84 % of 90 % intervals of the half-life held it, 88 % with
512."""


@explain_kinds
def fit(
    data: HedgeData,
    model: HedgeRatioModel | None = None,
    *,
    method: NUTS | ImportanceSampling | None = None,
    seed: int = 0,
    progress: bool = True,
) -> HedgeFit:
    r"""Infer how fast a hedge ratio moves and how noisy its observation is.

    $$p(δ, v ∣ y) ∝ p(δ, v) ∏_t p(y_t ∣ y_{<t}, δ, v)$$

    Args:
        data: the training rows; cut them with `.before(date)`.
        model: from `hedge_ratio_model(...)`; where None that of `kfmodels.model.default_model`, which
            goes by the time of day where rows are moves within a session. The fit of such has the
            default method `ImportanceSampling()`.
        method: `NUTS(...)`, the default, or `ImportanceSampling(...)`, which is quicker: as little as
            a second where the same process fitted this model before. A model with a spread is
            weighed by its evidence against the one without, and its default is
            `ImportanceSampling(draws=512)`.
        seed: the same seed gives the same draws on the same machine.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        A `HedgeFit`, in the units of the data.

    Raises:
        ValueError: the data do not allow a fit; the message says why. The process was forked from one
            in which JAX had run, where a fit would hang.

    Warns:
        UserWarning: with a remedy, when a leg repeats its price in the last rows as if it had stopped,
            and when a hedge comes a row before or after the target; once, when R-hat, effective sample
            size or divergences say that the draws may not represent the posterior; and when the
            posterior of a parameter is pressed against a bound of its prior.

    Source: the likelihood is the prediction error decomposition, Durbin and Koopman (2012), 7.2.

    Example:
        >>> from kfmodels import HedgeData, NUTS, datasets, fit
        >>> prices = datasets.stocks().loc["2019"]
        >>> data = HedgeData.from_prices(prices, target="AAPL", hedges=["SPX"])
        >>> pair = fit(data, progress=False)
        >>> list(pair.summary().index)
        ['SPX', 'alpha', 'noise']
    """
    check_process()
    if not isinstance(data, HedgeData):
        raise ValueError(f"fit takes HedgeData, made by HedgeData.from_prices, not {type(data)}")
    check_seed(seed)
    model = in_bars(default_model(data) if model is None else model, data)
    inputs = model.inputs(data)
    if ended := tell_end(data.doubts, data.prices):
        warn(ended)
    for lag in tell_lags(data.prices.to_numpy(), (data.target, *data.hedges), data.transform):
        warn(lag)
    if method is None and model.reads_day:
        method = ImportanceSampling()
    elif method is None:
        method = NUTS() if len(model.alternatives) == 1 else FOR_SPREADS
    padded = pad(inputs, model)
    with wait_for(f"fitting {data.target}", shown=progress):
        draws = fit_each(model, lambda one: method.run(one, padded, seed, progress), seed, padded)
        with wait_for("running its filter", 1, shown=progress):
            result = HedgeFit.from_draws(data, model, inputs, draws)
    problem = _problem(result)
    for said in (problem, *tell_bounds(result.tree, result.given)):
        if said:
            warn(said)
    return result


def pad(inputs: Inputs, model: HedgeRatioModel) -> Inputs:
    """Inputs of one of few lengths: what was compiled for another series then serves this one too."""
    longer = lengthen(inputs)
    return model.without_times(longer) if inputs.dt is None else longer


def _problem(result: HedgeFit) -> str:
    """A sentence on what is wrong with the draws and what to do about it; empty if nothing is."""
    faults = result.faults()
    if not faults:
        return ""
    cure = "method=NUTS(warmup=2000, draws=4000)"
    if any("diverged" in fault for fault in faults):
        cure = "method=NUTS(target_accept=0.99)"
    if any("k-hat" in fault or "weights" in fault for fault in faults):
        cure = "method=NUTS()"
    return (
        f"the noise of {result.target} on {', '.join(result.hedges)} may be sampled badly: "
        f"{', '.join(faults)}. Refit with {cure}; if it stays, a tighter prior on delta (Memory)."
    )
