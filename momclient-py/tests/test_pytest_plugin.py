"""The fixtures for the tests of others, as those would use them: in a pytest of their own.

That a cluster is used which is there already is shown with the example of the README.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import SECONDS

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT.parent / "target"))
PROGRAMS = Path(os.environ.get("RMOM_BIN_DIR", TARGET / "debug")).resolve()

CONFTEST = 'pytest_plugins = ["momclient.pytest_plugin"]\n'

TESTS = """
def test_a_message_arrives(mom_client, mom_queue):
    channel = mom_client.create_channel(mom_queue)
    with mom_client.pusher(mom_queue) as pusher, mom_client.subscriber(channel) as subscriber:
        pusher.push("It rains.")
        assert next(subscriber).text == "It rains."


def test_a_queue_that_the_test_has_deleted_is_no_fault(mom_client, mom_queue):
    assert mom_queue in mom_client.list_queues()
    mom_client.delete_queue(mom_queue)
"""


def run_tests(folder: Path, **variables: str) -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TESTS)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RMOM_", "MOM_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "test_it.py"],
        cwd=folder,
        env=inherited | variables,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_without_one_a_cluster_is_started_and_ended(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    code, out = run_tests(tmp_path, RMOM_BIN_DIR=str(PROGRAMS), TMPDIR=str(tmp_path / "temporary"))
    assert code == 0, out
    assert "2 passed" in out
    assert list((tmp_path / "temporary").iterdir()) == [], "something of the cluster is left"


def test_without_the_programs_it_is_said_what_to_do(tmp_path: Path) -> None:
    code, out = run_tests(tmp_path, PATH=str(tmp_path))
    assert code == 1, out
    assert "MOM_MANAGER" in out
    assert "RMOM_BIN_DIR" in out
