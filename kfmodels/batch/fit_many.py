"""`fit_many`: thousands of pairs, chunk by chunk; finished chunks survive whatever stops the run.

One file: planning chunks, running them and recording what failed are one loop.
"""

import json
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from errno import EDQUOT, EFBIG, ENOSPC
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import jax
import numpy as np

from kfmodels.batch.board import HedgeBoard
from kfmodels.batch.chunk import LEAST, fit_chunk, refit_chunk
from kfmodels.batch.processes import begin_to_drive, begin_to_work
from kfmodels.batch.status import Status, Verdict
from kfmodels.batch.store import (
    Fitted,
    Record,
    Store,
    Writer,
    describe_pairs,
    differences,
    hold_store,
    is_store,
    versions,
)
from kfmodels.data.arrays import pair_arrays
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.files.documents import Json
from kfmodels.kalman.transforms import LEVEL
from kfmodels.model import saved
from kfmodels.model.defaults import bars_of_day, count_bars
from kfmodels.model.hedge_ratio import HedgeRatioModel, hedge_ratio_model
from kfmodels.sampling.importance import ImportanceSampling, layout_of
from kfmodels.words.caller import check_seed, explain_kinds
from kfmodels.words.progress import wait_for

CHUNK_ON_CPU = 4 * LEAST
"""Pairs of one chunk: a kill costs seconds, every core has work, and the hard ones fill a block."""

CHUNK_ON_GPU = 2048
"""A GPU fits thousands of pairs in about the time of one; so many fit the memory of a large one."""

IN_FLIGHT = 256
"""Chunks handed to an executor at a time: enough to keep a large cluster busy, in little memory."""

_LOG = logging.getLogger(__name__)


@explain_kinds
def fit_many(
    pairs: HedgePairs,
    model: HedgeRatioModel | None = None,
    *,
    method: ImportanceSampling = ImportanceSampling(),
    chunk_size: int | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    store: str | Path | None = None,
    progress: bool = True,
) -> HedgeBoard:
    r"""Infer the noise of many pairs, each on its own, and keep every chunk that is finished.

    $$p(δ_i, v_i ∣ y_i) ∝ p(δ_i, v_i) ∏_t p(y_{it} ∣ y_{i,<t}, ...)$$

    A pair that cannot be fitted stops nothing: it has a status and a reason. The same pair, seed and
    data give the same bits, whatever the other pairs and the executor; another `chunk_size` changes
    rounding only.

    Args:
        pairs: from `HedgeData.pairs`, `all_pairs` or `one_target`.
        model: from `hedge_ratio_model(...)`; its defaults where None.
        method: how to infer; `ImportanceSampling(...)`.
        chunk_size: pairs that are fitted together and kept together. Default: that of the store,
            else 64, or 2048 where JAX here computes on a GPU. A GPU computes a last chunk with fewer
            pairs at the next power of two, a CPU any chunk in blocks of 16.
        seed: the same seed gives the same draws on the same kind of machine.
        executor: who fits the chunks: any `concurrent.futures.Executor`; for a cluster, or to survive
            workers that die, Dask's `Client.get_executor()` (`pip install 'kfmodels[cluster]'`).
            Default: threads of this process.
        store: a folder for prices and finished chunks, on a disk that all workers share. The same
            call with the same folder goes on where a run was stopped. Default: a temporary folder
            that lives as long as the board.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        A `HedgeBoard` of all pairs.

    Raises:
        ValueError: the model is for several hedges or has nothing to infer; the folder holds another
            job (the message says what changed), or is in use; a process pool broke.
        OSError: the disk is full. Finished chunks are kept, also after Ctrl-C and kills.

    Source: the method's; see `ImportanceSampling`.

    Example:
        >>> from kfmodels import HedgeData, datasets, fit_many
        >>> prices = datasets.etfs().loc["2014":"2015", ["EWG", "EWQ", "EWU"]]
        >>> board = fit_many(HedgeData.one_target(prices, "EWG"), progress=False)
        >>> board.status["EWG/EWQ"]
        'ok'
    """
    begin_to_drive()
    model = _check(pairs, model or hedge_ratio_model(), method, chunk_size, seed, executor)
    path = Path(tempfile.mkdtemp(prefix="kfmodels-") if store is None else store).absolute()
    try:
        size = _default_size(path) if chunk_size is None else chunk_size
        with hold_store(path, _job(pairs, model, method, size, seed), pairs) as writer:
            run = _Run(writer, model, method, lasting=store is not None)
            transient = run.finish(executor, progress)
        board = HedgeBoard.open(path, transient, model)
    except BaseException:  # Ctrl-C too must leave no temporary folder
        if store is None:
            shutil.rmtree(path, ignore_errors=True)
        raise
    if store is None:
        weakref.finalize(board, shutil.rmtree, path, ignore_errors=True)
    return board


