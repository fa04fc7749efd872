"""The help of every command is what was written."""

import pytest
import typer

from kfmodels.cli.cli import app
from tests.command import kfmodels

COMMANDS = sorted(typer.main.get_group(app).commands)
REPAIRS = ("fit", "fit-many", "board", "report", "universe")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_plain_text_and_tells_how_a_repair_is_written(command: str):
    said = " ".join(kfmodels(command, "--help").stdout.split())
    assert said.isascii()
    for form in ("TICKER:DATE:FACTOR", "TICKER:DATE:gap"):
        assert (form in said) == (command in REPAIRS)


def test_help_of_the_whole_names_every_command():
    said = kfmodels("--help").stdout
    assert said.isascii()
    assert all(command in said for command in COMMANDS)
