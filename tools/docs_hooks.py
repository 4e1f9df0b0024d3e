"""MkDocs hook: files of the repository outside docs/ become pages, and links to them lead there.

So a link such as ``../datasets/README.md`` works on the file system and on the built pages.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PLACE = "project"
PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "checkpoints/bayes-pfl-clip-tiny/APPENDIX.md",
    "checkpoints/bayes-pfl-clip-tiny/README.md",
    "checkpoints/bayes-pfl-tiny/APPENDIX.md",
    "checkpoints/bayes-pfl-tiny/README.md",
    "datasets/README.md",
)
OTHERS = ("LICENSE",)
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of PAGES and OTHERS below project/."""
    for name in PAGES + OTHERS:
        place = f"{PLACE}/{name}"
        files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between docs/ and the rest of the repository to where the pages lie here."""
    if page.parent is None:  # alone below its tab: no list of neighbours
        page.meta["hide"] = ["navigation"]
    here = page.file.src_uri
    source = here.removeprefix(f"{PLACE}/") if here.startswith(f"{PLACE}/") else f"docs/{here}"

    def turned(match: re.Match[str]) -> str:
        before, target, anchor, after = match.groups(default="")
        if "://" in target or target.startswith(("/", "mailto:")):
            return match[0]
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if wanted.startswith("docs/"):
            wanted = wanted.removeprefix("docs/")
        elif wanted in PAGES + OTHERS:
            wanted = f"{PLACE}/{wanted}"
        else:
            return match[0]
        relative = posixpath.relpath(wanted, posixpath.dirname(here) or ".")
        return f"{before}{relative}{anchor}{after}"

    return _LINK.sub(turned, markdown)
