# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exit codes, and the output of a verb: text for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, List, Optional

from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError

DONE, USAGE, FAILED, REFUSED, PARTLY, PUT_BACK, STUCK, BUSY, SHUTDOWN = 0, 1, 2, 5, 6, 7, 8, 9, 10

EXITS = """\
exit status:
  0  done, or nothing to do
  1  the command line or the settings are invalid
  2  the command failed; the message describes the current state
  5  refused, because the machine is not ready; nothing was changed
  6  done in part: some items have their state, others do not
  7  the handoff failed before the jump; services and memory are as before
  8  the handoff failed before the jump, and some of it could not be undone; the message says what
  9  somebody else holds this machine; nothing was changed
  10 the machine shuts down for another reason, and hotpmem-save.service saves
"""


class Answer:
    """The result of a verb: lines for people, and facts for programs."""

    def __init__(self, lines: List[str], facts: Dict[str, Any], code: int = DONE) -> None:
        self.lines = lines
        self.facts = facts
        self.code = code


class VerbError(HotpmemError):
    """A HotpmemError with its own exit code."""

    def __init__(self, code: int, what: str, said: str, todo: str, **details: Any) -> None:
        self.code = code
        super().__init__(what, said, todo, **details)

    @classmethod
    def of(cls, code: int, error: HotpmemError) -> VerbError:
        """The same error with an exit code."""
        return cls(code, error.what, error.said, error.todo, **error.details)


def show(answer: Answer, verb: str, as_json: bool) -> int:
    """Print an answer; returns its exit code."""
    if as_json:
        print(json.dumps({"verb": verb, "exit": answer.code, "error": None, **answer.facts}))
    else:
        for line in answer.lines:
            print(line)
    sys.stdout.flush()
    return answer.code


def show_error(error: HotpmemError, verb: str, as_json: bool, code: Optional[int] = None) -> int:
    """Print an error; returns the exit code."""
    ended = code if code is not None else getattr(error, "code", FAILED)
    if as_json:
        said = {"what": error.what, "said": error.said, "todo": error.todo}
        print(json.dumps({**error.details, "verb": verb, "exit": ended, "error": said, "msg": str(error)}, default=str))
        sys.stdout.flush()
    else:
        print(f"hotpmem-node: {error}", file=sys.stderr)
    return ended