# -- the job ---------------------------------------------------------------------------------------


def _check(
    pairs: object,
    model: object,
    method: object,
    chunk_size: int | None,
    seed: int,
    executor: object,
) -> HedgeRatioModel:
    """Raise on what cannot be fitted; the model with its days made bars."""
    if not isinstance(pairs, HedgePairs):
        raise ValueError(
            f"fit_many takes HedgePairs, made by HedgeData.pairs, all_pairs or one_target, not "
            f"{type(pairs)}"
        )
    if not isinstance(model, HedgeRatioModel):
        raise ValueError(f"model is made by hedge_ratio_model(...), not {type(model)}")
    if not isinstance(method, ImportanceSampling):
        raise ValueError(f"fit_many infers by ImportanceSampling(...), not {type(method)}")
    if not (chunk_size is None or chunk_size >= 1):
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    check_seed(seed)
    if not isinstance(executor, Executor | None):
        raise ValueError(
            f"executor is a concurrent.futures.Executor, not {type(executor)}; of a Dask client it is "
            "client.get_executor()"
        )
    if (own := getattr(executor, "_mp_context", None)) and own.get_start_method() == "fork":
        raise ValueError(
            "a forked process can hang in JAX: use ProcessPoolExecutor(..., "
            'mp_context=multiprocessing.get_context("spawn"))'
        )
    model.check_transform(pairs.transform, "these pairs")
    counted: HedgeRatioModel = count_bars(model, bars_of_day(pairs))
    # tried on made-up prices: raises for a model of several hedges, or one with nothing to infer
    rows = np.arange(1.0, 41.0)[None]
    layout_of(counted.inputs_of_pairs(pair_arrays(rows, rows**0.5, LEVEL))[0], counted)
    return counted


def _job(
    pairs: HedgePairs,
    model: HedgeRatioModel,
    method: ImportanceSampling,
    chunk_size: int,
    seed: int,
) -> dict[str, object]:
    """What the numbers depend on, as JSON."""
    return {
        "model": _digest_lost(json.loads(saved.to_json(model)), model),
        "method": {"kind": type(method).__name__, **asdict(method)},
        "seed": seed,
        "chunk_size": chunk_size,
        **describe_pairs(pairs),
        "versions": versions(),
    }


def _digest_lost(text: Json, part: Any) -> Json:
    """A model as JSON, in which a digest stands for each prior that JSON cannot hold."""
    if isinstance(text, list):
        return [_digest_lost(inner, one) for inner, one in zip(text, part, strict=True)]
    if not isinstance(text, dict):
        return text
    if "lost" in text:
        leaves, kind = jax.tree.flatten(part)
        words = [str(kind), *(np.asarray(leaf).tolist() for leaf in leaves)]
        # addresses of functions differ from process to process, and would make every run another job
        plain = re.sub(r" at 0x[0-9a-f]+", "", json.dumps(words, default=str))
        return {"lost": type(part).__name__, "sha256": sha256(plain.encode()).hexdigest()}
    if isinstance(inside := text.get("with"), dict):
        return text | {"with": _digest_lost(inside, part)}
    return {name: _digest_lost(inner, getattr(part, name)) for name, inner in text.items()}


def _default_size(path: Path) -> int:
    """Pairs of a chunk where none was given: a store goes on with the size it was made with."""
    if is_store(path):
        return Store.open(path).job["chunk_size"]
    return CHUNK_ON_CPU if jax.default_backend() == "cpu" else CHUNK_ON_GPU


# -- the worker ------------------------------------------------------------------------------------


class _Opened:
    """A job as a worker sees it, read once per process."""

    def __init__(self, path: str, identity: str) -> None:
        begin_to_work()
        where = f"the worker on {platform.node()}"
        if not is_store(Path(path)) or Store.open(path).identity != identity:
            raise ValueError(
                f"{where} does not see this job in {path}: give store a folder that all workers share"
            )
        self.store, self.first, self.compiled = Store.open(path), Lock(), False
        changes = differences(self.store.job["versions"], versions())
        if changes:
            raise ValueError(f"{where} has other versions: {'; '.join(changes)}; install the same")


