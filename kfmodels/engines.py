"""One filter, or a board of many, behind one face."""

from collections.abc import Mapping
from typing import Any

from kfmodels.board_records import BoardTick
from kfmodels.clock import Elapsed
from kfmodels.online import OnlineFilter
from kfmodels.online_board import OnlineBoard
from kfmodels.records import Tick

Engine = OnlineFilter | OnlineBoard


def advance(engine: Engine, row: Mapping[str, float], at: Any, passed: Elapsed) -> Any:
    """The tick of a row of prices by ticker."""
    if isinstance(engine, OnlineBoard):
        return engine.update(row, at=at, dt=passed.bars, gaps=passed.gaps)
    return engine.update(y=row[engine.target], x=row, at=at, dt=passed.bars, gaps=passed.gaps)


def rescale(engine: Engine, factors: Mapping[str, float]) -> None:
    """New price over old by ticker, target or hedge.

    Raises:
        ValueError: a factor that is no number or not positive, or a ticker that is no leg.
    """
    try:
        factors = {name: float(factor) for name, factor in factors.items()}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"factors go by ticker, each a number, not {factors!r:.80}") from error
    if isinstance(engine, OnlineBoard):
        return engine.rescale(factors)
    others = {name: factor for name, factor in factors.items() if name != engine.target}
    return engine.rescale(target=factors.get(engine.target, 1.0), hedges=others)


def quarantined(engine: Engine, tick: Tick | BoardTick) -> set[str]:
    """Tickers of the rows that went into quarantine."""
    pairs: Any = [(*engine.tickers, tick.outcome)]
    if isinstance(engine, OnlineBoard):
        pairs = zip(engine.targets, engine.hedges, tick.outcome, strict=True)
    return {name for *legs, said in pairs if said.startswith("quarantined") for name in legs}


def identity(engine: Engine) -> str:
    """What a journal belongs to: the fit, or at least the legs."""
    made = getattr(engine, "fit_id", None) or f"noise until {engine.until}"
    return f"{made}; {', '.join(engine.tickers)}; {engine.transform}"
