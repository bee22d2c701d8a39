"""Sphinx's settings for the static site; ``tools/build_site.py`` collects the pages and calls Sphinx."""

import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]

from notebook_parts import project as read_project  # noqa: E402

REPOSITORY, release = read_project(ROOT)
project, author, html_title = "kdcourse", "The kdcourse authors", "kdcourse"
copyright = f"{date.today().year}, the kdcourse authors"
language, root_doc = "en", "index"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "site_parts.mathml", "site_parts.pages"]
# Requests to other addresses, and texts that are included by others.
exclude_patterns = ["_*"]
# A cell that begins with ! or % is no Python; a word of a docstring that two classes have as an attribute is no link.
suppress_warnings = ["mystnb.unknown_mime_type", "misc.highlighting_failure", "ref.python"]

nb_execution_mode = "off"  # chapters are shown as they were executed
nb_merge_streams = True
nb_render_text_lexer = "none"
nb_number_source_lines = False
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline", "deflist"]
myst_heading_anchors = 4
html_math_renderer = "mathml"  # built into the page: no script, no font from elsewhere

autodoc_member_order, autodoc_typehints = "bysource", "none"  # the types stand in the docstrings
napoleon_google_docstring, napoleon_use_rtype, napoleon_use_ivar = False, False, True
add_module_names = toc_object_entries = False

html_theme = "pydata_sphinx_theme"
templates_path, html_static_path = ["templates"], ["static"]
html_css_files = ["css/site.css"]
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_use_index = html_domain_indices = False
html_permalinks_icon = "#"
html_sidebars = {"index": [], "draw": [], "search": []}
html_theme_options = {
    "logo": {"text": "kdcourse"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 7,
    "article_header_end": ["chapter-buttons"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["licence"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "back_to_top_button": False,
    "show_version_warning_banner": False,
    "search_as_you_type": False,
}
html_context = {"default_mode": "auto", "repository": REPOSITORY, "release": release}
