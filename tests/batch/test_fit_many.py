"""`fit_many` where things go wrong: kills, crashes, a full disk, Ctrl-C, another job, another driver.

Most tests put a quick stand-in in the place of the fits (`batch_script`); the last one is real.
"""

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from errno import EIO
from pathlib import Path

import numpyro.distributions as dist
import pandas as pd
import pytest

from kfmodels import NUTS, Constant, Discounted, HedgeData, Memory, hedge_ratio_model
from kfmodels.batch import fit_many as batch
from kfmodels.batch.fit_many import fit_many
from kfmodels.batch.store import CHUNKS, Store, is_store
from kfmodels.data import datasets
from kfmodels.sampling.importance import ImportanceSampling
from tests import batch_script
from tests.batch_script import prices
from tests.journal_writer import file_limit
from tests.processes import python

REAL = batch.fit_chunk
DIED = "the worker died 1 time on this chunk; it is not stored, run again to retry it"


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
def calls(tmp_path) -> Callable[[], Counter]:
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


@pytest.fixture
def goes_on(store, calls, whole, monkeypatch) -> Callable[..., None]:
    """A second run does what is left, no more, and ends with the bits of a run that was whole."""

    def check(done: Iterable[int]) -> None:
        assert listed(store) == sorted(done)
        calls()
        for fault in [name for name in os.environ if name.startswith("FAKE_")]:
            if fault != "FAKE_LOG":
                monkeypatch.delenv(fault)
        assert batch_script.run(store).transient == {}
        assert calls() == Counter(set(range(10)) - set(done))
        assert chunk_files(store) == whole
        assert not list(store.rglob("*.tmp"))

    return check


def chunk_files(store: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (store / CHUNKS).iterdir()}


def listed(store: Path) -> list[int]:
    return sorted(Store.open(store).records())


def kept(store: Path) -> str:
    """What a run that stopped says of what it leaves."""
    return f"{len(listed(store))} of 10 chunks are finished and kept in {store}; run the same call"


def began(how: str, store: Path, **environment: str) -> subprocess.Popen:
    """The program of `batch_script`, with the stand-in told what is to go wrong."""
    return python(batch_script.__file__, how, store, **environment)


def wait_for(store: Path, count: int) -> None:
    """Until so many chunks are finished."""
    end = time.monotonic() + 120
    while not (is_store(store) and len(Store.open(store).records()) >= count):
        assert time.monotonic() < end, "nothing came of it in two minutes"
        time.sleep(0.02)


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


def test_without_a_store_the_folder_lives_as_long_as_the_board():
    board = batch_script.run(None)
    path = board.path
    assert len(chunk_files(path)) == 10
    del board
    gc.collect()
    assert not path.exists()


def test_a_damaged_chunk_is_done_again_and_no_other(store, calls, whole, monkeypatch, goes_on):
    batch_script.run(store)
    calls()
    first, second = sorted(chunk_files(store))[3:5]
    (store / CHUNKS / first).write_bytes(whole[first][:-1])
    (store / CHUNKS / second).unlink()
    monkeypatch.setenv("FAKE_RAISES", "4")
    board = batch_script.run(store)
    assert set(board.transient) == {"C/A", "C/B"}  # not as listed before
    assert calls() == Counter([3, 4])
    goes_on(set(range(10)) - {4})


def test_a_bug_in_one_chunk_costs_that_chunk_and_is_logged(store, monkeypatch, caplog, goes_on):
    monkeypatch.setenv("FAKE_RAISES", "2 9")
    board = batch_script.run(store)
    assert board.transient == {
        name: ("failed", f"the fit raised IndexError: chunk {chunk} is wrong")
        for name, chunk in {"B/A": 2, "B/C": 2, "E/C": 9, "E/D": 9}.items()
    }
    assert {record.name for record in caplog.records} == {"kfmodels.batch.fit_many"}
    assert {record.getMessage()[:11] for record in caplog.records} == {"chunk 2 of ", "chunk 9 of "}
    assert all(record.exc_info for record in caplog.records)
    goes_on(set(range(10)) - {2, 9})


