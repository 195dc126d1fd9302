"""Configure Sphinx: Markdown pages, and what is read from the library (``_ext``)."""

from __future__ import annotations

import sys
from pathlib import Path

import fedmosaic

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "fedmosaic"
version = release = fedmosaic.__version__
copyright = "the fedmosaic authors, Apache-2.0"  # noqa: A001 (Sphinx reads this name)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "algorithm_pages",
    "command_reference",
    "links",
    "scenario_list",
    "settings_reference",
    "source_list",
]
exclude_patterns = ["_*"]

html_theme = "furo"
html_title = "fedmosaic"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e69", "color-brand-content": "#0b6e69"},
    "dark_css_variables": {"color-brand-primary": "#5fc9c1", "color-brand-content": "#5fc9c1"},
}

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures carry the types once, docstrings the meaning
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_param = True
napoleon_custom_sections = [("Class attributes", "params_style")]

# The standard library and PyTorch have no pages here, and no inventory is fetched over the network.
# Docstrings also point to inner modules, which have no pages either.
INSIDE = (
    r"fedmosaic\.(adapters|alignment|data|evaluation|experiments|federation|model_check|models"
    r"|relevance|training)\."
)
nitpick_ignore_regex = [("py:.*", r"(?!fedmosaic\b).*"), ("py:.*", rf"{INSIDE}.*")]
