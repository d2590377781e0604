"""Sphinx's settings of the documentation: see CONTRIBUTING.md for how it is built.

``-D nb_execution_mode=off`` leaves out running notebooks and pictures, for a quick look at text;
``=cache`` runs only those whose cells have changed.
"""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
# many small steps: threads would mostly wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")
# notebooks show bars; a page should not
os.environ.setdefault("TQDM_DISABLE", "1")

project = "explgraph"
author = "the explgraph authors"
project_copyright = "the explgraph authors, MIT License"
version = release = version_of("explgraph")

extensions = [
    "myst_nb",  # pages in Markdown; notebooks, and pages with code that is run
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",
    "commands",
    "results",
    "offline",
]
exclude_patterns = ["_build", "_ext", "**.ipynb_checkpoints", "zoo.md"]  # included by layouts.md

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_render_markdown_format = "myst"
nb_code_prompt_show = "\u25b6 Show the code"
nb_code_prompt_hide = "\u25bc Hide the code"

# docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say types, with shapes and units
autodoc_class_signature = "mixed"
add_module_names = False
napoleon_google_docstring = False
napoleon_use_ivar = True
smartquotes_action = "D"  # dashes only
default_role = "py:obj"  # `name` is a link where there is something to link to

html_theme = "furo"
html_title = "explgraph"
pygments_dark_style = "github-dark"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it would fetch pages, which browsers refuse for files
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e4f", "color-brand-content": "#0b6e4f"},
    "dark_css_variables": {"color-brand-primary": "#7bd3b1", "color-brand-content": "#7bd3b1"},
}
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
