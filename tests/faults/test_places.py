"""Where files are written: links, devices, names that a lock does not guard, files that are swapped."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kfmodels.files import lock
from kfmodels.files.atomic import check_place, replacing
from kfmodels.files.log import Journal
from kfmodels.live.feed import LiveFilter
from tests.command import kfmodels
from tests.made_filters import feed, made_filter


def opened(path: Path, **options: Any) -> Journal:
    return Journal.open(path, {"beta": 1.0}, identity="fit 12", **options)


def test_a_link_keeps_leading_to_the_file_that_is_replaced(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    file, link = folder / "a.json", tmp_path / "link.json"
    link.symlink_to(file)
    for text in ("new", "again"):
        with replacing(link) as temporary:
            temporary.write_text(text)
        assert link.is_symlink()
        assert file.read_text() == text


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused_and_left(make: Any, tmp_path: Path):
    path = tmp_path / "there"
    make(path)
    kind = stat.S_IFMT(path.stat().st_mode)
    for use in (check_place, lambda p: made_filter().save(p)):
        with pytest.raises(
            ValueError, match="there is there and is no regular file: give the name"
        ):
            use(path)
    assert stat.S_IFMT(path.stat().st_mode) == kind
    with pytest.raises((ValueError, OSError), match="is no regular file|Is a directory"):
        type(made_filter()).load(path)


def test_a_device_is_refused_before_the_work_and_left(tmp_path: Path):
    device = tmp_path / "full"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    except OSError:
        pytest.skip("only root may make a device")
    (tmp_path / "p.csv").write_text("not read\n")
    given = ["p.csv", "--target", "A", "--hedges", "B", "--out", device]
    done = kfmodels("fit", *given, folder=tmp_path, code=2)
    assert "full is there and is no regular file: give the name of a file" in done.stderr
    assert stat.S_ISCHR(device.stat().st_mode)


def swapped(path: Path, other: Path) -> None:
    os.replace(other, path)


MEANWHILE = {
    "deleted": lambda path, _: path.unlink(),
    "renamed": lambda path, _: path.rename(f"{path}.old"),
    "replaced": swapped,
    "linked": lambda path, _: os.link(path, f"{path}.too"),
    "its folder renamed": lambda path, _: path.parent.rename(f"{path.parent} old"),
}


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("how", MEANWHILE)
def test_a_journal_that_is_taken_away_while_open_acknowledges_nothing(how, network, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path, other = folder / "a", tmp_path / "other"
    opened(other).close()
    journal = opened(path, network=network)
    assert journal.append({"n": 1}) == 1
    MEANWHILE[how](path, other)
    for use in (lambda: journal.append({"n": 2}), lambda: journal.compact({})):
        with pytest.raises(
            OSError, match="was deleted, renamed, replaced or linked to while it was"
        ):
            use()
    assert journal.last_seq == 1
    journal.close()


def test_a_journal_that_is_put_back_goes_on(tmp_path: Path):
    rows = feed(3)
    path = tmp_path / "a"
    with LiveFilter(made_filter(), journal=path) as live:
        live.tick(rows[0][0], at=rows[0][1])
        path.rename(tmp_path / "b")
        with pytest.raises(OSError, match="message 2 is not in .*put that file back"):
            live.tick(rows[1][0], at=rows[1][1])
        (tmp_path / "b").rename(path)
        assert [live.tick(p, at=at).sentence for p, at in rows[1:]] == ["accepted"] * 2
        expected = live.to_json()
    with LiveFilter(made_filter(), journal=path) as again:
        assert again.to_json() == expected
        assert again.started == f"{path}: goes on after message 3 of 2024-03-01T09:32:00-05:00"


def test_a_hard_link_is_refused(tmp_path: Path):
    opened(tmp_path / "a").close()
    os.link(tmp_path / "a", tmp_path / "b")
    for name in "ab":
        with pytest.raises(ValueError, match=r"has 2 names \(hard links\), and the lock"):
            opened(tmp_path / name)
    (tmp_path / "b").unlink()
    opened(tmp_path / "a").close()


def test_a_disk_that_machines_share_is_refused_for_a_write_ahead_log(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    place = str(tmp_path / "the disk").replace(" ", "\\040")
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nhost:/x {place} nfs4 rw 0 0\n")
    monkeypatch.setattr(lock, "_MOUNTS", mounts)
    (tmp_path / "the disk").mkdir()
    with pytest.raises(ValueError, match="on a file system of the kind nfs4, which other machines"):
        opened(tmp_path / "the disk" / "a")
    opened(tmp_path / "the disk" / "a", network=True).close()
    opened(tmp_path / "a").close()
    assert lock.find_file_system(tmp_path / "a") == "ext4"


def test_a_journal_renamed_with_all_that_belongs_to_it_goes_on(tmp_path: Path):
    with opened(tmp_path / "a") as journal:
        journal.append({"n": 1})
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(
        ValueError, match="nothing says how many were acknowledged, for b-count is not"
    ):
        opened(tmp_path / "b")
    (tmp_path / "a-count").rename(tmp_path / "b-count")
    with suppress(FileNotFoundError):
        (tmp_path / "a-writer").unlink()
    with opened(tmp_path / "b") as journal:
        assert journal.last_seq == 1
