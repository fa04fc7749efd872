"""How results show themselves: as text where a REPL prints them, the same in HTML in a notebook."""

from html import escape
from textwrap import fill

WIDTH = 79
"""Characters of a line that any terminal shows."""


class Shown:
    """A result whose text form, `str`, is also what a REPL and a notebook show of it.

    There sentences are wrapped to the width of a terminal; `str` leaves them whole, so that a remedy in
    one can be found and copied.
    """

    def __repr__(self) -> str:
        return wrap_prose(str(self))

    def _repr_html_(self) -> str:
        return f'<pre style="white-space: pre-wrap">{escape(str(self))}</pre>'


def wrap(sentence: str, first: str = "", others: str = "", width: int = WIDTH) -> str:
    """A sentence on as many lines as it needs, indented by `first` and then by `others`."""
    return fill(
        sentence,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
        break_long_words=False,  # a path stays one
    )


def wrap_prose(text: str, width: int = WIDTH) -> str:
    """The text with its lines of prose wrapped; those of a table, with their gaps, are left alone."""
    return "\n".join(_wrap_line(line, width) for line in text.split("\n"))


def _wrap_line(line: str, width: int) -> str:
    if len(line) <= width or "  " in line.strip():
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    return wrap(line.lstrip(), indent, indent + "  ", width)
