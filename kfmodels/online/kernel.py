"""A row of prices as one loop over the draws, which `compiled` has numba compile.

The arithmetic is that of `mixture` on `kalman.step`, once more, because numba compiles loops, not NumPy
on arrays of any shape. Both roads pass the same tests, and agree to 1e-12.

One file: numba keeps what it has compiled until this file changes, and would not notice another.
"""

import math
from typing import Any

import numpy as np

from kfmodels.kalman.arrays import ENDLESS
from kfmodels.kalman.density import ABOVE, BELOW, LOG_2PI, LOG_PI
from kfmodels.kalman.habits import CALM as CALM_ROWS
from kfmodels.kalman.noise import LEAST_DOF
from kfmodels.kalman.splits import SUSPECT
from kfmodels.kalman.transforms import FARTHEST

SPREAD, SD, Z, SCORE, GAIN, DOF, EFFECTIVE, FAR, CALM, LAST = range(10)
"""What a buffer begins with, `(number, pair)`: what a row said of each pair.

From `LAST` on, where there is one pair, prices of the legs, then how often in succession each has
repeated; `CALM` is how often all have.
"""

PAIRS, DRAWS, COEFFICIENTS, LEVEL, LEARNT, DISCOUNT, SHARE, LIMIT = range(8)
PULL, LEGS, LOGS, LEAST, RETURNS, REQUOTED, FRAME = range(8, 15)
"""What a model begins with; the frame of one pair comes next, then the parameters, then scratch.

The frame has a row of the legs each for centre, unit, the price from which on one has a scale, and how
often a leg may repeat; then the matrix and the shift from inner coefficients to those of the data.
"""

TOP = 2e10
"""Sum of relative variances above which one may be for `mixture` to cap, by its `_WIDEST`."""

MINUTE = 1e-200
"""As `_LEAST` in `mixture`."""
DECLINED, TAKEN, COUNTED = 0, 1, 2
"""What `take` answers; the last is a row with a price that repeats or had repeated."""

_TINY = -650.0  # its exponential is 0 here: products with much less are subnormal, and so very slow
_ROUND = 6755399441055744.0  # 1.5 * 2**52: a small number added to it is rounded to a whole one
_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_HALF_ROOT = 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)


def exponentiate(x: Any, found: Any) -> None:
    """`exp` of each number of a row, to one unit in the last place; 0 below `_TINY`.

    A loop of products that a processor does eight at a time, which it cannot with calls of `math.exp`.
    Source: Cody and Waite (1980), Software Manual for the Elementary Functions, chapter 6.
    """
    bits = found.view(np.int64)
    for k in range(x.size):
        tiny = x[k] < _TINY
        v = min(max(x[k], _TINY), 708.0)
        whole = (v * _LOG2E + _ROUND) - _ROUND
        r = (v - whole * _LN2_HIGH) - whole * _LN2_LOW
        p = 1 / 6227020800 * r + 1 / 479001600
        p = p * r + 1 / 39916800
        p = p * r + 1 / 3628800
        p = p * r + 1 / 362880
        p = p * r + 1 / 40320
        p = p * r + 1 / 5040
        p = p * r + 1 / 720
        p = p * r + 1 / 120
        p = p * r + 1 / 24
        p = p * r + 1 / 6
        p = p * r + 0.5
        found[k] = 1.0 + (r + r * r * p)
        bits[k] = 0 if tiny else bits[k] + (np.int64(whole) << 52)


def take_logs(x: Any) -> None:
    """`log` of each positive finite number of a row, in place, to one unit in the last place.

    Source: log of FreeBSD's msun, after Ng (1992).
    """
    bits = x.view(np.int64)
    for k in range(x.size):
        power = (bits[k] - _HALF_ROOT) >> 52
        bits[k] -= power << 52
        e, f = float(power), x[k] - 1.0
        s = f / (2.0 + f)
        q = s * s
        p = 1.479819860511658591e-01 * q + 1.531383769920937332e-01
        p = p * q + 1.818357216161805012e-01
        p = p * q + 2.222219843214978396e-01
        p = p * q + 2.857142874366239149e-01
        p = p * q + 3.999999999940941908e-01
        p = (p * q + 6.666666666666735130e-01) * q
        half = 0.5 * f * f
        x[k] = e * _LN2_HIGH - ((half - (s * (half + p) + e * _LN2_LOW)) - f)


