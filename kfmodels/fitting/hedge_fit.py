"""`HedgeFit`: the result of fitting one pair, as an ArviZ tree and as tables by date.

One file: one class, the object that users hold; each method is a view of its tree.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.data.arrays import lengthen
from kfmodels.data.hedge_data import HedgeData
from kfmodels.fitting import passes, tables
from kfmodels.fitting import tree as trees
from kfmodels.fitting.grid import add_grid, spreads
from kfmodels.fitting.questions import Questions
from kfmodels.kalman.reversion import MeanReversion
from kfmodels.live.book import HedgeBook
from kfmodels.live.feed import LiveFilter
from kfmodels.model import gaps as closed
from kfmodels.model import saved
from kfmodels.model.hedge_ratio import HedgeRatioModel, Inputs
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.mixture import SHARE
from kfmodels.online.shocks import Quarantine, Shocks
from kfmodels.sampling.nuts import MAX_DIVERGING, MAX_PARETO_K, MAX_RHAT, MIN_ESS, MIN_WEIGHTED
from kfmodels.sampling.posterior import Draws, of_recursion
from kfmodels.words.caller import explain_kinds

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

    from kfmodels.universe.universe import HedgeUniverse

Kind = Literal["filtered", "predicted", "smoothed"]


@dataclass(frozen=True, eq=False, repr=False)
class HedgeFit(Questions):
    """A fitted pair: everything is in `tree`, and the methods are views of it.

    `tree` is an ArviZ `DataTree` with the groups posterior, sample_stats, prior, log_prior (by
    inferred site, of logit delta and of logarithms), series_log_likelihood (one number a draw, of all
    rows together: `az.loo`, which leaves out one of many, has nothing to read, and `leave_future_out`
    is for that), observed_data, constant_data, filtered, predicted, mixture (the thinned noise draws,
    each with its state after the last row) and plug_in (the same for the posterior mean), over the dims
    chain, draw, time, coef, hedge, ticker, noise_draw.
    """

    tree: "DataTree"
    given: HedgeRatioModel | None = None
    """The model as it was given, kept because a file cannot hold every prior."""

    @classmethod
    def from_draws(
        cls,
        data: HedgeData,
        model: HedgeRatioModel,
        inputs: Inputs,
        drawn: Draws,
    ) -> "HedgeFit":
        """Assemble the result of an inference."""
        sites = drawn.sites
        inputs = lengthen(inputs)
        chosen = of_recursion(drawn.mixed or trees.choose(model, inputs, sites))
        with jax.enable_x64(True):
            densities = jax.device_get(trees.densities(model, inputs, trees.flat(sites)))
            law = trees.regression(model, inputs, chosen)
            passed = jax.device_get(passes.forward(law, inputs.y)).first(len(data.y))
            if model.noise.moves or model.drift.shared:
                # variances that move with the filter are reported as after the last row
                every = trees.regression(model, inputs, trees.flat(sites))
                last = passes.last_variances(every, inputs.y, assumed=model.drift)
                obs_var, state_var = jax.device_get(last)
                own = state_var[:, : len(inputs.scales)]
                moved = {"obs_var": obs_var, "state_var": own / inputs.scales**2}
                sites = sites | {k: np.reshape(v, sites[k].shape) for k, v in moved.items()}
        by_chain = sites["obs_scale"].shape[:2]
        groups = {
            "posterior": sites,
            "prior": {name: np.asarray(v)[None] for name, v in drawn.prior.items()},
            "sample_stats": drawn.stats,
        } | {
            name: {site: v.reshape(by_chain) for site, v in group.items()}
            for name, group in densities.items()
            if group
        }
        kinds = closed.kinds(model.gaps, data)
        tree = trees.build(data, kinds, model.coordinates(data), groups, chosen, passed)
        tree.attrs |= {"model": saved.to_json(model), **drawn.about}
        return cls(tree, model)

    @property
    def target(self) -> str:
        return str(self.tree.attrs["target"])

    @property
    def hedges(self) -> tuple[str, ...]:
        constant = trees.group_of(self.tree, "constant_data")
        return tuple(str(name) for name in constant["hedge"].values)

    @property
    def coef(self) -> tuple[str, ...]:
        """Names of the coefficients: the hedges, then "alpha"."""
        posterior = trees.group_of(self.tree, "posterior")
        return tuple(str(name) for name in posterior["coef"].values)

    @property
    def fit_until(self) -> Any:
        """Date of the last training row."""
        return self.index[-1]

    @cached_property
    def model(self) -> HedgeRatioModel:
        """The model that was fitted, with its priors.

        Raises:
            ValueError: the fit comes from a file, which could not hold one of its priors.
        """
        return self.given or saved.from_json(self.tree.attrs["model"])

    @cached_property
    def index(self) -> pd.Index:
        """Dates of the training rows, as they were given."""
        return trees.index(self.tree)

    @cached_property
    def data(self) -> HedgeData:
        """The training rows."""
        return trees.data(self.tree)

    def convergence(self) -> dict[str, float]:
        """Worst `rhat`, smallest effective sample size `ess`, share of draws `diverging`.

        Of importance draws: `pareto_k` of their weights and the effective number `ess` of draws. With a
        spread, over all sites of the chains with it and of those without, as far as they are used.
        """
        about = self.tree.attrs
        if "ess" in about:
            return {k: about[k] for k in ("pareto_k", "ess") if k in about}
        table: Any = pd.concat([part[["rhat", "ess"]] for part in (self._summary, self._gaps)])
        stats = trees.group_of(self.tree, "sample_stats")
        return {
            "rhat": float(about.get("worst_rhat", table["rhat"].max())),
            "ess": float(about.get("least_ess", table["ess"].min())),
            "diverging": float(stats["diverging"].mean()),
        }

    def faults(self) -> list[str]:
        """Reasons to doubt that the draws represent the posterior; empty if there are none."""
        found = self.convergence()
        faults = []
        if "rhat" not in found:
            if not found.get("pareto_k", 0.0) <= MAX_PARETO_K:
                faults.append(
                    f"Pareto k-hat {found['pareto_k']:.2f} (should be below {MAX_PARETO_K})"
                )
            if not found["ess"] >= MIN_WEIGHTED:
                left = f"the weights leave {found['ess']:.0f} effective draws"
                faults.append(f"{left} (should exceed {MIN_WEIGHTED})")
            return faults
        if found["rhat"] > MAX_RHAT:
            faults.append(f"R-hat {found['rhat']:.3f} (should be below {MAX_RHAT})")
        if found["ess"] < MIN_ESS:
            faults.append(f"effective sample size {found['ess']:.0f} (should exceed {MIN_ESS})")
        if found["diverging"] > MAX_DIVERGING:
            share = f"{found['diverging']:.1%} of the draws diverged"
            faults.append(f"{share} (should be below {MAX_DIVERGING:.1%})")
        return faults

    def summary(self) -> pd.DataFrame:
        """The inferred noise: a row per coefficient, then "noise" for the observation noise.

        Posterior medians of `delta`, `q`, `gain` and `memory` (bars; 90 % interval in
        `memory_lower`, `memory_upper`) and of `var`, the state variance per bar or the observation
        variance, in squared units of the transformed prices; `rhat` and `ess` of log var. The
        memory in the row "noise" is that of the observation variance: infinite when constant.

        A model that goes by the time of day, as that of `fit(data)` does where rows are moves within a
        session, has more in `day()`.

        `memory` is what delta means for a level without regressors. A hedge ratio shares the
        information of a bar with the intercept and so remembers longer: `effective_memory` is
        `1 + var(ratio) / state variance` after the last row (plug-in), which for a lone level is
        `memory`.

        A model with a spread that comes back has a row "spread": its `half_life` in bars with a 90 %
        interval, `r2_mr`, the share of a bar's move of level and spread that comes back
        (`2 q_s / (2 q_s + (1 + phi) q_alpha)`, Clegg and Krauss 2018) and `var`, in which it settles,
        all given that there is one, and the `probability` of that.

        Where the model starts at `Few` hedges, `start_size` is the posterior median of its `s_j`: a
        hedge that is not needed has one near 0. `rhat` and `ess` are then the worse of log var and
        log `start_size`. `report()` says where a posterior is pressed against a bound of its prior.
        """
        return self._summary.copy()

    @cached_property
    def _summary(self) -> pd.DataFrame:
        return tables.summarise(self.tree)

    def gaps(self) -> pd.DataFrame:
        """The worth of a closed period, one row per kind; empty where the model has no `Gaps`.

        `crossed` counts them in the training rows: where it is 0 the posterior is the prior. Posterior
        medians and 90 % intervals of `bars` (open bars that one moves the coefficients by) and `noise`
        (factor on the observation variance of the row after it), each with `_lower` and `_upper`; the
        worse `rhat` and `ess` of their logarithms.
        """
        return self._gaps.copy()

    @cached_property
    def _gaps(self) -> pd.DataFrame:
        return tables.tell_gaps(self.tree)

    def day(self) -> pd.DataFrame:
        """What goes by the time of day, `median`, `lower` and `upper` (90 %); empty if nothing does.

        Rows `fall`, `rise` and `first bar` are the constants of the variance (`Profile`), `tilt X` is
        what the ratio of X differs by at the open (`Tilt`), `deviation` the size of a morning's as a
        share of the ratio and `half-life` its bars (`OfTheDay`), given that there is one, where that
        has a `probability`.
        """
        return tables.tell_day(self.tree)

    @explain_kinds
    def hedge_ratio(self, kind: Kind = "filtered", *, level: float = 0.9) -> pd.DataFrame:
        """Hedge ratio by date: `mean, sd, lower, upper`, one block per hedge when there are several.

        `sd` and the interval (mean plus or minus a normal quantile) include the noise posterior.

        Args:
            kind: "predicted" (given the bars before), "filtered" (given this bar too: what to hold
                until the next) or "smoothed" (given all bars: for looking back only).
            level: of the interval.
        """
        return _blocks(self._belief(kind), self.hedges, self.index, level)

    @explain_kinds
    def intercept(self, kind: Kind = "filtered", *, level: float = 0.9) -> pd.DataFrame:
        """Intercept by date, at x = 0, in transformed units: `mean, sd, lower, upper`."""
        if "alpha" not in self.coef:
            raise ValueError(f'the model of {self.target} has no intercept (intercept="none")')
        return _blocks(self._belief(kind), ("alpha",), self.index, level)

    @explain_kinds
    def reversion(self, kind: Kind = "filtered") -> pd.DataFrame:
        """The spread that comes back, by date: `mean`, `sd` and `z = mean / sd`, beside the `level`.

        In transformed units, over all draws, in some of which there is none. Positive means that the
        target is rich. `level` is what the intercept is without it. (`spread` is the innovation.)

        Raises:
            ValueError: the model has no spread, or `kind` is "smoothed", which is not kept of it.
        """
        return tables.tell_reversion(self.tree, kind, self.index)

    def half_life(self) -> pd.Series:
        """Bars in which half of the spread is gone: `lower`, `median`, `upper` (90 %), if there is one.

        Raises:
            ValueError: the model has no spread that comes back.
        """
        return tables.tell_half_life(self.tree)

    def reversion_now(self) -> MeanReversion:
        """The spread after the last training row: what a trade on it is expected to earn.

        Raises:
            ValueError: the model has no spread that comes back.

        Example:
            >>> from kfmodels import HedgeData, Reverting, datasets, fit, hedge_ratio_model
            >>> prices = datasets.stocks()[["KO", "PEP"]].loc["2019"]
            >>> data = HedgeData.from_prices(prices, target="KO", hedges=["PEP"])
            >>> fitted = fit(data, hedge_ratio_model(spread=Reverting()), progress=False)
            >>> now = fitted.reversion_now()
            >>> gain = now.expect(bars=10, money=1e6, cost=200)
            >>> gain.side == -1 if now.mean > 0 else gain.side == 1
            True
        """
        tables.check_spread(self.tree)
        found = self.online().reversion()
        assert found is not None
        return found

    @explain_kinds
    def spread(self, *, level: float = 0.9) -> pd.DataFrame:
        """The innovation by date: the target minus its forecast from the bars before.

        Columns `spread`, `sd` (of the forecast), `band_lower`, `band_upper` (around zero: what the
        forecast allowed the spread) and `z = spread / sd`; NaN where nothing was observed. Positive
        means the target is above its forecast; whether it comes back, `spread_health` says.
        """
        group = trees.group_of(self.tree, "predicted")
        seen = trees.group_of(self.tree, "constant_data")["observed"].values.astype(bool)
        spread = np.where(seen, group["spread"].values, np.nan)
        sd = np.where(seen, group["spread_sd"].values, np.nan)
        width = _width(level) * sd
        band = {"band_lower": -width, "band_upper": width}
        return pd.DataFrame({"spread": spread, "sd": sd, **band, "z": spread / sd}, self.index)

    @explain_kinds
    def hedge_shares(self, position: float = 1.0, kind: Kind = "filtered") -> pd.DataFrame:
        """Shares of each hedge to hold against `position` shares of the target, by date.

        `-beta * position` on levels; `-beta * position * P_target / P_hedge` on log prices and
        returns, where beta is a ratio of money. Negative: sell short.
        """
        beta = np.stack([trees.belief(self._belief(kind), name)[0] for name in self.hedges], axis=1)
        prices = self.data.prices.ffill()
        # a position predicted for a bar is traded at the prices of the bar before
        prices = (prices.shift(1) if kind == "predicted" else prices).to_numpy()
        shares = self.data.transform.shares(-beta * position, prices[:, :1], prices[:, 1:])
        return pd.DataFrame(shares, self.index, list(self.hedges))

    @explain_kinds
    def online(
        self,
        *,
        draws: int | None = None,
        share: float = 0.0,
        shocks: Shocks | None = None,
    ) -> OnlineFilter:
        """The filter as it stands after the last training row, ready for the next tick.

        By default it continues with exactly the posterior of the noise and takes what it is given, ten
        times the price as well; the guarded filter for a feed is that of `go_live`.

        Args:
            draws: number of noise draws to mix over, by default all that are kept (64); 1 is the
                plug-in filter at the posterior mean (of log q and log obs_scale).
            share: of the weights, a bar, that is handed out anew, see `OnlineFilter`. Above 0 there are
                16 further draws with memories of 12 bars and more, so that the noise can change: see
                `add_grid`. There are none with one draw, nor where the model fixes how fast the ratio
                moves or has it move on several scales, as there is no memory to be spread then.
            shocks: see `OnlineFilter`.

        Raises:
            ValueError: more draws than are kept, or a share outside [0, 1).

        Example:
            >>> from kfmodels import HedgeData, NUTS, datasets, fit
            >>> prices = datasets.stocks()[["AAPL", "SPX"]].loc["2019":"2020"]
            >>> data = HedgeData.from_prices(prices, target="AAPL", hedges=["SPX"])
            >>> year = data.before("2020-01-01")
            >>> live = fit(year, method=NUTS(draws=500, chains=2), progress=False).online()
            >>> row = prices.loc["2020-01-02"]
            >>> tick = live.update(y=row["AAPL"], x=[row["SPX"]], at=row.name)
            >>> tick.observed, 0 < tick.sd_given_noise["SPX"] <= tick.sd_total["SPX"]
            (True, True)
        """
        most = self.tree["mixture"].sizes["noise_draw"]
        draws = most if draws is None else draws
        if not 1 <= draws <= most:
            raise ValueError(f"draws must lie between 1 (plug-in) and {most}, not {draws}")
        live = trees.online(self.tree, self.data, draws)
        if share > 0 and draws > 1 and spreads(assumed := trees.assumed(self.tree)):
            alone = jax.tree.map(lambda leaf: np.asarray(leaf)[None], assumed.inputs(self.data))
            plug_in = trees.stored_sites(self.tree, "plug_in")
            live = add_grid(live.board, assumed, alone, plug_in).filter(self.target)
        if share == 0 and shocks is None:
            return live
        return OnlineFilter(**live.arguments() | {"share": share, "shocks": shocks})

    @explain_kinds
    def go_live(
        self,
        *,
        draws: int | None = None,
        share: float = SHARE,
        shocks: Shocks | None = Quarantine(),
        clock: Clock | None = None,
        **settings: Any,
    ) -> LiveFilter:
        """A live filter for a feed, unattended: it goes on learning the noise, and checks prices.

        Args:
            draws: noise draws, see `online`; by default all that are kept.
            share, shocks: see `online`; with a share of 0 the noise stays that of the posterior.
            clock: by which bars, nights and the time of day are read; None is that of the data.
            settings: of `LiveFilter`: max_staleness, monitor, journal and so on.

        Raises:
            ValueError: as `online` and `LiveFilter`; a clock that counts by another bar than that of
                the training rows.

        Example:
            >>> from kfmodels import HedgeData, ImportanceSampling, datasets, fit
            >>> prices = datasets.stocks()[["AAPL", "SPX"]]
            >>> data = HedgeData.from_prices(prices.loc["2019"], target="AAPL", hedges=["SPX"])
            >>> fitted = fit(data, method=ImportanceSampling(), progress=False)
            >>> with fitted.go_live() as live:
            ...     signal = live.tick({"AAPL": 75.09, "SPX": 3257.85}, at="2020-01-02")
            >>> print(signal.outcome, signal.condition, live.engine.draws)
            accepted ok 80
        """
        own = self.data.clock
        clock = own if clock is None else clock
        bar = None if own is None else own.bar
        if clock is not None and bar != clock.bar:
            raise ValueError(
                f"the noise was inferred by {bar or 'row'}, but the live clock counts by "
                f"{clock.bar or 'row'}: fit data with that clock, HedgeData.from_prices(..., clock=...)"
            )
        engine = self.online(draws=draws, share=share, shocks=shocks)
        return LiveFilter(engine, clock=clock, **settings)

    @explain_kinds
    def book(self, *, position: float, **settings: Any) -> HedgeBook:
        """The shares of the hedges against a position in the target, of this fit's tickers and units.

        Args:
            position: shares of the target held, negative when short.
            settings: of `HedgeBook`: lots, band, cost, multiplier, held.

        Raises:
            ValueError: as `HedgeBook`.

        Example:
            >>> from kfmodels import HedgeData, datasets, fit, hedge_ratio_model
            >>> pair = datasets.stocks().loc["2019", ["KO", "PEP"]]
            >>> data = HedgeData.from_prices(pair, target="KO", hedges=["PEP"])
            >>> fixed = fit(data, hedge_ratio_model(delta=0.01, obs_scale=0.01), progress=False)
            >>> book, prices = fixed.book(position=1000), {"KO": 55.0, "PEP": 137.0}
            >>> orders = book.act(fixed.go_live().tick(prices, at="2020-01-02"), prices)
            >>> print(book.transform, -1000 < orders.held["PEP"] < 0)
            log True
        """
        legs = {"target": self.target, "hedges": self.hedges, "transform": self.data.transform}
        return HedgeBook(**legs, position=position, **settings)

    @explain_kinds
    def save(self, path: str | Path) -> None:
        """Write the tree as one netCDF file, atomically; read it back with `load`."""
        trees.save(self.tree, path)

    def _belief(self, kind: Kind) -> "Dataset":
        if kind in ("filtered", "predicted"):
            return trees.group_of(self.tree, kind)
        if kind == "smoothed":
            return self._smoothed
        raise ValueError(f'kind must be "filtered", "predicted" or "smoothed", not {kind!r}')

    @cached_property
    def _smoothed(self) -> "Dataset":
        with jax.enable_x64(True):
            law, y = trees.posed(self.tree, self.data, trees.stored_sites(self.tree))
            belief = jax.device_get(passes.backward(law, y)).first(len(self.index))
        return trees.in_units(self.tree, belief)


@explain_kinds
def load(path: str | Path) -> "HedgeFit | HedgeUniverse":
    """Read what `HedgeFit.save` wrote (netCDF), or `HedgeUniverse.save` (JSON).

    Raises:
        ValueError: the file is neither, or comes from a newer version of kfmodels.
    """
    if Path(path).suffix == ".json":
        from kfmodels.universe.universe import HedgeUniverse

        return HedgeUniverse.load(path)
    return load_fit(path)


def load_fit(path: str | Path) -> HedgeFit:
    """Read a fit written by `HedgeFit.save`.

    Raises:
        ValueError: the file is not one, or comes from a newer version of kfmodels.
    """
    return HedgeFit(trees.load(path))


def _width(level: float) -> float:
    """Half width of a central normal interval, in standard deviations."""
    if not 0 < level < 1:
        raise ValueError(f"level is the probability of the interval, between 0 and 1, not {level}")
    return NormalDist().inv_cdf(0.5 + level / 2)


def _blocks(
    belief: "Dataset", names: tuple[str, ...], index: pd.Index, level: float
) -> pd.DataFrame:
    wide = _width(level)
    blocks = {}
    for name in names:
        mean, sd = trees.belief(belief, name)
        columns = {"mean": mean, "sd": sd, "lower": mean - wide * sd, "upper": mean + wide * sd}
        blocks[name] = pd.DataFrame(columns, index)
    return blocks[names[0]] if len(names) == 1 else pd.concat(blocks, axis=1)
