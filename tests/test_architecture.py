"""The rooms: which may import which, how long a file may be, and what an import may do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kfmodels

PACKAGE = Path(kfmodels.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = [
    {
        "kalman.step",
        "kalman.density",
        "coordinates",
        "files",
        "checks",
        "datasets",
        "horseshoe",
        "marginal",
        "no_trade_band",
        "pareto",
        "instants",
        "legs",
        "monitor",
        "board_records",
        "doubts",
        "ridge",
    },
    {"kalman.scan", "kalman.draws", "adaptive", "board_checks", "journal", "order", "sessions"},
    {"kalman.likelihood", "mixing", "clock", "quotes", "records"},
    {
        "arrivals",
        "data",
        "distributions",
        "hedge_book",
        "noise",
        "rescales",
        "shocks",
        "simulated_day",
    },
    {
        "assumptions",
        "sites",
        "priors",
        "inputs",
        "pairs_file",
        "baselines",
        "online_file",
        "attribution",
        "board_block",
        "board_legs",
    },
    {"posterior", "gaps", "starts", "online", "board_mixing", "store"},
    {"kalman_ols", "models", "importance", "mixture", "replay", "online_board"},
    {"model_file", "population", "tree", "signals", "surface", "engines"},
    {"live_settings", "alarms"},
    {"live", "explore"},
    {"results"},
    {"inference", "report", "scores", "health", "comparison", "evidence", "words"},
    {"published", "calibration", "refit", "future", "new_noise", "pooling"},
    {"chunk"},
    {"board"},
    {"batch", "ranking", "desk"},
    {"plots.ink"},
    {"plots.pair", "plots.priors", "plots.scores", "plots.board", "plots.live"},
    {"demo", "page", "trading_day"},
    {"shell"},
    {"cli_live", "cli_many"},
    {"cli"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
NUMPY_ONLY = {
    "kalman.step",
    "kalman.density",
    "kalman.draws",
    "coordinates",
    "files",
    "instants",
    "order",
    "sessions",
    "clock",
    "legs",
    "records",
    "shocks",
    "mixing",
    "online_file",
    "online",
    "board_block",
    "board_checks",
    "board_legs",
    "board_mixing",
    "board_records",
    "online_board",
    "doubts",
    "quotes",
    "arrivals",
    "rescales",
    "monitor",
    "journal",
    "engines",
    "signals",
    "alarms",
    "live_settings",
    "live",
    "hedge_book",
    "no_trade_band",
    "kalman_ols",
}
ALLOWED = {"numpy", "kfmodels"} | sys.stdlib_module_names


def module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path: Path) -> set[str]:
    """Full names of everything imported anywhere in a file, names of modules resolved."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                exists = (PACKAGE.parent / Path(*inner.split("."))).with_suffix(".py").exists()
                found.add(inner if exists else str(node.module))
    return found


def within(path: Path) -> set[str]:
    return {
        name.removeprefix("kfmodels.") for name in imports(path) if name.startswith("kfmodels.")
    }


ROOMS = [path for path in FILES if path.name != "__init__.py"]


@pytest.mark.parametrize("path", ROOMS, ids=module)
def test_imports_point_downwards(path):
    here = module(path)
    assert here in FLOOR, f"{here} has no floor: put it into FLOORS"
    for other in within(path) - {"kalman"}:
        assert FLOOR[other] < FLOOR[here], f"{here} imports {other}, which is not below it"


def test_the_floors_name_what_is_there():
    assert {module(path) for path in ROOMS} == set(FLOOR)


@pytest.mark.parametrize("name", sorted(NUMPY_ONLY))
def test_the_online_path_imports_numpy_only(name):
    path = PACKAGE / Path(*name.split(".")).with_suffix(".py")
    assert {other.split(".")[0] for other in imports(path)} <= ALLOWED
    assert within(path) - {"kalman"} <= NUMPY_ONLY


def test_the_one_step_knows_no_array_library():
    assert imports(PACKAGE / "kalman" / "step.py") == {"typing"}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=module)
def test_nothing_is_configured_and_nothing_left_undone(path):
    text = path.read_text()
    for word in ("jax.config", "TODO", "FIXME", "NotImplementedError"):
        assert word not in text


@pytest.mark.parametrize("path", FILES, ids=module)
def test_public_names_are_explained(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def run(code: str) -> str:
    """What a fresh interpreter prints, on both streams together."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout + done.stderr


def test_importing_the_package_is_silent_quick_and_loads_nothing():
    code = """
import sys, time
start = time.perf_counter()
import kfmodels
took = time.perf_counter() - start
heavy = {"jax", "numpyro", "pandas", "numpy", "arviz", "xarray", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
assert took < 1, took
"""
    assert run(code) == ""


def test_the_online_names_load_no_jax():
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "numpyro", "pandas", "xarray", "scipy"):
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Refuse())
from kfmodels import KalmanOLS, OnlineFilter
KalmanOLS([[2.0, 1.0], [4.0, 2.0]]).update(X=3.0, Y=6.0)
"""
    assert run(code) == ""


def test_importing_everything_is_silent():
    assert run("import kfmodels\nfor name in kfmodels.__all__: getattr(kfmodels, name)") == ""


def test_every_public_name_is_there():
    for name in kfmodels.__all__:
        assert getattr(kfmodels, name) is not None
        assert name in dir(kfmodels)
    with pytest.raises(AttributeError, match="has no attribute 'Kalman'"):
        kfmodels.Kalman  # noqa: B018
