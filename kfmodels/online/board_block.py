"""Some pairs of a board in one tick: the recursion of all their draws at once. NumPy only.

What a tick costs is moving some ten numbers a draw, so it happens in memory that is there already, and
of a symmetric covariance each number is held once. The numbers of a draw stand in one table,
`[P00, m0, P01, m1, P11]` or `[P00, m0]`: so ordered, `P h` and `h'm` are one product and one sum, and
the update of all of them is one outer product. What comes out is what `step` says, to rounding.

One file: the layout of the table and the arithmetic that relies on it.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from kfmodels.kalman.density import LOG_2PI, LOG_PI, half_a_step
from kfmodels.kalman.noise import LEAST_DOF
from kfmodels.online.shocks import HELD, Robust, Shocks

LANES = {1: ((0, 0),), 2: ((0, 0), (0, 1), (1, 1))}
"""The distinct entries of a covariance, by number of coefficients."""

_WIDEST = 1e10
"""Relative variance that stands for infinity, as that of a flat start: more ruins the arithmetic."""

_CONSTANT = -0.5 * LOG_2PI
"""Of a normal log density."""


class Stand(NamedTuple):
    """Where the draws of some pairs stand, arrays `(..., pair, draw)`.

    `dof` and `var` of the `Scale` are None where the observation variance is constant. `centre
    (n, pair)` and `apart (lane, pair)` are mean and covariance of the coefficients over the draws.
    """

    table: np.ndarray
    log_weights: np.ndarray
    weights: np.ndarray
    dof: Any
    var: Any
    centre: np.ndarray
    apart: np.ndarray

    def of(self, part: slice) -> "Stand":
        """The same of some of the pairs; shares the memory."""
        leaves = [leaf if leaf is None else leaf[..., part, :] for leaf in self[:5]]
        return Stand._make([*leaves, self.centre[:, part], self.apart[:, part]])

    def copy(self) -> "Stand":
        return Stand._make(leaf if leaf is None else leaf.copy() for leaf in self)


class Told:
    """What one tick tells of P pairs; covariances are of inner coordinates, in the order of `LANES`.

    `centre`, `given` the noise and in `total` are what is known after it. `learnt` says which rows were
    learnt from, `based` which only start the next return, `sound` where all numbers are finite,
    `before` and `streak` are the rows in quarantine in succession, `words` by number of the pair what
    the policy on shocks made of its row, where that is not plain acceptance.
    """

    def __init__(self, n: int, streak: np.ndarray, seen: np.ndarray) -> None:
        rows = np.empty((6 + len(LANES[n]), len(seen)))
        self.log_score, self.spread, self.squared, self.dof = rows[:4]
        self.gain, self.effective_draws, self.given = *rows[4:6], rows[6:]
        self.before, self.streak = streak, np.where(seen, 0, streak)
        self.seen, self.learnt, self.based = seen, seen.copy(), np.zeros(len(seen), bool)
        self.words: dict[int, str] = {}

    def finish(self, after: Stand) -> None:
        """What is left once all blocks are through."""
        self.centre, self.total = after.centre.copy(), self.given + after.apart
        everything = self.squared + self.log_score + self.centre.sum(0)
        self.sound = np.isfinite(everything + self.total.sum(0) + self.effective_draws)
        self.sound &= (self.squared > 0) | ~self.seen
        for row in (self.log_score, self.spread, self.squared, self.dof):
            row[~self.seen] = np.nan
        self.gain[~self.learnt] = 0.0


class Passing(NamedTuple):
    """What the time since the last row does to every draw.

    `widen` is `np.add` or `np.multiply`, `by` its second argument for each entry of the covariance
    (None where that does not move), `fade` the factor on the degrees of freedom, `noise` the relative
    observation variance of the row, `forget` the factor on the log weights.
    """

    widen: Any
    by: tuple[Any, ...]
    fade: Any
    noise: Any
    forget: float

    def of(self, part: slice) -> "Passing":
        """For some of the pairs."""
        by = tuple(leaf if leaf is None else leaf[part] for leaf in self.by)
        fade = self.fade if self.fade is None else self.fade[part]
        noise = self.noise[part] if isinstance(self.noise, np.ndarray) else self.noise
        return self._replace(by=by, fade=fade, noise=noise)


class Block:
    """Some pairs of a board, on the way from where they stand to where they will."""

    def __init__(
        self, part: slice, now: Stand, then: Stand, var: Any, work: np.ndarray, known: np.ndarray
    ) -> None:
        self.part, self.now, self.then = part, now.of(part), then.of(part)
        self.obs_var, self.known, self.n = var[part], known[:, part], len(now.centre)
        work = work[:, : part.stop - part.start]
        self.rows, self.gains, rest = np.split(work, [self.n + 1, 2 * self.n + 2])
        self.two, (self.var, self.spare, self.joint) = rest[:2], rest[2:5]
        self.scale, self.density = self.two
        self.log_weights, self.weights = self._forgotten = rest[5:]
        self.came_from: Any = None

    def ahead(self, passing: Passing, seen: np.ndarray) -> None:
        """Predict the covariances, the degrees of freedom and the weights."""
        now, then = self.now, self.then
        if passing is not self.came_from:
            self.came_from, self.passing = passing, passing.of(self.part)
        passing = self.passing
        self.noise = passing.noise
        np.copyto(then.table, now.table)
        for lane, by in zip(then.table[::2], passing.by, strict=True):
            if by is not None:
                passing.widen(lane, self._bounded(by), out=lane)
        gone = np.flatnonzero(~seen)
        if len(gone):  # who knows nothing any more could not know less, and need not
            wide = gone[then.table[::4, gone].max((0, 2)) > _WIDEST]
            then.table[:, wide] = now.table[:, wide]
        if now.dof is not None:
            np.multiply(now.dof, passing.fade, out=then.dof)
            np.minimum(now.dof, LEAST_DOF, out=self.spare)
            np.maximum(then.dof, self.spare, out=then.dof)
        if passing.forget == 1 or now.weights.shape[1] == 1:
            self.log_weights, self.weights = now.log_weights, now.weights
            self.middle, self.apart = now.centre, now.apart
            return
        self.log_weights, self.weights = self._forgotten
        np.multiply(now.log_weights, passing.forget, out=self.log_weights)
        self.log_weights -= _log_mean(self.log_weights, self.spare)[:, None]
        np.exp(self.log_weights, out=self.weights)
        self.centre(then, self.weights)
        self.middle, self.apart = then.centre.copy(), then.apart.copy()

    def _bounded(self, by: np.ndarray) -> np.ndarray:
        """Factors of fading that leave a draw no wider than one that knows nothing."""
        if self.passing.widen is np.add or not by.max() > 2:
            return by
        widest = self.now.table[::4].max(0)
        return np.minimum(by, np.maximum(_WIDEST / widest, 1))

    def look(self, y: np.ndarray, x: np.ndarray, told: Told) -> None:
        """Forecast and innovation of every pair, in every draw and over the draws."""
        part, middle, apart, weights = self.part, self.middle, self.apart, self.weights
        self.x, self.y = x[:, None], y[:, None]
        self._vary()
        var, constant = self._densities()
        told.spread[part] = y - x * middle[0]
        squared = told.squared[part]
        np.vecdot(var, weights, out=squared)
        squared += x * x * apart[0]
        if self.n == 2:
            told.spread[part] -= middle[1]
            squared += 2 * x * apart[1] + apart[2]
        np.add(self.log_weights, self.density, out=self.joint)
        if not math.isfinite(self.joint.sum()):
            told.squared[part][~np.isfinite(self.joint.sum(1))] = np.nan
        self.norm = _log_mean(self.joint, self.spare)
        np.add(self.norm, constant, out=told.log_score[part])
        if self.then.dof is None:
            told.dof[part] = math.inf
        else:
            np.vecdot(self.then.dof, weights, out=told.dof[part])

    def doubt(self, limit: float) -> None:
        """Widen every row by how far it is from its forecast in each draw, as `Robust` does."""
        doubt, error = self.spare, self.rows[1]
        np.multiply(error, error, out=doubt)
        doubt /= self.scale
        doubt /= limit**2
        self.var += self.noise * doubt
        self.noise = self.noise * (1 + doubt)
        self._densities()
        np.add(self.log_weights, self.density, out=self.joint)
        self.norm = _log_mean(self.joint, self.spare)

    def widen(self, places: list[int]) -> None:
        """The variances of some intercepts wide enough for the innovation; no draw is judged by it."""
        scale = self.obs_var if self.now.var is None else self.now.var
        self.then.table[-1, places] += self.rows[1, places] ** 2 / scale[places]
        self._vary()
        self.joint[places] = joint = self.log_weights[places]
        self.norm[places] = _log_mean(joint, np.empty_like(joint))

    def learn(self, told: Told) -> None:
        """Update coefficients, variances and weights where a row is learnt from, and sum up."""
        n, now, then, part = self.n, self.now, self.then, self.part
        rows, gains, weight, spare = self.rows, self.gains, self.spare, self.scale
        learnt, noise = told.learnt[part], self.noise
        every, idle = bool(learnt.all()), ~learnt[:, None]
        np.divide(1, self.var, out=weight)
        share = np.vecdot(weight if isinstance(noise, float) else weight * noise, self.weights)
        np.subtract(1, share, out=told.gain[part])
        if now.dof is not None:
            var, dof = then.var, then.dof
            np.multiply(rows[1], rows[1], out=spare)
            spare *= weight
            np.multiply(dof, now.var, out=var)
            var += spare
            dof += learnt[:, None]
            var /= dof
            if not every:
                np.copyto(var, now.var, where=idle)
        if not every:
            weight *= learnt[:, None]
        np.multiply(rows, weight, out=gains)
        if n == 2:
            then.table[3:] -= np.multiply(gains[1:], rows[2], out=self.two)
        gains *= rows[0]
        then.table[: n + 1] -= gains
        np.subtract(self.joint, self.norm[:, None], out=then.log_weights)
        if not every:
            np.copyto(then.log_weights, self.log_weights, where=idle)
        weights = np.exp(then.log_weights, out=then.weights)
        np.divide(1, np.vecdot(weights, weights), out=told.effective_draws[part])
        var = self.obs_var if then.dof is None else _inflated(then.var, then.dof, self.spare)
        np.vecdot(then.table[::2], np.multiply(var, weights, out=spare), out=told.given[:, part])
        self.centre(then, weights)

    def centre(self, stand: Stand, weights: np.ndarray) -> None:
        """Mean and covariance of the coefficients over the draws."""
        mean, apart, weighed = stand.table[1::2], self.gains[: self.n], self.two[: self.n]
        np.vecdot(mean, weights, out=stand.centre)
        np.subtract(mean, stand.centre[..., None], out=apart)
        np.multiply(apart, weights, out=weighed)
        for lane, (i, j) in enumerate(LANES[self.n]):
            np.vecdot(weighed[i], apart[j], out=stand.apart[lane])

    def _vary(self) -> None:
        """In `rows` P h around the negative innovation, and the relative variance of that."""
        n, rows, var, table = self.n, self.rows, self.var, self.then.table
        np.multiply(table[: n + 1], self.x, out=rows)
        if n == 2:
            rows += table[2:]
        rows[1] -= self.y
        np.multiply(rows[0], self.x, out=var)
        if n == 2:
            var += rows[2]
        var += self.noise

    def _densities(self) -> tuple[np.ndarray, float]:
        """Sets the log densities less a constant; variances of the innovations, and the constant."""
        error, scale, density, spare = self.rows[1], self.scale, self.density, self.spare
        dof = self.then.dof
        np.multiply(self.obs_var if dof is None else self.now.var, self.var, out=scale)
        np.multiply(error, error, out=density)
        if dof is None:
            density /= scale
            density += np.log(scale, out=spare)
            density *= -0.5
            return scale, _CONSTANT
        np.multiply(dof, scale, out=spare)
        density /= spare
        density += 1
        np.log(density, out=density)
        density *= np.add(dof, 1, out=self.joint)
        density += np.log(spare, out=spare)
        density *= -0.5
        density += self._of_dof(dof)
        return _inflated(scale, dof, self.gains[0]), 0.0

    def _of_dof(self, dof: np.ndarray) -> np.ndarray:
        """What of a Student-t density depends on its degrees of freedom; new where those moved."""
        known, constant = self.known
        if not np.array_equal(known, dof):
            moved = np.flatnonzero((known != dof).any(1))
            known[moved] = now = dof[moved]
            ratio, rest = half_a_step(0.5 * now)
            constant[moved] = np.log(ratio) + rest - 0.5 * LOG_PI
        return constant


def judge(block: Block, told: Told, shocks: Shocks, returns: bool) -> None:
    """What the policy makes of the rows of a block that the forecasts did not expect."""
    start, part = block.part.start, block.part
    if isinstance(shocks, Robust):
        block.doubt(shocks.limit)
    z, wide = told.spread[part] / np.sqrt(told.squared[part]), []
    doubted = (abs(z) > shocks.limit) | (abs(told.before[part]) >= HELD)
    for place in np.flatnonzero(told.seen[part] & doubted).tolist():
        number = start + place
        if isinstance(shocks, Robust):
            told.words[number] = shocks.judge(float(z[place]))
            continue
        streak, told.words[number] = shocks.judge(float(z[place]), int(told.before[number]))
        told.streak[number], told.learnt[number] = streak, shocks.learns(streak)
        if streak and told.learnt[number]:
            told.based[number], told.learnt[number] = returns, not returns
            if block.n == 2 and not returns:
                wide.append(place)
    if wide:
        block.widen(wide)


def _log_mean(joint: np.ndarray, spare: np.ndarray) -> np.ndarray:
    """Logarithm of the sum over draws, `(pair,)`."""
    top = np.maximum.reduce(joint, 1)
    np.subtract(joint, top[:, None], out=spare)
    np.exp(spare, out=spare)
    return top + np.log(np.add.reduce(spare, 1))


def _inflated(var: Any, dof: Any, out: np.ndarray) -> np.ndarray:
    """Variance of a Student-t of squared scale `var`; infinite for 2 degrees of freedom or fewer."""
    np.subtract(dof, 2, out=out)
    np.maximum(out, 0, out=out)
    np.divide(dof, out, out=out)
    out *= var
    return out
