# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check the variables of a rollout, and make its plan. Runs on the controller, once for all hosts."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.hotpmem.fleet.plugins.action.node_handoff import owner
from ansible_collections.hotpmem.fleet.plugins.filter.text_table import text_table
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import extras, fields, inputs, journal, plan, state, words


def new_run() -> str:
    """An id for a run. Ids sort by the time of their start."""
    now = journal.now()
    return f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03}Z-{secrets.token_hex(3)}"


def started(pid: int) -> str:
    """When a process of this machine started, in ticks after its boot. Empty when it does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def this_process() -> dict[str, Any]:
    """The ansible-playbook to which this worker belongs."""
    pid = os.getppid()
    return {"pid": pid, "started": started(pid), "controller": socket.gethostname()}


def alive(process: Mapping[str, Any]) -> bool:
    """True when the ansible-playbook that wrote the journal runs on this machine."""
    pid, ticks = process.get("pid"), process.get("started")
    return process.get("controller") == socket.gethostname() and bool(pid) and bool(ticks) and started(int(str(pid))) == ticks


def reason_of(result: Mapping[str, Any]) -> str:
    """The reason of a failed result."""
    reasons = result.get("reasons")
    said = "; ".join(str(reason) for reason in reasons) if reasons else str(result.get("msg") or "no reason is known")
    return " ".join(said.split()).removeprefix("Task failed: ")


class ActionModule(ActionBase):
    """The action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _valid, args = self.validate_argument_spec(
            argument_spec={
                "state": {"type": "str", "choices": ["inputs", "planned", "recorded"], "required": True},
                "settings": {"type": "dict", "required": True},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "directory": {"type": "str", "default": ""},
            }
        )
        variables = task_vars or {}
        settings, problems = inputs.read(args["settings"])
        root = journal.directory(args["directory"], os.environ)
        try:
            last = journal.newest(root, settings.rollout)
            events, torn = last.read() if last else ([], False)
            before = state.replay(events)
            if args["state"] == "inputs":
                problems += self._all_problems(settings, args, variables)
                problems += [] if self._task.check_mode else _in_the_way(settings, before)
                if problems:
                    raise AnsibleActionFail("Nothing was begun. " + " ".join(problems), result={"problems": problems})
                return {**result, "changed": False, "problems": [], "under_way": _under_way(settings, before, args["hosts"])}
            result.update(self._plan(settings=settings, args=args, variables=variables, root=root, last=last, events=events))
        except journal.JournalError as error:
            raise AnsibleActionFail(str(error)) from error
        if torn and last:
            self._display.warning(f"The last line of the journal {last.path} is incomplete and does not count: its controller died.")
        return result

    def _all_problems(self, settings: inputs.Settings, args: dict[str, Any], variables: dict[str, Any]) -> list[str]:
        known = {*variables.get("groups", {}), *variables.get("groups", {}).get("all", [])}
        problems = inputs.removed(variables)
        for variable in ("ansible_limit", "hotpmem_hosts"):
            pattern = variables.get(variable)
            if isinstance(pattern, str) and pattern:
                problems += inputs.unknown_names("--limit" if variable == "ansible_limit" else variable, pattern, known)
        hostvars = variables["hostvars"]
        problems += _problems_of_hosts(args["hosts"], hostvars)
        return problems + inputs.of_the_fleet(settings, args["hosts"], hostvars)

    def _plan(
        self,
        *,
        settings: inputs.Settings,
        args: dict[str, Any],
        variables: dict[str, Any],
        root: Path,
        last: journal.Journal | None,
        events: Sequence[journal.Event],
    ) -> dict[str, Any]:
        before = state.replay(events)
        resumes = bool(last) and settings.resume and (not before.ended or (settings.retry_failed and before.can_be_tried_again))
        run = last.run if last and resumes else new_run()
        was = before if resumes else state.Run()
        seen = [_seen(host, variables["hostvars"][host], settings) for host in args["hosts"]]
        now = journal.now()
        made = plan.make(settings, seen, was, run=run, start=now, forks=int(variables.get("ansible_forks") or 5))
        fleet = len(dict.fromkeys([*was.fleet, *args["hosts"]]))
        line, ended = _line(made, args, was), _ended(made)
        known = [*(events if resumes else []), *({**one, "event": "host_ended"} for one in ended)]
        after = state.replay([*known, {**line, "event": "run_resumed"}])
        blocked = plan.spent_already(state.spent(after), settings.allowed(fleet), str(variables.get("ansible_limit") or ""))
        note = [f"Run {run} goes on: {len(made.done) + len(made.recorded)} hosts are done."] if resumes else []
        note += [plan.before_it(last.run, before, now)] if last and not resumes else []
        if self._task.check_mode:
            note += _in_the_way(settings, before)
        below = [*note, *plan.summary(made, settings, fleet), *([blocked] if blocked else [])]
        lines = [*text_table(plan.rows(made, seen), plan.HEADERS).splitlines(), "", *below]
        book = journal.Journal(root / settings.rollout / f"{run}.jsonl")
        records = args["state"] == "recorded" and not self._task.check_mode
        written = _record(book, made, line, after, resumes) if records else None
        return {
            "changed": records,
            **({"rollout_event": [written]} if written else {}),
            "lines": lines,
            # A host that was left drained is put back into service before the run stops.
            "blocked": "" if before.drained else blocked,
            "hosts": made.hosts,
            "serial": [len(batch) for batch in made.batches],
            "batches": made.batches,
            "finish": made.finish,
            # Also those of a run that does not go on.
            "undrain": before.drained,
            "refused": made.refused,
            "left_out": made.left_out,
            "not_answering": made.unreachable,
            "run": run,
            "rollout": settings.rollout,
            "resumed": resumes,
            "journal": str(book.path),
            "fleet": fleet,
            "seconds": max(made.seconds.values(), default=0.0),
            "expected_end": journal.stamp(made.times[-1][1]) if made.times else None,
        }


