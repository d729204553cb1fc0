"""The directive ``{results} NAME``: the tables of ``docs/results/NAME.yml`` with what they were made by.

A result file says ``commands``, ``steps``, ``seed``, ``machine``, ``date`` and ``clips`` and has ``tables``: each has
``columns`` (frames after the context, or what its ``heading`` says) and ``rows``, a label and a value for each column.
"""

from pathlib import Path

import yaml

FOLDER = Path(__file__).parent.parent / "results"
KEYS = ("commands", "steps", "seed", "machine", "date", "clips", "tables")


def read(path: Path) -> dict:
    """Read a result file; a ``ValueError`` says what it lacks."""
    content = yaml.safe_load(path.read_text())
    if set(content) != set(KEYS):
        raise ValueError(f"{path}: expected the keys {', '.join(KEYS)}, received {', '.join(content)}")
    for table in content["tables"]:
        if any(len(row) != 1 + len(table["columns"]) for row in table["rows"]):
            raise ValueError(f"{path}: a row has a label and {len(table['columns'])} values")
    return content


def markdown(result: dict) -> str:
    """Return the Markdown of a result file: its commands, what they ran on, its tables."""
    steps = result["steps"] if isinstance(result["steps"], str) else f"{result['steps']:,}"
    facts = [("clips", result["clips"]), ("training steps", steps)]
    facts += [(key, result[key]) for key in ("seed", "machine", "date")]
    lines = ["```bash", *result["commands"], "```", ""]
    lines += [f"- {key}: {value}" for key, value in facts]
    for table in result["tables"]:
        heading = table.get("heading", "frames after the context")
        lines += ["", f"| {heading} | " + " | ".join(map(str, table["columns"])) + " |"]
        lines += ["|---|" + "---:|" * len(table["columns"])]
        lines += ["| " + " | ".join(row) + " |" for row in table["rows"]]
    return "\n".join(lines) + "\n"


def setup(app):
    """Add the directive; only here Sphinx is needed."""
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class Results(SphinxDirective):
        """Read one result file and show it."""

        required_arguments = 1

        def run(self):
            """Return the nodes of the file's Markdown."""
            path = FOLDER / f"{self.arguments[0]}.yml"
            self.env.note_dependency(str(path))
            found = self.parse_text_to_nodes(markdown(read(path)))
            for table in (node for node in found if isinstance(node, nodes.table)):
                table["classes"].append("results")
            return found

    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
