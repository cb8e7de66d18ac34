# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Jump to the kernel loaded for kexec, and come back as soon as the new boot answers.

Runs on the controller: between the jump and the new boot there is nothing on the host to run anything on.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.words import visible

display = Display()

LOG = "/run/hotpmem/jump.log"
METHODS = {
    "systemd": "systemctl kexec",
    # The emergency remount runs by itself in the kernel: give it half a second. Unlike mount -o remount,ro it does not
    # refuse a busy file system.
    "fast": (
        "targets=$(while read -r dev dir kind options rest; do "
        'case $dev:,$options, in /dev/*:*,rw,*) printf "%s\\n" "$dir" ;; esac; done </proc/mounts); '
        "sync; echo s >/proc/sysrq-trigger; echo u >/proc/sysrq-trigger; i=0; "
        'while [ $i -lt 10 ] && ! grep -Eq "^[^ ]+ / [^ ]+ ro[ ,]" /proc/mounts; do sleep 0.05; i=$((i+1)); done; '
        # Only reached when kexec returns: make writable again what the emergency remount made read-only. /proc/mounts writes a space in
        # a name as \\040, which printf %b understands.
        'kexec -e; code=$?; echo "$targets" | while read -r t; do [ -z "$t" ] || mount -o remount,rw "$(printf %b "$t")"; done; '
        "(exit $code)"
    ),
}
# The jump starts detached and a moment later, so that this session ends before its network does. The end of a terminal session would
# end its programs, so this session waits until the jump has its own session, which the log shows. The log serves the case that the
# old boot continues: it holds what the jump printed, and how it ended.
START = (
    "mkdir -p -m 700 /run/hotpmem && rm -f {log} && "
    "{{ setsid sh -c 'exec </dev/null >{log} 2>&1; cd /; sleep 0.3; {jump}; echo ended with $?' </dev/null >/dev/null 2>&1 & }}; "
    "i=0; while [ ! -e {log} ] && [ $i -lt 100 ]; do sleep 0.05; i=$((i+1)); done; [ -e {log} ]"
)
PROBE = f"cat /proc/sys/kernel/random/boot_id /proc/uptime; cat {LOG} 2>/dev/null; true"
LOADED = "cat /proc/sys/kernel/random/boot_id /sys/kernel/kexec_loaded"
# Prints the claim of a handoff, if its process lives (module_utils/_host/host_lock.py).
CLAIM = (
    "pid=$(sed -n 's/.*\"pid\": \\([0-9]*\\),.*/\\1/p' /run/hotpmem/claim.json 2>/dev/null); "
    '[ -z "$pid" ] || [ ! -d "/proc/$pid" ] || cat /run/hotpmem/claim.json'
)
STOPPING = "systemctl is-system-running 2>/dev/null; true"

STARTING = 20.0  # seconds for starting the jump; a host that was quicker than its answer never answers
PAUSE = 0.2  # seconds between two questions that were answered, or refused, at once
SETTLE = 20.0  # seconds after which an old boot that answers has to be on its way down
STUCK = 8.0  # seconds beyond the connect timeout after which a question counts as lost: ssh has no timeout for its key exchange
# Seconds to connect. Short, because a connection begun while the host is down is answered late or never; now and then
# longer, because a busy host needs longer to say hello.
CONNECT = (2, 2, 2, 5)
CONNECT_LATE = (2, 5, 10)
LATE = 60.0
TELL = 30.0  # seconds until the operator is told what the host is doing; the time doubles after each line
# The first value that ssh reads counts, so these go in front. No shared connection: it would outlive the host and hang.
SSH_ARGS = "-o ControlMaster=no -o ControlPath=none -o ServerAliveInterval=1 -o ServerAliveCountMax=4"


class Lost(Exception):
    """A question to the host took too long."""


@dataclass(frozen=True)
class Answer:
    """What a host said: its boot, how long it is up, and what the jump wrote."""

    boot_id: str
    uptime: float
    log: str

    @property
    def failed(self) -> bool:
        """True when the jump's command ended with an error."""
        return "ended with " in self.log and not self.log.rstrip().endswith("ended with 0")


def parse_answer(stdout: str) -> Answer | None:
    """The answer to PROBE, or None when it is something else (a greeting, half a line)."""
    lines = stdout.strip().splitlines()
    if len(lines) < 2 or len(lines[0].strip()) != 36:
        return None
    try:
        return Answer(lines[0].strip(), float(lines[1].split()[0]), "\n".join(lines[2:]))
    except (ValueError, IndexError):
        return None


