"""What a trading host with NumPy and typer alone must do: run by a process that finds nothing else.

python tests/light_script.py make FOLDER    with the whole package: saves what the other reads
python tests/light_script.py run FOLDER     on the host
"""

import json
import subprocess
import sys
from pathlib import Path


def make(folder: Path) -> None:
    """Save a live filter and a universe, of prices that come with the package."""
    import kfmodels as kf

    prices = kf.datasets.etfs().loc["2012":"2013", ["EWG", "EWQ", "EWU", "SPY"]]
    data = kf.HedgeData.from_prices(prices, target="EWG", hedges=["EWQ"])
    model = kf.hedge_ratio_model(noise=kf.Discounted())
    fitted = kf.fit(data, model, method=kf.ImportanceSampling(), progress=False)
    fitted.online().save(folder / "pair.json")
    kf.hedge_universe(prices).save(folder / "universe.json")
    moves = {"EWG": 1.002, "EWQ": 1.003, "EWU": 0.999, "SPY": 1.001}
    last = {name: float(prices[name].iloc[-1]) * moves[name] for name in prices}
    (folder / "next.json").write_text(json.dumps(last))


def run(folder: Path) -> None:
    """Go on with both: in this process, by the command, and once more after its journal."""
    import kfmodels as kf

    prices = json.loads((folder / "next.json").read_text())
    engine = kf.OnlineFilter.load(folder / "pair.json")
    book = kf.live.HedgeBook(target="EWG", hedges=["EWQ"], transform="log", position=1000)
    with kf.LiveFilter(engine, journal=folder / "pair.journal") as live:
        signal = live.tick(prices, at="2014-01-02")
        assert signal.outcome == "accepted", signal
        assert book.act(signal, prices).traded
    for name, again in (("pair", "2014-01-03"), ("universe", "2014-01-02")):
        line = json.dumps({"at": again, "prices": prices}) + "\n"
        journal = folder / f"{name}.journal"
        command = [sys.executable, "-m", "kfmodels", "live", folder / f"{name}.json"]
        done = subprocess.run(
            [*command, "--journal", journal], input=line, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[0])["outcome"] == "accepted", done.stdout
    heavy = {"jax", "pandas", "scipy", "xarray", "matplotlib", "numpyro"} & set(sys.modules)
    assert not heavy, heavy
    print("a pair and a universe went on, with their journals")


if __name__ == "__main__":
    {"make": make, "run": run}[sys.argv[1]](Path(sys.argv[2]))
