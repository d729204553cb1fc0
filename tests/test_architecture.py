"""Who may import whom, read from the sources; and what importing the package costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import htsr

ROOT = Path(htsr.__file__).parent
MODULES = sorted(path.relative_to(ROOT.parent) for path in ROOT.rglob("*.py"))

# Who may import whom, room by room; every room may also import its own modules and htsr.errors, checks and files.
# Nothing points up, and data and models never meet.
MAY_IMPORT = {
    "errors": [],
    "checks": [],
    "files": [],
    "keras_settings": [],
    "annotations": [],
    "config": ["annotations"],
    "ops": [],
    "layers": [],
    "metrics": [],
    "report": [],
    "data": [],
    "models": ["layers", "ops"],
    "runs": ["models", "config", "report"],
    "training": ["runs", "models", "metrics", "report", "data"],
    "evaluation": ["runs", "models", "ops", "metrics", "report", "data", "config"],
    "export": ["runs", "models", "ops", "config"],
    "published": ["runs", "models", "data", "config", "training", "evaluation"],
    "serving": ["runs", "report", "data"],
    "bench": ["runs", "models", "data", "config", "training", "evaluation", "report"],
}
MAY_IMPORT |= {"cli": list(MAY_IMPORT), "__main__": ["cli"]}


def name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(source: str, module: str) -> set[str]:
    """Return the full names of everything of htsr that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            known = {name_of(path) for path in MODULES}
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names}
    return {name for name in found if name.split(".")[0] == "htsr"}


def room_of(module: str) -> str:
    """The part of a module's name after ``htsr``; empty for the package itself, whose version anyone may ask for."""
    return module.partition(".")[2].partition(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_points_up(path):
    module = name_of(path)
    found = {room_of(name) for name in imports((ROOT.parent / path).read_text(), module)}
    room = room_of(module)
    always = ("errors", "checks", "files", "keras_settings")
    may = (
        [
            room,
            *always,
            *MAY_IMPORT[room],
            *[""] * (room in ("runs", "export", "bench", "cli")),
        ]
        if room
        else []
    )
    wrong = found.difference(may)
    assert not wrong, f"{module} may import {may}, not {sorted(wrong)}"


def test_the_reader_of_imports_sees_every_form():
    source = """
import numpy, htsr.config
from htsr import files as f, __version__
from htsr.models.base import VideoModel
def f():
    from . import base
    from ..report.figures import save_gif
"""
    assert imports(source, "htsr.models.recurrent") == {
        "htsr.config",
        "htsr.files",
        "htsr",
        "htsr.models.base",
        "htsr.report.figures",
    }
    assert imports("from .. import data", "htsr.models.base") == {"htsr.data"}


def test_every_room_has_a_rule():
    assert {room_of(name_of(path)) for path in MODULES} == {"", *MAY_IMPORT}


def test_no_assert_statement_in_the_package():
    for path in MODULES:
        tree = ast.parse((ROOT.parent / path).read_text())
        lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        assert not lines, f"{path} lines {lines}: python -O removes asserts; raise InputError"


def test_only_one_module_imports_tensorflow_probability():
    users = [
        name_of(path)
        for path in MODULES
        if any(
            isinstance(node, ast.Import | ast.ImportFrom) and "tensorflow_probability" in ast.unparse(node)
            for node in ast.walk(ast.parse((ROOT.parent / path).read_text()))
        )
    ]
    assert users == ["htsr.ops.likelihoods"]


def test_importing_the_package_does_not_import_tensorflow():
    code = "import sys, htsr; dir(htsr); sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
