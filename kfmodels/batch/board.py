"""`HedgeBoard`: every pair of a universe, what its hedge is, how sure that is, and which pairs failed.

One file: one class, whose methods read the same chunks.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from scipy.special import expit

from kfmodels.batch.chunk import CARRIED, pair_key
from kfmodels.batch.status import FITTED, Status, Verdict
from kfmodels.batch.store import Store
from kfmodels.data.checks import Label
from kfmodels.data.hedge_data import day, rows_after
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.density import Z90, student_variance
from kfmodels.kalman.regression import batch_last
from kfmodels.kalman.step import State
from kfmodels.live.feed import LiveFilter
from kfmodels.model import saved
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.model.memory import q_to_memory
from kfmodels.online.board import OnlineBoard
from kfmodels.online.shocks import Quarantine, Shocks
from kfmodels.sampling import importance
from kfmodels.sampling.posterior import Draws, draw_prior

Arrays = dict[str, np.ndarray]

_WAITING = Verdict(Status.WAITING, "not fitted yet: run fit_many again with this store")


@dataclass(eq=False)
class HedgeBoard:
    """The fits of many pairs in the folder of `fit_many`, read from it when they are needed.

    `fit_many` returns one, and `HedgeBoard.open(folder)` at any later time.
    """

    store: Store
    transient: dict[str, Verdict] = field(default_factory=dict)
    """Verdicts on pairs that are not stored, by name: a next run tries them again."""

    model_given: HedgeRatioModel | None = None

    @classmethod
    def open(
        cls,
        path: str | Path,
        transient: dict[str, Verdict] | None = None,
        model: HedgeRatioModel | None = None,
    ) -> "HedgeBoard":
        """The board of a folder that `fit_many(..., store=folder)` wrote, finished or not.

        Raises:
            ValueError: the folder holds none, or comes from a newer version of kfmodels.
        """
        return cls(Store.open(path), dict(transient or {}), model)

    @cached_property
    def model(self) -> HedgeRatioModel:
        """The model that was fitted to every pair.

        Raises:
            ValueError: the folder could not hold one of its priors.
        """
        return self.model_given or saved.from_json(json.dumps(self.store.job["model"]))

    @property
    def pairs(self) -> HedgePairs:
        """The prices and the pairs."""
        return self.store.pairs

    @property
    def fit_until(self) -> Label:
        """Last date whose prices the noise was inferred from."""
        return self.pairs.index[-1]

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """By pair: how far it came, and why."""
        listed = dict.fromkeys(self.pairs.names, _WAITING) | self.transient
        for record in self.store.records().values():
            for name, (status, reason) in zip(record.names, record.statuses, strict=True):
                listed[name] = Verdict(Status(status), reason)
        return listed

    @property
    def status(self) -> pd.Series:
        """By pair a `Status`: "ok", "doubted", "unusable", "failed", "died" or "waiting"."""
        return self._told("status")

    @property
    def reason(self) -> pd.Series:
        """By pair a sentence that says why its status is not "ok", where it is not."""
        return self._told("reason")

    def _told(self, part: str) -> pd.Series:
        told = {name: str(getattr(verdict, part)) for name, verdict in self.verdicts.items()}
        return pd.Series(told, name=part).rename_axis("pair")

    @cached_property
    def _table(self) -> pd.DataFrame:
        rows = [_describe(names, arrays) for names, arrays in self.chunks()]
        names = self.pairs.names
        table = pd.concat(rows) if rows else pd.DataFrame(columns=_COLUMNS)
        table = table.reindex(names).rename_axis("pair")
        table["refitted"] = table["refitted"].eq(True)  # not known of pairs that were not fitted
        table.insert(0, "target", [target for target, _ in self.pairs.pairs])
        table.insert(1, "hedge", [hedge for _, hedge in self.pairs.pairs])
        return table.assign(status=self.status, reason=self.reason)

    def table(self) -> pd.DataFrame:
        """One row a pair, as after the last row of prices.

        `beta` (hedge ratio to hold, in money or, on levels, in shares), `sd` with the noise
        posterior in it, `lower`, `upper` (90 %); `memory` of the ratio in bars with its 90 % interval
        `memory_lower`, `memory_upper` and `effective_memory` (see `HedgeFit.summary`);
        `intercept_memory`; `obs_scale`, the sd of the observation noise now, and `z` of the last
        spread; `half_life` of that spread and `static_half_life` of the residual of least squares,
        bars; `log_evidence` of the model, `against_static` (by how many nats it beats a ratio that
        stands still; negative where static does better) and `static_probability` at even prior odds;
        `pareto_k`, `ess` (effective draws), `refitted` (by NUTS), `status` and `reason`. NaN where a
        pair was not fitted.
        """
        return self._table.copy()

    def matrix(self, column: str = "beta") -> pd.DataFrame:
        """One column of `table()` as targets (rows) by hedges (columns).

        Raises:
            ValueError: there is no such column.
        """
        if column not in self._table.columns:
            raise ValueError(f"there is no column {column}: {', '.join(self._table.columns)}")
        targets, hedges = (list(dict.fromkeys(p)) for p in zip(*self.pairs.pairs, strict=True))
        ordered = [name for name in targets if name in hedges]
        ordered += [name for name in hedges if name not in targets]
        found = self._table.set_index(["target", "hedge"])[column].unstack()  # noqa: PD010
        return pd.DataFrame(found).reindex(index=targets, columns=ordered)

    def hedge_ratios(self) -> pd.DataFrame:
        """Today's hedge ratios, targets by hedges: what to hold until the next bar."""
        return self.matrix("beta")

    def sel(self, pair: str) -> HedgeFit:
        """One pair as a full `HedgeFit`, with tables by date, plots and an online filter.

        Raises:
            ValueError: no such pair, or it was not fitted (the message says why).

        Example:
            >>> from kfmodels import HedgeData, datasets, fit_many
            >>> prices = datasets.etfs().loc["2014":"2015", ["EWG", "EWQ"]]
            >>> board = fit_many(HedgeData.all_pairs(prices), progress=False)
            >>> board.sel("EWG/EWQ").hedges
            ('EWQ',)
        """
        row = self._row(pair)
        data = self.pairs.data(pair)
        inputs = self.model.inputs(data)
        seed = self.store.job["seed"]
        key = pair_key(pair, seed)
        with jax.enable_x64(True):
            drawn = importance.resample_sites(
                row["points"], row["log_weights"], key, inputs, model=self.model
            )
            sites = jax.device_get(drawn)
        _, prior = draw_prior(self.model, inputs, seed)
        about = {
            "ess": float(row["effective_draws"]),
            "log_evidence": float(row["log_evidence"]),
            "log_evidence_mcse": float(row["log_evidence_mcse"]),
        }
        if not row["refitted"]:  # draws of NUTS have no weights whose tail could be heavy
            about["pareto_k"] = float(row["pareto_k"])
        stats = {"diverging": np.zeros(sites["obs_scale"].shape, bool)}
        mixed = {name: row[name] for name in self.model.parameters}
        return HedgeFit.from_draws(
            data, self.model, inputs, Draws(sites, stats, prior, mixed, about)
        )

    def online(
        self,
        targets: list[str] | None = None,
        *,
        forgetting: float = 1.0,
        shocks: Shocks | None = None,
    ) -> OnlineBoard:
        """The filters of all pairs that were fitted, as one board that advances tick by tick.

        Args:
            targets: only pairs with one of these targets.
            forgetting, shocks: of every pair, as for `OnlineFilter`.
        """
        model = self.model
        keys = (*model.parameters, *_carried_names(model), *_ONLINE)
        names, arrays = self.fitted(keys, targets)
        policy = {"forgetting": forgetting, "shocks": shocks}
        return _online(names, arrays, self.pairs, model, policy)

    def go_live(
        self,
        targets: list[str] | None = None,
        *,
        forgetting: float = 0.997,
        shocks: Shocks | None = Quarantine(),
        **settings: Any,
    ) -> LiveFilter:
        """A live filter of all pairs that were fitted, to be left alone with a feed.

        Args:
            targets, forgetting, shocks: as for `online`, with defaults for trading.
            settings: of `LiveFilter`: clock, max_staleness, monitor, journal and so on.

        Raises:
            ValueError: as `online` and `LiveFilter`; draws or explorers are given, which a board cannot
                change.
        """
        if {"draws", "explorers"} & set(settings):
            raise ValueError(
                "a board has the draws it was fitted with and no explorers: leave both out"
            )
        engine = self.online(targets, forgetting=forgetting, shocks=shocks)
        return LiveFilter(engine, **settings)

    def fitted(
        self, keys: Sequence[str], targets: list[str] | None = None
    ) -> tuple[list[str], Arrays]:
        """Names and some arrays of the pairs whose status is "ok", of all targets or of some.

        Raises:
            ValueError: there is none.
        """
        parts: list[tuple[list[str], Arrays]] = []
        wanted = {
            name
            for name, (target, _) in zip(self.pairs.names, self.pairs.pairs, strict=True)
            if self.verdicts[name] == FITTED and (targets is None or target in targets)
        }
        for names, arrays in self.chunks():
            keep = [place for place, name in enumerate(names) if name in wanted]
            if keep:
                held = {k: arrays[k][keep] for k in keys if k in arrays}
                parts.append(([names[place] for place in keep], held))
        if not parts:
            whose = "" if targets is None else f" of {', '.join(targets)}"
            raise ValueError(f"no pair{whose} was fitted: board.reason says why")
        every = {k: np.concatenate([held[k] for _, held in parts]) for k in parts[0][1]}
        return [name for names, _ in parts for name in names], every

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Names of the inferred parameters, in the order of `points`."""
        name = next(name for name, verdict in self.verdicts.items() if verdict == FITTED)
        inputs = self.model.inputs(self.pairs.data(name))
        with jax.enable_x64(True):
            alone = jax.tree.map(lambda leaf: np.asarray(leaf)[None], inputs)
            return tuple(importance.layout_of(alone, self.model).shapes)

    def chunks(self) -> Iterator[tuple[list[str], Arrays]]:
        """The finished chunks: names of their pairs, and the arrays of `fit_chunk`."""
        records = self.store.records()
        for number in sorted(records):
            arrays = self.store.arrays(records[number])
            if arrays:
                yield records[number].names, arrays

    def _row(self, pair: str) -> Arrays:
        if pair not in self.verdicts:
            raise ValueError(
                f"{pair} is not among the {len(self.pairs)} pairs; they are named like "
                f"{self.pairs.names[0]}"
            )
        for record in self.store.records().values():
            if pair in record.names:
                place = record.names.index(pair)
                arrays = self.store.arrays(record)
                if arrays and np.isfinite(arrays["effective_draws"][place]):
                    return {name: values[place] for name, values in arrays.items()}
        raise ValueError(f"{pair} was not fitted: {self.verdicts[pair].reason}")

    def later(self, prices: pd.DataFrame, names: list[str]) -> pd.DataFrame:
        """The rows of some tickers that are later than the fit, as numbers."""
        return rows_after(prices, self.fit_until, names)

    def __len__(self) -> int:
        return len(self.pairs)

    def __str__(self) -> str:
        """How many pairs were fitted, why others were not, and how many ratios move."""
        table = self._table
        fine: pd.DataFrame = table.loc[table["status"] == Status.OK]
        lines = [f"{len(fine)} of {len(table)} pairs fitted on prices until {day(self.fit_until)}"]
        if redone := int(np.sum(table["refitted"].to_numpy())):
            lines.append(f"  {redone} refitted with NUTS (their importance weights failed)")
        for sentence, names in _by_reason(self.verdicts):
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            lines.append(f"  {shown}: {sentence}")
        if len(fine):
            gain = fine["against_static"].to_numpy()
            moving, still = int((gain > 3).sum()), int((gain < 0).sum())
            lines.append(
                f"{moving} hedge ratios move beyond doubt (evidence over 3 nats against a static one); "
                f"for {still} a static one explains the prices as well or better"
            )
        return "\n".join(lines)


_ONLINE = ("mean", "cov", "pivot", "scale", "offset", "last_y", "last_x")
"""Arrays of `fit_chunk` that a filter starts from, beside those of the noise."""

_COLUMNS = [
    *("beta", "sd", "lower", "upper", "memory", "memory_lower", "memory_upper", "effective_memory"),
    *("intercept_memory", "obs_scale", "z", "half_life", "static_half_life", "log_evidence"),
    *("against_static", "static_probability", "pareto_k", "ess", "refitted"),
]


def _describe(names: list[str], arrays: Arrays) -> pd.DataFrame:
    """The numbers of `table()`, of the pairs of one chunk."""
    # the plug-in comes last and is not part of the mixture
    q, mean, cov = (arrays[k][:, :-1] for k in ("q", "mean", "cov"))
    var = _variance(arrays)[:, :-1]
    scale = arrays["scale"]
    with np.errstate(divide="ignore", invalid="ignore"):
        beta = mean[..., 0] / scale[:, None]
        given = (cov[..., 0, 0] * var).mean(1) / scale**2
        sd = np.sqrt(given + beta.var(1))
        centre = beta.mean(1)
        ends = np.quantile(q_to_memory(q[..., 0]), [0.05, 0.5, 0.95], axis=1, method="nearest")
        effective = 1 + arrays["cov"][:, -1, 0, 0] / arrays["q"][:, -1, 0]
        level = np.median(q_to_memory(q[..., -1]), 1) if q.shape[-1] == 2 else np.nan
    noise = arrays["last_obs_var"] if "last_obs_var" in arrays else arrays["obs_scale"] ** 2
    found = {
        "beta": centre,
        "sd": sd,
        "lower": centre - Z90 * sd,
        "upper": centre + Z90 * sd,
        "memory": ends[1],
        "memory_lower": ends[0],
        "memory_upper": ends[2],
        "effective_memory": effective,
        "intercept_memory": level,
        "obs_scale": np.sqrt(noise[:, -1]),
        "z": arrays["spread"] / arrays["spread_sd"],
        "half_life": arrays["half_life"],
        "static_half_life": arrays["static_half_life"],
        "log_evidence": arrays["log_evidence"],
        "against_static": -arrays["log_static"],
        "static_probability": expit(arrays["log_static"]),
        "pareto_k": arrays["pareto_k"],
        "ess": arrays["effective_draws"],
        "refitted": arrays["refitted"],
    }
    return pd.DataFrame(found, index=pd.Index(names), columns=_COLUMNS)


def _variance(arrays: Arrays) -> np.ndarray:
    """Variance of the observation noise under every draw; where it is learnt, that of its t density."""
    if "dof" not in arrays:
        return arrays["obs_scale"] ** 2
    return arrays["last_obs_var"] * student_variance(arrays["dof"], np)


def _carried_names(model: HedgeRatioModel) -> tuple[str, ...]:
    """Arrays of what the noise carries after the last row, in the order of its fields."""
    one = np.ones(1)
    carried: Any = model.noise.noise(one, **dict.fromkeys(model.noise.parameters, one)).start()
    names: tuple[str, ...] = () if carried is None else carried._fields
    return tuple(CARRIED.get(name, name) for name in names)


def _online(
    names: list[str], arrays: Arrays, pairs: HedgePairs, model: HedgeRatioModel, policy: Any
) -> OnlineBoard:
    legs = dict(zip(pairs.names, pairs.pairs, strict=True))
    # the plug-in comes last and is not part of the mixture
    mean, cov = (np.moveaxis(arrays[k][:, :-1], (0, 1), (-2, -1)) for k in ("mean", "cov"))
    sites = {name: arrays[name][:, :-1] for name in model.parameters}
    drift, noise = model.laws(**sites)
    carried = noise.start()
    if carried is not None:
        carried = type(carried)(*(arrays[name][:, :-1] for name in _carried_names(model)))
    return OnlineBoard(
        names=names,
        targets=[legs[name][0] for name in names],
        hedges=[legs[name][1] for name in names],
        transform=pairs.transform,
        coordinates=Coordinates(
            arrays["pivot"][:, None],
            arrays["scale"][:, None],
            arrays["offset"],
            model.intercept != "none",
        ),
        drift=batch_last(drift, 2),
        noise=batch_last(noise, 2),
        state=State(mean, cov),
        carried=carried,
        log_weights=np.full(mean.shape[1:], -np.log(mean.shape[2])),
        **policy,
        last_prices=np.stack([arrays["last_y"], arrays["last_x"]], 1),
        at=pairs.index[-1],
        until=pairs.index[-1],
    )


def _by_reason(verdicts: dict[str, Verdict]) -> list[tuple[str, list[str]]]:
    """The pairs that have a reason, by it, the most frequent first."""
    groups: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        if verdict.reason:
            groups.setdefault(verdict.reason, []).append(name)
    return sorted(groups.items(), key=lambda item: -len(item[1]))
