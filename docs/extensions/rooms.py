"""The directive ``{room} NAME``: the reference of every module of ``htsr/NAME``, or of the modules at the top."""

from pathlib import Path

from sphinx.util import inspect
from sphinx.util.docutils import SphinxDirective

PACKAGE = Path(__file__).parent.parent.parent / "htsr"
MODULE = """## `{module}`

```{{eval-rst}}
.. automodule:: {module}
   :members:
   :ignore-module-all:
   :show-inheritance:
```

"""


class Room(SphinxDirective):
    """Document the modules of a room."""

    required_arguments = 1

    def run(self):
        """Return the sections of the modules, in the order of their names."""
        text = "".join(MODULE.format(module=module) for module in modules(self.arguments[0]))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def modules(room: str) -> list[str]:
    """Return the modules of a room by name; ``.`` stands for those that belong to none."""
    folder = PACKAGE / room
    paths = folder.glob("[a-z]*.py") if room == "." else folder.rglob("*.py")
    names = (".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths)
    return sorted(name.removesuffix(".__init__") for name in names)


def _skip(app, what, name, obj, skip, options) -> bool | None:
    """Leave out the fields of named tuples, which their class describes under Attributes."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def _signature(app, what, name, obj, options, signature, returns):
    """Show the arguments of a layer's or model's constructor, which Keras hides behind ``__new__``."""
    if what == "class" and signature == "(*args, **kwargs)":
        return inspect.stringify_signature(inspect.signature(obj.__init__, bound_method=True)), returns
    return None


def setup(app):
    """Add the directive."""
    app.add_directive("room", Room)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True}
