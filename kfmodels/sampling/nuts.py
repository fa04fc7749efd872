"""`fit`: infer the noise of one pair; and NUTS, the reference of every other method."""

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from numpyro.infer.hmc import hmc
from numpyro.infer.util import potential_energy
from tqdm import tqdm

from kfmodels.data.hedge_data import HedgeData
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.model.hedge_ratio import HedgeRatioModel, hedge_ratio_model
from kfmodels.sampling import ridge
from kfmodels.sampling.importance import ImportanceSampling
from kfmodels.sampling.posterior import Draws, certain, constrained, from_prior

Model = Callable[..., Any]

_BLOCK = 100
"""Iterations of one compiled call; between two of them the progress bar moves."""


@dataclass(frozen=True)
class NUTS:
    """The No-U-Turn sampler of NumPyro, chains in parallel threads, forward-mode gradients.

    Two or three parameters: a forward-mode gradient costs a third to a half of a reverse one, and
    separate chains beat vectorised ones, which wait for the deepest tree at every draw.

    Args:
        warmup: iterations that adapt step size and (dense) mass matrix, then are dropped.
        draws: kept iterations per chain.
        chains: number of chains.
        target_accept: aim of the step size; raise it when draws diverge.

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
            if not getattr(self, name) >= 1:
                raise ValueError(f"NUTS: {name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.target_accept < 1:
            raise ValueError(f"NUTS: target_accept lies in (0, 1), not {self.target_accept}")

    def run(self, model: Model, inputs: Any, seed: int, progress: bool) -> Draws:
        """Sample the posterior of any NumPyro model called with `inputs`."""
        z, prior = from_prior(model, inputs, seed)
        if not z:
            return certain(prior)
        blocks = _blocks(self.warmup) + _blocks(self.draws)
        workers = min(self.chains, os.cpu_count() or 1)
        bar = tqdm(
            total=self.chains * (self.warmup + self.draws),
            desc="sampling the noise",
            unit="draw",
            disable=None if progress else True,
        )
        with bar, ThreadPoolExecutor(workers) as pool:
            chain = partial(self._chain, model, inputs, seed, z, blocks, bar.update)
            chains = list(pool.map(chain, range(self.chains)))
        drawn, stats = jax.tree.map(lambda *leaf: np.stack(leaf), *chains)
        with jax.enable_x64(True):
            return Draws(jax.device_get(_constrain(drawn, inputs, model=model)), stats, prior)

    def _chain(
        self,
        model: Model,
        inputs: Any,
        seed: int,
        prior: dict[str, np.ndarray],
        blocks: list[int],
        advance: Callable[[int], Any],
        number: int,
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
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


def _sampler(model: Model, inputs: Any, method: NUTS):
    """NumPyro's functional NUTS on the model's potential energy, in straightened coordinates."""
    bent = getattr(model, "bent", frozenset())

    def energy(z: Any) -> Any:
        return potential_energy(model, (inputs,), {}, ridge.bend(z, bent))

    start, move = hmc(energy, algo="NUTS")
    begin = partial(
        start,
        num_warmup=method.warmup,
        target_accept_prob=method.target_accept,
        dense_mass=True,
        forward_mode_differentiation=True,
    )
    return begin, move


@partial(jax.jit, static_argnames=("model", "method"))
def _start(z: Any, key: Any, inputs: Any, *, model: Model, method: NUTS) -> Any:
    """First state of a chain at the unconstrained `z`."""
    begin, _ = _sampler(model, inputs, method)
    z = ridge.straight(z, getattr(model, "bent", frozenset()))
    return begin(z, rng_key=jax.random.wrap_key_data(key))


@partial(jax.jit, static_argnames=("model", "method", "length"))
def _advance(state: Any, inputs: Any, *, model: Model, method: NUTS, length: int) -> Any:
    begin, move = _sampler(model, inputs, method)
    begin(state.z, rng_key=state.rng_key)  # sets up `move`; its arithmetic is never run

    def body(state: Any, _: None):
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


def _near_prior(prior: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, Any]:
    """A start within one prior sd of the prior mean, from draws on the unconstrained scale."""
    return {
        name: z.mean(0) + z.std(0) * random.uniform(-1, 1, z.shape[1:]) for name, z in prior.items()
    }


@partial(jax.jit, static_argnames=("model",))
def _constrain(sites: Any, inputs: Any, *, model: Model) -> dict[str, Any]:
    """Sampled and deterministic sites of all draws, on their own scale."""

    one = partial(constrained, inputs=inputs, model=model)
    return jax.vmap(jax.vmap(one))(sites)


def fit(
    data: HedgeData,
    model: HedgeRatioModel | None = None,
    *,
    method: NUTS | ImportanceSampling = NUTS(),
    seed: int = 0,
    progress: bool = True,
) -> HedgeFit:
    r"""Infer how fast a hedge ratio moves and how noisy it is to watch.

    $$p(\delta, v \mid y) \propto p(\delta, v) \prod_t p(y_t \mid y_{<t}, \delta, v)$$

    Args:
        data: the training rows; cut them with `.before(date)`.
        model: from `hedge_ratio_model(...)`; its defaults where None.
        method: how to infer; `NUTS(...)`, or `ImportanceSampling(...)`, which is quicker and needs as
            little as a second on rows of a length it has seen.
        seed: the same seed gives the same draws on the same machine.
        progress: a bar on stderr, where that is a terminal.

    Returns:
        A `HedgeFit`, in the units of the data.

    Raises:
        ValueError: the data do not allow a fit; the message says why.

    Warns:
        UserWarning: once, with a remedy, when R-hat, effective sample size or divergences say that
            the draws may not represent the posterior.

    Source: the likelihood is the prediction error decomposition, Durbin and Koopman (2012), 7.2.

    Example:
        >>> from kfmodels import HedgeData, NUTS, datasets, fit
        >>> data = HedgeData.from_prices(datasets.stocks(), target="AAPL", hedges=["SPX"])
        >>> pair = fit(data.after("2019-01-01").before("2020-01-01"), progress=False)
        >>> list(pair.summary().index)
        ['SPX', 'alpha', 'noise']
    """
    if not isinstance(data, HedgeData):
        raise ValueError(f"fit takes HedgeData, made by HedgeData.from_prices, not {type(data)}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is a whole number from 0 to 2**32 - 1, not {seed}")
    model = hedge_ratio_model() if model is None else model
    inputs = model.inputs(data)
    draws = method.run(model, inputs, seed, progress)
    result = HedgeFit.from_draws(data, model, inputs, draws)
    problem = _problem(result)
    if problem:
        warnings.warn(problem, stacklevel=2)
    return result


def _problem(result: HedgeFit) -> str:
    """One sentence that names what is wrong with the draws and what to do; empty if nothing is."""
    faults = result.faults()
    if not faults:
        return ""
    cure = "method=NUTS(warmup=2000, draws=4000) (--draws 4000 in the shell)"
    if any("diverged" in fault for fault in faults):
        cure = "method=NUTS(target_accept=0.99)"
    if any("k-hat" in fault or "weights" in fault for fault in faults):
        cure = "method=NUTS()"
    return (
        f"the noise of {result.target} on {', '.join(result.hedges)} may be sampled badly: "
        f"{', '.join(faults)}. Refit with {cure}; if it stays, a tighter prior on delta (Memory)."
    )
