"""The kernel for CUDA devices: what it takes, and that it compiles for one, without a device.

What it computes is compared with the steps in `test_likelihood`. The benchmark of the device, which
needs one to mean something, is run here on a few pairs.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh
from numpy.testing import assert_allclose

from kfmodels.kalman import kernel
from kfmodels.kalman.likelihood import log_likelihood
from kfmodels.kalman.noise import FlooredVariance
from tests.benchmarks import gpu
from tests.kalman.test_added_laws import Reverting
from tests.kalman.test_likelihood import DRAWS, NOISES, PAIRS, case, quick

pytestmark = [
    pytest.mark.usefixtures("x64"),
    pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated"),
]

DEVICE = AbstractDevice(device_kind="NVIDIA H100", num_cores=None, platform="gpu")

CALL = "__gpu$xla.gpu.triton"
"""Stands in a program for a kernel that Triton compiles."""


def lowered(function: Any, *arguments: Any) -> str:
    """The program as a CUDA device would get it."""
    with use_abstract_mesh(AbstractMesh((1,), ("one",), abstract_device=DEVICE)):
        return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if JAX here had one; nothing is run."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


@pytest.mark.variants
@pytest.mark.parametrize("n", [1, 2, 3, kernel.MOST_COEFFICIENTS])
@pytest.mark.parametrize("drift", ["walk", "discount", "reversion"])
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("noise", NOISES)
def test_it_lowers_for_cuda(noise: str, timed: bool, drift: str, n: int):
    model = case(31, noise, timed=timed, drift=drift, n=n)
    assert CALL in lowered(kernel.log_likelihood, *model)


def test_it_lowers_in_single_precision():
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), case(31, "discounted", timed=True))
    assert CALL in lowered(kernel.log_likelihood, *single)


def test_several_blocks_of_lanes_and_rows_unlike_each_other():
    """The same as the scan, where rows differ in noise and in the time that moves the coefficients."""
    rows, *laws = case(31, "discounted", timed=True, draws=kernel.LANES + 3)
    rng = np.random.default_rng(1)
    extra, factor = rng.exponential(1.0, (2, *rows.y.shape))
    rows = rows._replace(extra=jnp.asarray(extra), noise=jnp.asarray(factor))
    found = quick(partial(kernel.log_likelihood, interpret=True))(rows, *laws)
    assert found.shape == (PAIRS, kernel.LANES + 3)
    assert_allclose(found, quick(log_likelihood)(rows, *laws), rtol=1e-11)


def test_a_gpu_runs_it_where_it_takes_the_model(on_a_gpu: None):
    rows, start, drift, noise = case(9, "discounted", timed=False)
    assert CALL in lowered(log_likelihood, rows, start, drift, noise)
    own = rows._replace(y=jnp.broadcast_to(rows.y, (9, PAIRS, DRAWS)))  # each draw its own series
    pulled = Reverting(jnp.full((2, 1, 1), 0.9), drift.noise)
    floored = FlooredVariance(*noise, least=jnp.ones((1, 1)))
    for other in (
        (own, start, drift, noise),
        (rows, start, pulled, noise),
        (rows, start, drift, floored),
    ):
        assert CALL not in lowered(log_likelihood, *other)


def test_more_rows_than_32_bits_can_count_go_to_the_scan():
    rows, *laws = case(9, "constant", timed=False)
    assert kernel.takes(rows, *laws)
    long = rows._replace(y=jax.ShapeDtypeStruct((10**6, 1000, 1), float))
    assert not kernel.takes(long, *laws)


def test_a_gradient_is_that_of_the_scan(on_a_gpu: None):
    total, var = likelihood_of_var()
    assert CALL in lowered(total, var)
    assert CALL not in lowered(jax.grad(total), var)


def test_a_program_that_has_the_kernel_runs_on_the_cpu_too(monkeypatch: pytest.MonkeyPatch):
    """With its gradients: beside a GPU, refits run there."""
    found = []
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda name=backend: name)
        total, var = (
            likelihood_of_var()
        )  # a new function, or JAX would take the program of the first
        found.append(jax.jit(jax.value_and_grad(total))(var))
    (value, slope), (same, slope_too) = found
    assert_allclose(same, value, rtol=1e-12)
    assert_allclose(slope_too, slope, rtol=1e-12)


def likelihood_of_var() -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """The sum of log likelihoods as a function of the observation variance, and a place."""
    rows, start, drift, noise = case(9, "constant", timed=False)

    def total(var: jax.Array) -> jax.Array:
        return log_likelihood(rows, start, drift, noise._replace(var=var)).sum()

    return total, noise.var


# -- the benchmark ---------------------------------------------------------------------------------


def test_a_device_is_busy_where_any_of_its_streams_is():
    assert gpu.covered([(5.0, 6.0), (0.0, 4.0), (1.0, 2.0), (3.0, 5.0), (8.0, 9.0)]) == 7
    assert gpu.covered([]) == 0


def test_the_benchmark_says_that_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    found = gpu.measure(["--out", str(tmp_path / "gpu.json")])
    assert "JAX sees no GPU here" in found.failed
    assert not found.tables
