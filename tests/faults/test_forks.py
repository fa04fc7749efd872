"""A fit in a process that was forked after JAX had run is refused in words, where it would hang."""

import os

import pytest

from tests.processes import python

FORKED = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import jax.numpy as jnp
from kfmodels import HedgeData, datasets
from kfmodels.fitting.fit import fit
if __name__ == "__main__":
    data = HedgeData.from_prices(
        datasets.stocks()[["KO", "PEP"]].loc["2015"], target="KO", hedges=["PEP"]
    )
    jnp.zeros(3).sum().block_until_ready()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            pool.submit(fit, data, progress=False).result(60)
        except ValueError as error:
            print(error)
"""


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_fit_in_a_forked_pool_says_so(tmp_path):
    program = tmp_path / "forked.py"
    program.write_text(FORKED)
    printed, noted = python(program).communicate(timeout=120)
    assert "forked from one in which JAX had run" in printed, noted
    assert 'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))' in printed
