"""The filter that `kfmodels update` keeps beside a fit, and from which `kfmodels live` goes on."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import pandas as pd

    from kfmodels.clock.clock import Clock
    from kfmodels.online.filter import OnlineFilter


def kept_path(fitted: Path) -> Path:
    """The file beside a fit that `update` keeps its filter in."""
    return fitted.with_name(fitted.name + ".live.json")


def load_kept(fitted: Path) -> "OnlineFilter | None":
    """The filter that `update` kept, with a policy on shocks; None if it never ran.

    Raises:
        ValueError: it goes on from another fit.
    """
    from h5py import File

    from kfmodels.fitting.netcdf import read_file
    from kfmodels.online.filter import OnlineFilter
    from kfmodels.online.shocks import Quarantine

    kept = kept_path(fitted)
    if not (kept.exists() and fitted.exists()):
        return None
    live = OnlineFilter.load(kept)
    # only the name of the fit is read: the whole of it would load JAX
    with File(read_file(fitted)) as opened:
        now = opened.attrs.get("fit_id")
    if live.fit_id != now:
        raise ValueError(
            f"{kept} goes on from another fit than {fitted}: remove it to start from this one"
        )
    live.shocks = live.shocks or Quarantine()  # one saved by fit.online().save() has none
    return live


def open_guarded(fitted: Path) -> "tuple[OnlineFilter, Clock | None]":
    """The filter as it was last kept, or that of `go_live` after the training rows; and its clock."""
    from kfmodels.online.filter import OnlineFilter

    live = load_kept(fitted)
    if live is None:
        from kfmodels.fitting.hedge_fit import load_fit

        running = load_fit(fitted).go_live()
        assert isinstance(running.engine, OnlineFilter)  # of one pair
        return running.engine, running.clock
    return live, _clock_of(fitted)


def _clock_of(fitted: Path) -> "Clock | None":
    import json

    from h5py import File

    from kfmodels.clock.clock import Clock
    from kfmodels.fitting.netcdf import read_file

    with File(read_file(fitted)) as opened:
        text = opened.get("constant_data/clock")
        return None if text is None else Clock.from_json(json.loads(cast("Any", text)[()]))


def check_gap(live: "OnlineFilter", table: "pd.DataFrame", most: timedelta) -> None:
    """Raise if a row comes so long after the one before that its date may be wrong."""
    import pandas as pd

    from kfmodels.data.checks import day

    last = pd.Timestamp(live.at)
    if not len(table) or (table.index[0].tz is None) != (last.tz is None):
        return  # where only one has a time zone the filter says so
    for before, now in pairwise([last, *table.index]):
        if now - before > most:
            raise ValueError(
                f"the row of {day(now)} comes {(now - before).days} days after that of {day(before)}, "
                "and a wrong date would put all later ones out of order: give the rows between with "
                f"--prices FILE, or if it is right --max-ahead {(now - before).days + 1}; nothing was "
                "changed"
            )