_opening = Lock()  # lru_cache alone would let every thread of a process open the job
_opened = lru_cache(maxsize=1)(_Opened)


def work(
    path: str,
    identity: str,
    number: int,
    model: HedgeRatioModel,
    method: ImportanceSampling,
    attempt: str,
) -> Fitted | Verdict:
    """Fit one chunk of a store and write it; doing it twice is harmless.

    `attempt` is unused, and another in every call: Dask answers from memory a call that it has seen.
    A chunk whose computation raises is not kept: the answer is then the verdict on its pairs.

    Raises:
        ValueError: the folder is not that of the job, or other versions are installed here.
        OSError: the folder cannot be read or written.
    """
    with _opening:
        job = _opened(path, identity)
        store = job.store
    given = store.pairs, store.chunks[number], model, method, store.job["seed"]
    try:
        arrays, verdicts = _compile_once(
            job, partial(fit_chunk, *given, size=_block(store), refit=False)
        )
        doubted = sum(status == Status.DOUBTED for status, _ in verdicts)
        return Fitted(store.write(number, arrays, verdicts), doubted)
    except OSError:  # of the disk, not of the pairs: it stops the run
        raise
    except Exception as error:
        _LOG.exception("chunk %d of %s failed", number, path)
        return Verdict(Status.FAILED, f"the fit raised {type(error).__name__}: {error}")


def rework(
    path: str, identity: str, record: Record, model: HedgeRatioModel, attempt: str
) -> Record:
    """Refit by NUTS what importance sampling could not fit of a written chunk, and write it anew."""
    with _opening:
        store = _opened(path, identity).store
    verdicts = [Verdict(Status(status), why) for status, why in record.statuses]
    pairs, numbers, arrays = store.pairs, store.chunks[record.chunk], store.arrays(record)
    given = pairs, numbers, arrays, verdicts, model, store.job["seed"]
    try:
        return store.write(record.chunk, *refit_chunk(*given, size=_block(store)))
    except OSError:
        raise
    except Exception:  # the pairs stay doubted, with their weights
        _LOG.exception("refitting of chunk %d of %s failed", record.chunk, path)
        return record


def _block(store: Store) -> int:
    """Pairs of one compiled program: on a CPU few, whose arrays fit its cache."""
    size = store.job["chunk_size"]
    return min(size, LEAST) if jax.default_backend() == "cpu" else size


def _compile_once[T](job: _Opened, fitted: Callable[[], T]) -> T:
    """Run the first chunk of a process alone, or each of its threads would compile the same program."""
    with job.first:
        if not job.compiled:
            found = fitted()
            job.compiled = True
            return found
    return fitted()