def _problems_of_hosts(hosts: Sequence[str], hostvars: Any) -> list[str]:
    """What is wrong with the variables of hosts. Groups may have different ones, and each value is checked once, before it is templated."""
    problems: dict[str, str] = {}
    checked: set[str] = set()
    for host in hosts:
        raw = hostvars.raw_get(host)
        key = repr([raw.get(name) for name in extras.NAMES])
        if key in checked:
            continue
        for problem in extras.check(hostvars[host]):
            problems.setdefault(problem, f"{problem} (host {words.visible(host)})" if checked else problem)
        checked.add(key)
    return list(problems.values())


def _ended(made: plan.Plan) -> list[journal.Event]:
    """The end of the hosts that nobody saw, and whose mark says how they ended."""
    said = {"msg": "The mark on the host says so.", "next": "", "warnings": []}
    return [{"host": host, "outcome": outcome, **said} for host, outcome in made.recorded.items()]


def _line(made: plan.Plan, args: Mapping[str, Any], was: state.Run) -> journal.Event:
    """The line of the plan in the journal."""
    return {
        "owner": owner(),
        "process": this_process(),
        "fleet": list(args["hosts"]),
        "batches": made.batches,
        "again": [host for host in made.hosts if host in was.hosts],
        "finish": made.finish,
        "refused": made.refused,
        "left_out": made.left_out,
        "unreachable": made.unreachable,
        "expected_seconds": (made.times[-1][1] - made.times[0][0]).total_seconds() if made.times else 0,
        "expected_end": journal.stamp(made.times[-1][1]) if made.times else None,
        "settings": {key: value for key, value in args["settings"].items() if isinstance(value, (str, int, float, list, type(None)))},
    }


def _record(book: journal.Journal, made: plan.Plan, line: journal.Event, after: state.Run, resumes: bool) -> journal.Event:
    """Write the line of the plan into the journal. Returns it."""
    if not resumes:
        book.create()
    for one in _ended(made):
        book.append("host_ended", **one)
    counts = {
        "left": len(made.hosts),
        "done": len(made.done) + len(made.recorded),
        "failed": len(made.failed) + len(made.unreachable),
        "refused": len(made.refused),
        "spent": len(state.spent(after)),
        "warned": len(after.warned),
    }
    return book.append("run_resumed" if resumes else "run_planned", **line, counts=counts)


def _in_the_way(settings: inputs.Settings, before: state.Run) -> list[str]:
    """Why the last run of this rollout keeps a new one from beginning."""
    if before.latched:
        said = before.latched.get("msg") or "the failure budget was spent"
        return [
            f"hotpmem_rollout: the last run of the rollout {settings.rollout!r} was stopped: {said} Look into these hosts. Then "
            f"clear it with '{words.clear_command(settings.rollout)}', and run this playbook again."
        ]
    if before.process and not before.ended and not before.stopped and alive(before.process) and before.process != this_process():
        return [
            f"hotpmem_rollout: a run of the rollout {settings.rollout!r} is under way: {before.owner}, process {before.process['pid']} on "
            "this controller. Wait until it ends, or give this rollout another name."
        ]
    return []


def _under_way(settings: inputs.Settings, before: state.Run, hosts: Sequence[str]) -> dict[str, float]:
    """Hosts that a dead controller may have left in their handoff, and how many seconds ago it began."""
    if not settings.resume or before.ended or alive(before.process):
        return {}
    now = journal.now()
    return {
        name: max(0.0, (now - journal.moment(host.phase_began)).total_seconds())
        for name, host in before.hosts.items()
        if name in hosts and host.may_be_away and host.phase_began
    }


def _seen(host: str, variables: Mapping[str, Any], settings: inputs.Settings) -> plan.Seen:
    """What the host said to rollout_facts and pmem_preflight."""
    facts = variables.get("rollout_seen") or {}
    ready = variables.get("rollout_ready") or {}
    settings_file = variables.get("node_agent_on_host") or {}
    domain = str(variables.get(settings.failure_domain, "")) if settings.failure_domain else ""
    for one in (facts, ready, settings_file):
        if one.get("unreachable"):
            return plan.Seen(host, domain, unreachable=f"The host did not answer: {reason_of(one).rstrip('.')}.")
    refused, note = "", ""
    differs = "; ".join(str(one) for one in variables.get("node_agent_differences") or [])
    if facts.get("msg") and "boot_id" not in facts:
        refused = f"Its facts could not be read: {reason_of(facts)}"
    elif not ready.get("ok"):
        refused = reason_of(ready)
    elif variables.get("rollout_not_compared"):
        refused = f"Its settings could not be compared with the inventory: {reason_of({'msg': variables['rollout_not_compared']})}"
    elif differs and fields.boolean(variables.get("hotpmem_sync_settings")):
        note = f"its settings are updated first: {differs}"
    elif differs:
        refused = f"Its settings differ from the inventory: {differs}. Run hotpmem.fleet.provision, or set hotpmem_sync_settings: true."
    return plan.Seen(
        host,
        domain,
        kernel=str(facts.get("kernel") or ""),
        boot_id=str(facts.get("boot_id") or ""),
        needs=facts.get("needs") or {},
        newest=str((facts.get("newest_kernel") or {}).get("version") or ""),
        history=facts.get("history") or [],
        mark=facts.get("mark") or {},
        refused=refused,
        note=note,
    )
