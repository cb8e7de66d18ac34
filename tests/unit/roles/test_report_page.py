# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the playbook report: written by a real run, and shown by a real browser.

Hosts are played by this machine. An action in place of the module rollout_facts returns their history.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._report.fleet import report
from playing import ROOT

sys.path.insert(0, str(ROOT / "tests/unit/plugins/plugin_utils"))
from fleet_samples import sample

ACTION = """
import json, os
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        with open(os.environ["REPORT_FACTS"]) as file:
            return {"changed": False, **json.load(file).get(task_vars["inventory_hostname"], {"failed": True, "msg": "no module"})}
"""
BROWSER = next((name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), "")
VOID = {"meta", "link", "br"}  # a tag of SVG ends with /> or has an end tag


def page_of(arguments: Any) -> str:
    """The page without a run of Ansible."""
    loader = jinja2.FileSystemLoader(ROOT / "playbooks/templates")
    environment = jinja2.Environment(trim_blocks=True, loader=loader, undefined=jinja2.StrictUndefined)  # noqa: S701
    return environment.get_template("report.html.j2").render(page=report(*arguments), hotpmem_report_time="2026-11-27 10:00")


class Structure(HTMLParser):
    """Tags, attributes and text of a page. It fails for a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


FLEETS = {
    "one": sample(1, cycles=1),
    "six": sample(6, failed=(4,), cold=(5,)),
    "many": sample(300, failed=(17,), cold=(40, 41), unreachable=(99,)),
}


@pytest.mark.parametrize("name", FLEETS)
def test_the_page_is_whole_and_needs_nothing_else(name: str) -> None:
    found = Structure(page_of(FLEETS[name]))
    names = [tag for tag, _attributes in found.tags]
    assert "script" not in names and "link" not in names and "img" not in names
    for _tag, attributes in found.tags:
        assert not {"href", "src", "xlink:href", "onload"} & set(attributes)
    assert "url(" not in page_of(FLEETS[name]) and "@import" not in page_of(FLEETS[name])
    assert sum(attributes.get("class") == "bar" for _tag, attributes in found.tags) == len([one for one in FLEETS[name][1].values() if one])


def hostile(value: Any) -> Any:
    """The value with every text replaced by markup, except what selects something."""
    if isinstance(value, dict):
        return {key: hostile(one) for key, one in value.items()}
    if isinstance(value, list):
        return [hostile(one) for one in value]
    return "\"'><script>alert(1)</script>&amp;<b onload=x>" if isinstance(value, str) and value not in ("cold", "down", "failed") else value


def test_text_of_a_host_stays_text() -> None:
    names, cycles, facts, failures = sample(3, failed=(1,), cold=(2,), unreachable=(3,))
    evil = "<script>alert(2)</script>\"'&"
    known = {name: [phase["name"] for phase in cycle["timeline"]["phases"]] for name, cycle in cycles.items() if cycle}
    cycles, facts, failures = hostile(cycles), hostile(facts), hostile(failures)
    for name, phases in known.items():  # a phase that nobody knows is not drawn
        for phase, title in zip(cycles[name]["timeline"]["phases"], phases):
            phase["name"] = title
    rename = {name: f"{name}{evil}" for name in names}
    text = page_of(([*rename.values()], *({rename[name]: one for name, one in part.items()} for part in (cycles, facts, failures))))
    found = Structure(text)
    assert "script" not in [tag for tag, _attributes in found.tags] and "b" not in [
        tag for tag, attributes in found.tags if "onload" in attributes
    ]
    assert "<script" not in text and text.count("&lt;script&gt;") > 10


def collection(where: Path) -> None:
    """Put a copy of the collection, by links, where playing.run() would put a link; with the action above."""
    top = where / "collections/ansible_collections/hotpmem/fleet"
    (top / "plugins/action").mkdir(parents=True)
    (top / "plugins/modules").mkdir()
    for path in ROOT.iterdir():
        if path.name not in ("plugins", ".venv", ".git", "build"):
            (top / path.name).symlink_to(path)
    for path in (ROOT / "plugins").iterdir():
        if path.name not in ("action", "modules"):
            (top / "plugins" / path.name).symlink_to(path)
    for kind in ("action", "modules"):
        for path in (ROOT / "plugins" / kind).glob("*.py"):
            if path.name != "rollout_facts.py":
                (top / "plugins" / kind / path.name).symlink_to(path)
    (top / "plugins/action/rollout_facts.py").write_text(ACTION, encoding="utf-8")
    (top / "plugins/modules/rollout_facts.py").write_text("DOCUMENTATION = ''\n", encoding="utf-8")


def play_report(where: Path, hosts: list[str], facts: dict[str, Any], *words: str) -> subprocess.CompletedProcess:
    collection(where)
    (where / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    (where / "ansible.cfg").write_text("", encoding="utf-8")
    command = ["-i", ",".join(hosts) + ",", "-c", "local", "-e", "hotpmem_become=false", *words, str(ROOT / "playbooks/report.yml")]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    own = {
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_COLLECTIONS_PATH": str(where / "collections"), "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CONFIG": str(where / "ansible.cfg"), "ANSIBLE_HOME": str(where / "home"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "LC_ALL": "C.UTF-8", "PWD": str(where), "REPORT_FACTS": str(where / "facts.json"),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", *command], cwd=where, env={**inherited, **own}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def test_the_playbook_writes_the_page(tmp_path: Path) -> None:
    names, _cycles, facts, _failures = sample(3, failed=(2,))
    facts.pop("node3")  # its module fails, and the report goes on
    done = play_report(tmp_path, names, facts, "-e", f"hotpmem_report_json={tmp_path}/data.json")
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "hotpmem-report.html").read_text(encoding="utf-8")
    found = Structure(text)
    said = " ".join(" ".join(found.text).split())
    assert "node2: failed in a rollout" in said and "--limit node2" in said and "Down time over the last 20 cycles" in said
    assert "These 2 hosts have the same pmem-state" in said and f"{'5e' * 32} 2 node1, node2 unknown 1 node3" in said
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert f"SHA-256 {'5e' * 32} on node1, node2" in lines and "Unknown on node3" in lines
    assert sum(attributes.get("class") == "bar" for _tag, attributes in found.tags) == 2 and "no cycle on record" in said
    assert json.loads((tmp_path / "data.json").read_text(encoding="utf-8")) == dict.fromkeys(names)
    # Two module calls a host, however many cycles it has.
    assert done.stdout.count("TASK [Read ") == 2


def pixels(file: Path) -> tuple[int, int, list[bytes]]:
    """Width, height and rows of a PNG with 8 bits a channel (https://www.w3.org/TR/png/)."""
    data = file.read_bytes()
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert depth == 8 and kind in (2, 6)
    step = 3 if kind == 2 else 4
    packed, at = b"", 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += size + 12
    raw, rows, before = zlib.decompress(packed), [], bytearray(width * step)
    for number in range(height):
        kind, row = raw[number * (width * step + 1)], bytearray(raw[number * (width * step + 1) + 1 : (number + 1) * (width * step + 1)])
        for index in range(len(row)):
            left = row[index - step] if index >= step else 0
            corner = before[index - step] if index >= step else 0
            if kind == 1:
                row[index] = (row[index] + left) & 255
            elif kind == 2:
                row[index] = (row[index] + before[index]) & 255
            elif kind == 3:
                row[index] = (row[index] + (left + before[index]) // 2) & 255
            elif kind == 4:
                guess = left + before[index] - corner
                near = min((abs(guess - left), 0, left), (abs(guess - before[index]), 1, before[index]), (abs(guess - corner), 2, corner))
                row[index] = (row[index] + near[2]) & 255
        rows.append(bytes(row))
        before = row
    return width, height, rows


def browser(where: Path, text: str, *words: str) -> str:
    (where / "page.html").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={where}/profile", *words,
         f"file://{where}/page.html"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not BROWSER, reason="chromium is not installed (apt-get install chromium)")
@pytest.mark.parametrize(("scheme", "background"), [("1", (246, 247, 249)), ("0", (18, 22, 29))], ids=["light", "dark"])
def test_a_browser_shows_it_in_both_colour_schemes(tmp_path: Path, scheme: str, background: tuple[int, int, int]) -> None:
    picture = tmp_path / "page.png"
    words = ["--window-size=700,500", f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}"]
    browser(tmp_path, page_of(FLEETS["six"]), *words)
    width, height, rows = pixels(picture)
    assert (width, height) == (700, 500) and tuple(rows[0][:3]) == background
    step = len(rows[0]) // width
    colours = {tuple(row[at : at + 3]) for row in rows for at in range(0, len(row), step)}
    assert len(colours) > 50  # text and tiles, and not an empty page


@pytest.mark.skipif(not BROWSER, reason="chromium is not installed (apt-get install chromium)")
@pytest.mark.parametrize("columns", [380, 1280])
def test_nothing_hangs_over_the_edge(tmp_path: Path, columns: int) -> None:
    """A frame of that width measures its page; the policy of the page itself allows no script."""
    names, cycles, facts, failures = FLEETS["six"]
    long = "a-very-long-name-of-a-host-in-some-rack.in-some-room.of-some-site.example.com"
    cycles = {**cycles, "node5": {**cycles["node5"], "items": [{"name": "x" * 64, "status": "cold", "reason": "y" * 300}]}}
    text = page_of(([*names, long], {**cycles, long: None}, facts, {**failures, long: "failed: " + "z" * 300}))
    quoted = text.replace("&", "&amp;").replace('"', "&quot;")
    measure = (
        "const f=document.querySelector('iframe');f.onload=()=>{const d=f.contentDocument.documentElement;"
        "document.title=d.scrollWidth+'/'+d.clientWidth}"
    )
    frame = f'<body><iframe style="width:{columns}px;height:600px;border:0" srcdoc="{quoted}"></iframe><script>{measure}</script></body>'
    shown = browser(
        tmp_path, frame.replace("default-src 'none'; ", ""), "--window-size=1400,700", "--dump-dom", "--virtual-time-budget=5000"
    )
    measured = re.search(r"<title>(\d+)/(\d+)</title>", shown)
    assert measured and int(measured[2]) == columns, shown[:500]
    assert int(measured[1]) <= columns
