"""Legs that are quoted otherwise: what was sent before, and what was seen in old units.

The standard library only, as all that trades.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from kfmodels.live.quotes import Moment

KEPT = 100
"""Changes of units that a live filter remembers, to know one that is sent again."""


def remembered(kept: Any) -> list[dict[str, Any]]:
    """Those that a document holds; documents of before have the last one only, or none."""
    return [kept] if isinstance(kept, dict) else list(kept or ())


def sent_before(
    factors: Mapping[str, float], since: Moment | None, earlier: Iterable[Mapping[str, Any]]
) -> bool:
    """Whether the same factors were sent for the same time; without a time nobody can tell."""
    return since is not None and any(
        message["rescale"] == factors and Moment.of(message["at"])[1:] == since[1:]
        for message in earlier
        if message["at"] is not None
    )


def rescale_rows(
    rows: Iterable[dict[str, Any]], factors: Mapping[str, float], before: Moment | None
) -> None:
    """Put the prices of rows before a moment, all without one, in new units."""
    for row in rows:
        if before is None or Moment.of(row["at"]).number < before.number:
            row["prices"] = {
                name: price and price * factors.get(name, 1.0)
                for name, price in row["prices"].items()
            }
