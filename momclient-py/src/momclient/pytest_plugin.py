"""Fixtures that give the tests of a program a real cluster to talk to.

In a `conftest.py`:

    pytest_plugins = ["momclient.pytest_plugin"]

| fixture | |
|---|---|
| `mom_cluster` | the cluster, one for the session |
| `mom_client` | a plain client of it |
| `mom_queue` | the label of a queue of the test's own, which is deleted afterwards |
| `mom_cluster_arguments` | what `rmom-cluster` is started with, for the tests to override |

With the environment variable MOM_MANAGER, the addresses of managers separated by commas, that cluster is used.
Otherwise `rmom-cluster` starts one, with a PostgreSQL of its own, for as long as the session lasts; it is looked for in
the directory that RMOM_BIN_DIR names and in the PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, cast

import pytest

from momclient import MoMClient, QueueNotFound

__all__ = ["Cluster", "mom_client", "mom_cluster", "mom_cluster_arguments", "mom_queue"]

# Within this time PostgreSQL is set up and everything serves, also on a busy machine.
_START_SECONDS = 120.0

# Tells where the cluster is, and ends when its input does: at the latest when the process ends that started it.
_WHILE_WANTED = 'printf "%s\\n" "$RMOM_MANAGER" "$RMOM_CONTROL" && exec cat'


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that runs."""

    managers: tuple[str, ...]
    """The addresses of its managers, as `MoMClient` takes them."""
    control: str | None = None
    """Where faults can be caused, as `rmom-cluster --help` says; None for a cluster that was there before."""


@pytest.fixture(scope="session")
def mom_cluster_arguments() -> list[str]:
    """Return the arguments of `rmom-cluster`: one MoM and one manager, unless a test overrides this."""
    return ["--moms", "1", "--managers", "1"]


@pytest.fixture(scope="session")
def mom_cluster(mom_cluster_arguments: list[str]) -> Iterator[Cluster]:
    """Give the cluster that MOM_MANAGER names, or one that is started and ended here."""
    named = [url.strip() for url in os.environ.get("MOM_MANAGER", "").split(",") if url.strip()]
    if named:
        yield Cluster(tuple(named))
    else:
        with _started(mom_cluster_arguments) as cluster:
            yield cluster


@pytest.fixture
def mom_client(mom_cluster: Cluster) -> Iterator[MoMClient]:
    """Give a client of the cluster."""
    with MoMClient(mom_cluster.managers) as client:
        yield client


@pytest.fixture
def mom_queue(mom_cluster: Cluster) -> Iterator[str]:
    """Give the label of a queue of the test's own."""
    label = f"test-{uuid.uuid4().hex}"
    with MoMClient(mom_cluster.managers) as client:
        client.create_queue(label)
        yield label
        with suppress(QueueNotFound):
            client.delete_queue(label)


@contextmanager
def _started(arguments: list[str]) -> Iterator[Cluster]:
    named = os.environ.get("RMOM_BIN_DIR")
    program = (shutil.which("rmom-cluster", path=named) if named else None) or shutil.which("rmom-cluster")
    if program is None:
        pytest.fail(
            "there is no cluster to test with: set MOM_MANAGER to the address of a manager, or RMOM_BIN_DIR to the"
            " directory of rmom-cluster, rmom and rmom-manager, or have them in the PATH",
            pytrace=False,
        )
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(  # noqa: S603 -- what the user has installed is what is wanted
            [program, *arguments, "--exec", "sh", "-c", _WHILE_WANTED],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # A Ctrl-C is for the tests, which end the cluster when they have ended.
            start_new_session=True,
        )
        with process:
            stdin, stdout = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
            watch = threading.Timer(_START_SECONDS, process.terminate)
            watch.start()
            managers, control = stdout.readline().strip(), stdout.readline().strip()
            watch.cancel()
            if not control:
                process.wait()
                log.seek(0)
                pytest.fail(f"{program} did not start a cluster: {log.read().strip()}", pytrace=False)
            try:
                yield Cluster(tuple(managers.split(",")), control)
            finally:
                stdin.close()
                process.wait()
