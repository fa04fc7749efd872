"""`kfmodels live`: between two pipes, in another process, stopped and killed."""

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kfmodels.cli.cli_live import LONGEST, _stoppable
from kfmodels.files.log import Journal
from kfmodels.live.feed import LiveFilter
from tests.command import kfmodels
from tests.made_filters import feed, made_filter
from tests.processes import python, trade


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "xle.json"
    made_filter().save(path)
    return path


def lines(rows: int) -> list[str]:
    return [json.dumps({"at": at.isoformat(), "prices": p}) + "\n" for p, at in feed(rows)]


def answers(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def live(saved: Path, given: str, *options: str) -> list[dict[str, Any]]:
    return answers(kfmodels("live", saved, *options, given=given).stdout)


def started(*arguments: str) -> subprocess.Popen[str]:
    return python("-m", "kfmodels", "live", *arguments)


def test_every_line_is_answered_with_a_record_of_the_schema(saved: Path):
    found = live(saved, "".join(lines(3)))
    alone = LiveFilter(made_filter())
    for record, (prices, at) in zip(found, feed(3), strict=True):
        expected = alone.tick(prices, at=at).record()
        assert record["schema"] == 2
        assert list(record) == list(expected)
        assert record["beta"] == expected["beta"]
        assert record["z"] == expected["z"]
        assert record["dof"] is None  # infinite, which JSON does not know
    assert [record["seq"] for record in found] == [1, 2, 3]


def test_what_cannot_be_read_is_rejected_and_the_rest_goes_on(saved: Path):
    good = lines(3)
    odd = ["not json\n", "[1]\n", '{"at": "2024"}\n', '{"at": 1, "rescale": {"GLD": 2}}\n', "\n"]
    odd += ['{"at": 1, "rescale": 3}\n', '{"at": null, "prices": {}}\n']
    odd += ['{"prices": 1, "at": "2025-01-01"}\n']
    odd += ['{"at": 1, "prices": {"SPY": 500.0}, "rescale": {"SPY": 2}}\n']
    split = '{"at": "2024-03-01T00:00-05:00", "rescale": {"SPY": 2}}\n'
    back = '{"at": null, "rescale": {"SPY": 0.5}}\n'
    odd += ['{"at": 1, "rescale": {"SPY": 2}}\n', '{"at": "2024-03-01", "rescale": {}}\n']
    less = '{"at": "2024-03-01T00:00-05:00", "adjust": {"SPY": -5}}\n'
    found = live(saved, "".join([good[0], *odd, split, split, back, less, less, *good[1:]]))
    outcomes = [record["outcome"] for record in found]
    assert outcomes == [
        *["accepted", *["rejected"] * 10],
        *["rescaled", "duplicate", "rescaled", "rescaled", "duplicate"],
        *["accepted"] * 2,
    ]
    assert found[1]["reason"].startswith("line 2: 'not json' is no JSON object, such as {")
    assert found[2]["reason"].startswith("line 3: '[1]' is no JSON object, such as {")
    assert "GLD is not among the tickers" in found[4]["reason"]
    assert found[5]["reason"].startswith("line 7: factors go by")  # line 6 is blank
    both = "line 10: a message has one of prices, rescale, not several: send a line for each"
    assert found[8]["reason"].startswith(both)
    assert found[9]["reason"].startswith("line 11: the rescale at 1 is a number")


def test_the_message_that_is_shown_for_a_line_without_sense_is_one(saved: Path):
    (said,) = live(saved, "x" * 1000 + "\n")
    assert f"'{'x' * 40} ...' is no JSON object" in said["reason"]
    shown = said["reason"].partition("such as ")[2]
    assert live(saved, shown, "--shocks", "none")[0]["outcome"] == "accepted"


def test_options_reach_the_filter(saved: Path):
    bar = ["--bar", "1min", "--max-staleness", "90", "--shocks", "robust", "--limit", "0.001"]
    found = live(saved, "".join(lines(2)) + lines(3)[2].replace('"SPY"', '"GLD"'), *bar)
    assert "learnt from with the weight 0.00" in found[0]["reason"]
    assert found[2]["outcome"] == "accepted"


def test_a_bar_that_a_saved_filter_does_not_know_is_named(saved: Path):
    told = kfmodels("live", saved, "--bar", "5min").stderr
    told, started = told.splitlines(keepends=True)
    assert started.startswith("in memory only: begins after the last row learnt of 2024-02-29")
    assert told.startswith(f"{saved} does not say by which bar its noise was inferred: it is taken")
    assert told.endswith(" to be 0:05:00\n")


@pytest.mark.parametrize("piped", [True, False])
def test_a_byte_order_mark_an_empty_line_and_a_last_one_without_end_cost_nothing(saved, piped):
    first, second = lines(2)
    given = f"\ufeff{first}\n{second.rstrip()}"
    found = answers(started(str(saved)).communicate(given)[0]) if piped else live(saved, given)
    assert [record["outcome"] for record in found] == ["accepted"] * 2


def test_a_line_may_be_long():
    """The reading is linear in its length; put together anew for every chunk it took minutes."""
    reading, writing = os.pipe()
    text = b"x" * LONGEST
    with ThreadPoolExecutor(1) as threads, open(reading) as stream, _stoppable() as lines_of:
        threads.submit(lambda: [os.write(writing, text + b"\nshort\nlast"), os.close(writing)])
        begun = time.process_time()
        assert [len(line) for line in lines_of(stream)] == [LONGEST, 5, 4]
        assert time.process_time() - begun < 3


def test_settings_that_the_journal_has_otherwise_are_said(saved: Path, tmp_path: Path):
    options = ["live", saved, "--journal", tmp_path / "xle.journal"]
    first = kfmodels(*options, "--max-staleness", "2", given=lines(1)[0])
    same = kfmodels(*options, "--max-staleness", "2")
    name = tmp_path / "xle.journal"
    start = f"{name}: begins after the last row learnt of 2024-02-29T16:00:00-05:00\n"
    assert first.stderr == start
    assert same.stderr == f"{name}: goes on after message 1 of 2024-03-01T09:30:00-05:00\n"
    other = kfmodels(*options, "--shocks", "none", given=lines(2)[1])
    assert answers(other.stdout)[0]["outcome"] == "accepted"
    told = other.stderr.splitlines()
    assert told.pop(0) == same.stderr.strip()
    assert len(told) == 2
    assert all(line.startswith(f"{tmp_path / 'xle.journal'}: ") for line in told)
    assert "shocks is Quarantine(limit=6.0" in told[0]
    assert told[1].endswith("max_staleness is 0:00:02 as the journal keeps it, not 0 as given now")


def test_a_journal_that_lacks_messages_is_refused_and_the_remedy_named_goes_on(saved, tmp_path):
    path = tmp_path / "xle.journal"
    options = ["live", saved, "--journal", path]
    assert len(answers(kfmodels(*options, given="".join(lines(3))).stdout)) == 3
    count = tmp_path / "xle.journal-count"
    whole = count.read_bytes()
    count.unlink()
    for _ in range(2):
        said = kfmodels(*options, given=lines(4)[3], code=2).stderr
        assert "stands at message 3, and nothing says how many were acknowledged" in said
        remedy = said.strip().rpartition("go on without them with ")[2]
    done = kfmodels(*options, remedy, given=lines(4)[3])
    assert answers(done.stdout)[0]["seq"] == 4
    assert (
        "goes on after message 3 of 2024-03-01T09:32:00-05:00; messages are missing" in done.stderr
    )
    count.write_bytes(whole)  # fewer than the journal has: one was not counted before a kill
    assert "goes on after message 4 of" in kfmodels(*options, "--survives", "power-cut").stderr


def test_how_far_ahead_a_time_may_be_is_an_option(saved: Path, tmp_path: Path):
    late = lines(1)[0].replace("2024-03-01", "2024-05-01")
    assert live(saved, late)[0]["reason"].startswith(
        "2024-05-01T09:30:00-05:00 is 61d 17:30:00 ahe"
    )
    assert live(saved, late, "--max-ahead", "70")[0]["outcome"] == "accepted"
    made_filter(at=5, until=5).save(tmp_path / "whole.json")
    far = json.dumps({"at": 3_000_000, "prices": {"XLE": 90.0, "SPY": 500.0}}) + "\n"
    assert live(tmp_path / "whole.json", far)[0]["outcome"] == "rejected"
    assert live(tmp_path / "whole.json", far, "--max-step", "3000000")[0]["outcome"] == "accepted"


def test_sigterm_ends_it_cleanly_and_the_journal_goes_on(saved: Path, tmp_path: Path):
    path, rows = tmp_path / "xle.journal", lines(6)
    process = started(str(saved), "--journal", str(path))
    assert process.stdin is not None
    assert process.stdout is not None
    first = []
    for line in rows[:3]:
        process.stdin.write(line)
        process.stdin.flush()
        first.append(json.loads(process.stdout.readline()))
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)  # while it waits for a line that does not come
    assert process.wait(timeout=60) == 0
    assert time.monotonic() - begun < 30
    assert process.stderr is not None
    assert process.stderr.read().startswith(f"{path}: begins after the last row learnt of ")
    assert Journal.read(path).last_seq == 3
    second = live(saved, "".join(rows), "--journal", str(path))  # the first three once more
    assert [r["outcome"] for r in second[:3]] == ["rejected"] * 2 + ["duplicate"]
    whole = live(saved, "".join(rows))
    assert [r["z"] for r in first + second[3:]] == [r["z"] for r in whole]


