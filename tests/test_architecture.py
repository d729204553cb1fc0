"""Who may import whom, read from the sources; and what importing the package costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import htsr

ROOT = Path(htsr.__file__).parent
MODULES = sorted(path.relative_to(ROOT.parent) for path in ROOT.rglob("*.py"))

# The longest entry that a module's name begins with holds; every module may also import htsr.errors and
# htsr.files. Nothing points up.
MAY_IMPORT = {
    "htsr.errors": [],
    "htsr.files": [],
    "htsr.environment": ["htsr"],
    "htsr.config": [],
    "htsr.unroll": [],
    "htsr.noise": [],
    "htsr.losses": [],
    "htsr.plots": [],
    "htsr.layers": ["htsr.layers"],
    "htsr.metrics": ["htsr.metrics"],
    "htsr.cells": ["htsr.cells", "htsr.layers"],
    "htsr.data.clips": [],
    "htsr.data": ["htsr.data"],
    "htsr.models.base": ["htsr.noise"],
    "htsr.models": ["htsr.models", "htsr.cells", "htsr.layers", "htsr.unroll", "htsr.losses", "htsr.noise"],
    "htsr.checkpoints": ["htsr.config", "htsr.models"],
    "htsr.streaming": ["htsr.models.base", "htsr.noise"],
    "htsr.signatures": ["htsr.models.base", "htsr.streaming"],
    "htsr.export": [
        "htsr",
        "htsr.cards",
        "htsr.checkpoints",
        "htsr.config",
        "htsr.models.base",
        "htsr.onnx",
        "htsr.signatures",
        "htsr.tflite",
    ],
    "htsr.onnx": ["htsr.models", "htsr.signatures"],
    "htsr.tflite": ["htsr.models", "htsr.signatures"],
    "htsr.optimizer": [],
    "htsr.schedules": ["htsr.optimizer"],
    "htsr.training": [
        "htsr.checkpoints",
        "htsr.data.clips",
        "htsr.models",
        "htsr.optimizer",
        "htsr.plots",
        "htsr.schedules",
    ],
    "htsr.tables": [],
    "htsr.cards": ["htsr.checkpoints", "htsr.config", "htsr.tables"],
    "htsr.release": ["htsr.cards", "htsr.checkpoints", "htsr.config", "htsr.environment"],
    "htsr.published": [
        "htsr.cards",
        "htsr.checkpoints",
        "htsr.config",
        "htsr.data",
        "htsr.environment",
        "htsr.evaluation",
        "htsr.models",
        "htsr.optimizer",
        "htsr.published",
        "htsr.training",
    ],
    "htsr.gathered": ["htsr.metrics"],
    "htsr.scoring": ["htsr.metrics"],
    "htsr.evaluation": [
        "htsr.data.clips",
        "htsr.environment",
        "htsr.gathered",
        "htsr.metrics",
        "htsr.models.base",
        "htsr.pictures",
        "htsr.plots",
        "htsr.scoring",
        "htsr.tables",
    ],
    "htsr.pictures": ["htsr.data.clips", "htsr.metrics", "htsr.models.base", "htsr.plots", "htsr.scoring"],
    "htsr.report": ["htsr.report", "htsr.tables"],
    "htsr.diagnostics": [
        "htsr.cells",
        "htsr.data.clips",
        "htsr.evaluation",
        "htsr.losses",
        "htsr.metrics",
        "htsr.models",
        "htsr.noise",
        "htsr.pictures",
        "htsr.plots",
        "htsr.tables",
    ],
    "htsr.comparison": [
        "htsr.data.clips",
        "htsr.evaluation",
        "htsr.metrics",
        "htsr.models.base",
        "htsr.pictures",
        "htsr.plots",
        "htsr.report",
        "htsr.scoring",
        "htsr.tables",
    ],
    "htsr.serving": [
        "htsr.serving",
        "htsr.data.video_files",
        "htsr.data.video_reader",
        "htsr.environment",
        "htsr.plots",
    ],
    "htsr.protocol": [
        "htsr.cards",
        "htsr.checkpoints",
        "htsr.config",
        "htsr.data",
        "htsr.diagnostics",
        "htsr.evaluation",
        "htsr.gathered",
        "htsr.metrics",
        "htsr.models",
        "htsr.report",
    ],
}


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


def is_below(name: str, package: str) -> bool:
    """Whether a module is a package or inside it; ``htsr`` itself stands for nothing but its own names."""
    return name == package or (package != "htsr" and name.startswith(f"{package}."))


def allowed(module: str) -> list[str]:
    entry = max((name for name in MAY_IMPORT if is_below(module, name)), key=len)
    return ["htsr.errors", "htsr.files", *MAY_IMPORT[entry]]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_points_up(path):
    module = name_of(path)
    if module == "htsr":
        assert imports((ROOT.parent / path).read_text(), module) == set()
        return
    wrong = {
        name
        for name in imports((ROOT.parent / path).read_text(), module)
        if not any(is_below(name, package) for package in allowed(module))
    }
    assert not wrong, f"{module} may import {allowed(module)}, not {sorted(wrong)}"


def test_the_reader_of_imports_sees_every_form():
    source = """
import numpy, htsr.config
from htsr import noise as n, __version__
from htsr.models.base import VideoModel
def f():
    from . import training
    from ..plots import save_gif
"""
    assert imports(source, "htsr.models.htsr") == {
        "htsr.config",
        "htsr.noise",
        "htsr",
        "htsr.models.base",
        "htsr.models",
        "htsr.plots",
    }
    assert imports("from .. import data", "htsr.models.htsr") == {"htsr.data"}


def test_every_rule_names_something_of_this_package():
    names = {name_of(path) for path in MODULES}
    assert set(MAY_IMPORT) <= names | {name.rpartition(".")[0] for name in names}


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
    assert users == ["htsr.losses"]


def test_importing_the_package_does_not_import_tensorflow():
    code = "import sys, htsr; dir(htsr); sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
