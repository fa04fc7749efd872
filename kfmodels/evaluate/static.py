"""Whether a hedge ratio that does not move at all is enough: a Bayes factor."""

from collections.abc import Callable

import jax
import numpy as np
import pandas as pd
from scipy.special import expit, logit

from kfmodels.data.hedge_data import HedgeData
from kfmodels.evaluate.arguments import check_inferred
from kfmodels.fitting.alternatives import weigh
from kfmodels.fitting.fit import pad
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.sampling.amis import Weighted
from kfmodels.sampling.importance import ImportanceSampling, explore
from kfmodels.sampling.nuts import MAX_PARETO_K
from kfmodels.words.caller import check_seed, explain_kinds
from kfmodels.words.progress import wait_for

_METHOD = ImportanceSampling(draws=512, rounds=5)
"""Four times as many draws per round as a fit: a Bayes factor is then known to about 0.02 nats."""


@explain_kinds
def static_probability(
    fitted: HedgeFit, *, prior: float = 0.5, seed: int = 0, progress: bool = True
) -> pd.DataFrame:
    r"""Compute the probability that a hedge ratio that does not move at all is enough.

    $$\mathrm{BF}_j = \frac{p(y ∣ q_j = 0)}{p(y)}, \quad
    P(\mathrm{static}) = \frac{π \, \mathrm{BF}}{1 - π + π \, \mathrm{BF}}$$

    Two marginal likelihoods of the same rows are compared: one with the ratio standing still, one with
    the prior on its speed that was fitted. Everything else is inferred in both, and a spread that comes
    back is weighed against none. An intercept that moves goes on moving; but with `StateDiscount`,
    where one speed drives all coefficients, all stand still. A wide prior on the speed favours the
    static ratio: state the prior that you believe in.

    Args:
        prior: probability of a static ratio before the data.
        seed: of the importance sampling.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        One row per hedge, and "all" when there are several: `probability`, `log_bayes_factor` for
        static (nats) and its Monte-Carlo standard error `mcse`, and the worse `pareto_k` of the two
        integrals; the probability is NaN where that is above 0.7. `mcse` takes the draws for
        independent; they are a Sobol sequence, and the true error is about half of it.

    Raises:
        ValueError: the speed of the ratio was fixed, the ratio is a sum of parts that move on, or
            `prior` is not in (0, 1).

    Source: Kass and Raftery (1995), Bayes factors, JASA 90; the case of a variance on its boundary:
    Fruhwirth-Schnatter and Wagner (2010), Journal of Econometrics 154.

    Example:
        >>> from kfmodels import HedgeData, ImportanceSampling, datasets, fit
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> year = data.after("2019-01-01").before("2020-01-01")
        >>> table = static_probability(fit(year, method=ImportanceSampling(), progress=False))
        >>> bool(table["probability"].between(0, 1).all())
        True
    """
    if not 0 < prior < 1:
        raise ValueError(f"prior is a probability between 0 and 1, not {prior}")
    check_inferred(fitted)
    model = fitted.model
    if model.sums_ratios:
        raise ValueError(
            f"the ratio of {fitted.target} is a sum of parts (Scales, OfTheDay, Tilt), which move on "
            "where one stands still: compare_motions sets such models beside a static ratio"
        )
    if "delta_beta" not in fitted.tree["log_prior"]:
        raise ValueError(
            f"the speed of the ratio of {fitted.target} was fixed, not inferred: give delta a prior"
        )
    every = model.follows(len(fitted.coef)).astype(float)
    cases = {"all": every}
    # where one delta drives all that moves, no ratio can stand still alone
    if not model.drift.shared:
        alone = dict(zip(fitted.hedges, np.eye(len(every)), strict=False))
        cases = alone | cases if len(alone) > 1 else alone
    still = np.stack([np.zeros_like(every), *cases.values()])
    check_seed(seed)
    total = _METHOD.rounds * len(model.alternatives)
    with wait_for("weighing a static ratio", total, shown=progress) as waiting:
        each = [
            integrate(fitted.data, one, still, seed, waiting.advance) for one in model.alternatives
        ]
    logs, errors, k_hats = (
        np.stack([getattr(one, name) for one in each])
        for name in ("log_evidence", "evidence_error", "pareto_k")
    )
    found = weigh(logs, errors)  # with a spread and without
    evidence, error = found.log_evidence, found.error
    factor, worst = evidence[1:] - evidence[0], k_hats.max(0)
    pareto_k = np.maximum(worst[1:], worst[0])
    return pd.DataFrame(
        {
            "probability": np.where(pareto_k <= MAX_PARETO_K, expit(factor + logit(prior)), np.nan),
            "log_bayes_factor": factor,
            "mcse": np.hypot(error[1:], error[0]),
            "pareto_k": pareto_k,
        },
        index=pd.Index(list(cases), name="hedge"),
    )


def integrate(
    data: HedgeData,
    model: HedgeRatioModel,
    still: np.ndarray,
    seed: int,
    advance: Callable[[], object] = lambda: None,
) -> Weighted:
    """Integrate one posterior for each row of `still (case, coef)`, which says what does not move.

    `advance` is called after every round of the draws.
    """
    cases = len(still)
    longer = pad(model.inputs(data), model)
    inputs = jax.tree.map(lambda leaf: np.stack([leaf] * cases), longer)
    keys = np.array([[seed, number] for number in range(cases)], np.uint32)
    with jax.enable_x64(True):
        found = explore(
            inputs, keys, still, np.uint32(seed), model=model, method=_METHOD, advance=advance
        )
        return jax.device_get(found)
