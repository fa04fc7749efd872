"""Is a live filter in order: each of its pairs, and as a whole?"""

from collections.abc import Mapping
from typing import NamedTuple

from kfmodels.live.feed_watch import FeedWatch
from kfmodels.live.monitor import CONDITIONS, Condition, Watch
from kfmodels.online.engine import Engine

SHARE = 0.2
"""Share of the pairs above which their condition is that of the whole; below five pairs one is enough.

Some of many pairs nearly always ring: on 23 funds and 45 countries, each hedged with all others, the
worst target was broken on 74 and 67 % of the days, and more than a fifth of them on 3 %, in the days
when the market broke.
"""

_NAMED = 5
"""Pairs that a sentence names."""


class Conditions(NamedTuple):
    """The condition of the `whole`, and of the `pairs` that are not ok, by name.

    The whole is the worst that more than a fifth of its pairs are in or beyond; at least "watch" while
    an alarm about the feed is on or prices are held that look like a split, and "broken" while the feed
    brings nothing at all that can be used. `judged` pairs have forecasts: of a universe its targets.
    `fine` of them are ok.
    """

    whole: Condition
    pairs: Mapping[str, Condition]
    judged: int
    fine: int

    @property
    def sentence(self) -> str:
        """In words, such as "ok: 43 of 45 ok; broken: ITB, SMH"."""
        said = [f"{self.whole}: {self.fine} of {self.judged} ok"]
        for condition in CONDITIONS[:0:-1]:
            names = [name for name, found in self.pairs.items() if found == condition]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            said += [f"{condition}: {', '.join(names[:_NAMED])}{more}"] if names else []
        return "; ".join(said)


def find_conditions(watch: Watch | None, engine: Engine, feed: FeedWatch) -> Conditions:
    """The condition of an engine, by its innovations, its held prices and its feed."""
    whole, alarmed = feed.conditions
    found = {} if watch is None else watch.doubtful
    for number, condition in alarmed.items():
        found[number] = _worse(condition, found.get(number, "ok"))
    for name, hold in engine.holds.items():
        if hold.cause in ("scale", "released"):
            whole, number = _worse(whole, "watch"), feed.names.index(name)
            found[number] = _worse("watch", found.get(number, "ok"))
    if not found:
        return Conditions(whole, {}, len(engine.targets), len(engine.targets))
    targets, count = frozenset(engine.targets), len(engine.targets)
    judged = [each for number, each in found.items() if engine.pairs[number][0] in targets]
    if len(judged) > SHARE * count:
        many = judged.count("broken") > SHARE * count
        whole = _worse(whole, "broken" if many else "watch")
    pairs: dict[str, Condition] = {feed.names[n]: found[n] for n in sorted(found)}
    return Conditions(whole, pairs, count, count - len(judged))


def _worse(one: Condition, other: Condition) -> Condition:
    return CONDITIONS[max(map(CONDITIONS.index, (one, other)))]
