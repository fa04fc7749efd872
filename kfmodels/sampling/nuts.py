"""NUTS, the reference for every other method, and the refit of pairs whose weights failed."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer.hmc import HMCState, hmc
from numpyro.infer.util import potential_energy

from kfmodels._types import ArrayLike, Float, Shaped, UInt32
from kfmodels._types import JaxArray as Array
from kfmodels.sampling import prior as priors
from kfmodels.sampling import ridge
from kfmodels.sampling.amis import Weighted
from kfmodels.sampling.devices import compile_little
from kfmodels.sampling.importance import layout_of
from kfmodels.sampling.posterior import Draws, Model, constrain, draw_prior, single_draw
from kfmodels.words.progress import wait_for

_BLOCK = 100
"""Iterations of one compiled call; between two of them progress is told, and Ctrl-C heard."""

MAX_RHAT, MIN_ESS = 1.01, 400
"""Limits for chains that count as converged: Vehtari et al. (2021), Bayesian Analysis 16."""

MAX_DIVERGING = 0.001
"""Share of divergent draws from which on a fit warns."""

MAX_PARETO_K = 0.7
"""Beyond it importance weights have no reliable mean: Vehtari et al. (2024), JMLR 25."""

MIN_WEIGHTED = 200
"""Effective draws that importance weights must leave: a mean is then known to 0.07 sd."""


@dataclass(frozen=True)
class NUTS:
    """The No-U-Turn sampler of NumPyro, chains in parallel threads, forward-mode gradients.

    Args:
        warmup: iterations that adapt the step size and a dense mass matrix, and are then dropped.
        draws: kept iterations per chain.
        chains: number of chains.
        target_accept: acceptance that the step size aims at; raise it when draws diverge.

    Raises:
        ValueError: a count that is not positive, or target_accept outside (0, 1).

    Source: Hoffman and Gelman (2014), The No-U-Turn sampler, JMLR 15; Phan, Pradhan and Jankowiak
    (2019), Composable effects in NumPyro, arXiv:1912.11554.
    """

    warmup: int = 1000
    draws: int = 1000
    chains: int = 4
    target_accept: float = 0.9

    def __post_init__(self) -> None:
        for name in ("warmup", "draws", "chains"):
            given = getattr(self, name)
            if not (isinstance(given, Integral) and int(given) >= 1):
                raise ValueError(f"NUTS: {name} must be at least 1, not {given!r}")
        if not (isinstance(self.target_accept, Real) and 0 < self.target_accept < 1):
            raise ValueError(f"NUTS: target_accept lies in (0, 1), not {self.target_accept!r}")

    def run(self, model: Model, inputs: object, seed: int, progress: bool) -> Draws:
        """Sample the posterior of any NumPyro model called with `inputs`."""
        blocks = _blocks(self.warmup) + _blocks(self.draws)
        workers = min(self.chains, os.cpu_count() or 1)
        total = self.chains * (self.warmup + self.draws)
        # the pool outside, so that Ctrl-C stops its chains before it waits for them; vectorised chains
        # would wait for the deepest of their trees at every draw
        with (
            ThreadPoolExecutor(workers) as pool,
            wait_for("sampling the noise", total, shown=progress) as waiting,
        ):
            z, prior = draw_prior(model, inputs, seed)
            if not z:
                return single_draw(prior)
            chain = partial(self._chain, model, inputs, seed, z, blocks, waiting.advance)
            chains = list(pool.map(chain, range(self.chains)))
        drawn, stats = jax.tree.map(lambda *leaf: np.stack(leaf), *chains)
        with jax.enable_x64(True):
            return Draws(jax.device_get(_constrain(drawn, inputs, model=model)), stats, prior)

    def _chain(
        self,
        model: Model,
        inputs: object,
        seed: int,
        prior: dict[str, Float[np.ndarray, "draw ..."]],
        blocks: list[int],
        advance: Callable[[int], object],
        number: int,
    ) -> tuple[dict[str, Float[np.ndarray, "kept ..."]], dict[str, Shaped[np.ndarray, "kept"]]]:
        # enable_x64 is a property of the thread: each chain enters it for itself
        with jax.enable_x64(True):
            z = _near_prior(prior, np.random.default_rng([seed, number]))
            key = np.array([seed, number], np.uint32)
            state = _start(z, key, inputs, model=model, method=self)
            parts = []
            for iterations in blocks:
                state, block = _advance(state, inputs, model=model, method=self, length=iterations)
                parts.append(jax.device_get(block))
                advance(iterations)
        return jax.tree.map(lambda *leaf: np.concatenate(leaf)[self.warmup :], *parts)


def _blocks(iterations: int) -> list[int]:
    full, rest = divmod(iterations, _BLOCK)
    return [_BLOCK] * full + ([rest] if rest else [])


def _sampler(model: Model, inputs: object, method: NUTS):
    """NumPyro's functional NUTS on the model's potential energy, in straightened coordinates."""
    bent = ridge.bent_sites(model)

    def energy(z: dict[str, Float[Array, "..."]]) -> Float[Array, ""]:
        return jnp.asarray(potential_energy(model, (inputs,), {}, ridge.bend(z, bent)))

    start, move = hmc(energy, algo="NUTS")
    begin = partial(
        start,
        num_warmup=method.warmup,
        target_accept_prob=method.target_accept,
        dense_mass=True,
        # with two or three parameters it costs a third to a half of reverse mode
        forward_mode_differentiation=True,
    )
    return begin, move


@compile_little("model", "method")
def _start(
    z: dict[str, Float[Array, "..."]],
    key: UInt32[Array, "2"],
    inputs: object,
    *,
    model: Model,
    method: NUTS,
) -> HMCState:
    """First state of a chain at the unconstrained `z`."""
    begin, _ = _sampler(model, inputs, method)
    z = ridge.straighten(z, ridge.bent_sites(model))
    return begin(z, rng_key=jax.random.wrap_key_data(key))


@partial(jax.jit, static_argnames=("model", "method", "length"))
def _advance(
    state: HMCState, inputs: object, *, model: Model, method: NUTS, length: int
) -> tuple[
    HMCState, tuple[dict[str, Float[Array, "{length} ..."]], dict[str, Shaped[Array, "{length}"]]]
]:
    begin, move = _sampler(model, inputs, method)
    # `move` works only after a `begin`; XLA drops the arithmetic, whose result is not used
    begin(state.z, rng_key=state.rng_key)

    def body(state: HMCState, _: None):
        state = move(state)
        stats = {
            "diverging": state.diverging,
            "n_steps": state.num_steps,
            "lp": -state.potential_energy,
            "acceptance_rate": state.accept_prob,
            "step_size": state.adapt_state.step_size,
        }
        return state, (state.z, stats)

    return jax.lax.scan(body, state, None, length=length)


def _near_prior(
    prior: dict[str, Float[np.ndarray, "draw ..."]], random: np.random.Generator
) -> dict[str, Float[ArrayLike, "..."]]:
    """A start within one prior sd of the prior mean, from draws on the unconstrained scale."""
    return {
        name: z.mean(0) + z.std(0) * random.uniform(-1, 1, z.shape[1:]) for name, z in prior.items()
    }


@compile_little("model")
def _constrain(
    sites: dict[str, Float[Array, "chain draw ..."]], inputs: object, *, model: Model
) -> dict[str, Float[Array, "chain draw ..."]]:
    """Sampled and deterministic sites of all draws, on their own scale."""
    one = partial(constrain, inputs=inputs, model=model)
    return jax.vmap(jax.vmap(one))(sites)


def weights_failed(found: Weighted) -> list[str]:
    """By pair, what is wrong with its importance weights: "" where nothing is.

    A pair fails above a Pareto k-hat of 0.7 or below 200 effective draws.
    """
    notes = []
    for k, ess in zip(found.pareto_k, found.effective_draws, strict=True):
        fine = k <= MAX_PARETO_K and ess >= MIN_WEIGHTED
        first = f"{ess:.0f} effective draws" if k <= MAX_PARETO_K else f"Pareto k-hat {k:.2f}"
        notes.append("" if fine else first)
    return notes


def refit_failed(
    found: Weighted, inputs: object, model: Model, seeds: UInt32[np.ndarray, "pair"]
) -> tuple[Weighted, list[str]]:
    """Sample by NUTS pairs whose importance weights failed; and by pair what is wrong even then.

    Evidence and k-hat stay those of the weights. `seeds` are the seeds of NUTS.
    """
    found, failed = jax.tree.map(np.array, found), weights_failed(found)
    # a GPU takes minutes for the scans of a single pair
    cpu = jax.local_devices(backend="cpu")[0]
    notes = []
    for number, first in enumerate(failed):
        alone = jax.device_put(jax.tree.map(lambda leaf, n=number: leaf[n], inputs), cpu)
        points, rhat, drawn = _draw_by_nuts(alone, model, int(seeds[number]))
        count = found.points.shape[1]
        found.points[number] = points[(np.arange(count) * len(points)) // count]
        found.log_weights[number] = -np.log(count)
        found.effective_draws[number] = drawn
        fine = rhat <= MAX_RHAT and drawn >= MIN_ESS
        again = f"R-hat {rhat:.2f}, {drawn:.0f} effective draws"
        notes.append("" if fine else f"{first}, after NUTS refit {again}")
    return found, notes


def _draw_by_nuts(
    inputs: object, model: Model, seed: int
) -> tuple[Float[np.ndarray, "draw site"], float, float]:
    """Unconstrained, straightened points in the order of the draws; R-hat and effective draws."""
    drawn = NUTS().run(model, inputs, seed, False)
    pairs = jax.tree.map(lambda leaf: np.asarray(leaf)[None], inputs)
    layout = layout_of(pairs, model)
    free = {name: priors.to_free(name, drawn.sites[name]) for name in layout.shapes}
    straight = jax.vmap(jax.vmap(partial(ridge.straighten, bent=model.bent)))(free)
    points = np.asarray(layout.pack(straight))
    rhat = float(np.max(split_gelman_rubin(points)))
    ess = float(np.min(effective_sample_size(points)))
    return points.swapaxes(0, 1).reshape(-1, points.shape[-1]), rhat, ess
