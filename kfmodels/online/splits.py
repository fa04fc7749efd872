"""Prices that are quoted in other units: how they are recognised and named, as a factor or a shift.

A cash dividend and a roll by difference shift a price when no value moves. On levels the shift is
exact. Logs and returns know factors only, and there a dividend of d at the last price P is the factor
(P - d) / P, as in every series of adjusted prices.

One file: one question, asked of a row, told in words, and answered by a factor or a shift.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kfmodels.clock.instants import Stamp
from kfmodels.kalman.splits import BREAK, SUSPECT, like_a_small_split, like_a_split
from kfmodels.kalman.transforms import Transform
from kfmodels.online.shocks import NONE, Hold, Shocks, Surprise, Verdict, with_hold
from kfmodels.online.ticks import Outcome

if TYPE_CHECKING:
    from kfmodels.online.blocks import Foreseen

_STILL = 1.2
"""A price within this factor of its last one in the old units is back in them.

In new units it stays farther away, whatever the market does.
"""

_MANY = 20.0
"""Moves of a level in its price from which on a ratio of two prices means something."""

_USUAL = 6.0
"""Moves of a leg up to which one is not worth a word."""

_FEW = 8
"""Pairs up to which a loop costs less than setting up NumPy."""


FIRST = "the first price of a return", "the first price of a session"
"""Why nothing is learnt from a row of returns that moves from no other."""


def check_factors(factors: Mapping[str, object], tickers: Iterable[str]) -> dict[str, float]:
    """New price over old by ticker, as floats.

    Args:
        factors: 0.5 for a ticker after a 2-for-1 split; those not named do not change.
        tickers: all that can be named.

    Raises:
        ValueError: a ticker that is not among them, a factor that is no positive finite number.

    Example:
        >>> from fractions import Fraction
        >>> check_factors({"PEP": Fraction(1, 2)}, ["KO", "PEP"])
        {'PEP': 0.5}
    """
    return _check(
        factors,
        tickers,
        "factors go by ticker, each a number",
        lambda factor: 0 < factor < math.inf,
        "the factor of {} is its new price over its old one, a number above 0, not {!r}",
    )


def _read(factor: object) -> float:
    """A float, NaN where it is no number; bool is an int in Python, so reject it."""
    if isinstance(factor, bool) or not isinstance(factor, Real):
        return math.nan
    try:
        return float(factor)
    except OverflowError:
        return math.inf


def check_shifts(shifts: Mapping[str, object], tickers: Iterable[str]) -> dict[str, float]:
    """New price minus old by ticker, as floats.

    Args:
        shifts: -0.5 for a ticker that goes ex a dividend of 0.5; those not named do not change.
        tickers: all that can be named.

    Raises:
        ValueError: a ticker that is not among them, a shift that is no finite number.

    Example:
        >>> check_shifts({"PEP": -1}, ["KO", "PEP"])
        {'PEP': -1.0}
    """
    return _check(
        shifts,
        tickers,
        "shifts go by ticker, each an amount of money",
        lambda shift: abs(shift) < math.inf,
        "the shift of {} is its new price minus its old one, such as minus the dividend, not {!r:.40}",
    )


def _check(
    given: Mapping[str, object],
    tickers: Iterable[str],
    kind: str,
    is_fine: Callable[[float], bool],
    refusal: str,
) -> dict[str, float]:
    """Numbers by ticker, read and checked; names are taken as text, as columns are."""
    if not hasattr(given, "items"):
        raise ValueError(f"{kind}, not {given!r:.80}")
    known, checked = tuple(tickers), dict[str, float]()
    for name, value in given.items():
        if str(name) not in known:
            more = f" and {len(known) - 8} more" if len(known) > 8 else ""
            raise ValueError(f"{name} is not among the tickers {', '.join(known[:8])}{more}")
        number = _read(value)
        if not is_fine(number):
            raise ValueError(refusal.format(name, value))
        checked[str(name)] = number
    return checked


def turn_into_factors(shifts: Mapping[str, float], last: Mapping[str, float]) -> dict[str, float]:
    """The factors that shifts are at the `last` prices by ticker; a shift of 0 is none.

    Raises:
        ValueError: a ticker without a last price, or one whose price would not stay above 0.

    Example:
        >>> turn_into_factors({"KO": -1.5}, {"KO": 60.0})
        {'KO': 0.975}
    """
    factors: dict[str, float] = {}
    for name, shift in shifts.items():
        if not shift:
            continue
        price = last.get(name, math.nan)
        if price != price:
            raise ValueError(
                f"a shift of {name} needs its last price, and there is none yet: call rescale with its "
                "new price over its old one"
            )
        factors[name] = (price + shift) / price
        if not 0 < factors[name] < math.inf:
            raise ValueError(
                f"the shift of {name} by {shift:g} would take its last price {price:g} to "
                f"{price + shift:g}, which is no price: a dividend is less than the price"
            )
    return factors


def tell_shifts(shifts: Mapping[str, float], factors: Mapping[str, float]) -> str:
    """Shifts in words, with the factors that they came to, if any."""
    said = [
        f"{name} by {shift:g}" + (f", the factor {factors[name]:.6g}" if name in factors else "")
        for name, shift in shifts.items()
    ]
    return "; ".join(said)


type Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""By pair and leg: prices of this row and of the last, those from which on one has a scale (see
`scaled_from`), and the sd of a move."""


