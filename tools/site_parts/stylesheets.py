"""Leave out what no page can use: the theme's stylesheet is written for all of Bootstrap, 380 kB of it.

A script of further icons is left out too; the theme's own come from a font. The index of the search, the largest script
of all, is loaded by the page of the search only.
"""

import re
from collections.abc import Iterator
from pathlib import Path

SHEETS = ("styles/pydata-sphinx-theme.css", "mystnb.*.css")
SEARCH = re.compile(r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>')
ICONS = re.compile(r'\s*<script[^>]* src="[^"]*/fontawesome\.js[^"]*"></script>')
NAME = re.compile(r"[.#]((?:\\.|[\w-])+)")


def shrink(site: Path) -> None:
    """Rewrite the theme's stylesheets without what no page uses, and the pages without what only the search needs."""
    for path in site.rglob("*.html"):
        text = ICONS.sub("", path.read_text(encoding="utf-8"))
        path.write_text(text if path.name == "search.html" else SEARCH.sub("", text), encoding="utf-8")
    (site / "_static" / "scripts" / "fontawesome.js").unlink(missing_ok=True)
    words = words_of(site)
    for name in SHEETS:
        for path in (site / "_static").glob(name):
            path.write_text(purge(path.read_text(encoding="utf-8"), words), encoding="utf-8")


def words_of(site: Path) -> set[str]:
    """Return every word of the pages' tags and of all scripts: what could be a class."""
    words: set[str] = set()
    for path in site.rglob("*.html"):
        for value in re.findall(r'(?:class|id)="([^"]*)"', path.read_text(encoding="utf-8")):
            words.update(value.split())
    for path in (site / "_static").rglob("*.js"):
        if path.parent.name != "data":
            words.update(re.findall(r"[\w-]+", path.read_text(encoding="utf-8", errors="replace")))
    return words


def purge(css: str, words: set[str]) -> str:
    """Return a stylesheet without the selectors that name an absent class.

    >>> purge(".a{b:c}.d,.a .e,f{g:h}@media print{.d{i:j}}", {"a"})
    '.a{b:c}f{g:h}'
    """
    kept = []
    for head, body in _rules(re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)):
        if head.startswith("@"):
            if head.startswith(("@media", "@supports")):
                body = purge(body, words)
                if not body:
                    continue
            kept.append(f"{head}{{{body}}}" if body is not None else f"{head};")
        elif selectors := [part for part in _split(head) if _used(part, words)]:
            kept.append(f"{','.join(selectors)}{{{body}}}")
    return "".join(kept)


def _used(selector: str, words: set[str]) -> bool:
    """Whether a page can hold what a selector asks for; what stands in :not() is not asked for."""
    asked = re.sub(r":(?:not|is|where|has)\((?:[^()]|\([^()]*\))*\)", "", selector)
    asked = re.sub(r"\[[^\]]*\]", "", asked)
    return all(name.replace("\\", "") in words for name in NAME.findall(asked))


def _rules(css: str) -> Iterator[tuple[str, str | None]]:
    """Yield head and body of each rule on the outermost level; the body of an @import is None."""
    at = 0
    while at < len(css):
        opening, semicolon = css.find("{", at), css.find(";", at)
        if opening < 0:
            return
        if css[at:opening].lstrip().startswith("@") and 0 <= semicolon < opening:
            yield css[at:semicolon].strip(), None
            at = semicolon + 1
            continue
        depth, end = 1, opening + 1
        while depth:
            depth += {"{": 1, "}": -1}.get(css[end], 0)
            end += 1
        yield css[at:opening].strip(), css[opening + 1 : end - 1]
        at = end


def _split(head: str) -> list[str]:
    """Split selectors at the commas that stand outside of brackets."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", head)]
