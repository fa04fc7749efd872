"""A fit in a process that was forked after JAX had run is refused in words, where it would hang."""

import os

import pytest

from tests.processes import python

FORKED = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import sys
import jax.numpy as jnp
from kfmodels import HedgeData, datasets
from kfmodels.batch.fit_many import fit_many
from kfmodels.fitting.fit import fit
if __name__ == "__main__":
    table = datasets.stocks()[["KO", "PEP"]].loc["2015"]
    work, data = {
        "fit": (fit, HedgeData.from_prices(table, target="KO", hedges=["PEP"])),
        "fit_many": (fit_many, HedgeData.all_pairs(table)),
    }[sys.argv[1]]
    jnp.zeros(3).sum().block_until_ready()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            pool.submit(work, data, progress=False).result(60)
        except ValueError as error:
            print(error)
"""


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("work", ["fit", "fit_many"])
def test_a_fit_in_a_forked_pool_says_so(tmp_path, work):
    program = tmp_path / "forked.py"
    program.write_text(FORKED)
    printed, noted = python(program, work).communicate(timeout=120)
    assert "forked from one in which JAX had run" in printed, noted
    assert 'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))' in printed
