"""`fit_many` where things go wrong: kills, crashes, a full disk, Ctrl-C, another job, another driver.

Most tests put a quick stand-in in the place of the fits (`batch_script`); the last ones are real.
"""

import gc
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from errno import EIO
from pathlib import Path

import numpyro.distributions as dist
import pandas as pd
import pytest

from kfmodels import NUTS, Discounted, HedgeData, Memory, hedge_ratio_model
from kfmodels.batch import fit_many as batch
from kfmodels.batch.fit_many import fit_many
from kfmodels.batch.store import CHUNKS, Store, is_store
from kfmodels.data import datasets
from kfmodels.sampling.importance import ImportanceSampling
from tests import batch_script
from tests.batch_script import prices

ROOT = Path(__file__).parents[2]
REAL = batch.fit_chunk


def lighten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the fits."""
    for content in batch_script.STAND_INS.values():
        for name, value in content.items():
            where = batch.saved if name == "to_json" else batch
            monkeypatch.setattr(where, name, value)


@pytest.fixture(autouse=True)
def light(monkeypatch, tmp_path):
    """Stand-ins for the fits, which count their calls."""
    lighten(monkeypatch)
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "calls"))
    monkeypatch.setenv("FAKE_GO", str(tmp_path / "go"))


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def calls(tmp_path):
    """How often each chunk has been begun since the last question."""

    def since() -> Counter:
        log = tmp_path / "calls"
        found = Counter(map(int, log.read_text().split())) if log.exists() else Counter()
        log.write_text("")
        return found

    return since


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """The chunk files of a run that nothing interrupts."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        lighten(monkeypatch)
        return chunk_files(batch_script.run(tmp_path_factory.mktemp("whole")).path)


def chunk_files(store: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (store / CHUNKS).iterdir()}


def listed(store: Path) -> list[int]:
    return sorted(Store.open(store).records())


def statuses(board) -> dict[str, str]:
    """What the board is told of every pair."""
    records = Store.open(board.path).records().values()
    stored = [zip(record.names, record.statuses, strict=True) for record in records]
    return {name: status for some in stored for name, status in some} | board.transient


