"""What a basket holds after a row: the ratios, how sure they are, and whose word they are."""

from abc import abstractmethod
from collections.abc import Callable

import numpy as np

from kfmodels.basket.advice import Advice
from kfmodels.basket.day import TimeOfDay
from kfmodels.basket.settings import MEMORIES, Structures, Weighing
from kfmodels.basket.standing import Standing
from kfmodels.online.document import Documented


class Hedges(Documented):
    """The hedges of a basket; what it learns from a row stands in `Basket`."""

    tickers: tuple[str, ...]
    targets: tuple[str, ...]
    structures: Structures
    weighing: Weighing
    day: TimeOfDay
    stand: Standing
    _targets: np.ndarray

    @property
    @abstractmethod
    def ready(self) -> np.ndarray:
        """Which targets have ratios, `(target,)`."""

    @abstractmethod
    def _advice(self) -> Advice | None:
        """What the experts hold now; None while there are no legs."""

    def weights(self) -> np.ndarray:
        """Of the experts, `(target, memory, structure)`; those of a target sum to one."""
        weights = self.weighing.weigh(self.stand.opinion.log_weights)
        return weights.reshape(len(self.targets), len(MEMORIES), -1)

    def shares(self) -> dict[str, np.ndarray]:
        """Weight of each kind of structure, `(target,)` each."""
        kinds, weights = np.array(self.structures.kinds), self.weights().sum(1)
        return {kind: weights[:, kinds == kind].sum(1) for kind in dict.fromkeys(kinds.tolist())}

    def memory(self) -> np.ndarray:
        """Rows that the mixture remembers, `(target,)`: the mean memory of its experts."""
        return self.weights().sum(2) @ self.day.memories

    def removed(self) -> np.ndarray:
        """Share of a target's variance that its hedge has removed lately (memory of 100 rows)."""
        hedged, plain = self.stand.opinion.lately
        return 1 - hedged / plain

    def ratios(self) -> np.ndarray:
        """Money of every asset against one of the target, to be held over the next row.

        `(target, asset)`; a positive ratio is sold against a target that is held. 0 for the target
        itself and for what is no leg now, NaN for a target that is not ready.
        """
        return self._spread_out(Advice.mix)

    def held(self) -> dict[str, dict[str, float]]:
        """The ratios that are not 0, by target and hedge; none for a target that is not ready."""
        each = zip(self.targets, self.ratios().tolist(), strict=True)
        return {
            name: {leg: b for leg, b in zip(self.tickers, row, strict=True) if b and b == b}
            for name, row in each
        }

    def sd(self) -> np.ndarray:
        """Sd of every ratio, `(target, asset)`: within the experts, and between them."""

        def spread(advice: Advice, weights: np.ndarray) -> np.ndarray:
            now, market = self.stand, self.stand.market
            assert market is not None
            age = now.listing.age[self._targets]
            # rows of equal weight that estimate a mean as well as those of a decay
            effective = 2 * self.day.memories - 1
            rows = np.minimum(effective[:, None], np.maximum(age, 1))
            unscored = np.zeros_like(weights)
            variances = now.opinion.start(unscored, now.listing.mean_square[self._targets])
            return np.sqrt(advice.spread(weights, variances * market.foreseen(), rows))

        return self._spread_out(spread)

    def _spread_out(self, work: Callable[[Advice, np.ndarray], np.ndarray]) -> np.ndarray:
        """What `work` makes of the advice, with a column for every asset."""
        found = np.full((len(self.targets), len(self.tickers)), np.nan)
        advice = self._advice()
        if advice is not None:
            found[self.ready] = 0.0
            weights = self.weighing.weigh(self.stand.opinion.log_weights)
            part = work(advice, weights)
            found[np.ix_(self.ready, advice.places.hedges)] = part[self.ready]
        return found
