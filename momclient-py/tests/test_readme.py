"""The examples of the READMEs, run as they are printed; only the manager's address is the cluster's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from momclient import MoMClient, QueueNotFound, errors
from tests.cluster import Cluster
from tests.waiting import SECONDS

HERE = Path(__file__).resolve().parent.parent


def examples(readme: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", readme.read_text(), re.DOTALL | re.MULTILINE)


def start(code: str, manager: str) -> subprocess.Popen[str]:
    code = code.replace("http://127.0.0.1:8082", manager)
    return subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@contextmanager
def deadline(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the process if it takes too long, which ends whatever reads from it."""
    watch = threading.Timer(SECONDS, process.kill)
    watch.start()
    try:
        yield
    finally:
        watch.cancel()
        process.kill()


@pytest.fixture
def news(cluster: Cluster) -> Iterator[str]:
    """The manager of a cluster in which the queue of the examples is free; it is deleted in the end."""
    with MoMClient(cluster.manager, timeout=30) as client:
        with suppress(QueueNotFound):
            client.delete_queue("news")
        yield cluster.manager
        client.delete_queue("news")


def test_the_five_lines_of_the_project_work(news: str) -> None:
    (code,) = examples(HERE.parent / "README.md")
    out, err = start(code, news).communicate(timeout=SECONDS)
    assert err == ""
    receipt, text = out.splitlines()
    assert re.fullmatch(r"Receipt\(id='[0-9a-f-]{36}', seq=1, duplicate=False\)", receipt)
    assert text == "It rains."


def test_the_quickstart_prints_what_it_says(news: str) -> None:
    page = HERE.parent / "docs" / "quickstart.md"
    (code,) = examples(page)
    out, err = start(code, news).communicate(timeout=SECONDS)
    assert err == ""
    assert f"```python\n{code}```\n\n```text\n{out}```" in page.read_text()


def test_the_plugin_is_used_as_the_readme_says(tmp_path: Path, cluster: Cluster) -> None:
    *_, conftest, test = examples(HERE / "README.md")
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_news.py").write_text(test)
    environment = os.environ | {"MOM_MANAGER": cluster.manager}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_news.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_errors_are_drawn_alike() -> None:
    readme = (HERE / "README.md").read_text()
    (drawn,) = re.findall(r"^```\n(MoMError\n.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert errors.__doc__ is not None
    assert textwrap.indent(drawn, "    ") in errors.__doc__


def test_the_examples_of_the_package_work_until_they_are_interrupted(news: str) -> None:
    plain, asynchronous, starts, traced, repeated, _, _ = examples(HERE / "README.md")
    for code, lines in ((plain, [r"[0-9a-f-]{36} 1", "1 weather Sunny."]), (asynchronous, ["1 weather Sunny."])):
        with start(code, news) as example, deadline(example):
            assert example.stdout is not None
            for line in lines:
                assert re.fullmatch(line, example.stdout.readline().rstrip())
            example.send_signal(signal.SIGINT)
            out, err = example.communicate()
            assert out == ""
            assert err.rstrip().endswith("KeyboardInterrupt")
    out, err = start(starts, news).communicate(timeout=SECONDS)
    assert err == ""
    assert out.splitlines() == re.findall(r"# (.*)$", starts, re.MULTILINE) == ["Fog.", "weather.sea.north"]
    out, err = start(traced, news).communicate(timeout=SECONDS)
    assert err == ""
    assert out.splitlines() == re.findall(r"# (00-.*)$", traced, re.MULTILINE)
    out, err = start(repeated, news).communicate(timeout=SECONDS)
    assert err == ""
    assert out.splitlines() == re.findall(r"# (False|True)$", repeated, re.MULTILINE) == ["False", "True"]
