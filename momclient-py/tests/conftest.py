"""Fixtures of all tests. They need a running cluster and never skip: without one the session fails."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest

from momclient import MoMClient, QueueNotFound, _wire
from tests.cluster import Cluster
from tests.proxy import Detour
from tests.waiting import until


def pytest_sessionstart() -> None:
    for name in ("RMOM_MANAGER", "RMOM_CONTROL"):
        if not os.environ.get(name):
            pytest.exit(
                f"{name} is not set. The tests run against a real cluster: run them by"
                " `cargo run -p testkit --bin rmom-cluster -- --moms 2 --managers 2 --exec make -C momclient-py test`.",
                returncode=1,
            )


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def one_loop(anyio_backend: str) -> None:
    """Keep one event loop for all tests: gRPC's late events for a loop that is closed would meet the next one."""


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def manager(cluster: Cluster) -> str:
    return cluster.manager


@pytest.fixture
def label(cluster: Cluster) -> Iterator[str]:
    """A label of the test's own; the queue is deleted in the end if the test has made one."""
    name = f"py-{uuid.uuid4().hex}"
    yield name
    with MoMClient(cluster.manager, timeout=30) as client, suppress(QueueNotFound):
        client.delete_queue(name)


@pytest.fixture
def queue(label: str, cluster: Cluster) -> str:
    """The label of a queue that exists."""
    with MoMClient(cluster.manager, timeout=30) as client:
        client.create_queue(label)
    return label


@pytest.fixture
def faulty(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, which is made whole again after the test."""
    yield cluster
    for mom in cluster.moms():
        if mom.running:
            cluster.thaw(mom.index)
        else:
            cluster.restart(mom.index)
    until("the managers know that every MoM is up", cluster.whole)


@pytest.fixture
def detour(monkeypatch: pytest.MonkeyPatch) -> Iterator[Detour]:
    """Proxies in front of the MoMs, for connections that are made after it has begun."""
    detour = Detour()
    monkeypatch.setattr(_wire, "target", detour.target)
    yield detour
    detour.close()


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address where nobody listens, and where nobody else will as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
