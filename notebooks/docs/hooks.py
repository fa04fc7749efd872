"""What the site needs beside its generator: formulas without a script, examples as examples."""

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import griffe
from latex2mathml.converter import convert

LOADER = re.compile(r"<script data-mkdocs-jupyter-mathjax=.*?</script>", re.DOTALL)
FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL)
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
SIGNS = {
    "∼": r"\sim ", "∝": r"\propto ", "·": r"\cdot ", "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ",
    "∣": r"\mid ", "⊤": r"\top ", "≥": r"\ge ", "≤": r"\le ", "×": r"\times ",
}  # fmt: skip
"""Signs that docstrings write as they are, so that `help` can be read; to LaTeX they are letters."""

REFERENCE = Path(__file__).parent / "reference"
NAMES = "docs/names.md"


def list_reference() -> dict[str, str]:
    """Where the reference explains a name: full names by their last part, and by what follows `kf.`"""
    pages = "\n".join(path.read_text() for path in sorted(REFERENCE.glob("*.md")))
    full = re.findall(r"^::: (kfmodels\.\S+)$", pages, re.MULTILINE)
    return {name.rpartition(".")[2]: name for name in full} | {
        name.replace("kfmodels.", "kf.", 1): name for name in full
    }


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Names lead to the reference: `kf.fit` on every page, and `fit` on the page of names."""
    where = list_reference()
    name = r"[\w.]+" if page.file.src_uri == NAMES else r"kf\.[\w.]+"
    quoted = re.compile(rf"(?<![\[`\w#])`({name})`(?!\])")
    parts = FENCED.split(markdown)  # code stands between prose
    parts[::2] = [quoted.sub(_link(where), prose) for prose in parts[::2]]
    return "".join(parts)


def _link(where: dict[str, str]) -> Callable[[re.Match[str]], str]:
    def linked(found: re.Match[str]) -> str:
        full = where.get(found[1])
        return f"[{found[0]}][{full}]" if full else found[0]

    return linked


def on_page_content(html: str, **_: Any) -> str:
    """Formulas as MathML, which browsers draw by themselves: no script, no font, no network."""
    return FORMULA.sub(_to_mathml, html)


def on_post_page(output: str, **_: Any) -> str:
    """Without the loader of MathJax that notebooks bring along: it would ask a network for it."""
    return LOADER.sub("", output)


def _to_mathml(found: re.Match[str]) -> str:
    tag, formula = found.groups()
    block = tag == "div"
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        formula = formula.replace(entity, sign)
    for sign, macro in SIGNS.items():
        formula = formula.replace(sign, macro)
    drawn = convert(formula.strip(), display="block" if block else "inline")
    return f'<{tag} class="formula">{drawn}</{tag}>'


TOGETHER = re.compile(r"^( +)(\w+(?:, \w+)+)(:.*(?:\n\1 .*)*)", re.MULTILINE)
"""Arguments that a docstring explains together, `low, high: what they are`, and the lines below."""

RETURNS = re.compile(r"^Returns:\n((?:    .*\n?|\n(?=    ))+)", re.MULTILINE)


class ReadDocstrings(griffe.Extension):
    """Docstrings as their reader expects them.

    "Example:" becomes "Examples:", whose `>>>` are code; arguments that are explained together are
    listed one by one, so that each is checked against the signature and shown with its type; what is
    returned is prose, whose words before a colon are no type.
    """

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring before it is parsed."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            text = RETURNS.sub(_as_prose, text)
            obj.docstring.value = TOGETHER.sub(_one_by_one, text)


def _one_by_one(found: re.Match[str]) -> str:
    indent, names, text = found.groups()
    return "\n".join(f"{indent}{name}{text}" for name in names.split(", "))


def _as_prose(found: re.Match[str]) -> str:
    return f"**Returns:** {dedent(found[1]).lstrip()}"
