"""A stand-in for the fits, and a program that runs `fit_many` with it, for tests that kill programs.

The program and its workers load neither JAX nor NumPyro: a kill then costs a second, not ten. What
the stand-in does is set in the environment, which workers inherit.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd


def fit_chunk(pairs, numbers, model, method, seed, *, size, refit):
    """Arrays and statuses that depend on the pair and the seed; `FAKE_*` say what goes wrong where."""
    chunk = numbers[0] // size
    if log := os.environ.get("FAKE_LOG"):
        with Path(log).open("a") as file:
            file.write(f"{chunk}\n")
    if chunk in told("FAKE_BLOCKS"):
        end, go = time.monotonic() + 60, Path(os.environ["FAKE_GO"])
        while not go.exists() and time.monotonic() < end:
            time.sleep(0.02)
    once = Path(os.environ.get("FAKE_ONCE", os.devnull))
    if chunk in told("FAKE_DIES_ONCE") and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if chunk in told("FAKE_DIES"):
        os.kill(os.getpid(), signal.SIGKILL)
    if chunk in told("FAKE_RAISES"):
        raise IndexError(f"chunk {chunk} is wrong")
    names = [pairs.names[number] for number in numbers]
    last = [pairs.prices[pairs.pairs[number][0]].iloc[-1] for number in numbers]
    draws = 50_000 if chunk in told("FAKE_LARGE") else 20
    points = [np.random.default_rng([seed, *name.encode()]).normal(size=draws) for name in names]
    fine = ("doubted", "k-hat") if chunk in told("FAKE_DOUBTS") else ("ok", "")
    verdicts = [fine if price > 0 else ("unusable", "no price") for price in last]
    return {"points": np.stack(points), "last_y": np.array(last)}, verdicts


def refit_chunk(pairs, numbers, arrays, verdicts, model, seed, *, size):
    """The same arrays; no pair is doubted any more; `FAKE_STUCK` says where it fails."""
    if log := os.environ.get("FAKE_LOG"):
        with Path(log).open("a") as file:
            file.write(f"{100 + numbers[0] // size}\n")
    if numbers[0] // size in told("FAKE_STUCK"):
        raise IndexError("no chain moves")
    return arrays, [("ok", "") if status == "doubted" else (status, "") for status, _ in verdicts]


def told(name: str) -> set[int]:
    """Numbers of chunks in an environment variable."""
    return {int(word) for word in os.environ.get(name, "").split()}


def prices() -> pd.DataFrame:
    """Five tickers, forty business days, one gap at the end."""
    moves = np.random.default_rng(3).normal(0, 0.01, (40, 5))
    table = pd.DataFrame(
        100 * np.exp(moves.cumsum(0)), pd.bdate_range("2024-01-01", periods=40), list("ABCDE")
    )
    table.iloc[-1, 4] = np.nan
    return table


class Model:
    """Any model will do."""

    def inputs_of_pairs(self, pairs):
        """What says that a model is one of pairs."""
        return None, None

    def check_transform(self, transform, target):
        """Any transform will do."""


def layout_of(inputs, model):
    """What says that there is something to infer."""


@dataclass(frozen=True)
class Method:
    """Any method will do."""

    draws: int = 1


class Board:
    """What `fit_many` hands to the board."""

    def __init__(self, path, transient, model):
        self.path, self.transient, self.model = path, transient, model

    @classmethod
    def open(cls, path, transient, model):
        """As `HedgeBoard.open`."""
        return cls(path, transient, model)


STAND_INS = {
    "batch.board": {"HedgeBoard": Board},
    "batch.chunk": {"fit_chunk": fit_chunk, "refit_chunk": refit_chunk, "LEAST": 16},
    "sampling.importance": {"ImportanceSampling": Method, "layout_of": layout_of},
    "model.defaults": {"bars_of_day": len, "count_bars": lambda model, _: model},
    "model.saved": {"to_json": lambda model: "{}"},
    "model.hedge_ratio": {"HedgeRatioModel": Model, "hedge_ratio_model": Model},
}
"""What takes whose place, by module of kfmodels."""


def run(store: Path, **options):
    """`fit_many` of the twenty pairs of `prices`, two a chunk: ten chunks."""
    from kfmodels.batch.fit_many import fit_many
    from kfmodels.data.hedge_data import HedgeData

    options = {"method": Method(), "chunk_size": 2, "seed": 7, "progress": False} | options
    return fit_many(HedgeData.all_pairs(prices()), Model(), store=store, **options)


def main(how: str, store: Path) -> None:
    """Run and print what came of it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    outcome: dict = {}
    try:
        if how == "threads":
            outcome = run(store).transient
        elif how == "processes":
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                outcome = run(store, executor=pool).transient
        else:
            outcome = with_dask(store)
    except (OSError, ValueError) as error:
        outcome = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(outcome))  # noqa: T201


def with_dask(store: Path) -> dict:
    """On a cluster of two worker processes, in which one death of a worker is one too many."""
    import dask
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.multiprocessing-method": "forkserver",
    }
    with (
        dask.config.set(settings),
        LocalCluster(2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        return run(store, executor=client.get_executor()).transient


if __name__ in ("__main__", "__mp_main__"):
    os.cpu_count = lambda: 2
    sys.modules["jax"] = ModuleType("jax")
    sys.modules["jax"].__dict__["default_backend"] = lambda: "cpu"
    for module, content in STAND_INS.items():
        sys.modules[f"kfmodels.{module}"] = ModuleType(module)
        sys.modules[f"kfmodels.{module}"].__dict__.update(content)

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