def connect_timeout(attempt: int, elapsed: float) -> int:
    """Seconds to connect for an attempt (from 0), elapsed seconds after the jump."""
    series = CONNECT_LATE if elapsed > LATE else CONNECT
    return series[attempt % len(series)]


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise Lost in the block after seconds: a connection to a host that is gone may wait for ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise Lost(f"no answer within {seconds:g} s")

    # Ansible's own timeout of a task is the same signal and the same timer. Whichever is due first counts, and the time that passes here
    # counts for the task as well.
    began = time.monotonic()
    task_left = signal.getitimer(signal.ITIMER_REAL)[0]
    before = signal.getsignal(signal.SIGALRM)
    if not 0 < task_left <= seconds:
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if not 0 < task_left <= seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            if task_left:
                # At once, when it has passed meanwhile: 0 would mean never.
                signal.setitimer(signal.ITIMER_REAL, max(task_left - (time.monotonic() - began), 0.001))


def end_left_over(error: BaseException) -> None:
    """End the ssh that was waiting when error interrupted it: it would wait as long as its connection, which may be for ever."""
    for frame, _line in traceback.walk_tb(error.__traceback__):
        for value in list(frame.f_locals.values()):
            if isinstance(value, subprocess.Popen) and value.poll() is None:
                value.kill()
                value.wait()


def _doing(answer: Answer | None) -> str:
    """What a host does that has not come back yet."""
    if answer is None:
        return "waiting for its new boot, it does not answer"
    said = answer.log.strip().splitlines()
    return "waiting for its jump, it still runs its old boot" + (f" and says: {visible(said[-1])}" if said else "")


