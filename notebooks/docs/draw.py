"""Draw the pictures of the page on concepts: python notebooks/docs/draw.py [FOLDER]

Each is one idea on one simulated pair whose true ratio is known, or on no data at all.
"""

import sys
from pathlib import Path

import jax
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import kfmodels as kf
from kfmodels.kalman.motion import Walk
from kfmodels.kalman.noise import ConstantVariance
from kfmodels.model.memory import memory_to_q, q_to_delta

INK, OTHER, BAND, TRUE = "#1f4e79", "#c05a1c", "#b7cce2", "0.35"
Z90 = 1.645
ROWS, MEMORY, LEVEL_MEMORY, NOISE = 250, 3.0, 3.0, 0.005
LOOK = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "kfmodels",  # the same picture is the same file
    "svg.fonttype": "path",
}


class Pair:
    """A simulated pair and the filters of known noise that run over it."""

    def __init__(self) -> None:
        drawn = kf.datasets.simulate(
            ROWS,
            memory=MEMORY,
            intercept_memory=LEVEL_MEMORY,
            obs_scale=NOISE,
            hedge_volatility=0.02,
            seed=4,
        )
        self.truth = drawn.hedge_ratio.to_numpy()[:, 0]
        self.y, self.x = np.log(drawn.prices.to_numpy()).T

    def law(
        self, memory: np.ndarray, level_memory: float = LEVEL_MEMORY, rows: int = ROWS
    ) -> kf.KalmanRegression:
        """The model with one memory, or with many side by side."""
        design = np.stack([self.x - self.x.mean(), np.ones(ROWS)], -1)[:rows]
        steps = np.zeros((*np.shape(memory), 2, 2))
        steps[..., 0, 0] = memory_to_q(memory) / design[:, 0].var()
        steps[..., 1, 1] = memory_to_q(level_memory) if np.isfinite(level_memory) else 0.0
        start = np.array([1.0, self.y[0]]), np.diag([0.25, 0.01])
        return kf.KalmanRegression(
            design, *start, Walk(steps), ConstantVariance(np.array(NOISE**2))
        )


def draw_memory(_: Pair) -> Figure:
    """What a memory of m bars gives to each bar of the past."""
    figure, axes = plt.subplots(figsize=(6, 2.7))
    ago = np.arange(60)
    for memory, color in ((5.0, OTHER), (20.0, INK), (60.0, TRUE)):
        axes.plot(ago, (1 - 1 / memory) ** ago / memory, color=color, label=f"{memory:.0f} bars")
    axes.set(xlabel="bars ago", ylabel="weight", xlim=(0, 59), ylim=(0, None))
    axes.legend(title="memory")
    return figure


def draw_delta(_: Pair) -> Figure:
    """Memory, delta and q are one number."""
    figure, axes = plt.subplots(figsize=(6, 2.7))
    memory = np.geomspace(1.3, 2000, 200)
    axes.loglog(memory, q_to_delta(memory_to_q(memory)), color=INK)
    for mark in (5.0, 20.0, 100.0, 1000.0):
        delta = q_to_delta(memory_to_q(mark))
        axes.plot(mark, delta, "o", color=OTHER, ms=4)
        axes.annotate(
            f"{mark:g} bars: {delta:.1g}", (mark, delta), (6, 4), textcoords="offset points"
        )
    axes.set(xlabel="memory in bars", ylabel="delta")
    return figure


def draw_effective_memory(pair: Pair) -> Figure:
    """Over how many bars a ratio is learnt, beside a level that moves and one that stands still."""
    figure, axes = plt.subplots(figsize=(6, 2.9))
    memory = np.geomspace(1.2, 100, 60)
    for level, color, name in (
        (LEVEL_MEMORY, INK, "a level that moves"),
        (np.inf, OTHER, "one that stands still"),
    ):
        law = pair.law(memory, level)
        var = np.asarray(law.filter(pair.y).filtered.cov)[:, -1, 0, 0]
        step = np.asarray(law.drift.noise)[:, 0, 0] * NOISE**2
        axes.loglog(memory, 1 + var / step, color=color, label=f"beside {name}")
    axes.loglog(memory, memory, color=TRUE, ls=":", label="the memory itself")
    axes.set(xlabel="memory of the ratio in bars", ylabel="effective memory")
    axes.legend(fontsize=9)
    return figure


def draw_gain(_: Pair) -> Figure:
    """Where a surprise goes."""
    figure, axes = plt.subplots(figsize=(6, 2.4))
    memory = np.array([1.5, 3.0, 10.0, 40.0])
    axes.barh(range(4), 1 / memory, color=INK, label="gain: taken as permanent")
    axes.barh(range(4), 1 - 1 / memory, left=1 / memory, color=BAND, label="taken as noise")
    axes.set(yticks=range(4), yticklabels=[f"{m:g} bars" for m in memory], xlim=(0, 1))
    axes.set(xlabel="share of a surprise", ylabel="memory of the level")
    figure.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.55, 1.08))
    return figure


