"""One page of the API reference for each room of the package, written from the files that are there."""

from pathlib import Path

ROOMS = {
    "models": "Models",
    "layers": "Layers",
    "ops": "Functions without weights",
    "data": "Data",
    "training": "Training",
    "runs": "Runs",
    "metrics": "Metrics",
    "evaluation": "Evaluation",
    "report": "Reports",
    "export": "Export",
    "published": "Published weights",
    "serving": "Serving",
}
PAGE = """# {title}: `htsr.{room}`

"""
MODULE = """## `{module}`

```{{eval-rst}}
.. automodule:: {module}
   :members:
   :show-inheritance:
```

"""


def write_rooms(package: Path, out: Path) -> None:
    """Write ``<out>/<room>.md`` for every room; a page that has not changed is left as it is."""
    out.mkdir(exist_ok=True)
    for room, title in ROOMS.items():
        paths = sorted((package / room).rglob("*.py"))
        names = [".".join(path.relative_to(package.parent).with_suffix("").parts) for path in paths]
        modules = dict.fromkeys(name.removesuffix(".__init__") for name in names)
        _write(out / f"{room}.md", PAGE.format(title=title, room=room) + "".join(map(_module, modules)))
    single = [name for name in ("config", "checks", "errors", "files") if (package / f"{name}.py").exists()]
    _write(out / "base.md", "# Config, files and errors\n\n" + "".join(_module(f"htsr.{name}") for name in single))


def _module(module: str) -> str:
    return MODULE.format(module=module)


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _skip(app, what, name, obj, skip, options) -> bool | None:
    """Leave out the fields of named tuples, which their class describes under Attributes."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Connect to Sphinx."""
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}
