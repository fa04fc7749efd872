"""New noise of many pairs for a live board, between two ticks."""

from typing import TYPE_CHECKING

from kfmodels.fitting.carry import carry
from kfmodels.live.feed import LiveFilter
from kfmodels.online.board import OnlineBoard

if TYPE_CHECKING:
    from kfmodels.batch.board import HedgeBoard


def take_over(fits: "HedgeBoard", live: LiveFilter, targets: list[str] | None) -> tuple[str, ...]:
    """As `HedgeBoard.take_over`."""
    old = live.engine
    if not isinstance(old, OnlineBoard):
        raise ValueError(
            f"the live filter runs an {type(old).__name__} and no board: kf.refresh(live) infers the "
            "noise of one pair anew, and HedgeUniverse.take_over replaces a universe"
        )
    new = fits.online(targets, share=old.share, shocks=old.shocks)
    if set(new.names).isdisjoint(old.names):
        raise ValueError(
            f"none of the {len(new)} pairs of the board (one is {new.names[0]}) is running: the live "
            f"board is of {', '.join(old.names[:3])}"
        )
    live.catch_up(new)
    live.replace(carry(new, old))
    said = list[str]()
    for name in old.names:
        if name not in new.names:
            why = (
                fits.verdicts[name].reason
                if name in fits.verdicts
                else "it is not on the new board"
            )
            said.append(f"{name} keeps the noise it had: {why or 'its target is not asked for'}")
    return (*said, *(f"{name} joins" for name in new.names if name not in old.names))
