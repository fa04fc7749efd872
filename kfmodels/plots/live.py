"""A trading day: hedge ratios around an open, and the alarms of a monitor."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kfmodels.kalman.density import Z90
from kfmodels.plots.ink import BAND, CYCLE, FAINT, INK, OTHER, blank, literal


def open_hedges(
    ratio: pd.DataFrame, sd: pd.Series, *, static: str, truth: pd.Series | None = None
) -> Figure:
    """Hedge ratios around an open: the live one with its 90 % band, the static one, and the truth.

    Rows are evenly spaced, so that a night takes no room; a dotted line marks it.

    Args:
        ratio: by time and method; the live filter is the column that `sd` has the name of; columns
            beside it and the static one are drawn thin.
        sd: of the live ratio, named as its column.
        static: column of the ratio that was fitted the night before.
        truth: the true ratio by time, where it is known.

    Example:
        >>> at = pd.date_range("2024-03-04 15:50", periods=20, freq="min", tz="America/New_York")
        >>> ratio = pd.DataFrame({"static": 1.0, "live": np.linspace(1, 1.2, 20)}, at)
        >>> sd = pd.Series(0.05, at, name="live")
        >>> open_hedges(ratio, sd, static="static").axes[0].get_ylabel()
        'hedge ratio'
    """
    figure, axes = blank(9, 3.6)
    axis, live = axes[0, 0], str(sd.name)
    place, middle = np.arange(len(ratio)), ratio[live].to_numpy()
    wide = Z90 * sd.to_numpy()
    axis.fill_between(place, middle - wide, middle + wide, color=BAND, alpha=0.6, lw=0)
    axis.plot(place, middle, color=INK, lw=1.5, label=literal(f"{live}, 90 % band"))
    axis.step(place, ratio[static], where="post", color=OTHER, lw=1.5, label=literal(static))
    others = [name for name in ratio.columns if name not in (live, static)]
    for name, colour in zip(others, CYCLE[2:], strict=False):
        axis.plot(place, ratio[name], color=colour, lw=1, ls="--", label=literal(name))
    if truth is not None:
        axis.plot(place, truth.reindex(ratio.index), color="0.15", lw=1, label="truth")
    times = pd.DatetimeIndex(ratio.index)
    nights = np.flatnonzero(np.diff(times.normalize().asi8)) + 1
    for night in nights:
        axis.axvline(night - 0.5, color=FAINT, ls=":", lw=1.2)
    even = np.linspace(0, len(times) - 1, 7).astype(int)
    # a tick that would touch the label of a night is left out
    far = [tick for tick in even if all(abs(tick - night) > len(times) / 12 for night in nights)]
    ticks = np.sort(np.r_[far, nights]).astype(int)
    shown = [f"{times[tick]:%a %H:%M}" for tick in ticks]
    axis.set_xticks(ticks, shown, fontsize=8, rotation=25, ha="right")
    axis.set_ylabel("hedge ratio")
    axis.legend(frameon=False, fontsize=8)
    return figure


def alarms(z: pd.Series, rung: list[tuple[object, str]], *, broken: object = None) -> Figure:
    """Innovations in sds of their forecast, and above them the alarms, one line for each kind.

    Args:
        z: by time.
        rung: time and kind of each alarm that went off.
        broken: time at which the pair broke, where that is known.

    Example:
        >>> at = pd.date_range("2024-03-04 09:35", periods=9, freq="5min", tz="America/New_York")
        >>> figure = alarms(pd.Series(np.linspace(0, 4, 9), at), [(at[8], "variance up")])
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['variance up']
    """
    kinds = list(dict.fromkeys(kind for _, kind in rung))[::-1]
    tall = 0.25 + 0.2 * len(kinds)
    figure, axes = blank(9, 2.6 + tall, 2, sharex=True, height_ratios=[tall, 2.6])
    above, below = axes[:, 0]
    place = pd.Series(np.arange(len(z)), z.index)
    above.plot(
        [place[at] for at, _ in rung],
        [kinds.index(kind) for _, kind in rung],
        "|",
        color=OTHER,
        ms=9,
    )
    above.set_yticks(range(len(kinds)), [literal(kind) for kind in kinds], fontsize=8)
    above.set_ylim(-0.6, len(kinds) - 0.4)
    above.tick_params(axis="x", length=0)
    below.axhspan(-Z90, Z90, color=BAND, alpha=0.5, lw=0)
    below.plot(place, z.to_numpy(), ".", ms=4, color=INK)
    if broken is not None:
        for axis in (above, below):
            axis.axvline(place[broken], color=FAINT, ls=":", lw=1.5)
    ticks = np.linspace(0, len(z) - 1, 7).astype(int)
    times = pd.DatetimeIndex(z.index)
    below.set_xticks(ticks, [f"{times[tick]:%a %H:%M}" for tick in ticks], fontsize=8)
    below.set_ylabel("z, and the 90 % band")
    return figure
