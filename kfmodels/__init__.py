"""kfmodels: infer how fast a hedge ratio moves, then run the fitted filter online.

The public names stand in `__init__.pyi` and load on first use, so that importing this package reads no
JAX, allocates nothing and configures nothing; what runs online, from `OnlineFilter` to `LiveFilter`,
needs NumPy only.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def _attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], Any]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from the lines of its stub.

    Each line there reads `from home import name as name`; what comes from a package is a module.
    """
    with open(file.removesuffix(".py") + ".pyi", encoding="utf-8") as stub:
        lines = [line.split() for line in stub if line.startswith("from kfmodels")]
    homes = {words[3]: words[1] for words in lines}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(homes[name])
        module = hasattr(home, "__path__")
        found = import_module(f"{homes[name]}.{name}") if module else getattr(home, name)
        return vars(sys.modules[package]).setdefault(name, found)

    return load, lambda: sorted(homes), list(homes)


__getattr__, __dir__, __all__ = _attach(__name__, __file__)
