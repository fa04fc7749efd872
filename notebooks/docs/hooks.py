"""What the site needs beside its generator: formulas without a script, examples as examples."""

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

LOADER = re.compile(r"<script data-mkdocs-jupyter-mathjax=.*?</script>", re.DOTALL)
FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL)


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
    drawn = convert(formula.strip(), display="block" if block else "inline")
    return f'<{tag} class="formula">{drawn}</{tag}>'


TOGETHER = re.compile(r"^( +)(\w+(?:, \w+)+)(:.*(?:\n\1 .*)*)", re.MULTILINE)
"""Arguments that a docstring explains together: `low, high: what they are`, with further lines below."""


class ReadDocstrings(griffe.Extension):
    """Docstrings as their reader expects them.

    "Example:" becomes "Examples:", whose `>>>` are code; arguments that are explained together are
    listed one by one, so that each is checked against the signature and shown with its type.
    """

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring before it is parsed."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = TOGETHER.sub(_one_by_one, text)


def _one_by_one(found: re.Match[str]) -> str:
    indent, names, text = found.groups()
    return "\n".join(f"{indent}{name}{text}" for name in names.split(", "))