def draw_spread(pair: Pair) -> Figure:
    """The spread in its band, and z."""
    figure, (above, below) = plt.subplots(2, figsize=(6, 3.6), sharex=True)
    passed = pair.law(np.array(MEMORY)).filter(pair.y)
    spread, sd = np.asarray(passed.error), np.sqrt(np.asarray(passed.forecast_var))
    days = np.arange(ROWS)
    above.fill_between(days, -Z90 * sd, Z90 * sd, color=BAND, lw=0, label="90 % band")
    above.plot(days, spread, color=INK, lw=0.8)
    above.set(ylabel="spread", ylim=(-0.04, 0.04))
    above.legend(loc="upper right")
    below.bar(days, spread / sd, color=np.where(np.abs(spread / sd) > Z90, OTHER, INK), width=1)
    below.axhline(-Z90, color=TRUE, lw=0.7)
    below.axhline(Z90, color=TRUE, lw=0.7)
    below.set(xlabel="day", ylabel="z", xlim=(100, ROWS), ylim=(-4, 4))
    return figure


def draw_views(pair: Pair) -> Figure:
    """Predicted, filtered and smoothed."""
    figure, axes = plt.subplots(figsize=(6, 2.9))
    law = pair.law(np.array(MEMORY))
    passed, days = law.filter(pair.y), np.arange(ROWS)
    axes.plot(days, pair.truth, color=TRUE, ls=":", label="true")
    axes.step(
        days,
        np.asarray(passed.predicted.mean)[:, 0],
        color=OTHER,
        lw=1,
        where="mid",
        label="predicted",
    )
    axes.plot(days, np.asarray(passed.filtered.mean)[:, 0], color=INK, lw=1.2, label="filtered")
    axes.plot(
        days, np.asarray(law.smooth(pair.y).mean)[:, 0], color="#3f8f5b", lw=1.2, label="smoothed"
    )
    axes.set(xlabel="day", ylabel="hedge ratio", xlim=(140, 180))
    shown = slice(140, 181)
    ends = np.concatenate([pair.truth[shown], np.asarray(passed.filtered.mean)[shown, 0]])
    axes.set_ylim(ends.min() - 0.02, ends.max() + 0.06)
    axes.legend(ncols=2, fontsize=9)
    return figure


def draw_risk(pair: Pair) -> Figure:
    """The same ratio under each memory that is possible, and all of them together."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6, 2.9), width_ratios=[2, 3])
    memory = np.geomspace(1.1, 100, 80)
    law, y = pair.law(memory, rows=40), pair.y[:40]
    weight = np.asarray(law.log_prob(y))
    weight = np.exp(weight - weight.max())
    weight /= weight.sum()
    left.fill_between(memory, weight, color=BAND)
    left.set(xscale="log", xlabel="memory in bars", ylabel="probability", yticks=[], ylim=(0, None))
    filtered = law.filter(y).filtered
    mean = np.asarray(filtered.mean)[:, -1, 0]
    sd = np.sqrt(np.asarray(filtered.cov)[:, -1, 0, 0])
    grid = np.linspace((mean - 4 * sd).min(), (mean + 4 * sd).max(), 300)
    density = np.exp(-0.5 * ((grid - mean[:, None]) / sd[:, None]) ** 2) / sd[:, None]
    density /= np.sqrt(2 * np.pi)
    best, centre = weight.argmax(), weight @ mean
    total = np.sqrt(weight @ (sd**2 + (mean - centre) ** 2))
    known = f"the likeliest memory, sd {sd[best]:.3f}"
    right.plot(grid, density[best], color=OTHER, label=known)
    right.plot(grid, weight @ density, color=INK, label=f"all memories, sd {total:.3f}")
    right.set(xlabel="hedge ratio today", yticks=[], xlim=(centre - 4 * total, centre + 4 * total))
    right.set_ylim(0, 1.45 * density[best].max())
    right.legend(loc="upper left", fontsize=8)
    return figure


PICTURES = {
    "memory": draw_memory,
    "delta": draw_delta,
    "effective_memory": draw_effective_memory,
    "gain": draw_gain,
    "spread": draw_spread,
    "views": draw_views,
    "risk": draw_risk,
}


def main(folder: Path) -> None:
    """Write every picture to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True), mpl.rc_context(LOOK):
        pair = Pair()
        for name, draw in PICTURES.items():
            figure = draw(pair)
            figure.savefig(
                folder / f"{name}.png", dpi=100, bbox_inches="tight", metadata={"Software": None}
            )
            plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures")
