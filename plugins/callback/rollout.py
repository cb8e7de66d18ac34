# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show a rollout while it runs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout
type: stdout
short_description: Show where a rolling reboot is
version_added: 0.1.0
author:
  - The hotpmem.fleet authors (!UNKNOWN)
description:
  - Shows the batch, the host, its phase, the time that has passed and the time that is left, while C(hotpmem.fleet.rolling_reboot) runs.
  - On a terminal, these lines change in place. Elsewhere, each event is one line of text. This is also the case if the environment
    variable E(NO_COLOR) or E(CI) is set, or with C(-v).
  - Failures, refusals and warnings are always printed whole, with the next command. Output of M(ansible.builtin.debug) is printed as
    text.
  - Banners, successful and skipped tasks are printed only with C(-v), as the callback P(ansible.builtin.default#callback) prints them.
  - It shows only what the results of the tasks contain. Control characters in text from hosts are shown as escapes.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - Set as C(stdout_callback) in the configuration, or with E(ANSIBLE_STDOUT_CALLBACK).
options:
  rollout_display:
    description:
      - With V(auto), lines change in place if the output is a terminal.
      - With V(lines), each event is always one line of text.
    type: str
    choices: [auto, lines]
    default: auto
    env:
      - name: HOTPMEM_ROLLOUT_DISPLAY
    ini:
      - section: callback_rollout
        key: display
"""

EXAMPLES = r"""
ansible.cfg: |
  [defaults]
  stdout_callback = hotpmem.fleet.rollout
"""

import gc
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ansible import constants as C
from ansible.plugins.callback.default import CallbackModule as Default
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.progress import Line, Progress
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.screen import Screen, in_place
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.words import clock, visible

_COLORS = {"plain": None, "good": C.COLOR_OK, "warn": C.COLOR_WARN, "bad": C.COLOR_ERROR}
_DEBUG = ("debug", "ansible.builtin.debug", "ansible.legacy.debug")
# What a failed command printed. msg alone would be "non-zero return code".
_OUTPUT = ("cmd", "rc", "stdout", "stderr", "module_stdout", "module_stderr")


class CallbackModule(Default):
    """The callback. With -v it prints what the default callback prints, and the events of the rollout as lines."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "hotpmem.fleet.rollout"

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress()
        self._screen: Screen | None = None
        self._lock = threading.RLock()  # item results arrive in another thread, and the screen asks for lines in a third
        self._begun = time.time()
        self._where = ""
        self._answers: Counter[str] = Counter()
        self._said: dict[str, str] = {}

    # --- output

    @property
    def _quiet(self) -> bool:
        return self._display.verbosity == 0

    def _print(self, line: Line) -> None:
        """Print a line of a rollout. In a log, the time since the start stands before it."""
        if self._screen:
            if not line.step:
                self._display.display(line.text, color=_COLORS[line.tone])
        else:
            self._display.display(f"{clock(time.time() - self._begun)}  {line.text}", color=_COLORS[line.tone])
            # Whoever follows a log wants the line now, not when a buffer is full.
            sys.stdout.flush()

    def _region(self, width: int, height: int) -> list[str]:
        with self._lock:
            if self._progress.started is None or self._progress.ended:
                total = sum(self._answers.values())
                text = f"{self._where}  {total} results" if total else self._where
                return [f"{visible(text)}  elapsed {clock(time.time() - self._begun)}"[: max(width - 1, 1)]] if self._where else []
            return self._progress.region(time.time(), width, height)

    def _begin_screen(self) -> None:
        if self._screen or not self._quiet or not in_place(1, os.environ, self.get_option("rollout_display")) or C.ANSIBLE_NOCOLOR:
            return
        self._screen = screen = Screen(self._region)
        # Everything that Ansible writes, in any thread, goes through these two methods of one object.
        self._display.display = _aside(screen, self._display.display)  # type: ignore[method-assign]
        self._display.prompt_until = _aside(screen, self._display.prompt_until)  # type: ignore[method-assign]
        screen.start()

    # --- plays and tasks

    def v2_playbook_on_play_start(self, play: Any) -> None:
        gc.unfreeze()  # what the last batch has left
        self._begin_screen()
        self._play = play
        with self._lock:
            self._where = play.get_name().strip()
            self._answers.clear()
        if not self._quiet:
            super().v2_playbook_on_play_start(play)
        elif not self._screen and self._progress.started is None:
            self._print(Line(visible(self._where)))

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        _spare_workers()
        with self._lock:
            self._where = f"{self._play.get_name().strip()}: {task.get_name().strip()}"
            self._answers.clear()
        if not self._quiet:
            super()._task_start(task, prefix)
        else:
            self._task_type_cache[task._uuid] = prefix or "TASK"
            self._last_task_name = task.get_name().strip()

    def v2_playbook_on_include(self, included_file: Any) -> None:
        if not self._quiet:
            super().v2_playbook_on_include(included_file)

    # --- results

    def v2_runner_on_ok(self, result: Any) -> None:
        self._answers["ok"] += 1
        self._events(result)
        if not self._quiet:
            super().v2_runner_on_ok(result)
            return
        self._handle_warnings_and_exception(result)
        if result.task.action in _DEBUG and result.result.get("_ansible_verbose_override", False) is False:
            for item in result.result.get("results") or [result.result]:
                self._show(item)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        if not self._quiet:
            super().v2_runner_item_on_ok(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._answers["skipped"] += 1
        if not self._quiet:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        if not self._quiet:
            super().v2_runner_item_on_skipped(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._answers["failed"] += 1
        self._events(result)
        if self._quiet:
            self._fault(result, "failed", ignore_errors)
        else:
            super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        if self._quiet:
            self._fault(result, f"failed for {self._get_item_label(result.result)}", False)
        else:
            super().v2_runner_item_on_failed(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._answers["unreachable"] += 1
        if self._quiet:
            self._fault(result, "did not answer", bool(result.task.ignore_unreachable))
        else:
            super().v2_runner_on_unreachable(result)

    def v2_runner_retry(self, result: Any) -> None:
        if not self._quiet:
            super().v2_runner_retry(result)

    def v2_runner_on_async_poll(self, result: Any) -> None:
        if not self._quiet:
            super().v2_runner_on_async_poll(result)

    def v2_runner_on_async_ok(self, result: Any) -> None:
        if not self._quiet:
            super().v2_runner_on_async_ok(result)

    def _events(self, result: Any) -> None:
        """Show the events that a result carries."""
        found = result.result.get("rollout_event")
        rollout = result.result.get("rollout")
        for event in found if isinstance(found, list) else [found]:
            if not isinstance(event, Mapping):
                continue
            host = str(event.get("host") or "")
            with self._lock:
                # A failed task has just said it whole.
                known = self._quiet and event.get("msg") and self._said.pop(host, None) == _bare(event["msg"])
                told = {**event, "msg": ""} if known else event
                lines = self._progress.apply(told, rollout if isinstance(rollout, Mapping) else None, time.time())
            for line in lines:
                self._print(line)

    def _fault(self, result: Any, what: str, ignored: bool) -> None:
        """Print a failure whole: the message, and the output of a command."""
        self._handle_warnings(result.result)
        said = result.result
        message = visible(said.get("msg") or said.get("censored") or "no reason is known").strip()
        tone = "warn" if ignored else "bad"
        host = result.host.get_name()
        self._said[host] = _bare(message)
        name = visible(result.task_name or result.task.get_name()).strip()
        self._print(Line(f"{visible(self.host_label(result))}: {what}{', which is ignored' if ignored else ''} [{name}]", tone))
        for line in message.splitlines():
            self._print(Line(f"    {line}", tone))
        for key in _OUTPUT:
            if said.get(key) not in (None, "", []):
                value = said[key]
                text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
                shown = visible(text).strip("\n").splitlines()
                self._print(Line(f"    {key}: {shown[0] if len(shown) == 1 else ''}".rstrip(), tone))
                for line in shown if len(shown) > 1 else []:
                    self._print(Line(f"        {line}", tone))

    def _show(self, said: Mapping[str, Any]) -> None:
        """Print the output of debug as text."""
        message = said.get("msg")
        if isinstance(message, list) and all(isinstance(line, (str, int, float)) for line in message):
            text = "\n".join(map(str, message))
        else:
            text = message if isinstance(message, str) else self._dump_results(said)
        self._display.display(visible(text))

    # --- the end

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if self._screen:
            self._screen.stop()
        if not self._quiet or self.get_option("show_custom_stats"):
            super().v2_playbook_on_stats(stats)
            return
        for host in sorted(stats.processed):
            numbers = stats.summarize(host)
            if numbers["failures"] or numbers["unreachable"]:
                words = f"{numbers['failures']} failed, {numbers['unreachable']} unreachable, {numbers['ok']} ok"
                self._display.display(f"{visible(host)}: {words}", color=C.COLOR_ERROR)


def _spare_workers() -> None:
    """Keep the garbage collector of the workers off what exists now.

    Ansible forks a worker for each task on each host. A worker that collects garbage writes to each object that it looks at, and the kernel
    copies those pages. With hundreds of hosts, that was half of the memory. https://docs.python.org/3/library/gc.html#gc.freeze
    """
    gc.collect()
    gc.freeze()


def _bare(text: Any) -> str:
    """A message without what Ansible puts before it."""
    return " ".join(visible(text).split()).removeprefix("Task failed: ").removeprefix("Action failed: ")


def _aside(screen: Screen, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, with the screen out of the way."""

    def call(*args: Any, **more: Any) -> Any:
        with screen.aside():
            done = method(*args, **more)
            sys.stdout.flush()
            return done

    return call
