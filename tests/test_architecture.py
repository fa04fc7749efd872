"""The rooms: which may import which, how long a file may be, and what an import may do."""

import ast
import inspect
import statistics
import subprocess
import sys
import typing
from pathlib import Path

import pandas
import pytest
import xarray

import kfmodels
from kfmodels.data.repairs import Repair
from kfmodels.model.assumptions import REGISTERED

PACKAGE = Path(kfmodels.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LOOSE = {"__init__.py", "__main__.py", "_types.py"}

BELOW = {
    "words": "",
    "kalman": "",
    "clock": "",
    "files": "",
    "data": "clock kalman",
    "model": "data clock kalman files",
    "sampling": "model kalman",
    "online": "kalman clock files",
    "basket": "online clock files kalman",
    "live": "online clock files kalman",
    "fitting": "sampling model data online live clock files kalman",
    "batch": "fitting basket sampling model data online live clock files kalman",
    "universe": "basket batch data live online clock files kalman",
    "evaluate": "fitting batch sampling model data online clock kalman",
}
BELOW["plots"] = " ".join(BELOW)
BELOW["cli"] = " ".join(BELOW)
"""Rooms that a room may import, beside itself and `words`."""

UPWARD = {
    "online.follow": {"data.later", "data.repairs"},
    "fitting.hedge_fit": {"universe.universe"},
    "fitting.questions": {
        "cli.report",
        "plots.pair",
        "evaluate.effectiveness",
        "evaluate.health",
        "evaluate.landscape",
        "evaluate.sensitivity",
        "evaluate.static",
    },
}
"""Calls that reach up: a table of prices is read by the room of the data, `load` reads a universe, and
what is asked of a fit is answered above it."""

DAY = ("words", "kalman", "clock", "files", "online", "basket", "live")
"""Rooms that need NumPy only."""

NIGHT = {f"kalman.{name}" for name in ["scan", "likelihood", "kernel", "logarithm", "regression"]}
"""What of `kalman` needs JAX: the trading process leaves it alone."""


def module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path: Path, *, inside: bool = True) -> set[str]:
    """Full names of all that a file imports, `inside` its functions too, names of modules resolved."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if inside else tree.body:
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


@pytest.mark.parametrize("room", BELOW)
def test_imports_point_downwards(room):
    for path in (PACKAGE / room).rglob("*.py"):
        for other in within(path) - UPWARD.get(module(path), set()):
            floor = other.split(".")[0]
            assert floor in {room, "words", "_types", *BELOW[room].split()}, (
                f"{path} imports {other}"
            )
        # nor through the public face, whose names would hide the room they are of
        assert "kfmodels" not in imports(path) or path.name == "__init__.py", path


def test_no_two_files_import_each_other():
    arrows = {
        module(path): {name.removeprefix("kfmodels.") for name in imports(path, inside=False)}
        for path in FILES
    }
    while arrows:
        free = {name for name, others in arrows.items() if not others & set(arrows) - {name}}
        assert free, f"a cycle among {sorted(arrows)}"
        arrows = {name: others for name, others in arrows.items() if name not in free}


def test_every_file_has_a_room_and_no_room_is_crowded():
    assert {path.name for path in PACKAGE.glob("*.py")} <= LOOSE
    rooms = {path.parent for path in FILES} - {PACKAGE}
    assert {room.name for room in rooms} == set(BELOW)
    for room in rooms:
        assert len([path for path in room.glob("*.py") if path.name not in LOOSE]) <= 15, room


@pytest.mark.parametrize("room", DAY)
def test_what_trades_imports_numpy_only(room):
    allowed = {"numpy", "kfmodels"} | sys.stdlib_module_names
    for path in (PACKAGE / room).rglob("*.py"):
        if module(path) not in NIGHT:
            # a table needs pandas when it is asked for, not before
            assert {other.split(".")[0] for other in imports(path, inside=False)} <= allowed, path
            assert not within(path) & NIGHT, path


def test_what_keeps_files_needs_the_standard_library_only():
    for path in (PACKAGE / "files").rglob("*.py"):
        known = {"kfmodels"} | sys.stdlib_module_names
        assert {other.split(".")[0] for other in imports(path)} <= known, path


def test_the_one_step_knows_no_array_library():
    assert imports(PACKAGE / "kalman" / "step.py") == {"typing"}
    theirs = {"typing", "kfmodels.kalman.step", "kfmodels.kalman.motion"}
    assert imports(PACKAGE / "kalman" / "noise.py") <= theirs
    # a constant of NumPy, the identity, goes with arrays of either library
    assert imports(PACKAGE / "kalman" / "motion.py") <= theirs | {"numpy"}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_long_file_says_why_it_is_one(path):
    lines = len(path.read_text().splitlines())
    assert lines <= 500
    if lines > 300:
        assert "\nOne file: " in str(ast.get_docstring(ast.parse(path.read_text())))


def test_most_files_are_short():
    files = [path for path in FILES if path.name not in LOOSE]
    assert statistics.median(len(path.read_text().splitlines()) for path in files) <= 185


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
start = time.process_time()
import kfmodels
took = time.process_time() - start
heavy = {"jax", "numpyro", "pandas", "numpy", "arviz", "xarray", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
assert took < 0.05, took
"""
    assert run(code) == ""