def weigh_row(logs: Any, weights: Any) -> float:
    """Make weights of `logs` that sum to one, in place; the log of their sum before."""
    top, total = 0.0, 0.0
    exponentiate(logs, weights)
    for k in range(logs.size):
        total += weights[k]
    if not MINUTE < total < 1 / MINUTE:
        top, total = logs[0], 0.0  # beyond 39 sds: factor out the largest
        for k in range(logs.size):
            top = max(top, logs[k])
        for k in range(logs.size):
            weights[k] = logs[k] - top
        exponentiate(weights, weights)
        for k in range(logs.size):
            total += weights[k]
    whole = top + math.log(total)
    # from the logs, which are what is stored, so that a reloaded filter has the same weights to the bit
    for k in range(logs.size):
        logs[k] -= whole
    exponentiate(logs, weights)
    return whole


def split_model(model: Any) -> Any:
    """Parameters `(pair, row, draw)` of a model, scratch `(row, draw)`, and a design `(n,)`.

    The last rows of the parameters are the weights that a share is handed out by, then the log memory
    of each hedge ratio.
    """
    pairs, draws, n = int(model[PAIRS]), int(model[DRAWS]), int(model[COEFFICIENTS])
    begin = FRAME + 4 * int(model[LEGS]) + n * n + n
    rows = n * n + 3 + 2 * int(model[LEARNT]) + n - int(model[LEVEL])
    end = begin + rows * pairs * draws
    parameters = model[begin:end].reshape((pairs, rows, draws))
    return parameters, model[end : model.size - n].reshape((n + 8, draws)), model[model.size - n :]


def split_buffer(model: Any, buffer: Any) -> Any:
    """Numbers `(number, pair)` and draws `(pair, row, draw)` of a buffer.

    The rows of draws are the mean, the covariance on and above its diagonal, degrees of freedom and
    variance where these are learnt, log weights and weights.
    """
    pairs, draws, n = int(model[PAIRS]), int(model[DRAWS]), int(model[COEFFICIENTS])
    head = LAST + 2 * int(model[LEGS])
    rows = n + n * (n + 1) // 2 + 2 * int(model[LEARNT]) + 2
    return (
        buffer[: head * pairs].reshape((head, pairs)),
        buffer[head * pairs :].reshape((pairs, rows, draws)),
    )


def place_of(i: int, j: int, n: int) -> int:
    """The row of a buffer where the covariance of two of `n` coefficients stands."""
    i, j = min(i, j), max(i, j)
    return n + i * n - i * (i - 1) // 2 + j - i


def raise_row(row: Any, power: float, found: Any) -> None:
    """Each number of a row to a power, which is mostly 1 or -1."""
    if power == 1.0:
        for k in range(row.size):
            found[k] = row[k]
    elif power == -1.0:
        for k in range(row.size):
            found[k] = 1 / row[k]
    else:
        for k in range(row.size):
            found[k] = row[k] ** power


def student_factor(dof: float) -> float:
    """Variance of a Student-t over its squared scale."""
    return dof / (dof - 2.0) if dof > 2.0 else np.inf


