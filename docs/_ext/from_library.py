"""Provide the base of directives whose content is made from the library."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class FromLibrary(SphinxDirective):
    """Parse the Markdown that a subclass makes of the directive's argument."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = False

    def run(self) -> list[nodes.Node]:
        target = nodes.Element()
        lines = [line for text in self.markdown(self.arguments[0]) for line in text.splitlines()]
        self.state.nested_parse(StringList(lines, self.env.docname), self.content_offset, target)
        return target.children

    def markdown(self, name: str) -> Iterator[str]:
        """Yield the content for ``name``."""
        raise NotImplementedError


def as_markdown(text: str) -> str:
    """Turn a docstring into Markdown: roles and double backticks become single backticks."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?([\w.]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)
