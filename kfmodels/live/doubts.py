"""Prices that may not confirm themselves: those of a row that went into quarantine.

The standard library only, as all that trades.
"""

from collections import Counter
from collections.abc import Iterable, Sequence


class Doubts:
    """Which pairs wait for new prices of their legs, and which prices must be hidden for that.

    A pair that was quarantined sees no second row until both its legs have new prices. A board takes
    one row of prices for all pairs, so a pair waits by the leg that no other pair needs: where one
    target has split, its hedge still serves the others.

    Args:
        pairs: the legs of every pair, the target first; a filter of several hedges is one pair.
    """

    def __init__(self, pairs: Sequence[tuple[str, ...]]) -> None:
        self._pairs = tuple(pairs)
        self._count = Counter(leg for legs in self._pairs for leg in legs)
        self._old: dict[int, set[str]] = {}

    def add(self, pairs: Iterable[int]) -> None:
        """A row of these pairs went into quarantine."""
        self._old |= {number: set(self._pairs[number]) for number in pairs}

    def renew(self, legs: Iterable[str]) -> None:
        """New prices of these legs came."""
        if self._old:
            come = set(legs)
            left = {number: old - come for number, old in self._old.items()}
            self._old = {number: old for number, old in left.items() if old}

    def of(self, leg: str) -> list[int]:
        """Numbers of the pairs that have seen the price of a leg and doubt it."""
        return [number for number, old in self._old.items() if leg in old]

    def put(self, leg: str, pairs: Iterable[int] | bool) -> None:
        """What `of` said; true, in documents of before, stands for every pair of the leg."""
        if isinstance(pairs, bool):
            pairs = [n for n, legs in enumerate(self._pairs) if leg in legs] if pairs else ()
        for number in pairs:
            self._old.setdefault(number, set()).add(leg)

    def hidden(self) -> set[str]:
        """Legs whose prices go into no row: of every pair that waits at least one.

        Those that no other pair needs; where there is none the one that the fewest need.
        """
        if not self._old:
            return set()
        waiting = Counter(leg for number in self._old for leg in self._pairs[number])
        needed = {leg: self._count[leg] - waits for leg, waits in waiting.items()}
        found = {leg for leg, others in needed.items() if not others}
        for number in sorted(self._old):
            if found.isdisjoint(self._pairs[number]):
                found.add(min(self._pairs[number], key=needed.__getitem__))
        return found
