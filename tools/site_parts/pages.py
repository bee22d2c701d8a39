"""What the templates know of a page: the addresses behind the buttons of a chapter, and the scripts of an explorer."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

SCRIPT = re.compile(r'data-explorer="([a-z]+)"')
BINDER, COLAB = "https://mybinder.org/v2/gh", "https://colab.research.google.com/github"


def addresses(pagename: str, repository: str, release: str) -> dict[str, str]:
    """Return where a notebook opens in Colab and in Binder, where its source is, and its own file.

    >>> addresses("notebooks/02_x", "https://github.com/o/n", "1.0")["colab"]
    'https://colab.research.google.com/github/o/n/blob/v1.0/notebooks/02_x.ipynb'
    """
    name = repository.removeprefix("https://github.com/")
    return {
        "colab": f"{COLAB}/{name}/blob/v{release}/{pagename}.ipynb",
        "binder": f"{BINDER}/{name}/v{release}?urlpath=lab/tree/{pagename}.ipynb",
        "source": f"{repository}/blob/v{release}/{pagename}.ipynb",
        "download": f"{Path(pagename).name}.ipynb",  # it lies beside the page
    }


def add_context(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Give a notebook its buttons, and a page the scripts of the explorers that stand in it, and no other."""
    if pagename.startswith(("notebooks/", "exercises/ex")):
        context["notebook"] = addresses(pagename, context["repository"], context["release"])
    shown = list(dict.fromkeys(SCRIPT.findall(context.get("body", ""))))
    if shown:
        app.add_js_file("js/explorers.js", loading_method="defer", priority=400)
        for name in shown:
            app.add_js_file(f"js/{name}.js", loading_method="defer")
        for name in ("look", *shown):
            app.add_js_file(f"data/{name}.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("html-page-context", add_context)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