# -- the driver ------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Run:
    """One call of `fit_many`: the chunks that the executor has, and what came of the others."""

    writer: Writer
    model: HedgeRatioModel
    method: ImportanceSampling
    lasting: bool
    """Whether the store outlives the call."""

    pending: dict[Future, int] = field(default_factory=dict)
    """Numbers of the chunks that the executor has."""

    suspects: list[int] = field(default_factory=list)
    """Chunks whose worker died, to be run again alone."""

    unsettled: list[Fitted] = field(default_factory=list)
    """Chunks with pairs to be refitted: not finished, a run that is stopped fits them anew."""

    transient: dict[str, Verdict] = field(default_factory=dict)
    """Verdicts on pairs that were not fitted and are not stored, by name."""

    def finish(self, executor: Executor | None, progress: bool) -> dict[str, Verdict]:
        """Fit every chunk that is not finished, and return `transient`."""
        chunks, finished = self.writer.store.chunks, self.writer.store.records()
        todo = [number for number in range(len(chunks)) if number not in finished]
        if not todo:
            return {}
        lent = nullcontext(executor) if executor else ThreadPoolExecutor(_threads(), "kfmodels")
        waiting = wait_for(
            "fitting pairs",
            sum(map(len, chunks)),
            done=sum(len(chunks[number]) for number in finished),
            shown=progress,
            kept=self._describe_kept,
        )
        with waiting as line, lent as pool:
            try:
                self._run_all(pool, todo, line.advance)
                self._refit_all(pool, progress)
            except KeyboardInterrupt:
                self._take_back()
                if self.pending:
                    sys.stderr.write("\ninterrupted: waiting for chunks that have begun\n")
                self._drain()
                raise
            except Exception as error:
                self._drain()
                raise self._explain(error, executor) from error
        return self.transient

    def _run_all(self, pool: Executor, todo: list[int], advance: Callable[[int], object]) -> None:
        left = deque(todo)
        while left or self.pending:
            while left and len(self.pending) < IN_FLIGHT:
                self._submit(pool, left.popleft())
            for future in wait(self.pending, return_when=FIRST_COMPLETED).done:
                advance(self._settle(future))
        # a worker that dies fails every chunk it held; run alone, only the one that kills it dies again
        for number in self.suspects:
            self._submit(pool, number)
            for future in wait(self.pending).done:
                advance(self._settle(future, alone=True))

    def _refit_all(self, pool: Executor, progress: bool) -> None:
        """Refit the pairs that are left: each takes as long as hundreds of the others."""
        if not self.unsettled:
            return
        path, identity = str(self.writer.store.path), self.writer.store.identity
        running = {
            pool.submit(rework, path, identity, record, self.model, uuid4().hex): (record, doubted)
            for record, doubted in self.unsettled
        }
        total = sum(doubted for _, doubted in self.unsettled)
        with wait_for("refitting by NUTS", total, shown=progress) as line:
            try:
                for future in as_completed(running):
                    record, doubted = running[future]
                    error = future.exception()
                    if error is None:
                        record = future.result()
                    elif type(error).__name__ != "KilledWorker":
                        raise error
                    self.writer.add(record)  # of a worker that died, as it was before
                    line.advance(doubted)
            finally:
                for future in running:
                    future.cancel()

    def _submit(self, pool: Executor, number: int) -> None:
        store = self.writer.store
        job = str(store.path), store.identity, number, self.model, self.method
        self.pending[pool.submit(work, *job, uuid4().hex)] = number

    def _settle(self, future: Future, alone: bool = False) -> int:
        """Record how a chunk ended; returns the number of pairs that are settled with it."""
        number = self.pending.pop(future)
        store = self.writer.store
        names = [store.names[place] for place in store.chunks[number]]
        error = future.exception()
        if type(error).__name__ == "KilledWorker":  # of Dask, which need not be installed
            if not alone:
                self.suspects.append(number)
                return 0
            deaths = getattr(error, "allowed_failures", 0) + 1
            outcome: Fitted | Verdict = Verdict(
                Status.DIED,
                f"the worker died {deaths} {'time' if deaths == 1 else 'times'} on this chunk; it is "
                "not stored, run again to retry it",
            )
        elif error is not None:
            raise error
        else:
            outcome = future.result()
        if isinstance(outcome, Verdict):
            self.transient |= dict.fromkeys(names, outcome)
        elif outcome.doubted:
            self.unsettled.append(outcome)
        else:
            self.writer.add(outcome.record)
        return len(names)

    def _take_back(self) -> None:
        """Cancel what has not begun."""
        self.pending = {future: n for future, n in self.pending.items() if not future.cancel()}

    def _drain(self) -> None:
        """Cancel what has not begun, wait for the rest and keep it."""
        self._take_back()
        for future in as_completed(list(self.pending)):
            # the run stops on its first error; one more must not cost the chunks that are fine
            with suppress(Exception):
                self._settle(future)

    def _describe_kept(self) -> str:
        if not self.lasting:
            return "nothing is kept, for no store was given: with store=FOLDER a run can go on"
        store = self.writer.store
        return (
            f"{len(store.records())} of {len(store.chunks)} chunks are finished and kept in "
            f"{store.path}; run the same call again to go on from there"
        )

    def _explain(self, error: Exception, executor: Executor | None) -> Exception:
        """Turn what stopped the run into an error that says what is kept, and what to do."""
        kept, path = self._describe_kept(), self.writer.store.path
        told = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError):
            if error.errno in (ENOSPC, EDQUOT, EFBIG):
                return OSError(
                    error.errno, f"no space left to write to in {path}: {kept}, with space freed"
                )
            shared = "" if executor is None else f"; every worker must see {path} under this name"
            return OSError(error.errno, f"a chunk stopped on {told}{shared}. {kept}")
        if isinstance(error, BrokenExecutor):
            return ValueError(
                f"a worker process died, and the {type(executor).__name__} with it: {kept}, with a new "
                "executor. Dask's Client.get_executor() survives this; fewer workers need less memory"
            )
        if isinstance(error, CancelledError):
            return ValueError(f"the executor gave up chunks that were handed to it: {kept}")
        return ValueError(f"the workers cannot fit: {told}. {kept}")


def _threads() -> int:
    """Threads to fit in: JAX releases the interpreter, so one per core.

    A GPU has two, so that it computes one chunk while the host works on another.
    """
    return (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 2
