"""Configuration of Sphinx."""

import sys
from importlib.metadata import version as package_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "specprod"
author = copyright = "the specprod developers"
release = version = package_version("specprod")
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "tables"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
default_role = "any"
napoleon_google_docstring = False
napoleon_use_rtype = False
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "specprod"
# Names in docstrings of types that belong to other packages, or to nobody, are left as they stand.
nitpicky = False
suppress_warnings = ["ref.any", "ref.python"]
