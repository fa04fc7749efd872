"""Tables of text, as reports print them."""

from textwrap import indent

import pandas as pd


def tabulate(rows: pd.DataFrame, columns: dict[str, str], corner: str = "") -> str:
    """Rows as indented lines: under each heading its format, such as "{lower:.3g} .. {upper:.3g}".

    A cell with NaN in it stays empty.
    """
    found = rows.to_dict("records")
    shown = {head: [_cell(form, row) for row in found] for head, form in columns.items()}
    return align(pd.DataFrame(shown, index=rows.index), corner)


def align(texts: pd.DataFrame, corner: str = "") -> str:
    """A table of texts, indented, with a word above the first column."""
    listed = texts.rename_axis(index=None, columns=corner)
    # two spaces between headings as between cells, where pandas leaves one
    return indent(listed.to_string(col_space=[len(str(head)) + 1 for head in texts]), "  ")


def _cell(form: str, row: dict[str, object]) -> str:
    text = form.format(**row)
    return "" if "nan" in text else text
