# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the site: every Markdown page of the repository, and the reference pages of antsibull-docs, as HTML with working links.

Usage: docs_site.py OUT [FOLDER_OF_REFERENCE_PAGES]

A page keeps its path, so links between pages only change their suffix. A linked file that is not a page is copied. A linked folder gets a
list of its pages. The site loads nothing from other servers.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, unquote

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:|^//")
# A link of antsibull-docs to another page, as if the pages lay in a folder for each collection, and the full name of the plugin after it.
REFERENCE = re.compile(r"""href=(["'])(?![a-z]+:)(?:[\w./-]*/)?([\w-]+)\.(?:rst|html)([^<>]*>(?:<[^>]*>)*(\w+)\.(\w+)\.\w)?""")
COLLECTIONS = "https://docs.ansible.com/projects/ansible/latest/collections"
GUIDES = [
    "README.md",
    *(
        f"docs/{name}.md"
        for name in ("install-hardware", "operators", "applications/README", "troubleshooting", "reference/variables", "rollouts")
    ),
    *(f"docs/{name}.md" for name in ("rollouts-hooks", "scale", "monitoring", "performance", "kernels", "comparison", "security")),
    *(f"docs/{name}.md" for name in ("execution-environment", "architecture")),
    "docs/image-format.md",
    "CONTRIBUTING.md",
]
STYLE = """
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 sans-serif; color: #222; background: #fff }
nav { font-size: .85rem; border-bottom: 1px solid #ccc; padding-bottom: .5rem }
nav a { margin-right: .8rem; white-space: nowrap }
pre { background: #f4f4f4; padding: .6rem; overflow-x: auto }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { border: 1px solid #ccc; padding: .25rem .5rem; text-align: left }
"""


def anchor(heading: str) -> str:
    """GitHub's rule: lower case, letters, digits, spaces, hyphens and underscores are kept, a space becomes a hyphen."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def page_of(name: str) -> str:
    """The file of the site for a file or folder of the repository."""
    return name[:-3] + ".html" if name.endswith(".md") else name


def frame(where: str, title: str, body: str) -> str:
    """A whole page with the list of guides."""

    def link(target: str, words: str) -> str:
        return f'<a href="{quote(os.path.relpath(page_of(target), os.path.dirname(where) or "."))}">{html.escape(words)}</a>'

    words = {name: Path(name).stem for name in GUIDES} | {"README.md": "hotpmem.fleet", "docs/applications/README.md": "applications"}
    guides = " ".join(link(name, words[name]) for name in GUIDES)
    reference = link("reference/index.html", "modules and roles")
    head = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style></head>'
    return f"{head}\n<body><nav>{guides} {reference}</nav>\n{body}\n</body></html>\n"


class Site:
    """The pages below a folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.wanted: set[str] = set()  # files and folders that a page links to

    def write(self, where: str, title: str, body: str) -> None:
        """Write a page."""
        path = self.out / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(frame(where, title, body), encoding="utf-8")

    def target(self, origin: str, link: str) -> str:
        """A link of a page, as it is on the site."""
        place, mark, fragment = link.partition("#")
        if ELSEWHERE.match(link) or not place:
            return link
        name = os.path.normpath(os.path.join(os.path.dirname(origin), unquote(place)))
        if not name.endswith(".md"):
            self.wanted.add(name)
        if (ROOT / name).is_dir():
            name += "/index.html"
        return quote(os.path.relpath(page_of(name), os.path.dirname(origin) or ".")) + mark + fragment

    def markdown(self, name: str) -> None:
        """A page from Markdown."""
        parser = MarkdownIt("commonmark", {"html": True}).enable("table")
        tokens = parser.parse((ROOT / name).read_text(encoding="utf-8"))
        title, seen = name, {}
        for number, token in enumerate(tokens):
            if token.type == "heading_open":
                words = "".join(child.content for child in tokens[number + 1].children or [] if child.type in ("text", "code_inline"))
                slug = anchor(words)
                seen[slug] = seen.get(slug, -1) + 1
                token.attrSet("id", f"{slug}-{seen[slug]}" if seen[slug] else slug)
                title = words if token.tag == "h1" else title
            for child in token.children or []:
                key = {"link_open": "href", "image": "src"}.get(child.type)
                if key:
                    child.attrSet(key, self.target(name, str(child.attrGet(key))))
        self.write(page_of(name), title, parser.renderer.render(tokens, parser.options, {}))

    def reference(self, folder: Path) -> None:
        """The pages of antsibull-docs, which are reStructuredText for docutils."""
        from docutils.core import publish_parts  # only here: the tests of the links need no docutils

        paths = sorted(path for path in folder.glob("*.rst") if path.stem != "index")
        own = {path.stem for path in paths}

        def link(found: re.Match[str]) -> str:
            # Pages of other collections are on Ansible's site, where actions are modules. A link without a full name is to ansible-core.
            place = f"{COLLECTIONS}/{found[4] or 'ansible'}/{found[5] or 'builtin'}/" + re.sub("_action$", "_module", found[2])
            return f"href={found[1]}{found[2] if found[2] in own else place}.html{found[3] or ''}"

        rows = []
        for path in paths:
            parts = publish_parts(
                path.read_text(encoding="utf-8"), writer="html5", settings_overrides={"report_level": 4, "raw_enabled": True}
            )
            body = REFERENCE.sub(link, parts["html_body"])
            self.write(f"reference/{path.stem}.html", parts["title"] or path.stem, body)
            rows.append(f'<li><a href="{path.stem}.html">{path.stem.replace("_", " ")}</a></li>')
        self.write("reference/index.html", "Modules, filters and roles", f"<h1>Modules, filters and roles</h1><ul>{''.join(rows)}</ul>")

    def finish(self, pages: list[str]) -> None:
        """Copy the files that pages link to, and list the folders."""
        for name in sorted(self.wanted):
            if (ROOT / name).is_dir():
                inside = sorted(page for page in pages if os.path.dirname(page) == name)
                rows = "".join(f'<li><a href="{quote(page_of(Path(page).name))}">{Path(page).stem}</a></li>' for page in inside)
                self.write(f"{name}/index.html", name, f"<h1>{html.escape(name)}</h1><ul>{rows}</ul>")
            else:
                (self.out / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, self.out / name)


def build(out: Path, reference: Path | None) -> int:
    """Make the site; return the number of its pages."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    pages = [name for name in listed if (ROOT / name).is_file() and not name.startswith(".github/")]
    site = Site(out)
    for name in pages:
        site.markdown(name)
    site.reference(reference or Path("/nonexistent"))
    site.finish(pages)
    shutil.copyfile(out / "README.html", out / "index.html")
    return len(list(out.rglob("*.html")))


if __name__ == "__main__":
    print(f"docs: {build(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)} pages in {sys.argv[1]}")
