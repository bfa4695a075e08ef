"""The cluster that the tests run against, as rmom-cluster starts and controls it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import httpx

from momclient import Channel, MoMInfo


@dataclass(frozen=True)
class Mom:
    """A MoM of the cluster."""

    index: int
    host: str
    port: int
    running: bool


class Cluster:
    """The manager's address, and the faults that the control address can cause."""

    def __init__(self) -> None:
        self.manager = os.environ["RMOM_MANAGER"].split(",")[0]
        self.control = os.environ["RMOM_CONTROL"]

    def moms(self) -> list[Mom]:
        """Return all MoMs."""
        found: list[dict[str, Any]] = self._ask("GET", "/moms").json()
        return [Mom(**{key: mom[key] for key in ("index", "host", "port", "running")}) for mom in found]

    def hosting(self, place: MoMInfo | Channel) -> int:
        """Return the index of the MoM that hosts a queue or channel."""
        return next(mom.index for mom in self.moms() if (mom.host, mom.port) == (place.host, place.port))

    def kill(self, index: int) -> None:
        """End a MoM with SIGKILL."""
        self._ask("POST", f"/mom/{index}/kill")

    def freeze(self, index: int) -> None:
        """Stop a MoM with SIGSTOP."""
        self._ask("POST", f"/mom/{index}/freeze")

    def thaw(self, index: int) -> None:
        """Let a frozen MoM go on."""
        self._ask("POST", f"/mom/{index}/thaw")

    def restart(self, index: int) -> None:
        """Start a killed MoM again."""
        self._ask("POST", f"/mom/{index}/restart")

    def _ask(self, method: str, path: str) -> httpx.Response:
        answer = httpx.request(method, self.control + path, timeout=60, trust_env=False)
        assert answer.is_success, f"{method} {path} was answered with {answer.status_code}: {answer.text}"
        return answer
