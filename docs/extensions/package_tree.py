"""Write the tree of the package into ``docs/design.md``: ``python docs/extensions/package_tree.py``."""

import ast
import textwrap
from pathlib import Path

DOCS = Path(__file__).parent.parent
PACKAGE = DOCS.parent / "htsr"
BEGIN, END = "<!-- tree -->\n", "<!-- end of tree -->"
WIDTH, INDENT = 90, " " * 16


def tree() -> str:
    """Return the folders of the package, what each is (its docstring's first sentence), and its modules by name."""
    folders = [PACKAGE, *sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)]
    lines = []
    for folder in folders:
        depth = len(folder.relative_to(PACKAGE).parts)
        said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        names = "  ".join(sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")))
        head = f"{'  ' * depth}{folder.name}/".ljust(len(INDENT))
        for text, first in ((said.split("\n")[0], head), (names, INDENT)):
            lines += textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=INDENT, drop_whitespace=True)
    return "```text\n" + "\n".join(lines) + "\n```\n"


def replaced(page: str) -> str:
    """Return the text of a page with today's tree between its two marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + tree() + END + rest.split(END)[1]


if __name__ == "__main__":
    (DOCS / "design.md").write_text(replaced((DOCS / "design.md").read_text()))
