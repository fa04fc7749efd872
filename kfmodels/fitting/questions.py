"""What is asked of a fit by those who have one in their hands: the words, the picture, the doubts.

The answers are made in rooms above this one, which each method loads when it is called.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kfmodels.words.shown import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from kfmodels.data.repairs import Repair
    from kfmodels.evaluate.health import SpreadHealth
    from kfmodels.evaluate.landscape import Surface
    from kfmodels.evaluate.sensitivity import WhatIf
    from kfmodels.model.hedge_ratio import HedgeRatioModel


class Questions(Shown):
    """The questions that a `HedgeFit` answers by itself."""

    def report(self: Any) -> str:
        """Everything the fit found, in plain words: the hedge, how sure it is, what to do next."""
        from kfmodels.cli.report import report

        return report(self)

    def plot(self: Any) -> "Figure":
        """The hedge ratio with its 90 % band, and the spread; see `plots.hedge_ratio_and_spread`."""
        from kfmodels.plots.pair import hedge_ratio_and_spread

        return hedge_ratio_and_spread(self)

    def combined_ratio(
        self: Any, prices: "pd.DataFrame | None" = None, *, repair: "Repair | None" = None
    ) -> "pd.DataFrame":
        """Half of the filter's ratio, half of moving averages; see `evaluate.combined_ratio`."""
        from kfmodels.evaluate.effectiveness import combined_ratio

        return combined_ratio(self, prices, repair=repair)

    def static_probability(
        self: Any, *, prior: float = 0.5, seed: int = 0, progress: bool = True
    ) -> "pd.DataFrame":
        """How probable it is that a static ratio would do; see `evaluate.static_probability`."""
        from kfmodels.evaluate.static import static_probability

        return static_probability(self, prior=prior, seed=seed, progress=progress)

    def prior_sensitivity(self: Any, *, seed: int = 0, progress: bool = True) -> "pd.DataFrame":
        """Whether the data or the prior answered; see `evaluate.prior_sensitivity`."""
        from kfmodels.evaluate.sensitivity import prior_sensitivity

        return prior_sensitivity(self, seed=seed, progress=progress)

    def what_if(
        self: Any, model: "HedgeRatioModel", *, seed: int = 0, progress: bool = True
    ) -> "WhatIf":
        """The answer under another prior, without a refit; see `evaluate.what_if`."""
        from kfmodels.evaluate.sensitivity import what_if

        return what_if(self, model, seed=seed, progress=progress)

    def spread_health(self: Any) -> "SpreadHealth":
        """Whether there is a spread of a fixed ratio to trade; see `evaluate.spread_health`."""
        from kfmodels.evaluate.health import spread_health

        return spread_health(self)

    def likelihood_surface(
        self: Any,
        *,
        hedge: str | None = None,
        memories: Sequence[float] = (1.002, 3000.0),
        progress: bool = True,
    ) -> "Surface":
        """What the rows say of every memory; see `evaluate.likelihood_surface`."""
        from kfmodels.evaluate.landscape import likelihood_surface

        return likelihood_surface(
            self.data, self.model, hedge=hedge, memories=memories, progress=progress
        )

    def __str__(self: Any) -> str:
        from kfmodels.cli.report import summarise

        return summarise(self)

    def _repr_html_(self: Any) -> str:
        return super()._repr_html_() + self.summary().to_html(float_format="{:.4g}".format)
