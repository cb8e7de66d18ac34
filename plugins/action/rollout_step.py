# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""One step of a rollout: write it into the journal, and decide whether the run goes on. Runs on the controller."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase
from ansible_collections.hotpmem.fleet.plugins.action.node_handoff import owner
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import estimate, inputs, journal, order, state, windows, words

AGAIN = "again"
# A run that has ended is opened again with this. Without it, the next start is a new run, which reboots all hosts.
AGAIN_FOR_IT = "run the playbook again with -e retry_failed=true"
LOOK = "cat /proc/sys/kernel/random/boot_id; uname -r"
STATES = (
    "window", "lease", "batch", "begin", "look", "phase", "drained", "undrained", "hook", "end", "stop", "finish", "close", "clear",
)  # fmt: skip
TEXTS = (
    "journal",
    "directory",
    "host",
    "phase",
    "point",
    "name",
    "hook",
    "outcome",
    "msg",
    "next",
    "reason",
    "before",
    "began",
    "kernel",
    "seen",
    "held",
)
SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": list(STATES), "required": True},
    "settings": {"type": "dict", "default": {}},
    "plan": {"type": "dict", "default": {}},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "history": {"type": "list", "elements": "dict", "default": []},
    "cycle": {"type": "dict", "default": {}},
    "warnings": {"type": "list", "elements": "str", "default": []},
    "batch": {"type": "int", "default": 0},
    "lease": {"type": "dict", "default": {}},
    "pause": {"type": "float", "default": 30.0},
    "slice": {"type": "float", "default": 0.0},
    **{name: {"type": "str", "default": ""} for name in TEXTS},
}


class NoAnswer(Exception):
    """The host cannot be asked."""


