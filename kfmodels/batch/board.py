"""`HedgeBoard`: the hedge of every pair of a universe, how sure it is, and which pairs failed.

One file: one class, all of whose methods read the same chunks.
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

from kfmodels.batch.chunk import CARRIED, HABIT, inputs_of, pair_key
from kfmodels.batch.rows import COLUMNS, describe_pairs
from kfmodels.batch.status import FITTED, Status, Verdict
from kfmodels.batch.store import Store
from kfmodels.batch.take_over import take_over
from kfmodels.data.checks import Label, day
from kfmodels.data.hedge_data import rows_after
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.data.scales import sentence_of
from kfmodels.fitting.alternatives import join_draws
from kfmodels.fitting.grid import add_grid, spreads
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.habits import Habits
from kfmodels.kalman.noise import floored
from kfmodels.kalman.regression import batch_last
from kfmodels.kalman.step import State
from kfmodels.live.book import HedgeBook
from kfmodels.live.feed import LiveFilter
from kfmodels.live.lags import tell_lags
from kfmodels.model import saved
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.online.board import OnlineBoard
from kfmodels.online.mixture import SHARE
from kfmodels.online.shocks import Quarantine, Shocks
from kfmodels.sampling import importance
from kfmodels.sampling.posterior import Draws, draw_prior
from kfmodels.words.caller import explain_kinds
from kfmodels.words.shown import Shown

Arrays = dict[str, np.ndarray]

BEYOND_DOUBT = 3
"""Nats of a Bayes factor (odds of 20 to 1): "strong" evidence in Kass and Raftery (1995)."""

_WAITING = Verdict(Status.WAITING, "not fitted yet: run fit_many again with this store")


@dataclass(eq=False, repr=False)
class HedgeBoard(Shown):
    """The fits of many pairs in the folder of `fit_many`, read from it when they are needed.

    `fit_many` returns one, and `HedgeBoard.open(folder)` at any later time.
    """

    store: Store
    transient: dict[str, Verdict] = field(default_factory=dict)
    """Verdicts on pairs that are not stored, by name; the next run fits those pairs again."""

    model_given: HedgeRatioModel | None = None
    """The model as it was passed to `fit_many`; it may have a prior that the folder cannot hold."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        transient: dict[str, Verdict] | None = None,
        model: HedgeRatioModel | None = None,
    ) -> "HedgeBoard":
        """Open the folder that `fit_many(..., store=folder)` wrote, finished or not.

        Raises:
            ValueError: the folder holds no board, or one that a newer version of kfmodels wrote.
        """
        return cls(Store.open(path), dict(transient or {}), model)

    @cached_property
    def model(self) -> HedgeRatioModel:
        """The model that was fitted to every pair.

        Raises:
            ValueError: one of its priors could not be written to the folder.
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
        """The verdict on each pair, by its name."""
        listed = dict.fromkeys(self.pairs.names, _WAITING) | self.transient
        for record in self.store.records().values():
            for name, (status, reason) in zip(record.names, record.statuses, strict=True):
                listed[name] = Verdict(Status(status), reason)
        return listed

    @cached_property
    def doubts(self) -> pd.Series:
        """For each pair what is in doubt of the prices of its legs, and the remedy; empty if nothing.

        So is a hedge that comes a row before or after its target. Such a pair is fitted and put online
        as any other: only who knows the ticker can tell a split from a fall by half.
        """
        suspect = {ticker: sentence_of(doubts) for ticker, doubts in self.pairs.doubts.items()}
        places = {leg: place for place, leg in enumerate(self.pairs.prices.columns)}
        table, texts = self.pairs.prices.to_numpy(float), dict[str, str]()
        for name, legs in zip(self.pairs.names, self.pairs.pairs, strict=True):
            said = [suspect[leg] for leg in legs if leg in suspect]
            rows = table[:, [places[leg] for leg in legs]]
            texts[name] = "; ".join([*said, *tell_lags(rows, legs, self.pairs.transform)])
        return pd.Series(texts, name="doubts").rename_axis("pair")

    @property
    def status(self) -> pd.Series:
        """The `Status` of each pair: "ok", "doubted", "unusable", "failed", "died" or "waiting"."""
        return self._tabulate("status")

    @property
    def reason(self) -> pd.Series:
        """For each pair a sentence that says why its status is not "ok"; empty where it is."""
        return self._tabulate("reason")

    def _tabulate(self, part: str) -> pd.Series:
        texts = {name: str(getattr(verdict, part)) for name, verdict in self.verdicts.items()}
        return pd.Series(texts, name=part).rename_axis("pair")

    @cached_property
    def _table(self) -> pd.DataFrame:
        # what the file could not hold of a prior is not asked for here
        parts = saved.assumed(json.dumps(self.store.job["model"])).states(1)
        rows = [describe_pairs(names, arrays, parts) for names, arrays in self.chunks()]
        table = pd.concat(rows) if rows else pd.DataFrame(columns=COLUMNS)
        table = table.reindex(self.pairs.names).rename_axis("pair")
        # reindexing leaves NaN for pairs that were not fitted, which would make the column objects
        table["refitted"] = table["refitted"].eq(True)
        table.insert(0, "target", [target for target, _ in self.pairs.pairs])
        table.insert(1, "hedge", [hedge for _, hedge in self.pairs.pairs])
        return table.assign(doubts=self.doubts, status=self.status, reason=self.reason)

    def table(self) -> pd.DataFrame:
        """One row per pair, as of the last row of prices; NaN where a pair was not fitted.

        `beta` is the hedge ratio to hold (in money or, on levels, in shares), `sd` its sd over the
        posterior of the noise too, `lower` and `upper` its 90 % interval: those of the 64 draws that
        `online` and `sel` go on with, chosen so that they agree with all draws. Beside a dense grid sds
        are within 2 % as a rule, closer with `ImportanceSampling(draws=256)` (test_ratio_to_hold).
        `memory` is that of the ratio in bars, with the 90 % interval `memory_lower` and
        `memory_upper`; for `effective_memory` see `HedgeFit.summary`; `intercept_memory` is that of the
        intercept. `obs_scale` is the sd of the observation noise now, `z` that of the last spread.
        `half_life` of the spread and `static_half_life` of the residual of least squares are in bars.
        `log_evidence` is that of
        the model; `against_static` says by how many nats it beats a ratio that stands still
        (negative where static does better), `static_probability` the same at even prior odds.
        Of a model with a spread, `comes_back` is the probability that it does; `half_life` stays that
        of the innovation, and `sel` and `online` know more.
        `pareto_k`, `ess` (effective draws) and `refitted` (by NUTS) say how reliable the draws are,
        `doubts` what may be wrong with the prices, `status` and `reason` what came of the pair.
        """
        return self._table.copy()

    @explain_kinds
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

    @explain_kinds
    def sel(self, pair: str) -> HedgeFit:
        """Make a full `HedgeFit` of one pair, with tables by date, plots and an online filter.

        Raises:
            ValueError: no such pair, or it was not fitted (the message says why).

        Example:
            >>> from kfmodels import HedgeData, datasets, fit_many
            >>> prices = datasets.etfs().loc["2014":"2015", ["EWG", "EWQ"]]
            >>> board = fit_many(HedgeData.all_pairs(prices), progress=False)
            >>> board.sel("EWG/EWQ").hedges
            ('EWQ',)
        """
        row = self._find_row(pair)
        data = self.pairs.data(pair)
        inputs = self.model.inputs(data)
        seed = self.store.job["seed"]
        key = pair_key(pair, seed)
        each = []
        for number, model in enumerate(self.model.alternatives):
            end = f"_{number}" if number else ""
            with jax.enable_x64(True):
                drawn = importance.resample_sites(
                    row["points" + end], row["log_weights" + end], key, inputs, model=model
                )
                sites = jax.device_get(drawn)
            _, prior = draw_prior(model, inputs, seed)
            about = {
                "ess": float(row["effective_draws" + end]),
                "log_evidence": float(row["log_evidence" + end]),
                "log_evidence_mcse": float(
                    row["evidence_error" + end if number else "log_evidence_mcse"]
                ),
            }
            # draws of NUTS, of the model itself alone, have no weights whose tail k-hat is about
            if number or not row["refitted"]:
                about["pareto_k"] = float(row["pareto_k" + end])
            stats = {"diverging": np.zeros(sites["obs_scale"].shape, bool)}
            each.append(Draws(sites, stats, prior, None, about))
        mixed = {name: row[name] for name in self.model.parameters}
        drawn = each[0] if len(each) == 1 else join_draws(self.model, each, seed)
        return HedgeFit.from_draws(data, self.model, inputs, drawn._replace(mixed=mixed))

    @explain_kinds
    def online(
        self,
        targets: list[str] | None = None,
        *,
        share: float = 0.0,
        shocks: Shocks | None = None,
    ) -> OnlineBoard:
        """Put the filters of all pairs that were fitted on one board, which advances tick by tick.

        Args:
            targets: only pairs with one of these targets.
            share, shocks: of every pair, as for `HedgeFit.online`.

        Raises:
            ValueError: no such pair was fitted, or a share outside [0, 1).
        """
        pairs, model = self.pairs, self.model
        names, arrays = self.fitted((*model.parameters, *_carried_names(model), *_ONLINE), targets)
        legs = dict(zip(pairs.names, pairs.pairs, strict=True))
        # the plug-in comes last and is not part of the mixture
        mean, cov = (np.moveaxis(arrays[k][:, :-1], (0, 1), (-2, -1)) for k in ("mean", "cov"))
        drift, noise = model.laws(**{name: arrays[name][:, :-1] for name in model.parameters})
        carried = noise.start()
        if carried is not None:
            carried = type(carried)(*(arrays[name][:, :-1] for name in _carried_names(model)))
        board = OnlineBoard(
            names=names,
            targets=[legs[name][0] for name in names],
            hedges=[legs[name][1] for name in names],
            transform=pairs.transform,
            coordinates=Coordinates(
                arrays["pivot"][:, None],
                arrays["scale"][:, None],
                arrays["offset"],
                model.intercept != "none",
                parts=model.states(1),
            ),
            drift=batch_last(drift, 2),
            noise=floored(batch_last(noise, 2), arrays["least"][:, :-1]),
            state=State(mean, cov),
            carried=carried,
            log_weights=np.full(mean.shape[1:], -np.log(mean.shape[2])),
            share=share,
            shocks=shocks,
            last_prices=np.stack([arrays["last_y"], arrays["last_x"]], 1),
            habits=Habits(*(arrays[HABIT + name] for name in Habits._fields)),
            at=self.fit_until,
            until=self.fit_until,
        )
        if share == 0 or not spreads(model):
            return board
        plug_in = {name: arrays[name][:, -1] for name in model.parameters}
        return add_grid(board, model, inputs_of(pairs, names, model), plug_in)

    @explain_kinds
    def go_live(
        self,
        targets: list[str] | None = None,
        *,
        share: float = SHARE,
        shocks: Shocks | None = Quarantine(),
        **settings: Any,
    ) -> LiveFilter:
        """Make a live filter of all pairs that were fitted, to be left alone with a feed.

        Args:
            targets, share, shocks: as for `online`, with defaults for trading.
            settings: of `LiveFilter`: clock, max_staleness, monitor, journal and so on.

        Raises:
            ValueError: as `online` and `LiveFilter`; `draws` is given, which only a single fit can
                change.
        """
        if "draws" in settings:
            raise ValueError("a board has the draws it was fitted with: leave draws out")
        return LiveFilter(self.online(targets, share=share, shocks=shocks), **settings)

    def take_over(self, live: LiveFilter, targets: list[str] | None = None) -> tuple[str, ...]:
        r"""Put tonight's noise in the place of that of a live board, which goes on without a gap.

        Mean and covariance of the ratios, prices, holds, time and all that is known of the feed are
        carried over (see `carry`); the rows that came since the fit teach the noise what it carries.
        In the journal it is one step.

        Args:
            live: of `go_live`; its journal is opened as before, with the board that began it.
            targets: only pairs of this board with one of these targets.

        Returns:
            A sentence for each pair that keeps the noise it had, and for each that joins, which has
            taken the rows since the fit that the filter remembers.

        Raises:
            ValueError: it runs no board, or none of these pairs; a pair has other legs, another
                transform; prices in other units than those of the feed, or that end before the rows
                remembered; a pair that keeps its noise is of another model. Nothing was changed.
            OSError: the journal's disk fails. Nothing was changed.

        Example:
            >>> from kfmodels import HedgeData, datasets, fit_many
            >>> prices = datasets.etfs().loc["2014":"2015", ["EWG", "EWQ"]]
            >>> pairs = HedgeData.all_pairs(prices)
            >>> live = fit_many(pairs.before("2015-12-01"), progress=False).go_live()
            >>> for at, row in prices.loc["2015-12":].iterrows():
            ...     signal = live.tick(row.to_dict(), at=at)
            >>> fit_many(pairs, progress=False).take_over(live)
            ()
            >>> str(live.engine.until.date())
            '2015-12-31'
        """
        return take_over(self, live, targets)

    @explain_kinds
    def book(self, pair: str, *, position: float, **settings: Any) -> HedgeBook:
        """The shares of the hedge against a position in the target of one pair.

        Its ticks are those of `BoardTick.of(pair)`.

        Args:
            pair: its name.
            position: shares of the target held, negative when short.
            settings: of `HedgeBook`: lots, band, cost, multiplier, held.

        Raises:
            ValueError: there is no such pair, or as `HedgeBook`.
        """
        if pair not in self.verdicts:
            raise ValueError(self._unknown(pair))
        target, hedge = dict(zip(self.pairs.names, self.pairs.pairs, strict=True))[pair]
        legs: Any = {"target": target, "hedges": [hedge], "transform": self.pairs.transform}
        return HedgeBook(**legs, position=position, **settings)

    def fitted(
        self, keys: Sequence[str], targets: list[str] | None = None
    ) -> tuple[list[str], Arrays]:
        """Read names and some arrays of the pairs whose status is "ok", of all targets or of some.

        Raises:
            ValueError: there is no such pair.
        """
        parts: list[tuple[list[str], Arrays]] = []
        targets = None if targets is None else [str(target) for target in targets]
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
        fitted = [name for name, verdict in self.verdicts.items() if verdict.status in _KEPT]
        if not fitted:
            raise ValueError("no pair was fitted: board.reason says why")
        inputs = self.model.inputs(self.pairs.data(fitted[0]))
        with jax.enable_x64(True):
            # a layout is that of many pairs: here of a batch of one
            alone = jax.tree.map(lambda leaf: np.asarray(leaf)[None], inputs)
            return tuple(importance.layout_of(alone, self.model).shapes)

    def chunks(self) -> Iterator[tuple[list[str], Arrays]]:
        """Read the finished chunks: the names of their pairs, and the arrays of `fit_chunk`."""
        records = self.store.records()
        for number in sorted(records):
            arrays = self.store.arrays(records[number])
            if arrays:
                yield records[number].names, arrays

    def _find_row(self, pair: str) -> Arrays:
        """The arrays of one pair, from the one chunk that holds it."""
        if pair not in self.verdicts:
            raise ValueError(self._unknown(pair))
        for record in self.store.records().values():
            if pair in record.names:
                place = record.names.index(pair)
                arrays = self.store.arrays(record)
                # a pair that could not be fitted has NaN beside others; a chunk of such has no arrays
                if arrays and np.isfinite(arrays["effective_draws"][place]):
                    return {name: values[place] for name, values in arrays.items()}
        raise ValueError(f"{pair} was not fitted: {self.verdicts[pair].reason}")

    def _unknown(self, pair: str) -> str:
        named = f"they are named like {self.pairs.names[0]}"
        return f"{pair} is not among the {len(self.pairs)} pairs; {named}"

    def later(self, prices: pd.DataFrame, names: list[str]) -> pd.DataFrame:
        """Take the rows of some tickers that are later than the fit, as numbers."""
        return rows_after(prices, self.fit_until, names)

    def __len__(self) -> int:
        return len(self.pairs)

    def __str__(self) -> str:
        """How many pairs were fitted, why the others were not, and how many ratios move."""
        table = self._table
        fine: pd.DataFrame = table.loc[table["status"] == Status.OK]
        lines = [f"{len(fine)} of {len(table)} pairs fitted on prices until {day(self.fit_until)}"]
        for ticker, doubts in self.pairs.doubts.items():
            legs = zip(self.pairs.names, self.pairs.pairs, strict=True)
            pairs = sum(ticker in two and self.verdicts[n].status in _KEPT for n, two in legs)
            if pairs:
                lines.append(f"  in doubt, {pairs} pair{'s'[: pairs > 1]}: {sentence_of(doubts)}")
        if redone := int(np.sum(table["refitted"].to_numpy())):
            lines.append(f"  {redone} refitted with NUTS (their importance weights failed)")
        for sentence, names in _group_by_reason(self.verdicts):
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            lines.append(f"  {shown}: {sentence}")
        if len(fine):
            gain = fine["against_static"].to_numpy()
            moving, still = int((gain > BEYOND_DOUBT).sum()), int((gain < 0).sum())
            left = len(fine) - moving - still
            lines.append(
                f"{moving} hedge ratios move beyond doubt (evidence over {BEYOND_DOUBT} nats against a "
                "static one); "
                f"for {still} a static one explains the prices as well or better"
                f"{f'; for {left} the rows leave it open' if left else ''}"
            )
        return "\n".join(lines)


_KEPT = (Status.OK, Status.DOUBTED)
"""Statuses of pairs whose draws the store holds."""

_ONLINE = ("mean", "cov", "least", "pivot", "scale", "offset", "last_y", "last_x")
_ONLINE += tuple(HABIT + name for name in Habits._fields)
"""Arrays of `fit_chunk` that a filter starts from, beside those of the noise."""


def _carried_names(model: HedgeRatioModel) -> tuple[str, ...]:
    """Names of the arrays of what the noise carries after the last row, in the order of its fields."""
    one = np.ones(1)  # any value will do: only the names of the fields are read
    carried = model.noise.noise(one, **dict.fromkeys(model.noise.parameters, one)).start()
    names: tuple[str, ...] = () if carried is None else carried._fields
    return tuple(CARRIED.get(name, name) for name in names)


def _group_by_reason(verdicts: dict[str, Verdict]) -> list[tuple[str, list[str]]]:
    """The names of the pairs that share a reason, the most frequent reason first."""
    groups: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        if verdict.reason:
            groups.setdefault(verdict.reason, []).append(name)
    return sorted(groups.items(), key=lambda item: -len(item[1]))
