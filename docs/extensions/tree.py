"""Write the tree of the package into ``docs/design.md``: ``python docs/extensions/tree.py``."""

import ast
from pathlib import Path

DOCS = Path(__file__).parent.parent
PACKAGE = DOCS.parent / "htsr"
BEGIN, END = "<!-- tree -->\n", "<!-- end of tree -->"
WIDTH = 120


def tree() -> str:
    """Return the folders of the package, what each is (its docstring's first sentence), and its modules by name."""
    folders = [PACKAGE, *sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)]
    lines = []
    for folder in folders:
        depth = len(folder.relative_to(PACKAGE).parts)
        said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        lines.append(f"{'  ' * depth}{folder.name}/".ljust(16) + said.split("\n")[0])
        line = " " * 16
        for name in sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__")):
            if len(line) + len(name) + 2 > WIDTH:
                lines.append(line.rstrip())
                line = " " * 16
            line += f"{name}  "
        lines.append(line.rstrip())
    return "```text\n" + "\n".join(line for line in lines if line) + "\n```\n"


def replaced(page: str) -> str:
    """Return the text of a page with today's tree between its two marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + tree() + END + rest.split(END)[1]


if __name__ == "__main__":
    (DOCS / "design.md").write_text(replaced((DOCS / "design.md").read_text()))