def test_a_signal_between_reading_a_line_and_answering_it_waits(monkeypatch: pytest.MonkeyPatch):
    reading, writing = os.pipe()
    os.write(writing, b"first\nsecond\nthi")
    os.close(writing)
    plain = os.read

    def read_and_stop(source: int, size: int) -> bytes:
        found = plain(source, size)
        os.kill(os.getpid(), signal.SIGTERM)
        return found

    usual = signal.getsignal(signal.SIGTERM)
    with open(reading) as stream, _stoppable() as lines_of:
        monkeypatch.setattr(os, "read", read_and_stop)
        assert list(lines_of(stream)) == ["first"]  # the second was not asked for
        monkeypatch.undo()
    assert signal.getsignal(signal.SIGTERM) == usual


def test_a_reader_that_goes_away_ends_it(saved: Path):
    process = started(str(saved))
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(lines(1)[0])
    process.stdin.flush()
    json.loads(process.stdout.readline())
    process.stdout.close()
    with suppress(BrokenPipeError):
        for _ in range(100_000):
            process.stdin.write(lines(1)[0])
            process.stdin.flush()
    assert process.wait(timeout=60) is not None
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_a_saved_filter_needs_no_jax(saved: Path, tmp_path: Path):
    program = "from kfmodels.cli.cli import app\napp()\n"
    path = tmp_path / "a.journal"
    started = f"{path}: begins after the last row learnt"
    options = {"given": "".join(lines(2)), "noted_first": started}
    printed = trade(program, "live", saved, "--journal", path, **options)
    assert [record["outcome"] for record in answers(printed)] == ["accepted"] * 2
