"""The settings of the documentation site (Sphinx, MyST, Furo)."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "extensions")]

import htsr.models  # noqa: E402

project = "htsr"
author = "the htsr authors"
copyright = "the htsr authors, Apache-2.0"
version = release = htsr.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "results",
    "rooms",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_inherit_docstrings = False  # a method that Keras documents is described by Keras
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_custom_sections = [("Call arguments", "params_style")]
maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"htsr {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