def test_doubted_pairs_are_refitted_when_all_others_are_done(store, calls, monkeypatch):
    monkeypatch.setenv("FAKE_DOUBTS", "0 3")
    monkeypatch.setenv("FAKE_STUCK", "3")
    batch_script.run(store)
    assert calls() == Counter([*range(10), 100, 103])
    records = Store.open(store).records()
    assert sorted(list(records)[-2:]) == [0, 3]
    assert len(records) == 10
    assert {status for status, _ in records[0].statuses} <= {"ok", "unusable"}
    assert records[3].statuses[0][0] == "doubted"  # where NUTS fails, the weights are all there is
    batch_script.run(store)
    assert not calls()


def test_few_chunks_are_handed_over_at_a_time(store, monkeypatch, whole):
    monkeypatch.setattr(batch, "IN_FLIGHT", 3)
    waiting, seen = [], []

    class Watched(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            future = super().submit(fn, *args, **kwargs)
            waiting.append(sum(not one.done() for one in [*seen, future]))
            seen.append(future)
            return future

    with Watched(2) as pool:
        batch_script.run(store, executor=pool)
    assert max(waiting) <= 3
    assert len(waiting) == 10
    assert chunk_files(store) == whole


def test_the_bar_starts_where_the_store_stands(store, monkeypatch):
    monkeypatch.setenv("FAKE_RAISES", "8 9")
    batch_script.run(store)
    lines, usual = [], batch.wait_for

    @contextmanager
    def noted(*what, **options):
        with usual(*what, **options) as waiting:
            lines.append((waiting, waiting.done, options["shown"]))
            yield waiting

    monkeypatch.setattr(batch, "wait_for", noted)
    batch_script.run(store, progress=True)
    line, before, shown = lines[0]
    assert (line.total, before, line.done, shown) == (20, 16, 20, True)


def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(store, monkeypatch, goes_on):
    monkeypatch.setenv("FAKE_LARGE", "5")
    says = "no space left to write to"
    with file_limit(400_000), pytest.raises(OSError, match=says) as caught:
        batch_script.run(store)
    done = listed(store)
    assert kept(store) in str(caught.value)
    assert 5 not in done
    assert len(chunk_files(store)) == len(done)
    assert not list(store.rglob("*.tmp"))
    goes_on(done)


# -- executors -------------------------------------------------------------------------------------


class Odd(Executor):
    """Computes at once; some chunks end with an error of the executor's own, or are given up."""

    def __init__(self, errors: dict[int, BaseException | None]):
        self.errors = errors

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        if args[2] not in self.errors:
            future.set_result(fn(*args, **kwargs))
        elif (error := self.errors[args[2]]) is not None:
            future.set_exception(error)
        else:
            future.cancel()
            future.set_running_or_notify_cancel()
        return future


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(EIO, "Input/output error"), r"a chunk stopped on OSError: .*error; every worker"),
        (
            ModuleNotFoundError("No module"),
            "the workers cannot fit: ModuleNotFoundError: No module",
        ),
        (None, "the executor gave up chunks that were handed to it"),
    ],
)
def test_an_error_outside_the_fit_stops_the_run(store, error, says):
    with pytest.raises((OSError, ValueError), match=says) as caught:
        batch_script.run(store, executor=Odd({3: error}))
    assert "9 of 10 chunks are finished and kept" in str(caught.value)
    with pytest.raises((OSError, ValueError), match="nothing is kept, for no store was given"):
        batch_script.run(None, executor=Odd({3: error}))


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


def test_a_process_pool_that_breaks_says_what_is_kept(store, goes_on):
    run = began("processes", store, FAKE_DIES="6")
    printed, noted = run.communicate(timeout=300)
    assert run.returncode == 0, noted
    error = json.loads(printed)["error"]
    says = "ValueError: a worker process died, and the ProcessPoolExecutor with it"
    assert error.startswith(says)
    assert kept(store) in error
    assert 6 not in listed(store)
    goes_on(listed(store))


