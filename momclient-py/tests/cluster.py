"""The cluster that the tests run against, as rmom-cluster starts and controls it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx

from momclient import Channel, MoMInfo
from momclient._proto import messages_pb2


@dataclass(frozen=True)
class Mom:
    """A MoM of the cluster."""

    index: int
    host: str
    port: int
    running: bool


class Cluster:
    """The managers' addresses, and the faults that the control address can cause."""

    def __init__(self) -> None:
        self.managers = os.environ["RMOM_MANAGER"].split(",")
        self.manager = self.managers[0]
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

    def terminate(self, index: int) -> None:
        """End a MoM with SIGTERM, and wait until it has ended."""
        self._ask("POST", f"/mom/{index}/terminate")

    def restart(self, index: int) -> None:
        """Start a MoM that has ended again."""
        self._ask("POST", f"/mom/{index}/restart")

    def whole(self) -> bool:
        """Return whether the managers know that every MoM is up again, and give it queues."""
        answer = httpx.get(f"{self.manager}/moms", timeout=60, trust_env=False)
        if not answer.is_success:
            return False
        up = {(mom["host"], mom["port"]) for mom in answer.json() if mom["is_up"] and not mom["draining"]}
        return all((mom.host, mom.port) in up for mom in self.moms())

    @contextmanager
    def with_a_frozen_manager(self) -> Iterator[tuple[str, str]]:
        """Have one manager frozen meanwhile; yield its address and that of one that is well.

        In a cluster of a single manager the frozen one is a socket where nobody accepts: clients see no difference.
        """
        if len(self.managers) > 1:
            self._ask("POST", "/manager/0/freeze")
            try:
                yield self.managers[0], self.managers[1]
            finally:
                self._ask("POST", "/manager/0/thaw")
        else:
            with socket.create_server(("127.0.0.1", 0)) as silent:
                yield f"http://127.0.0.1:{silent.getsockname()[1]}", self.manager

    @contextmanager
    def without_managers(self) -> Iterator[None]:
        """Have every manager killed meanwhile."""
        indices = [manager["index"] for manager in self._ask("GET", "/managers").json()]
        for index in indices:
            self._ask("POST", f"/manager/{index}/kill")
        try:
            yield
        finally:
            for index in indices:
                self._ask("POST", f"/manager/{index}/start")

    @contextmanager
    def without_database(self) -> Iterator[None]:
        """Have PostgreSQL stopped meanwhile."""
        self._ask("POST", "/postgres/stop")
        try:
            yield
        finally:
            self._ask("POST", "/postgres/start")

    def move(self, queue: str, index: int) -> None:
        """Have a MoM take over a queue from another one that is well."""
        mom = next(mom for mom in self.moms() if mom.index == index)
        with grpc.insecure_channel(f"{mom.host}:{mom.port}") as channel:
            rebuild = channel.unary_unary(
                "/messages.MessageStream/RebuildQueue",
                request_serializer=messages_pb2.RebuildQueueRequest.SerializeToString,
                response_deserializer=messages_pb2.RebuildQueueOkResponse.FromString,
            )
            rebuild(messages_pb2.RebuildQueueRequest(queue_label=queue), timeout=60)

    def _ask(self, method: str, path: str) -> httpx.Response:
        answer = httpx.request(method, self.control + path, timeout=60, trust_env=False)
        assert answer.is_success, f"{method} {path} was answered with {answer.status_code}: {answer.text}"
        return answer
