"""Which law of motion the data prefer: each forecasts later rows, refitted on the way."""

from itertools import pairwise

import numpy as np
import pandas as pd

from kfmodels.data.hedge_data import MIN_ROWS, HedgeData
from kfmodels.evaluate.compare import Comparison, compare_rows, join_comparisons
from kfmodels.fitting.fit import fit
from kfmodels.model.assumptions import Noise
from kfmodels.model.hedge_ratio import HedgeRatioModel, hedge_ratio_model
from kfmodels.model.parts import Reverting, Scales
from kfmodels.sampling.importance import ImportanceSampling
from kfmodels.sampling.nuts import NUTS
from kfmodels.words.caller import explain_kinds
from kfmodels.words.progress import wait_for


def laws_of_motion(noise: Noise) -> dict[str, HedgeRatioModel]:
    """The models that `compare_motions` tells apart, by the name of their law.

    Example:
        >>> from kfmodels import Constant
        >>> list(laws_of_motion(Constant()))
        ['walk', 'static', 'reverting', 'scales']
    """
    return {
        "walk": hedge_ratio_model(noise=noise),
        "static": hedge_ratio_model(delta={"beta": 0.0}, noise=noise),
        "reverting": hedge_ratio_model(spread=Reverting(), noise=noise),
        "scales": hedge_ratio_model(drift=Scales(), noise=noise),
    }


@explain_kinds
def compare_motions(
    data: HedgeData,
    *,
    noise: Noise,
    folds: int = 2,
    share: float = 0.5,
    method: NUTS | ImportanceSampling = ImportanceSampling(),
    seed: int = 0,
    progress: bool = True,
) -> Comparison:
    r"""Compare the laws of motion of a hedge ratio by how well each forecasts rows not yet seen.

    $$\frac{1}{T - T_0} ∑_{t > T_0} \log p(y_t ∣ y_{<t})$$

    The laws are "walk" (the ratio a random walk), "static" (it stands still; the level walks),
    "reverting" (a walk, and a spread that comes back, weighed by its evidence) and "scales" (the ratio
    on several time scales). Each is fitted on the first rows, and its filter runs on over the next;
    before each fold all are fitted again. Returns have no spread that comes back, so that law is left
    out of them.

    Args:
        data: the rows, of which the later ones are forecast.
        noise: the assumption about the observation noise, of all.
        folds: fits of each law, at even steps through the rows that are forecast.
        share: of the rows that is never forecast, before the first fold.
        method, seed: of the fits.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        A `Comparison`; `verdict()` says which law is ahead, by how much and how surely, or that they
        cannot be told apart.

    Raises:
        ValueError: fewer than 30 rows before the first forecast or in a fold.

    Source: leave-future-out scores, Buerkner, Gabry and Vehtari (2020), Journal of Statistical
    Computation and Simulation 90.
    """
    seen = np.flatnonzero(data.observed)
    first = int(share * len(seen))
    cuts = np.linspace(first, len(seen), folds + 1).astype(int)
    if folds < 1 or first < MIN_ROWS or np.diff(cuts).min() < MIN_ROWS:
        raise ValueError(
            f"share={share:g} and folds={folds} of {len(seen)} complete rows leave fewer than "
            f"{MIN_ROWS} for a fit or a fold: give more rows, or fewer folds"
        )
    laws = laws_of_motion(noise)
    if data.transform.needs_last:
        del laws["reverting"]
    parts = []
    with wait_for("comparing laws", folds * len(laws), shown=progress) as waiting:
        for begin, end in pairwise(cuts.tolist()):
            before, fits = data.before(data.index[seen[begin]]), {}
            for name, model in laws.items():
                fits[name] = fit(before, model, method=method, seed=seed, progress=progress)
                waiting.advance()
            until = data.index[seen[end - 1]]
            rows: pd.DataFrame = data.prices.loc[data.index[seen[begin]] : until]
            parts.append(compare_rows(fits, dict.fromkeys(fits, rows)))
    return join_comparisons(parts)