def test_dask_survives_killed_workers_and_names_the_chunk_that_kills(
    store, calls, tmp_path, goes_on
):
    pytest.importorskip("distributed")
    once = {"FAKE_DIES_ONCE": "2", "FAKE_ONCE": str(tmp_path / "once")}
    run = began("dask", store, FAKE_DIES="4", **once)
    try:
        printed, noted = run.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        # seen once in some ten runs: a nanny that starts no new worker
        run.kill()
        pytest.skip("Dask did not start a killed worker again within 300 s")
    assert run.returncode == 0, noted
    assert json.loads(printed) == {"C/A": ["died", DIED], "C/B": ["died", DIED]}
    assert (tmp_path / "once").exists()
    assert calls()[4] <= 2  # once among others, once alone
    goes_on(set(range(10)) - {4})


# -- kills and Ctrl-C ------------------------------------------------------------------------------


def test_after_sigkill_the_run_goes_on_to_the_same_bits(store, goes_on):
    run = began("threads", store, FAKE_BLOCKS="3 4 5 6 7 8 9")
    wait_for(store, 3)
    run.kill()
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    (store / CHUNKS / ".000003-ab.npz.x.tmp").write_bytes(b"as a kill in the middle leaves it")
    goes_on([0, 1, 2])


def living(mark: str) -> list[int]:
    """Processes that have a word in the environment they were started with."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is not ours
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="asks Linux who lives")
def test_a_killed_driver_leaves_no_worker_behind(store, goes_on, tmp_path):
    """A worker that is in a chunk when the driver dies would wait for ever for the next."""
    mark = f"KFMODELS_MARK={tmp_path}"
    run = began("processes", store, FAKE_BLOCKS="3", **dict([mark.split("=")]))
    try:
        wait_for(store, 3)
        assert len(living(mark)) > 1
        run.kill()
        run.wait()
        end = time.monotonic() + 10
        while left := living(mark):
            assert time.monotonic() < end, f"{left} live on"
            time.sleep(0.05)
    finally:
        for number in living(mark):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
    goes_on([0, 1, 2])


def test_ctrl_c_keeps_what_is_finished_and_another_driver_waits_its_turn(
    store, calls, tmp_path, goes_on
):
    run = began("threads", store, FAKE_BLOCKS="3 4 5 6 7 8 9")
    wait_for(store, 3)
    with pytest.raises(ValueError, match=f"is in use by process {run.pid} on"):
        batch_script.run(store)
    run.send_signal(signal.SIGINT)
    while "waiting for chunks that have begun" not in (line := run.stderr.readline()):
        assert line, "it ended at once"
    (tmp_path / "go").touch()  # the chunks that are running come to their end
    _, noted = run.communicate(timeout=60)
    assert run.returncode == -signal.SIGINT, noted
    done = listed(store)
    assert f"KeyboardInterrupt: {kept(store)}" in noted.splitlines()[-1]
    assert set(calls()) == set(done)  # what was begun is kept, the rest was not begun
    assert 3 < len(done) < 10
    assert len(chunk_files(store)) == len(done)
    assert not list(store.rglob("*.tmp"))
    goes_on(done)


# -- another job -----------------------------------------------------------------------------------


@pytest.fixture
def real(monkeypatch, light, tmp_path):
    """Everything real again but the fits."""
    monkeypatch.undo()
    monkeypatch.setattr(batch, "fit_chunk", batch_script.fit_chunk)
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "calls"))


def started(store: Path, **changes):
    """A job whose every part can be changed."""
    given = {
        "pairs": HedgeData.all_pairs(prices()),
        "model": hedge_ratio_model(noise=Constant()),
        "method": ImportanceSampling(draws=32),
        "chunk_size": 5,
        "seed": 7,
    } | changes
    return fit_many(store=store, progress=False, **given)


def nudged():
    table = prices()
    table.iloc[7, 1] *= 1.001
    return table


def truncated(scale: float):
    """A model with a prior that JSON cannot hold."""
    return hedge_ratio_model(obs_scale=dist.TruncatedNormal(0.0, scale, low=1e-6))


OTHERS = {
    "seed was 7, is now 8": lambda: {"seed": 8},
    'model.noise.kind was "Constant", is now "Discounted"': lambda: {
        "model": hedge_ratio_model(noise=Discounted())
    },
    "model.beta_delta.with.bars was 6, is now 9": lambda: {
        "model": hedge_ratio_model(delta={"beta": Memory(9, low=1.1, high=100)}, noise=Constant())
    },
    "model.obs_scale (digest) was": lambda: {"model": truncated(0.02)},
    'transform was "log", is now "level"': lambda: {
        "pairs": HedgeData.all_pairs(prices(), transform="level")
    },
    "method.draws was 32, is now 64; chunk_size was 5, is now 4": lambda: {
        "method": ImportanceSampling(draws=64),
        "chunk_size": 4,
    },
    "pairs.count was 20, is now 4": lambda: {"pairs": HedgeData.one_target(prices(), "A")},
    "pairs (digest) was": lambda: {"pairs": HedgeData.all_pairs(prices()[[*"ABDCE"]])},
    "prices (digest) was": lambda: {"pairs": HedgeData.all_pairs(nudged())},
    "prices.rows was 40, is now 39": lambda: {"pairs": HedgeData.all_pairs(prices().iloc[1:])},
}


@pytest.mark.parametrize("says", OTHERS)
def test_another_job_is_refused_by_name(store, calls, real, says):
    first = {"model": truncated(0.01)} if "obs_scale" in says else {}
    started(store, **first)
    before = chunk_files(store), Store.open(store).records()
    with pytest.raises(ValueError, match="holds another job and is left as it is") as caught:
        started(store, **OTHERS[says]())
    assert says in str(caught.value)
    assert str(caught.value).endswith(f"Give this job a folder of its own, or delete {store}")
    assert (chunk_files(store), Store.open(store).records()) == before
    calls()
    started(store, **first)
    assert not calls()


def test_other_versions_are_refused_by_name(store, real, monkeypatch):
    started(store)
    found = batch.versions()
    monkeypatch.setattr(batch, "versions", lambda: found | {"jax": "9.9"})
    with pytest.raises(ValueError, match=f'versions.jax was "{found["jax"]}", is now "9.9"'):
        started(store)


def forking() -> Executor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pairs": prices()}, "takes HedgePairs, made by HedgeData.pairs, all_pairs or one_target"),
        ({"model": "default"}, r"made by hedge_ratio_model\(...\)"),
        (
            {"model": hedge_ratio_model(pivot=(1.0, 2.0), noise=Constant())},
            "pivot has 2 values, but there are 1",
        ),
        ({"model": hedge_ratio_model(delta=1e-3, obs_scale=0.01)}, "there is nothing to infer"),
        ({"method": NUTS()}, r"infers by ImportanceSampling\(...\)"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, not 0"),
        ({"seed": -1}, "seed is a whole number"),
        ({"executor": "threads"}, r"of a Dask client it is client.get_executor\(\)"),
        ({"executor": forking()}, r'a forked process can hang in JAX: .*get_context\("spawn"\)'),
    ],
)
def test_arguments_are_checked_at_the_border(store, real, changes, says):
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
    assert board.reason["MTUM/SIZE"].startswith(
        "hedge SIZE constant since 2014-10-17: fit the rows"
    )
    first = chunk_files(store)
    assert len(first) == 2
    (store / CHUNKS / min(first)).unlink()
    again = fit_many(pairs, **options)
    assert chunk_files(store) == first
    pd.testing.assert_frame_equal(again.table(), board.table())