class ActionModule(ActionBase):
    """The action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _valid, self.args = self.validate_argument_spec(argument_spec=SPEC)
        self.host = self.args["host"] or str((task_vars or {}).get("inventory_hostname", ""))
        self.vars = task_vars or {}
        self.settings, _problems = inputs.read(self.args["settings"])
        self.fleet = int(self.args["plan"].get("fleet") or 1)
        self.book = journal.Journal(Path(self.args["journal"] or self.args["plan"].get("journal") or "/nonexistent"))
        self.lines: list[journal.Event] = []
        if self._task.check_mode:
            return {**result, "changed": False, "skipped": True}
        try:
            result.update(getattr(self, f"_{self.args['state']}")())
        except journal.JournalError as error:
            raise AnsibleActionFail(str(error)) from error
        if self.lines:
            result["rollout_event"] = list(self.lines)
            result["rollout"] = self._progress(self.lines[-1])
        result.setdefault("changed", bool(self.lines))
        return result

    def _append(self, event: str, **fields: Any) -> journal.Event:
        self.lines.append(self.book.append(event, **fields))
        return self.lines[-1]

    def _progress(self, line: Mapping[str, Any]) -> dict[str, Any]:
        tally = line["tally"]
        return {
            "run": self.book.run,
            "name": self.book.rollout,
            "batch": int(line.get("batch") or self.args["batch"]),
            "of": len(self.args["plan"].get("serial") or []),
            "expected_end": self.args["plan"].get("expected_end"),
            **{key: tally[key] for key in ("done", "failed", "refused", "left", "under_way")},
        }

    # The run

    def _window(self) -> dict[str, Any]:
        """Wait for a window before the fleet lease is taken, so that others can use the time. The batch decides."""
        self._outside(self._seconds_of(self.args["hosts"]), waits=True)
        return {}

    def _lease(self) -> dict[str, Any]:
        self._append("lease_taken_over", msg=self.args["msg"], lease=self.args["lease"])
        return {}

    def _batch(self) -> dict[str, Any]:
        run = state.replay(self.book.read()[0])
        seconds = self._seconds_of(self.args["hosts"])
        stop = self._spent(run) or self._bad_kernel(run) or self._outside(seconds, waits=True)
        if stop and stop[0] == AGAIN:
            return {"again": True, "stop": False, "batch": run.batch}
        if stop:
            self._append("run_stopped", reason=stop[0], msg=stop[1])
            return {"again": False, "stop": True, "reason": stop[0], "msg": stop[1], "batch": run.batch}
        number = run.batch + 1
        self._append(
            "batch_begun",
            batch=number,
            of=len(run.batches),
            hosts=list(self.args["hosts"]),
            expected_end=journal.stamp(journal.now() + timedelta(seconds=seconds)),
        )
        return {"again": False, "stop": False, "batch": number, "of": len(run.batches), "held": self._held(run)}

    def _held(self, run: state.Run) -> dict[str, str]:
        """The hosts of the batch whose failure domain has lost too many hosts already."""
        name, batch, down = self.settings.failure_domain, self.args["hosts"], state.spent(run)
        if not name or not down:
            return {}
        # A host that failed may have left the inventory.
        known = self.vars["hostvars"]
        domains = {host: str(known[host].get(name)) for host in (*down, *batch) if host in known}
        return order.held(batch, down, domains, self.settings.domain_limit)

    def _seconds_of(self, hosts: Sequence[str]) -> float:
        return float(self.args["plan"].get("seconds") or estimate.UNKNOWN) + self.settings.soak if hosts else 0.0

    def _spent(self, run: state.Run) -> tuple[str, str] | None:
        """Whether a budget is spent. Writes that down once."""
        if run.latched:
            return "budget", str(run.latched.get("msg") or "The failure budget was spent.")
        counted, allowed = state.spent(run), self.settings.allowed(self.fleet)
        if len(counted) >= allowed:
            return "budget", self._latch("failure", counted, allowed)
        warnings = self.settings.allowed_warnings(self.fleet)
        if warnings is not None and len(run.warned) >= warnings:
            return "budget", self._latch("warning", dict.fromkeys(run.warned, ""), warnings)
        return None

    def _latch(self, kind: str, hosts: Mapping[str, str], allowed: int) -> str:
        named = words.some([f"{host} ({outcome})" if outcome else host for host, outcome in hosts.items()])
        msg = f"The {kind} budget of {allowed} is spent by {named}."
        self._append("budget_spent", kind=kind, count=len(hosts), allowed=allowed, hosts=list(hosts), msg=msg)
        return msg

    def _bad_kernel(self, run: state.Run) -> tuple[str, str] | None:
        bad = run.bad_kernel()
        if not bad:
            return None
        kernel, host = bad
        return "bad_kernel", (
            f"{host} failed on the new kernel {kernel}, and no host of this run is well on it. Choose another kernel with hotpmem_kernel, "
            "or fix the cause."
        )

    def _outside(self, seconds: float, waits: bool) -> tuple[str, str] | None:
        """Wait for the window, or say why nothing begins now. AGAIN: the time slice is over, and the caller goes on waiting."""
        began, told = time.monotonic(), ""
        while self.settings.windows:
            now = journal.now()
            opening = windows.next_opening(self.settings.windows, now, seconds)
            if opening == now:
                return None
            takes = estimate.duration(seconds)
            if opening is None:
                return "window", f"No window of hotpmem_windows is open for {takes}, which is what these hosts are expected to take."
            when = f"{opening.astimezone():%Y-%m-%d %H:%M %Z}"
            if not waits or self.settings.outside_window == "stop":
                return "window", f"No window is open long enough ({takes}). The next one opens at {when}. Run the playbook again then."
            if 0 < self.args["slice"] <= time.monotonic() - began:
                return AGAIN, ""
            if when != told:
                self._display.display(f"rollout: waiting for the window that opens at {when}")
                told = when
            time.sleep(max(0.0, min((opening - now).total_seconds(), self.args["pause"])))
        return None

    def _finish(self) -> dict[str, Any]:
        # Nobody else writes any more, so what is appended here is all that comes after these events.
        events = self.book.read()[0]
        run = state.replay(events)
        told, budget = bool(run.stopped), self._spent(run)
        left = [*run.not_begun, *run.not_looked_at]
        left_out = [host for host in left if host not in run.looked_at]
        if left and not run.stopped:
            reason = ("window" if self.settings.windows else "operator", "The run ended before these hosts were begun.")
            if len(left_out) == len(left):
                reason = ("limit", f"This start left out hosts of the run: {words.some(left_out)}.")
            reason = budget or reason
            self._append("run_stopped", reason=reason[0], msg=reason[1])
        run = state.replay([*events, *self.lines])
        counts = run.counts()
        failures = _failures(run)
        said = [f"{counts['kept']} kept, {counts['cold']} cold, {len(run.failed) + counts['lost']} failed, {counts['refused']} refused, "
                f"{counts['unreachable']} unreachable, {counts['left_out']} left out, {counts['not_begun']} not begun."]  # fmt: skip
        if run.stopped:
            said.append(f"The run was stopped: {run.stopped.get('msg')}")
        latched = run.latched.get("msg") if run.latched else ""
        if latched:
            said += [] if run.stopped else [str(latched)]
            said.append(f"No further run begins until you clear this: {words.clear_command(self.book.rollout)}")
        elif left_out:
            said.append(
                f"The run has not ended, because this start left out {words.some(left_out)}. Run the playbook again without --limit to "
                "go on with them. With '-e resume=false', a new run begins instead, which reboots the hosts again."
            )
        elif left:
            said.append("Run the playbook again to go on with the hosts that were not begun.")
        return {
            "counts": counts,
            "failures": failures,
            "lines": said,
            "stopped": bool(run.stopped),
            "left": left,
            "latched": str(latched or ""),
            "spent": budget[1] if budget and not told else "",
            "events": [*events, *self.lines],
        }

    def _close(self) -> dict[str, Any]:
        """The last line. Until it is written, a start of the playbook goes on with this run, and so does what comes before it again."""
        self._append("run_ended", counts=state.replay(self.book.read()[0]).counts())
        return {}

    def _stop(self) -> dict[str, Any]:
        self._append("run_stopped", reason=self.args["reason"] or "operator", msg=self.args["msg"])
        return {}

    def _clear(self) -> dict[str, Any]:
        reason = self.args["reason"].strip()
        if not reason:
            raise AnsibleActionFail('reason: say why the rollout may go on, for example -e reason="disk of node3 replaced". It is kept.')
        root = journal.directory(self.args["directory"], os.environ)
        last = journal.newest(root, self.settings.rollout)
        run = state.replay(last.read()[0]) if last else None
        if not last or not run or not run.latched:
            return {"msg": f"The rollout {self.settings.rollout!r} was not stopped, so there is nothing to clear.", "changed": False}
        self.book = last
        self._append("budget_cleared", owner=owner(), reason=reason)
        return {"msg": f"Cleared: {run.latched.get('msg')} The next run of hotpmem.fleet.rolling_reboot goes on."}

    # A host

    def _ask(self) -> tuple[str, str]:
        """The boot id and the kernel of the host."""
        try:
            done = self._low_level_execute_command(LOOK)
        except AnsibleConnectionFailure as error:
            raise NoAnswer(f"{self.host} does not answer: {' '.join(str(error).split())}") from error
        said = to_text(done["stdout"]).split()
        if len(said) < 2 or len(said[-2]) != 36:
            raise NoAnswer(f"{self.host} did not tell its boot id: {to_text(done['stderr']).strip() or 'it said nothing'}")
        return said[-2], said[-1]

    def _begin(self) -> dict[str, Any]:
        tally = self.book.tail().get("tally", {})
        if tally.get("spent", 0) >= self.settings.allowed(self.fleet):
            return {"go": False, "reason": "budget", "msg": "The failure budget is spent."}
        expected = estimate.expected(self.args["history"])
        seconds = expected.whole or float(self.args["plan"].get("seconds") or estimate.UNKNOWN)
        finish = self.host in (self.args["plan"].get("finish") or [])
        if self.args["held"] and not finish:
            return {"go": False, "reason": "domain", "msg": self.args["held"]}
        outside = None if finish else self._outside(seconds + self.settings.soak, waits=False)
        if outside:
            return {"go": False, "reason": outside[0], "msg": outside[1]}
        try:
            boot_id, kernel = self._ask()
        except NoAnswer as error:
            self._append("host_begun", host=self.host, batch=self.args["batch"], boot_id=None, kernel=None)
            reboot = "This run has rebooted it before" if finish else "It was not rebooted"
            todo = "Look at its console and its network. Then run the playbook again with -e retry_failed=true."
            self._ended("failed", f"{error}. {reboot}.", todo)
            return {"go": False, "reason": "unreachable", "msg": str(error)}
        # A controller that was killed may leave a worker, which ends its task: it may start a handoff after the next start made its plan.
        # So a host that has another boot than in the plan has rebooted, if this run has begun it before.
        if finish or self.args["seen"] not in ("", boot_id):
            was = state.replay(self.book.read()[0]).hosts.get(self.host, state.Host())
            finish = finish or bool(was.boot_id and not was.done)
            if finish:
                boot_id, kernel = was.boot_id, was.kernel
        self._append(
            "host_begun",
            host=self.host,
            batch=self.args["batch"],
            boot_id=boot_id,
            kernel=kernel,
            expected_down_seconds=expected.down,
            finish=finish,
        )
        return {"go": True, "finish": finish, "boot_id": boot_id, "kernel": kernel}

    def _look(self) -> dict[str, Any]:
        """Fails, where a task on the host would only be unreachable: a failure reaches the rescue and the always of a block."""
        try:
            boot_id, kernel = self._ask()
        except NoAnswer as error:
            raise AnsibleActionFail(f"{error}.") from error
        if self.args["before"] and boot_id == self.args["before"]:
            raise AnsibleActionFail(
                f"{self.host} still runs the boot {boot_id}, so it was not rebooted. Its journal says why (hotpmem-handoff)."
            )
        return {"boot_id": boot_id, "kernel": kernel}

    def _phase(self) -> dict[str, Any]:
        self._append("host_phase", host=self.host, phase=self.args["phase"])
        return {"phase": self.args["phase"]}

    def _drained(self) -> dict[str, Any]:
        self._append("host_drained", host=self.host, hook=self.args["hook"])
        return {}

    def _undrained(self) -> dict[str, Any]:
        self._append("host_undrained", host=self.host, hook=self.args["hook"])
        return {}

    def _hook(self) -> dict[str, Any]:
        keys = ("point", "name", "outcome", "msg")
        self._append("hook", host=self.args["host"] or None, **{key: self.args[key] for key in keys})
        return {}

    def _end(self) -> dict[str, Any]:
        cycle = self.args["cycle"]
        cold = [one for one in cycle.get("items") or [] if one.get("status") == "cold"]
        outcome = self.args["outcome"]
        if outcome == "kept" and cold:
            outcome = "cold"
        warnings = [*self.args["warnings"], *(estimate.behind(self.args["history"], cycle) if cycle else [])]
        return self._ended(outcome, self.args["msg"], self.args["next"], warnings)

    def _ended(self, outcome: str, msg: str, then: str, warnings: Sequence[str] = ()) -> dict[str, Any]:
        began = self.args["began"]
        seconds = round((journal.now() - journal.moment(began)).total_seconds(), 1) if began else None
        line = self._append(
            "host_ended",
            host=self.host,
            outcome=outcome,
            msg=" ".join(msg.split()),
            next=then,
            seconds=seconds,
            down_seconds=self.args["cycle"].get("down_seconds"),
            kernel=self.args["kernel"] or None,
            warnings=list(warnings),
        )
        # Exactly one host reaches the limit, because the journal counts under its lock.
        allowed = self.settings.allowed(self.fleet)
        if outcome in state.FAILED and line["tally"]["spent"] == allowed:
            self._latch("failure", state.replay(self.book.read()[0]).counted, allowed)
        return {"outcome": outcome, "warnings": list(warnings)}


def _failures(run: state.Run) -> dict[str, str]:
    """Why the run fails for a host, and what to do."""
    said: dict[str, str] = {}
    for name, reason in run.unreachable.items():
        said[name] = f"{name} was not rebooted. {reason} Look at its console and its network, then {AGAIN_FOR_IT}."
    for name, reason in run.refused.items():
        said[name] = f"{name} was refused and not rebooted: {reason.rstrip('.')}. When the reason is gone, {AGAIN_FOR_IT}."
    for name, host in run.hosts.items():
        if host.lost:
            said[name] = f"{name} was begun, and nobody saw how it ended. To look at it first, {AGAIN_FOR_IT}."
        elif host.outcome and not host.done:
            said[name] = f"{name} ({host.outcome}): {host.msg} {host.next}".strip()
    return {name: text for name, text in said.items() if name not in run.hosts or not run.hosts[name].done}