def began(how: str, store: Path, **environment: str) -> subprocess.Popen:
    """The program of `batch_script`, with the stand-in told what is to go wrong."""
    return subprocess.Popen(
        [sys.executable, ROOT / "tests" / "batch_script.py", how, store],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


def until(condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "nothing came of it in two minutes"
        time.sleep(0.02)


def waits_for(store: Path, count: int):
    """Whether so many chunks are finished."""
    return lambda: is_store(store) and len(Store.open(store).records()) >= count


# -- one process -----------------------------------------------------------------------------------


def test_the_same_call_again_redoes_nothing(store, calls, whole):
    board = batch_script.run(store)
    assert calls() == Counter(range(10))
    assert (board.path, board.transient) == (store, {})
    assert chunk_files(store) == whole
    records = Store.open(store).records()
    batch_script.run(store, chunk_size=None)
    assert not calls()
    assert Store.open(store).records() == records


def test_statuses_reach_the_board(store):
    found = statuses(batch_script.run(store))
    assert set(found) == set(HedgeData.all_pairs(prices()).names)
    assert found["E/A"] == "no price"
    assert found["A/E"] == "ok"


def test_without_a_store_the_folder_lives_as_long_as_the_board():
    board = batch_script.run(None)
    path = board.path
    assert len(chunk_files(path)) == 10
    del board
    gc.collect()
    assert not path.exists()


def test_a_damaged_chunk_is_done_again_and_no_other(store, calls, whole, monkeypatch):
    batch_script.run(store)
    calls()
    first, second = sorted(chunk_files(store))[3:5]
    (store / CHUNKS / first).write_bytes(whole[first][:-1])
    (store / CHUNKS / second).unlink()
    monkeypatch.setenv("FAKE_RAISES", "4")
    board = batch_script.run(store)
    assert statuses(board)["C/A"] == "failed: IndexError: chunk 4 is wrong"  # not as listed before
    assert calls() == Counter([3, 4])
    monkeypatch.delenv("FAKE_RAISES")
    batch_script.run(store)
    assert calls() == Counter([4])
    assert chunk_files(store) == whole
    batch_script.run(store)
    assert not calls()


def test_a_bug_in_one_chunk_costs_that_chunk_and_is_tried_again(store, calls, whole, monkeypatch):
    monkeypatch.setenv("FAKE_RAISES", "2 9")
    board = batch_script.run(store)
    assert board.transient == {
        "B/A": "failed: IndexError: chunk 2 is wrong",
        "B/C": "failed: IndexError: chunk 2 is wrong",
        "E/C": "failed: IndexError: chunk 9 is wrong",
        "E/D": "failed: IndexError: chunk 9 is wrong",
    }
    assert listed(store) == [0, 1, 3, 4, 5, 6, 7, 8]
    calls()
    monkeypatch.delenv("FAKE_RAISES")
    assert batch_script.run(store).transient == {}
    assert calls() == Counter([2, 9])
    assert chunk_files(store) == whole


def test_the_traceback_of_a_bug_is_logged(store, monkeypatch, caplog):
    monkeypatch.setenv("FAKE_RAISES", "2")
    batch_script.run(store)
    (record,) = caplog.records
    assert record.name == "kfmodels.batch.fit_many"
    assert "chunk 2 of" in record.getMessage()
    assert record.exc_info


def test_few_chunks_are_handed_over_at_a_time(store, monkeypatch, whole):
    monkeypatch.setattr(batch, "IN_FLIGHT", 3)
    waiting = []

    class Watched(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            future = super().submit(fn, *args, **kwargs)
            waiting.append(sum(not one.done() for one in [*seen, future]))
            seen.append(future)
            return future

    seen: list[Future] = []
    with Watched(2) as pool:
        batch_script.run(store, executor=pool)
    assert max(waiting) <= 3
    assert len(waiting) == 10
    assert chunk_files(store) == whole


def test_the_bar_starts_where_the_store_stands(store, monkeypatch):
    monkeypatch.setenv("FAKE_RAISES", "8 9")
    batch_script.run(store)
    bars = []

    class Bar(batch.tqdm):
        def __init__(self, **options):
            super().__init__(**options)
            bars.append(options | {"moved": 0})

        def update(self, n=1):
            bars[-1]["moved"] += n

    monkeypatch.setattr(batch, "tqdm", Bar)
    batch_script.run(store, progress=True)
    assert (bars[0]["total"], bars[0]["initial"], bars[0]["moved"]) == (20, 16, 4)
    assert bars[0]["disable"] is None  # tqdm is then silent where stderr is no terminal


def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(
    store, calls, whole, monkeypatch
):
    monkeypatch.setenv("FAKE_LARGE", "5")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    try:
        with pytest.raises(OSError, match="no space left to write to") as caught:
            batch_script.run(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    done = listed(store)
    assert f"{len(done)} of 10 chunks are finished and kept in {store}; run the same call" in str(
        caught.value
    )
    assert 5 not in done
    assert {file.name for file in store.rglob("*") if file.is_file()} >= set(chunk_files(store))
    assert len(chunk_files(store)) == len(done)
    assert not list(store.rglob("*.tmp"))
    calls()
    monkeypatch.delenv("FAKE_LARGE")
    batch_script.run(store)
    assert calls() == Counter(set(range(10)) - set(done))
    assert chunk_files(store) == whole


# -- executors -------------------------------------------------------------------------------------


class Odd(Executor):
    """Computes at once; some chunks end with an error of the executor's own."""

    def __init__(self, errors: dict[int, BaseException]):
        self.errors = errors

    def submit(self, fn, /, *args, **kwargs):
        future, error = Future(), self.errors.get(args[2])
        if error is None:
            future.set_result(fn(*args, **kwargs))
        else:
            future.set_exception(error)
        return future


def test_an_error_outside_the_fit_stops_the_run(store):
    for error, says in (
        (
            OSError(EIO, "Input/output error"),
            r"a chunk stopped on OSError: .*Input/output error; every",
        ),
        (
            ModuleNotFoundError("No module named 'kfmodels'"),
            "workers cannot fit: ModuleNotFoundError",
        ),
    ):
        with pytest.raises((OSError, ValueError), match=says) as caught:
            batch_script.run(store, executor=Odd({3: error}))
        assert "9 of 10 chunks are finished and kept" in str(caught.value)
    with pytest.raises(OSError, match="nothing is kept, for no store was given"):
        batch_script.run(None, executor=Odd({3: OSError(EIO, "Input/output error")}))


def test_an_executor_that_gives_up_chunks_stops_the_run(store):
    class Closed(Odd):
        def submit(self, fn, /, *args, **kwargs):
            future = super().submit(fn, *args, **kwargs)
            if args[2] == 4:
                future = Future()
                future.cancel()
                future.set_running_or_notify_cancel()
            return future

    with pytest.raises(ValueError, match="gave up chunks that were handed to it: 9 of 10"):
        batch_script.run(store, executor=Closed({}))


def test_a_worker_with_another_store_or_other_versions_says_so(store, monkeypatch):
    batch_script.run(store)
    arguments = 0, batch_script.Model(), batch_script.Method(), "first"
    says = r"does not see this job in .*: give store a folder that all workers share"
    for path, identity in ((store / "elsewhere", Store.open(store).identity), (store, "another")):
        with pytest.raises(ValueError, match=says):
            batch.work(str(path), identity, *arguments)
    monkeypatch.setattr(batch, "versions", lambda: {"numpy": "1.0"})
    batch._opened.cache_clear()
    with pytest.raises(ValueError, match=r'has other versions: .*numpy was ".*", is now "1.0"'):
        batch.work(str(store), Store.open(store).identity, *arguments)


def test_a_process_pool_that_breaks_says_what_is_kept(store, calls, whole):
    run = began("processes", store, FAKE_DIES="6")
    printed, noted = run.communicate(timeout=300)
    assert run.returncode == 0, noted
    error = json.loads(printed)["error"]
    done = listed(store)
    assert error.startswith(
        "ValueError: a worker process died, and the ProcessPoolExecutor with it"
    )
    assert f"{len(done)} of 10 chunks are finished and kept in {store}; run the same call" in error
    assert 6 not in done
    calls()
    batch_script.run(store)
    assert calls() == Counter(set(range(10)) - set(done))
    assert chunk_files(store) == whole
    assert not list(store.rglob("*.tmp"))


def test_dask_survives_killed_workers_and_names_the_chunk_that_kills(store, calls, whole, tmp_path):
    pytest.importorskip("distributed")
    once = {"FAKE_DIES_ONCE": "2", "FAKE_ONCE": str(tmp_path / "once")}
    run = began("dask", store, FAKE_DIES="4", **once)
    try:
        printed, noted = run.communicate(timeout=300)
    except (
        subprocess.TimeoutExpired
    ):  # seen once in some ten runs: a nanny that starts no new worker
        run.kill()
        pytest.skip("Dask did not start a killed worker again within 300 s")
    assert run.returncode == 0, noted
    sentence = "the worker died 1 time on this chunk; it is not stored, run again to retry it"
    assert json.loads(printed) == {"C/A": sentence, "C/B": sentence}
    assert (tmp_path / "once").exists()
    assert listed(store) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert calls()[4] <= 2  # once among others, once alone
    batch_script.run(store)
    assert calls() == Counter([4])
    assert chunk_files(store) == whole


# -- kills and Ctrl-C ------------------------------------------------------------------------------


def test_after_sigkill_the_run_goes_on_to_the_same_bits(store, calls, whole, tmp_path):
    run = began("threads", store, FAKE_BLOCKS="3 4 5 6 7 8 9")
    until(waits_for(store, 3))
    run.kill()
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    (store / CHUNKS / ".000003-ab.npz.x.tmp").write_bytes(b"as a kill in the middle leaves it")
    done = listed(store)
    assert done == [0, 1, 2]
    calls()
    batch_script.run(store)
    assert calls() == Counter(range(3, 10))
    assert chunk_files(store) == whole


def test_ctrl_c_keeps_what_is_finished_and_another_driver_waits_its_turn(
    store, calls, whole, tmp_path
):
    run = began("threads", store, FAKE_BLOCKS="3 4 5 6 7 8 9")
    until(waits_for(store, 3))
    with pytest.raises(ValueError, match=f"is in use by process {run.pid} on"):
        batch_script.run(store)
    run.send_signal(signal.SIGINT)
    while "waiting for chunks that have begun" not in (line := run.stderr.readline()):
        assert line, "it ended at once"
    (tmp_path / "go").touch()  # the chunks that are running come to their end
    _, noted = run.communicate(timeout=60)
    assert run.returncode == -signal.SIGINT, noted
    done = listed(store)
    assert f"interrupted: {len(done)} of 10 chunks are finished and kept in {store}" in noted
    assert set(calls()) == set(done)  # what was begun is kept, the rest was not begun
    assert 3 < len(done) < 10
    assert {record.file for record in Store.open(store).records().values()} == set(
        chunk_files(store)
    )
    assert not list(store.rglob("*.tmp"))
    batch_script.run(store)
    assert calls() == Counter(set(range(10)) - set(done))
    assert chunk_files(store) == whole


# -- another job -----------------------------------------------------------------------------------


@pytest.fixture
def real(monkeypatch, light):
    """Everything real again but the fits."""
    monkeypatch.undo()
    monkeypatch.setattr(batch, "fit_chunk", batch_script.fit_chunk)


def started(store: Path, **changes):
    """A job whose every part can be changed."""
    given = {
        "pairs": HedgeData.all_pairs(prices()),
        "model": hedge_ratio_model(),
        "method": ImportanceSampling(draws=32),
        "chunk_size": 5,
        "seed": 7,
    } | changes
    return fit_many(store=store, progress=False, **given)


def nudged():
    table = prices()
    table.iloc[7, 1] *= 1.001
    return table


OTHERS = {
    "seed was 7, is now 8": lambda: {"seed": 8},
    "chunk_size was 5, is now 4": lambda: {"chunk_size": 4},
    "method.draws was 32, is now 64": lambda: {"method": ImportanceSampling(draws=64)},
    'model.noise.kind was "Constant", is now "Discounted"': lambda: {
        "model": hedge_ratio_model(noise=Discounted())
    },
    "model.beta_delta.with.bars was 6, is now 9": lambda: {
        "model": hedge_ratio_model(delta={"beta": Memory(9, low=1.1, high=100)})
    },
    "model.obs_scale (digest) was": lambda: {"model": truncated(0.02)},
    'transform was "log", is now "level"': lambda: {
        "pairs": HedgeData.all_pairs(prices(), transform="level")
    },
    "pairs.count was 20, is now 4": lambda: {"pairs": HedgeData.one_target(prices(), "A")},
    "pairs (digest) was": lambda: {"pairs": HedgeData.all_pairs(prices()[[*"ABDCE"]])},
    "prices (digest) was": lambda: {"pairs": HedgeData.all_pairs(nudged())},
    "prices.rows was 40, is now 39": lambda: {"pairs": HedgeData.all_pairs(prices().iloc[1:])},
}


def truncated(scale: float):
    """A model with a prior that JSON cannot hold."""
    return hedge_ratio_model(obs_scale=dist.TruncatedNormal(0.0, scale, low=1e-6))


@pytest.mark.parametrize("says", OTHERS)
def test_another_job_is_refused_by_name(store, calls, real, monkeypatch, tmp_path, says):
    lost = "obs_scale" in says
    started(store, **({"model": truncated(0.01)} if lost else {}))
    before = chunk_files(store), Store.open(store).records()
    with pytest.raises(ValueError, match="holds another job and is left as it is") as caught:
        started(store, **OTHERS[says]())
    assert says in str(caught.value)
    assert str(caught.value).endswith(f"Give this job a folder of its own, or delete {store}")
    assert (chunk_files(store), Store.open(store).records()) == before
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "calls"))
    started(store, **({"model": truncated(0.01)} if lost else {}))
    assert not calls()


def test_other_versions_are_refused_by_name(store, real, monkeypatch):
    started(store)
    found = batch.versions()
    monkeypatch.setattr(batch, "versions", lambda: found | {"jax": "9.9"})
    with pytest.raises(ValueError, match=f'versions.jax was "{found["jax"]}", is now "9.9"'):
        started(store)


def test_arguments_are_checked_at_the_border(store, real):
    pairs = HedgeData.all_pairs(prices())
    fork = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    for changes, says in (
        ({"pairs": prices()}, "takes HedgePairs, made by HedgeData.pairs, all_pairs or one_target"),
        ({"pairs": pairs.data("A/B")}, "takes HedgePairs"),
        ({"model": "default"}, r"made by hedge_ratio_model\(...\)"),
        ({"model": hedge_ratio_model(pivot=(1.0, 2.0))}, "pivot has 2 values, but there are 1"),
        ({"model": hedge_ratio_model(delta=1e-3, obs_scale=0.01)}, "there is nothing to infer"),
        ({"method": NUTS()}, r"infers by ImportanceSampling\(...\)"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, not 0"),
        ({"seed": -1}, "seed is a whole number"),
        ({"executor": "threads"}, r"of a Dask client it is client.get_executor\(\)"),
        ({"executor": fork}, r'a forked process can hang in JAX: .*get_context\("spawn"\)'),
    ):
        with pytest.raises(ValueError, match=says):
            started(store, **changes)
    assert not store.exists()


# -- the real thing --------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_fits_are_kept_and_done_again_to_the_same_bits(store, monkeypatch):
    monkeypatch.undo()
    table = datasets.factor_etfs().iloc[:300, :3].copy()
    table.iloc[200:, 2] = table.iloc[200, 2]
    pairs = HedgeData.one_target(table, "MTUM")
    assert batch.fit_chunk is REAL
    options = {"method": ImportanceSampling(), "chunk_size": 1, "store": store}
    board = fit_many(pairs, **options)
    assert board.status["MTUM/SIZE"] == "hedge SIZE constant since 2014-10-17"
    first = chunk_files(store)
    assert len(first) == 2
    (store / CHUNKS / min(first)).unlink()
    again = fit_many(pairs, **options)
    assert chunk_files(store) == first
    pd.testing.assert_frame_equal(again.table(), board.table())