def find_moves(rows: Rows) -> list[int]:
    """The pairs with a leg that went by so much that its scale may be another."""
    if len(rows[0]) <= _FEW:
        pairs = enumerate(zip(*(each.tolist() for each in rows), strict=True))
        return [number for number, row in pairs if breaks_scale(*row)]
    with np.errstate(all="ignore"):
        moves = rows[0] / rows[1]
    near = (moves < SUSPECT) & (moves > 1 / SUSPECT)
    if near.all():
        return []
    far = np.flatnonzero(~near.all(1)).tolist()
    return [n for n in far if breaks_scale(*(each[n].tolist() for each in rows))]


def breaks_scale(
    prices: Sequence[float], last: Sequence[float], least: Sequence[float], move: Sequence[float]
) -> bool:
    """Whether the price of a leg went by so much, or so like a small split, that it has a new scale."""
    for now, before, from_on, usual in zip(prices, last, least, move, strict=True):  # in every tick
        # no split makes a price negative
        if now > 0 and before > from_on and not 1 / SUSPECT < (ratio := now / before) < SUSPECT:
            own = usual / before if from_on else usual  # of levels a move is in money
            if not 1 / BREAK < ratio < BREAK or like_a_small_split(ratio, own):
                return True
    return False


def scaled_from(transform: Transform, move: np.ndarray) -> np.ndarray:
    """The price from which on a ratio of two prices can be one of scales, by leg.

    Levels may be near 0, where an ordinary move doubles them: there a price has a scale where it is
    many of its own moves.
    """
    if not transform.by_shares:
        return np.zeros_like(move)
    return np.where(np.isnan(move), 0.0, _MANY * move)


def watch_scales(
    shocks: Shocks,
    holds: dict[int, Hold],
    rows: Rows,
    seen: np.ndarray | None,
    opening: np.ndarray | None,
    foresee: Callable[[int, Sequence[float]], "Foreseen"],
) -> tuple[dict[int, Hold], dict[int, Verdict]]:
    """Start, keep or end holds for a change of scale, before the rows are judged.

    A row that begins a session is judged here, by the factor alone: no move leads to it.

    Args:
        shocks: the policy.
        holds: by number of the pair.
        rows: what `breaks_scale` takes of each pair.
        seen: which pairs observe the row; None where all do.
        opening: of which pairs it begins a session; None where of none.
        foresee: the innovation of a pair at some prices.

    Returns:
        The holds, and the verdicts on rows that begin a session, of pairs that are held.
    """
    held = [number for number, hold in holds.items() if hold.cause != "shock"]
    verdicts: dict[int, Verdict] = {}
    for number in {*find_moves(rows), *held}:
        row, last, least, move = (each[number].tolist() for each in rows)
        begins = opening is not None and bool(opening[number])
        looks = begins or seen is None or bool(seen[number])
        if not looks or any(price != price for price in (*row, *last)):
            continue
        hold = holds.get(number, NONE)
        if hold.cause in ("scale", "released"):
            back = all(1 / _STILL < move < _STILL for move in _moves(row, last))
            hold = NONE if back else hold
        elif breaks_scale(row, last, least, move):
            # by the sd of a forecast at the last hedge prices, because a jump of a hedge widens the
            # forecast at its own price and hides in it
            sd, far = math.sqrt(foresee(number, last).var), abs(foresee(number, row).spread)
            if begins or not far <= shocks.limit * sd:  # beyond if NaN
                hold = Hold("scale", 0, hold.sign)
        holds = with_hold(holds, number, hold)
        if begins and hold.cause in ("scale", "released"):
            here = foresee(number, row)
            verdict = shocks.judge(Surprise(here.spread / math.sqrt(here.var)), hold)
            if verdict.starts:
                said = f"{verdict.reason}, {FIRST[True]}"
                verdict = Verdict(Outcome.SKIPPED, said, moved=True)
            verdicts[number] = verdict
    return holds, verdicts