def pass_pair(
    pair: int, model: Any, parts: Any, old: Any, after: Any, y: float, seen: bool, dt: float
) -> bool:
    """One row of one pair; its design stands in its place. False where it is not for this road."""
    (parameters, scratch, design), (numbers, now) = parts, after
    parameters, old, now = parameters[pair], old[pair], now[pair]
    n, draws = int(model[COEFFICIENTS]), int(model[DRAWS])
    learnt, noise = model[LEARNT] > 0, n * n
    logs_row = now.shape[0] - 2
    joint, squared, error, var = scratch[n], scratch[n + 1], scratch[n + 2], scratch[n + 3]
    dof, spare = scratch[n + 6], scratch[n + 7]
    # the state, the noise and the weights before the row
    top = 0.0
    if model[DISCOUNT] > 0:
        raise_row(parameters[noise + 1], -dt, spare)
    for i in range(n):
        for j in range(i, n):
            at, by = place_of(i, j, n), parameters[i * n + j]
            was, cov = old[at], now[at]
            if model[DISCOUNT] > 0:
                for k in range(draws):
                    cov[k] = was[k] + was[k] * (by[k] * (spare[k] - 1))
                    top += abs(cov[k])
            else:
                for k in range(draws):
                    cov[k] = was[k] + by[k] * dt
                    top += abs(cov[k])
    if not top <= TOP:
        return False
    unit = parameters[noise]
    if learnt:
        unit, was = old[logs_row - 1], old[logs_row - 2]
        raise_row(parameters[noise + 2], dt, dof)
        for k in range(draws):
            dof[k] = max(was[k] * dof[k], min(was[k], LEAST_DOF))
    ahead_logs, ahead = old[logs_row], old[logs_row + 1]
    if model[SHARE] > 0 and draws > 1:
        kept, initial = (1.0 - model[SHARE]) ** dt, parameters[noise + 2 + 2 * int(learnt)]
        new, held = 1.0 - kept, ahead
        ahead_logs, ahead = scratch[n + 4], scratch[n + 5]
        for k in range(draws):
            ahead_logs[k] = max(kept * held[k] + new * initial[k], MINUTE)
        take_logs(ahead_logs)
        exponentiate(ahead_logs, ahead)
    # the forecast: the first and the last coefficient in one pass, as there are mostly no others
    first, by, end = design[0], design[n - 1] if n > 1 else 0.0, n - 1
    for i in range(n):
        leverage, cov, last = scratch[i], now[place_of(i, 0, n)], now[place_of(i, end, n)]
        for k in range(draws):
            leverage[k] = first * cov[k] + by * last[k]
        for j in range(1, end):
            cov, other = now[place_of(i, j, n)], design[j]
            for k in range(draws):
                leverage[k] += cov[k] * other
    was, last = old[0], old[end]
    for k in range(draws):
        error[k] = y - first * was[k] - by * last[k]
    was, last = scratch[0], scratch[end]
    for k in range(draws):
        var[k] = 1.0 + first * was[k] + by * last[k]
    for i in range(1, end):
        leverage, was, other = scratch[i], old[i], design[i]
        for k in range(draws):
            error[k] -= other * was[k]
        for k in range(draws):
            var[k] += other * leverage[k]
    centre, strain, share, average_dof, total, wrong = 0.0, 0.0, 0.0, 0.0, 0.0, 0
    ratio, part = spare, var  # the squared error, and 1, over the variance
    for k in range(draws):
        squared[k], part[k] = unit[k] * var[k], 1.0 / var[k]
    for k in range(draws):
        wrong += not squared[k] > 0
        ratio[k] = error[k] * error[k] / squared[k]
        centre += ahead[k] * error[k]
        strain += ahead[k] * ratio[k]
        share += ahead[k] * part[k]
    if wrong:
        return False
    logs, weights = now[logs_row], now[logs_row + 1]
    if learnt:
        density_of_student(squared, dof, ratio, joint)
        for k in range(draws):
            logs[k] = ahead_logs[k] + joint[k]
        for k in range(draws):
            average_dof += ahead[k] * dof[k]
            away = error[k] - centre
            total += ahead[k] * (away * away + squared[k] * student_factor(dof[k]))
    else:
        for k in range(draws):
            joint[k] = squared[k]
            away = error[k] - centre
            total += ahead[k] * (away * away + squared[k])
        take_logs(joint)
        for k in range(draws):
            logs[k] = ahead_logs[k] - 0.5 * (LOG_2PI + joint[k] + ratio[k])
    score = weigh_row(logs, weights)
    sd = math.sqrt(total)
    if not (math.isfinite(sd + score) and sd > 0):
        return False
    z, far = centre / sd, 0.0
    if seen and strain > min(1.0, model[PULL] * model[PULL] / 4):
        far = pull_of(model, scratch, old, now, ahead, weights, unit, dof)
    numbers[SPREAD, pair], numbers[SD, pair], numbers[Z, pair] = centre, sd, z
    numbers[SCORE, pair], numbers[GAIN, pair] = score, 1.0 - share
    numbers[DOF, pair] = average_dof if learnt else np.inf
    numbers[FAR, pair] = seen and (abs(z) > model[LIMIT] or far > model[PULL])
    # what the row teaches
    if not seen:
        for k in range(draws):
            part[k], logs[k], weights[k] = 0.0, ahead_logs[k], ahead[k]
    for k in range(draws):
        joint[k] = error[k] * part[k]
    for i in range(n):
        was, mean, leverage = old[i], now[i], scratch[i]
        for k in range(draws):
            mean[k] = was[k] + leverage[k] * joint[k]
        for j in range(i, n):
            cov, other = now[place_of(i, j, n)], scratch[j]
            for k in range(draws):
                cov[k] -= leverage[k] * other[k] * part[k]
    if learnt:
        degrees, variance = now[logs_row - 2], now[logs_row - 1]
        floor, one = parameters[noise + 3], 1.0 if seen else 0.0
        for k in range(draws):
            degrees[k] = dof[k] + one
        for k in range(draws):
            variance[k] = (dof[k] * unit[k] + error[k] * joint[k]) / degrees[k]
        for k in range(draws):
            variance[k] = max(variance[k], floor[k])
    square = 0.0
    for k in range(draws):
        square += weights[k] * weights[k]
    numbers[EFFECTIVE, pair] = 1.0 / square
    return True


