# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site of `make docs` holds every guide, and its links lead to a page and a place on it."""

from __future__ import annotations

import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from docs_site import ELSEWHERE, GUIDES, ROOT, build, page_of


class Page(HTMLParser):
    """The links and the ids of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "href" and tag == "a":
                self.links.append(value or "")
            elif key in ("src", "href"):
                self.loads.append(value or "")
            elif key in ("id", "name"):
                self.ids.add(value or "")


# The kinds of links that antsibull-docs writes.
REFERENCE_PAGE = """Title
=====

`Beside <dax_kmem_module.rst>`_, `of ansible-core <slurp_module.rst>`_, `ansible.posix.mount <mount_module.rst>`_,
`as in a collection <../../hotpmem/fleet/dax_kmem_module.html#other>`_

.. raw:: html

  <a href='../../hotpmem/fleet/dax_kmem_module.html' class='module'>in HTML</a>
  <a href='../../ansible/builtin/slurp_module.html'>of ansible-core</a>
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, with one reference page."""
    rst = tmp_path_factory.mktemp("rst")
    (rst / "pmem_info_module.rst").write_text(REFERENCE_PAGE, encoding="utf-8")
    (rst / "dax_kmem_module.rst").write_text("Other\n=====\n\nText\n", encoding="utf-8")
    (rst / "index.rst").write_text("Index\n=====\n\nThe site has its own.\n", encoding="utf-8")
    out = tmp_path_factory.mktemp("site")
    build(out, rst)
    return out


def test_every_link_leads_somewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            place, _mark, fragment = link.partition("#")
            if ELSEWHERE.match(link):
                continue
            target = Path(os.path.normpath(path.parent / unquote(place))) if place else path
            if not target.is_file() or (fragment and target in pages and unquote(fragment) not in pages[target].ids):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []
    assert sum(len(page.links) for page in pages.values()) > 500


def test_every_page_can_be_reached_from_the_first_one(site: Path) -> None:
    left = [site / "index.html"]
    reached = set(left)
    while left:
        path = left.pop()
        for link in Page(path).links:
            target = Path(os.path.normpath(path.parent / unquote(link.partition("#")[0])))
            if not ELSEWHERE.match(link) and target.suffix == ".html" and target not in reached:
                reached.add(target)
                left.append(target)
    assert sorted(str(path.relative_to(site)) for path in set(site.rglob("*.html")) - reached) == []


def test_a_page_of_ansible_is_linked_in_its_collection(site: Path) -> None:
    links = Page(site / "reference/pmem_info_module.html").links
    at = "https://docs.ansible.com/projects/ansible/latest/collections/ansible"
    assert {link for link in links if "ansible.com" in link} == {f"{at}/builtin/slurp_module.html", f"{at}/posix/mount_module.html"}


def test_the_list_of_reference_pages_has_each_of_them_once(site: Path) -> None:
    listed = [link for link in Page(site / "reference/index.html").links if "/" not in link and not ELSEWHERE.match(link)]
    assert sorted(listed) == ["dax_kmem_module.html", "index.html", "pmem_info_module.html"]  # index.html: the navigation


def test_every_guide_is_on_the_site_and_in_its_list(site: Path) -> None:
    guides = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")} - {"docs/measurements.md", "docs/pmem-state.md"}
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Documentation")[2].partition("\n## ")[0]
    assert guides | set(re.findall(r"\]\(([\w./-]+\.md)\)", table)) <= set(GUIDES)
    linked = Page(site / "index.html").links
    assert {page_of(name) for name in GUIDES} <= set(linked)


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loads = [(path, name) for path in site.rglob("*.html") for name in Page(path).loads]
    assert loads and [(path.name, name) for path, name in loads if not (path.parent / unquote(name)).is_file()] == []
