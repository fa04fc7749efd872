"""A new universe in the place of one that runs, between two rows."""

from typing import Any

from kfmodels.basket.basket import Basket
from kfmodels.clock.instants import Moment
from kfmodels.live.feed import LiveFilter


def take_over(new: Basket, live: LiveFilter) -> tuple[str, ...]:
    """Let a basket take the place of the one that a live filter runs, which goes on without a gap.

    It first learns the rows that the filter has seen since its last one. Prices, what is known of the
    feed, the policy on bad prints and, of rows that its table does not reach, the holds go on. The
    journal keeps it as one step, which is there after a crash or is not.

    Args:
        new: of `HedgeUniverse.online()`.
        live: of `HedgeUniverse.go_live()`.

    Returns:
        A sentence for each asset that joins.

    Raises:
        ValueError: `live` runs no universe; an asset or a target of it is not in the new one; prices in
            other units than those of the feed, or that end before the rows remembered. Nothing was
            changed.
        OSError: the journal's disk fails. Nothing was changed.

    Example:
        >>> from kfmodels import datasets, hedge_universe
        >>> prices = datasets.etfs().loc["2014":"2015", ["SPY", "DIA", "XLK"]]
        >>> live = hedge_universe(prices.iloc[:400]).go_live()
        >>> for at, row in prices.iloc[400:].iterrows():
        ...     signal = live.tick(row.to_dict(), at=at)
        >>> hedge_universe(prices).take_over(live)
        ()
        >>> live.engine.rows  # the first price of each makes no move
        503
    """
    old = live.engine
    if not isinstance(old, Basket):
        raise ValueError(
            f"the live filter runs an {type(old).__name__} and no universe: kf.refresh(live) infers "
            "the noise of one pair anew, and HedgeBoard.take_over that of a board"
        )
    for names, there, role in (
        (old.tickers, new.tickers, "asset"),
        (old.targets, new.targets, "target"),
    ):
        gone = [name for name in names if name not in there]
        if gone:
            raise ValueError(
                f"{', '.join(gone[:3])}: no {role} of the new universe, but of the one that runs: make "
                "it of prices with all of them, kf.hedge_universe(prices, targets=...)"
            )
    arguments: dict[str, Any] = new.arguments() | {"shocks": old.shocks}
    new = Basket(**arguments)
    ended = new.at
    live.catch_up(new)
    if old.at is not None and Moment.of(ended).number < Moment.of(old.at).number:
        # what is in doubt was hidden from the rows, so only the old one knows of it
        new.back(new.stand._replace(holds=dict(old.holds)))
    live.replace(new)
    return tuple(f"{name} joins" for name in new.tickers if name not in old.tickers)