def test_the_online_names_load_no_jax():
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        known = ("numpy", "kfmodels", *sys.stdlib_module_names)
        if name.split(".")[0] not in known and not name.startswith("_sysconfigdata"):
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Refuse())
import kfmodels as kf
kf.LiveFilter, kf.OnlineBoard, kf.OnlineFilter, kf.Clock, kf.follow, kf.Quarantine
kf.live.HedgeBook, kf.live.Monitor, kf.live.Attribution, kf.live.Signal
kf.KalmanOLS([[2.0, 1.0], [4.0, 2.0]]).update(X=3.0, Y=6.0)
"""
    assert run(code) == ""


def test_importing_everything_is_silent():
    assert run("import kfmodels\nfor name in kfmodels.__all__: getattr(kfmodels, name)") == ""


PUBLIC = [kfmodels, kfmodels.model, kfmodels.live, kfmodels.evaluate, kfmodels.plots]
PUBLIC += [kfmodels.datasets, kfmodels.evaluate.published]


@pytest.mark.parametrize("face", PUBLIC, ids=lambda face: face.__name__)
def test_a_public_module_shows_its_names_and_nothing_else(face):
    assert dir(face) == sorted(face.__all__)
    for name in face.__all__:
        assert getattr(face, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Kalman'"):
        face.Kalman  # noqa: B018


def test_every_public_name_is_explained_in_a_line():
    page = (PACKAGE.parent / "notebooks" / "docs" / "names.md").read_text()
    for face in (kfmodels, kfmodels.model, kfmodels.live, kfmodels.evaluate, kfmodels.plots):
        assert not [name for name in face.__all__ if f"`{name}`" not in page]


def test_the_public_names_stay_few():
    modules = {name for name in kfmodels.__all__ if inspect.ismodule(getattr(kfmodels, name))}
    assert modules == {"datasets", "evaluate", "live", "model", "plots"}
    assert len(kfmodels.__all__) - len(modules) == 35


def test_types_in_public_signatures_can_be_imported():
    faces = [*PUBLIC, kfmodels.online, kfmodels.fitting, kfmodels.batch, kfmodels.clock]
    faces += [kfmodels.basket, kfmodels.universe]
    shown = {getattr(face, name) for face in faces for name in face.__all__}
    later = {"pd": pandas, "DataTree": xarray.DataTree, "Dataset": xarray.Dataset}
    later |= {"HedgePairs": kfmodels.HedgePairs, "OnlineFilter": kfmodels.OnlineFilter}
    later |= {"Repair": Repair, "HedgeUniverse": kfmodels.universe.HedgeUniverse}
    missing = set()
    inner = {kfmodels.KalmanRegression, kfmodels.NUTS, kfmodels.ImportanceSampling}
    # their methods are called by `fit` and by the recursion, not by users
    inner |= {kfmodels.model.HedgeRatioModel, *REGISTERED.values()}
    inner |= {kfmodels.model.ConstantVariance, kfmodels.model.DiscountedVariance}
    for thing in shown - inner:
        for call in calls(thing):
            hint = typing.get_type_hints(call, localns=later).get("return")
            missing |= {(f"{thing.__name__}.{call.__name__}", met) for met in kinds(hint) - shown}
    # for the filter, which is a board of one; not for users
    assert {name for name, _ in missing} <= {
        "LiveFilter.engine",  # which may be of anyone's class
        "OnlineFilter.coordinates",
        "OnlineFilter.mark",
        "OnlineBoard.mark",
        "Basket.mark",
        "OnlineBoard.belief",
        "OnlineBoard.foresee",
        "OnlineBoard.quick",
    }


def calls(thing: typing.Any) -> list[typing.Any]:
    """A function, or the public methods and properties of a class of this package."""
    if inspect.isfunction(thing):
        return [thing]
    if not inspect.isclass(thing) or not thing.__module__.startswith("kfmodels"):
        return []
    members = [m for name, m in vars(thing).items() if not name.startswith("_")]
    members = [getattr(m, "fget", getattr(m, "__func__", m)) for m in members]
    return [m for m in members if inspect.isfunction(m) and m.__module__ != "typing"]


def kinds(hint: typing.Any) -> set[type]:
    """Classes of this package in an annotation."""
    inner = {kind for part in typing.get_args(hint) for kind in kinds(part)}
    ours = inspect.isclass(hint) and hint.__module__.startswith("kfmodels")
    return inner | ({hint} if ours else set())
