"""One filter, or a board of many, behind one face."""

import json
from collections.abc import Mapping
from typing import Any

from kfmodels.clock.clock import Elapsed
from kfmodels.online.board import OnlineBoard
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.ticks import BoardTick, Tick

Engine = OnlineFilter | OnlineBoard


def advance(engine: Engine, row: Mapping[str, float], at: Any, passed: Elapsed) -> Any:
    """The tick of a row of prices by ticker."""
    if isinstance(engine, OnlineBoard):
        return engine.update(row, at=at, dt=passed.bars, gaps=passed.gaps)
    return engine.update(y=row[engine.target], x=row, at=at, dt=passed.bars, gaps=passed.gaps)


def rescale(engine: Engine, factors: Mapping[str, float]) -> dict[str, float]:
    """New price over old by ticker, target or hedge; the factors as numbers.

    Raises:
        ValueError: no factor, one that is no number or not positive, a ticker that is no leg, or what
            no document can hold. The filter is of no more use then: try it on a copy.
    """
    try:
        # a yes or no is no number, as it is no price
        factors = {
            name: float("no number" if isinstance(factor, bool) else factor)
            for name, factor in factors.items()
        }
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"factors go by ticker, each a number, not {factors!r:.80}") from error
    if not factors:
        raise ValueError(
            "no factor is given: name the ticker, with 1 where a move that is held was real"
        )
    if isinstance(engine, OnlineBoard):
        engine.rescale(factors)
    else:
        others = {name: factor for name, factor in factors.items() if name != engine.target}
        engine.rescale(target=factors.get(engine.target, 1.0), hedges=others)
    json.dumps(engine.to_json(), allow_nan=False)
    return factors


def pairs(engine: Engine) -> tuple[tuple[str, ...], ...]:
    """The legs of every pair, the target first; a filter is one pair of all its legs."""
    if isinstance(engine, OnlineBoard):
        return tuple(zip(engine.targets, engine.hedges, strict=True))
    return (tuple(engine.tickers),)


def quarantined(tick: Tick | BoardTick) -> list[int]:
    """Numbers of the pairs whose row went into quarantine."""
    said = [tick.outcome] if isinstance(tick, Tick) else tick.outcome
    return [number for number, words in enumerate(said) if words.startswith("quarantined")]


def check_same(new: Engine, old: Engine) -> None:
    """Raise unless one filter may take the place of another: same legs, pairs and transform."""
    same = type(new) is type(old) and new.tickers == old.tickers
    same = same and getattr(new, "names", ()) == getattr(old, "names", ())
    if not same or new.transform != old.transform:
        raise ValueError(
            f"the new filter is of {', '.join(new.tickers[:4])} ({new.transform}), this one of "
            f"{', '.join(old.tickers[:4])} ({old.transform})"
        )


def identity(engine: Engine) -> str:
    """What a journal belongs to: the fit, or at least the legs."""
    made = getattr(engine, "fit_id", None) or f"noise until {engine.until}"
    return f"{made}; {', '.join(engine.tickers)}; {engine.transform}"