def density_of_student(squared: Any, dof: Any, ratio: Any, joint: Any) -> None:
    """Log density of each error, of which `ratio` is the square over the `squared` scale.

    The constant is that of `kalman.density.gamma_ratio`. `ratio` is written over.
    """
    for k in range(dof.size):
        joint[k] = 1.0 + ratio[k] / dof[k]
    take_logs(joint)
    for k in range(dof.size):
        joint[k] = -0.5 * (dof[k] + 1.0) * joint[k] - 0.5 * LOG_PI
    for k in range(dof.size):
        a = 0.5 * dof[k]
        w = a + 2.75
        each = 1 / w
        up = (a * each) * ((a + 1.0) * each) * ((a + 2.0) * each)
        down = ((a + 0.5) * each) * ((a + 1.5) * each) * ((a + 2.5) * each)
        power = each * each
        above, below = ABOVE[4], BELOW[4]
        for number in range(3, -1, -1):
            above = above * power + ABOVE[number]
            below = below * power + BELOW[number]
        # one logarithm of all that stands in it
        ratio[k] = dof[k] * squared[k] * (down * down * below) / (up * up * w * above)
    take_logs(ratio)
    for k in range(dof.size):
        joint[k] -= 0.5 * ratio[k]


def pull_of(
    model: Any, scratch: Any, old: Any, now: Any, ahead: Any, weights: Any, unit: Any, dof: Any
) -> float:
    """By how many of its sds the row moves the ratio that it moves farthest; `now` is before it."""
    n = int(model[COEFFICIENTS])
    error, part = scratch[n + 2], scratch[n + 3]
    farthest = 0.0
    for i in range(n - int(model[LEVEL])):
        mean, cov, leverage = old[i], now[place_of(i, i, n)], scratch[i]
        here, there, spread = 0.0, 0.0, 0.0
        for k in range(mean.size):
            here += ahead[k] * mean[k]
            there += weights[k] * (mean[k] + leverage[k] * (error[k] * part[k]))
        for k in range(mean.size):
            scale = unit[k] * student_factor(dof[k]) if model[LEARNT] > 0 else unit[k]
            away = mean[k] - here
            spread += ahead[k] * (away * away + cov[k] * scale)
        farthest = max(farthest, abs(there - here) / math.sqrt(spread))
    return farthest


def advance(
    model: Any, old: Any, now: Any, y: Any, design: Any, seen: Any, given: bool, dt: float
) -> int:
    """One row of all pairs of a block: `y (pair,)`, `design (n, pair)`, `seen` where it is `given`.

    Returns how many pairs are marked as `FAR`, because the row is not for this road.
    """
    parts, before, after = split_model(model), split_buffer(model, old)[1], split_buffer(model, now)
    far = 0
    for pair in range(int(model[PAIRS])):
        for i in range(int(model[COEFFICIENTS])):
            parts[2][i] = design[i, pair]
        taught = not given or seen[pair]
        if not pass_pair(pair, model, parts, before, after, y[pair], taught, dt):
            after[0][FAR, pair] = 1.0
        far += after[0][FAR, pair] > 0
    return far