def _moves(prices: Sequence[float], last: Sequence[float]) -> list[float]:
    return [now / before for now, before in zip(prices, last, strict=True) if before > 0]


class Named(Protocol):
    """The tickers of pairs, and the transform of their prices."""

    @property
    def pairs(self) -> Sequence[tuple[str, ...]]: ...

    @property
    def transform(self) -> Transform: ...


def add_splits(
    said: dict[int, tuple[Outcome, str]],
    numbers: Iterable[int],
    legs: Named,
    rows: Rows,
    *,
    at: Stamp | None,
    verdicts: Mapping[int, Verdict],
) -> None:
    """Add to what is `said` of the rows of some pairs which leg moved out of all proportion.

    Args:
        said: outcome and reason by number of the pair.
        numbers: of the pairs.
        legs: their tickers.
        rows: as `name_split` takes them of one pair.
        at, verdicts: time of the row, and what became of it.
    """
    for number in numbers:
        split = name_split(
            legs.pairs[number],
            tuple(each[number] for each in rows),
            legs.transform,
            at=at,
            verdict=verdicts.get(number, Verdict(Outcome.ACCEPTED)),
        )
        if split:
            outcome, reason = said.get(number, (Outcome.ACCEPTED, ""))
            said[number] = outcome, f"{reason}; {split}" if reason else split


def name_split(
    names: Sequence[str],
    legs: tuple[np.ndarray, ...],
    transform: Transform,
    *,
    at: Stamp | None,
    verdict: Verdict,
) -> str:
    """Which leg went by far more than it does, or as in a split, and what to call; empty if none.

    Args:
        names: of the legs.
        legs: of `Rows` those of the pair, `(leg,)` each; the last prices are those learnt from.
        transform: of the prices.
        at: time of the row.
        verdict: what becomes of it.
    """
    row, last, least, move = legs
    if np.isnan(last).any():
        return ""
    scaled = (row > 0) & (last > 0) & (last > least)
    with np.errstate(all="ignore"):
        ratio = np.where(scaled, row / last, 1.0)
        steps = np.abs(np.log(ratio))
        if transform.by_shares:
            steps = np.where(scaled & np.isnan(move), steps, np.abs(row - last))
        usual = np.where(np.isnan(move), 1.0, np.where(move > 0, move, np.inf))
        size = steps / usual
    held = verdict.hold.cause == "scale"
    each_leg = zip(*(each.tolist() for each in legs), strict=True)
    far = np.array([breaks_scale(*([number] for number in leg)) for leg in each_leg])
    leg = int(np.argmax(np.where(far | ~(held & far.any()), size, -1.0)))
    said = f"{names[leg]} went from {last[leg]:g} to {row[leg]:g}"
    factor = like_a_split(ratio[leg]) if scaled[leg] else None
    if verdict.moved:
        what = f"{said}, about {factor} times, which is taken for a real move: if it was a split, "
        if not transform.by_shares:  # its ratio has no units
            return f"{what}the ratio holds as it is" if factor else ""
        # the level takes two rows more to come back
        return f"{what}call rescale with {names[leg]} at {factor} even now" if factor else ""
    if not scaled[leg] or (factor is None and not (held or far[leg])):
        unusual = size[leg] > _USUAL and move[leg] == move[leg]
        return f"{said}, {size[leg]:.0f} times its usual move" if unusual else ""
    said += f", about {factor} times" if factor else ""
    waited = verdict.hold.rows - 1 if held else 0
    if waited > 0:
        said += f", first {waited} row{'s'[: waited > 1]} ago"
    elif at is not None:
        said += f", at {at}"
    said += f": if that is a split, call rescale with {names[leg]} at {factor or 'its factor'}"
    if held:
        return f"{said}, if not with {names[leg]} at 1; no row is learnt from before"
    # a row is not held where the market may have moved so
    waits = verdict.outcome is Outcome.QUARANTINED
    return f"{said} now, as further such rows are taken for a real move" if waits else said
