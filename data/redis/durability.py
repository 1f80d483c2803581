"""Whether a Redis keeps what it is given: what an acknowledgement through the queue rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Durability:
    """What a Redis says of its append-only file and of its memory.

    `run_id` tells one run of the server from another. `problem` says why it may lose what it is
    given, and `is_failing` whether it cannot write now, whatever it is set to.
    """

    run_id: str
    problem: str | None = None
    is_failing: bool = False

    @property
    def is_durable(self) -> bool:
        """Whether what it confirms is kept."""
        return self.problem is None


def durability_of(info: Mapping[str, Any]) -> Durability:
    """What the sections `server`, `persistence` and `memory` of INFO say.

    By INFO alone: unlike CONFIG it is open on every Redis that is somebody else's to run.
    """
    run_id = str(info.get("run_id", ""))
    if not int(info.get("aof_enabled", 0)):
        return Durability(run_id, "Redis keeps no append-only file: set `appendonly yes`")
    policy = str(info.get("maxmemory_policy", ""))
    if int(info.get("maxmemory", 0)) and policy.startswith("allkeys"):
        return Durability(
            run_id, f"Redis may throw the queue away ({policy}): set `maxmemory-policy noeviction`"
        )
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if str(info.get(name, "ok")) != "ok":
            return Durability(
                run_id, f"Redis cannot write its append-only file ({name} is err)", is_failing=True
            )
    return Durability(run_id)