def take(model: Any, old: Any, now: Any, dt: float) -> int:
    """One row of prices of one pair, which stand in the new buffer; what came of it."""
    legs, n = int(model[LEGS]), int(model[COEFFICIENTS])
    parts, frame = split_model(model), model[FRAME:]
    calm, counted = True, old[CALM] > 0
    for leg in range(legs):
        price, last, repeats = now[LAST + leg], old[LAST + leg], old[LAST + legs + leg]
        if not model[LEAST] < price < FARTHEST:
            return DECLINED
        if price == last:
            now[LAST + legs + leg], counted = repeats + 1, True
        else:
            now[LAST + legs + leg], calm = 0, False
            counted = counted or repeats > 0
        if price > 0 and last > frame[2 * legs + leg]:
            move = price / last
            if not 1 / SUSPECT < move < SUSPECT:
                return DECLINED
    now[CALM] = old[CALM] + 1 if calm else 0.0
    if counted:
        if now[CALM] >= CALM_ROWS:
            return DECLINED
        for leg in range(legs):
            if calm:  # only rows in which another leg moved count
                now[LAST + legs + leg] = old[LAST + legs + leg]
            if now[LAST + legs + leg] >= frame[3 * legs + leg]:
                return DECLINED
    before, after = split_buffer(model, old)[1], split_buffer(model, now)
    design, y = parts[2], 0.0
    for leg in range(legs):
        value = now[LAST + leg]
        if model[LOGS] > 0:
            value = math.log(value)
        elif model[RETURNS] > 0:
            value = math.log(value / old[LAST + leg])
        value = (value - frame[leg]) / frame[legs + leg]
        if leg:
            design[leg - 1] = value
        else:
            y = value
    if model[LEVEL] > 0:
        design[n - 1] = 1.0
    if not pass_pair(0, model, parts, before, after, y, True, dt) or now[FAR] > 0:
        return DECLINED
    if model[REQUOTED] > 0:
        unit = frame[legs]
        now[SPREAD], now[SD] = now[SPREAD] * unit, now[SD] * unit
        now[SCORE] -= math.log(unit)
    return COUNTED if counted else TAKEN


def moments(model: Any, buffer: Any, means: Any, covs: Any) -> None:
    """Mean `(pair, n)` and covariances given the noise and total `(2, pair, n * n)` of a block."""
    every, (models, scratch, _) = split_buffer(model, buffer)[1], split_model(model)
    n, draws = int(model[COEFFICIENTS]), int(model[DRAWS])
    scaled = scratch[n]
    for pair in range(int(model[PAIRS])):
        now, parameters = every[pair], models[pair]
        weights = now[now.shape[0] - 1]
        if model[LEARNT] > 0:
            dof, unit = now[now.shape[0] - 4], now[now.shape[0] - 3]
            for k in range(draws):
                scaled[k] = weights[k] * (unit[k] * student_factor(dof[k]))
        else:
            unit = parameters[n * n]
            for k in range(draws):
                scaled[k] = weights[k] * unit[k]
        for i in range(n):
            mean, centre = now[i], 0.0
            for k in range(draws):
                centre += weights[k] * mean[k]
            means[pair, i] = centre
        for i in range(n):
            mean, centre, away = now[i], means[pair, i], scratch[n + 1]
            for k in range(draws):
                away[k] = weights[k] * (mean[k] - centre)
            for j in range(i, n):
                other, there, cov = now[j], means[pair, j], now[place_of(i, j, n)]
                within, between = 0.0, 0.0
                for k in range(draws):
                    within += scaled[k] * cov[k]
                    between += away[k] * (other[k] - there)
                for at in (i * n + j, j * n + i):
                    covs[0, pair, at], covs[1, pair, at] = within, within + between


def summarise(model: Any, buffer: Any, found: Any) -> None:
    """Mean and sds given the noise and total, `(3 * n,)`, of one pair in the units of its data; then
    the memory of each hedge ratio, and the share of the weights that has moved."""
    n, legs = int(model[COEFFICIENTS]), int(model[LEGS])
    means, covs = np.empty((1, n)), np.empty((2, 1, n * n))
    moments(model, buffer, means, covs)
    matrix = model[FRAME + 4 * legs : FRAME + 4 * legs + n * n].reshape((n, n))
    shift = model[FRAME + 4 * legs + n * n :]
    for i in range(n):
        mean, given, total = shift[i], 0.0, 0.0
        for j in range(n):
            mean += matrix[i, j] * means[0, j]
            for m in range(n):
                by = matrix[i, j] * matrix[i, m]
                given += by * covs[0, 0, j * n + m]
                total += by * covs[1, 0, j * n + m]
        found[i], found[n + i], found[2 * n + i] = mean, math.sqrt(given), math.sqrt(total)
    now, parameters = split_buffer(model, buffer)[1][0], split_model(model)[0][0]
    weights, hedges, moved = now[now.shape[0] - 1], n - int(model[LEVEL]), 0.0
    first = parameters.shape[0] - hedges
    initial = parameters[first - 1]
    for k in range(weights.size):
        moved += abs(weights[k] - initial[k])
    for hedge in range(hedges):
        memory, mean = parameters[first + hedge], 0.0
        for k in range(weights.size):
            mean += weights[k] * memory[k]
        mean = math.exp(mean)
        found[3 * n + hedge] = np.inf if mean > ENDLESS else mean
    found[3 * n + hedges] = 0.5 * moved
