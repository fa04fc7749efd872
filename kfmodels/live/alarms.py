"""Alarms that a row of a live filter sets off: few noise draws, or an innovation out of order."""

import math
from typing import Any

import numpy as np

from kfmodels.live.monitor import BoardWatch, Watch
from kfmodels.live.signals import few_draws
from kfmodels.online.board_records import BoardTick
from kfmodels.online.shocks import HELD
from kfmodels.online.ticks import ACCEPTED, Tick

_FARTHEST = 1e99
"""A z beyond is as odd as one at it."""


def set_off(
    tick: Tick | BoardTick, watch: Watch | BoardWatch | None, fewer: list[int], draws: int
) -> tuple[Any, ...]:
    """Alarms of a row that was learnt from; a shock in quarantine is one already.

    Args:
        tick: of the row, seen by the `watch` here.
        fewer: numbers of the pairs that have few of their `draws` left since this row.
    """
    effective = np.atleast_1d(tick.effective_draws)
    if isinstance(tick, BoardTick):
        found = [(tick.names[pair], few_draws(effective[pair], draws)) for pair in fewer]
        if isinstance(watch, BoardWatch):
            z, dof = tick.learnt()
            z = np.clip(z, -_FARTHEST, _FARTHEST)
            found += [(tick.names[pair], alarm) for pair, alarm in watch.update(z, dof)]
        return tuple(found)
    alone = tuple(few_draws(effective[pair], draws) for pair in fewer)
    if isinstance(watch, Watch) and tick.observed and tick.outcome.startswith(ACCEPTED):
        z = min(max(tick.z, -_FARTHEST), _FARTHEST)
        alone += watch.update(z, tick.dof if tick.dof < math.inf else None)
    return alone


def worst(watch: Watch | BoardWatch | None, streak: Any) -> str:
    """The condition, of a board that of its worst pair; "watch" at least while a scale is in doubt.

    `streak` is that of the rows in quarantine, of every pair.
    """
    found = ["watch" if (np.abs(streak) > HELD).any() else "ok"]
    if isinstance(watch, BoardWatch):
        found += watch.conditions
    elif watch is not None:
        found.append(watch.condition)
    return max(found, key=("ok", "watch", "broken").index)


def fresh(watch: Watch | BoardWatch | None) -> Any:
    """A watch of the same settings that has seen nothing yet."""
    if isinstance(watch, BoardWatch):
        return watch.monitor.board(len(watch.last))
    return None if watch is None else watch.monitor.start()
