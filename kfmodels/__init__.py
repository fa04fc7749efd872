"""kfmodels: infer how fast a hedge ratio moves, then run the fitted filter online.

The public names stand in `__init__.pyi` and load on first use. So importing this package loads neither
JAX nor pandas and configures nothing, and what runs online, from `OnlineFilter` to `LiveFilter`, needs
NumPy only.
"""

import sys
from collections.abc import Callable
from importlib import import_module

__version__ = "0.1.0"


def _attach(
    package: str, file: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from the lines of its stub.

    Each line there reads `from home import name as name`; what comes from a package is a module.
    """
    # type checkers need the stub anyway; read here too, it is the only list of the names
    with open(file.removesuffix(".py") + ".pyi", encoding="utf-8") as stub:
        lines = [line.split() for line in stub if line.startswith("from kfmodels")]
    homes = {words[3]: words[1] for words in lines}

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(homes[name])
        module = hasattr(home, "__path__")
        found = import_module(f"{homes[name]}.{name}") if module else getattr(home, name)
        # kept in the package, so that Python asks for each name once
        return vars(sys.modules[package]).setdefault(name, found)

    return load, lambda: sorted(homes), list(homes)


__getattr__, __dir__, __all__ = _attach(__name__, __file__)
