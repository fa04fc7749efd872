"""How calls into the package are checked against its annotations while the tests run."""

import typing

from beartype import BeartypeConf, FrozenDict, beartype

check = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int is a float, as everywhere else
        hint_overrides=FrozenDict({typing.Self: object}),  # methods are met one by one
    )
)