class ActionModule(ActionBase):
    """The action."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    # What node_handoff has of its own.
    _spec: ClassVar[dict[str, Any]] = {
        "method": {"type": "str", "choices": list(METHODS), "default": "systemd"},
        "timeout": {"type": "int", "default": 300},
    }
    _settle = SETTLE
    _starting = STARTING
    _name = ""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(argument_spec=self._spec)
        if self._connection.transport == "local":
            raise AnsibleActionFail("Cannot jump: the connection is local, so the jump would end this play. Run it from another machine.")
        before = self._loaded()
        result.update(changed=True, before={"boot_id": before}, after={"boot_id": before})
        if self._task.check_mode:
            return self._checked(result, args)
        if not self._begin(result, args):
            return result
        started = time.monotonic()
        self._name = str((task_vars or {}).get("inventory_hostname", ""))
        self._start(args)
        with self._patience():
            result.update(self._wait(before, started, args["timeout"]))
        return result

    def _loaded(self) -> str:
        """The boot id of a host that has a kernel loaded; fails otherwise."""
        done = self._low_level_execute_command(LOADED)
        words = to_text(done["stdout"]).split()
        if not words:
            raise AnsibleActionFail(
                f"Cannot jump: the host would not tell its boot id ({to_text(done['stderr']).strip()}). Nothing was changed."
            )
        if len(words) < 2 or words[1] != "1":
            raise AnsibleActionFail(
                "Cannot jump: no kernel is loaded for kexec. Load one with hotpmem.fleet.kexec_load. Nothing was changed.",
                result={"alive": True},
            )
        claim = " ".join(to_text(self._low_level_execute_command(CLAIM)["stdout"]).split())
        if claim:
            raise AnsibleActionFail(
                f"Cannot jump: a handoff holds this host ({claim}). Nothing was changed. Wait until it ends.", result={"alive": True}
            )
        return str(words[0])

    def _checked(self, result: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
        """The result of check mode."""
        return result

    def _begin(self, result: dict[str, Any], args: dict[str, Any]) -> bool:
        """False when the task ends here, without a jump."""
        return True

    def _command(self, args: dict[str, Any]) -> str:
        """What starts the jump and returns at once."""
        return START.format(log=LOG, jump=METHODS[args["method"]])

    def _start(self, args: dict[str, Any]) -> None:
        try:
            with limit(self._starting):
                done = self._low_level_execute_command(self._command(args))
        except (AnsibleError, Lost) as error:
            # The host may have been quicker than the answer: what it says next decides.
            end_left_over(error)
            display.vvv(f"kexec_jump: the connection ended while the jump was started: {error}")
            return
        if done["rc"] != 0:
            self._not_started(done)

    def _not_started(self, done: dict[str, Any]) -> None:
        raise AnsibleActionFail(
            f"Cannot jump: starting it ended with {done['rc']}: {to_text(done['stderr']).strip()}. It takes root (become: true).",
            result={"alive": True},
        )

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Give up the shared connection, set options for asking a host that is down, and put them back."""
        with contextlib.suppress(Exception):
            self._connection.reset()
        saved: dict[str, Any] = {}
        for name in ("ssh_args", "reconnection_retries", "timeout"):
            with contextlib.suppress(KeyError, AttributeError, AnsibleError):
                saved[name] = self._connection.get_option(name)
        if "ssh_args" in saved:
            self._connection.set_option("ssh_args", f"{SSH_ARGS} {saved['ssh_args'] or ''}".strip())
        if "reconnection_retries" in saved:
            self._connection.set_option("reconnection_retries", 0)
        self._can_time = "timeout" in saved
        try:
            yield
        finally:
            for name, value in saved.items():
                self._connection.set_option(name, value)
            with contextlib.suppress(Exception):
                self._connection.close()

    def _wait(self, before: str, started: float, timeout: int) -> dict[str, Any]:
        """Ask until a new boot answers, the jump is known to have failed, or the time is over."""
        attempt = 0
        last: tuple[float, Answer] | None = None
        tell = TELL
        while (elapsed := time.monotonic() - started) < timeout:
            answer = self._ask(PROBE, connect_timeout(attempt, elapsed))
            attempt += 1
            parsed = parse_answer(answer) if answer is not None else None
            seconds = round(time.monotonic() - started, 3)
            if parsed and parsed.boot_id != before:
                return {"after": {"boot_id": parsed.boot_id}, "seconds": seconds, "uptime": parsed.uptime}
            if parsed and (parsed.failed or (seconds > self._settle and not self._stopping())):
                return {"failed": True, "changed": False, "alive": True, "seconds": seconds, "msg": self._came_back(parsed, seconds)}
            last = (seconds, parsed) if parsed else last
            if seconds >= tell:
                display.display(f"{self._name}: {_doing(parsed)} ({seconds:.0f} s, at most {timeout} s)")
                tell = seconds * 2
            time.sleep(PAUSE)
        if last and last[0] > timeout - LATE:
            return self._still_there(last[1], timeout)
        return {
            "failed": True,
            "alive": False,
            "seconds": round(time.monotonic() - started, 3),
            "msg": f"Cannot reach the new boot: the host did not answer within {timeout} s after the jump. See its console. "
            "A reset by its management "
            "controller boots it through firmware; the image stays if the firmware keeps memory, and is restored then. Raise "
            "timeout when it was just slow.",
        }

    def _still_there(self, answer: Answer, timeout: int) -> dict[str, Any]:
        """The result for a host that answers all the time, and has not jumped within timeout."""
        lines = answer.log.strip().splitlines()
        said = lines[-1] if lines else "nothing yet"
        return {
            "failed": True,
            "alive": True,
            "seconds": float(timeout),
            "msg": f"Cannot jump in time: after {timeout} s the host still answers in its old boot (up for {answer.uptime:.0f} s), so do "
            f"not reset it. Its last message is: {said}. It may still jump. journalctl -u hotpmem-handoff and systemctl list-jobs on the "
            "host show what it waits for. If it is only slow, raise timeout.",
        }

    def _came_back(self, answer: Answer, seconds: float) -> str:
        """For the operator, when the old boot goes on."""
        said = answer.log.strip() or "nothing"
        return (
            f"Cannot jump: after {seconds:.0f} s the old boot still answers. The jump said: {said}. "
            "See the journal of the host, then try again; the services that were stopped have to be started."
        )

    def _ask(self, command: str, seconds: int) -> str | None:
        """The answer to a command, or None."""
        if self._can_time:
            self._connection.set_option("timeout", seconds)
        try:
            with limit(seconds + STUCK):
                return str(to_text(self._low_level_execute_command(command)["stdout"]))
        # Whatever a connection plugin raises while a host goes down or comes up (paramiko raises its own) means: not yet.
        except Exception as error:  # pylint: disable=broad-except
            end_left_over(error)
            display.vvv(f"kexec_jump: no answer yet: {error}")
            with contextlib.suppress(Exception):
                self._connection.close()
            return None

    def _stopping(self) -> bool:
        """True when the host is on its way down, or can't be asked any more."""
        answer = self._ask(STOPPING, CONNECT_LATE[-1])
        return answer is None or answer.strip() == "stopping"
