"""When a hedge is worth trading: what a trade costs, and the band inside which none is made."""

import math
from dataclasses import asdict, dataclass


def _check_numbers(kind: str, *, positive: bool = False, **given: float) -> None:
    for name, number in given.items():
        if not (0 <= number < math.inf and (number or not positive)):
            least = "above 0" if positive else "0 or more"
            raise ValueError(f"{kind}: {name} must be a number, {least}, not {number}")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a trade costs: `bp` basis points of the money traded and `per_share` currency a share.

    Raises ValueError of a negative or infinite number.
    """

    bp: float = 1.0
    per_share: float = 0.005

    def __post_init__(self) -> None:
        _check_numbers("Cost", **asdict(self))

    def of_one(self, price: float, multiplier: float = 1.0) -> float:
        """Currency that one share, or one contract of `multiplier`, costs to trade."""
        return 1e-4 * self.bp * abs(price) * multiplier + self.per_share


@dataclass(frozen=True, slots=True)
class Saving:
    r"""Trade when the variance saved is worth more than the trade costs.

    The residual of the variance-minimising ratio is uncorrelated with the hedge, so being d shares off
    adds $d^2 V$ to the variance of a bar, V that of the hedge's move. A variance is worth half of
    $λ$ times itself; over H bars a trade all the way to the wanted shares pays when

    $$\tfrac{λ}{2} d^2 V H > c \, |d| \quad \Longleftrightarrow \quad
    |d| > \frac{2 c}{λV H},$$

    c the cost of one share. V is the mean squared move per bar seen by the book, fading with `memory`
    bars; before the first move the cost is not weighed. Each hedge is judged alone: deviations of two
    hedges that cancel are not netted. `risk_aversion` is lambda, per unit of currency, `horizon` H.

    Raises ValueError of a number that is not positive.

    Source: after Whalley and Wilmott (1997), An asymptotic analysis of an optimal hedging model for
    option pricing with transaction costs, Mathematical Finance 7. Their width goes with the cube root
    of the cost and they trade to its edge; this one is the break-even of one trade to the middle,
    linear in the cost.
    """

    risk_aversion: float
    horizon: float = 5.0
    memory: float = 60.0

    def __post_init__(self) -> None:
        _check_numbers("Saving", positive=True, **asdict(self))

    def width(self, cost: float, variance: float) -> float:
        """Deviation in shares from which a trade pays, at `cost` a share and `variance` a bar.

        Example:
            >>> Saving(risk_aversion=1e-3, horizon=5.0).width(0.02, 4.0)
            2.0
        """
        saved = self.risk_aversion * variance * self.horizon
        return 2 * cost / saved if saved > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Band:
    """Rehedge only when the shares held are off by more than the wider of two widths.

    `sds` is in total sds of the wanted shares, which the filter itself does not know any better.
    `saving` weighs the cost, None leaves it out. `Band(sds=0)` rehedges at every bar.

    Raises ValueError of negative or infinite `sds`.
    """

    sds: float = 1.0
    saving: Saving | None = None

    def __post_init__(self) -> None:
        _check_numbers("Band", sds=self.sds)
