"""The example application, as somebody sees it who has both pages open in a browser.

With RMOM_SCREENSHOTS=DIR the pages are saved there as news-pusher.png and news-consumer.png.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from momclient import MoMClient
from tests.browser import Browser, Page
from tests.cluster import Cluster
from tests.waiting import SECONDS, until

ROOT = Path(__file__).resolve().parent.parent


class Application:
    """One of the two applications, as a process of its own on a free port."""

    def __init__(self, name: str, cluster: Cluster, **settings: str) -> None:
        variables = {"MANAGER_URL": cluster.manager, "PORT": "0", **settings}
        self._process = subprocess.Popen(
            [sys.executable, name],
            cwd=ROOT,
            env={**os.environ, **{f"NEWS_{key}": value for key, value in variables.items()}},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        until(f"{name} says its address", lambda: self._address() is not None or self._process.poll() is not None)
        address = self._address()
        assert address is not None, f"{name} has ended: {self.lines}"
        self.url = address

    def log(self, text: str) -> bool:
        """Tell whether a line of the log has that text."""
        return any(text in line for line in self.lines)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        self._process.send_signal(number)
        return self._process.wait(SECONDS)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _address(self) -> str | None:
        found = (re.search(r"open (http://\S+)", line) for line in self.lines)
        return next((match[1] for match in found if match), None)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line.rstrip())
        self._process.stderr.close()


@pytest.fixture
def queues(cluster: Cluster, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings with queues of the test's own; the applications create them."""
    name = uuid.uuid4().hex
    labels = {"NEWS_QUEUE": f"news-{name}", "COMMENTS_QUEUE": f"comments-{name}"}
    yield {**labels, "CHANNELS_FILE": str(tmp_path / "channels.json")}
    with MoMClient(cluster.manager, timeout=30) as client:
        for queue in set(client.list_queues()) & set(labels.values()):
            client.delete_queue(queue)


@contextmanager
def running(name: str, cluster: Cluster, **settings: str) -> Iterator[Application]:
    application = Application(name, cluster, **settings)
    try:
        yield application
    finally:
        if not application.ended():
            application.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


def wait_until_live(page: Page) -> None:
    page.wait("the state is live", lambda: page.texts("[data-connected=yes]") != [])


def wait_for_entries(page: Page, count: int) -> None:
    page.wait(f"{count} entries", lambda: len(page.texts(".entry")) >= count)


def titled(page: Page, title: str) -> str:
    """Return a selector of the entry with that title, once it is on the page."""

    def found() -> str | None:
        entries = "[...document.querySelectorAll('.entry')]"
        entry_id: str | None = page.run(
            f"{entries}.find((e) => e.querySelector('h2').textContent === a[0])?.dataset.id", title
        )
        return entry_id

    page.wait(f"the entry {title!r}", lambda: found() is not None)
    return f'.entry[data-id="{found()}"]'


def publish(page: Page, **fields: str) -> None:
    """Publish news by the form of the pusher's page."""
    for name, value in fields.items():
        page.fill(f".publish [name={name}]", value)
    page.press(".publish button")


def comment(page: Page, entry: str, **fields: str) -> None:
    """Comment by the form of an entry of the consumer's page."""
    page.press(f"{entry} summary")
    for name, value in fields.items():
        page.fill(f"{entry} [name={name}]", value)
    page.press(f"{entry} button")
    page.wait("the receipt", lambda: "Sent with sequence" in page.text(f"{entry} output"))


def test_news_and_comments_appear_by_themselves_also_when_a_mom_is_killed(
    faulty: Cluster, queues: dict[str, str], browser: Browser, tmp_path: Path
) -> None:
    mine = tmp_path / "news.json"
    mine.write_text(json.dumps([{"category": "test", "title": "From the file", "text": "It comes again and again."}]))
    pusher_settings = {**queues, "SOURCE": str(mine), "INTERVAL_SECONDS": "0.5"}
    with (
        running("news-pusher", faulty, **pusher_settings) as pusher,
        running("news-consumer", faulty, **queues, AUTO_COMMENTS="false") as consumer,
    ):
        reading, writing = browser.open(consumer.url), browser.open(pusher.url)
        for page in (reading, writing):
            page.run("window.opened = true")
            wait_until_live(page)
        reading.wait("news come in", lambda: reading.texts("h2").count("From the file") >= 2)
        assert writing.texts(".entry") == []
        assert writing.run("document.querySelector('.empty').checkVisibility()")

        # Somebody publishes something, with characters that a page must not take for its own.
        title = "<b>Hand</b> & 'heart'"
        writing.press(".publish summary")
        publish(writing, category="Local", title=title, text="<script>document.title = 'taken'</script>")
        writing.wait("the receipt", lambda: "Published with sequence" in writing.text(".publish output"))

        # It appears on the other page, where somebody comments on it while more comes in.
        entry = titled(reading, title)
        assert reading.text(f"{entry} .chip") == "Local"
        assert reading.text(f"{entry} .text") == "<script>document.title = 'taken'</script>"
        assert reading.run("document.title").startswith("News")
        comment(reading, entry, author="Ada & Grace", text="Read <i>twice</i>.")

        # The comment appears on the first page, in place of the note that there are none.
        writing.wait("the comment", lambda: writing.texts(".entry .text") == ["Read <i>twice</i>."])
        assert writing.texts(".about q") == [title]
        assert writing.texts(".meta strong") == ["Ada & Grace"]
        assert not writing.run("document.querySelector('.empty').checkVisibility()")

        # The MoM that hosts the news dies.
        with MoMClient(faulty.manager) as client:
            first = faulty.hosting(client.get_queue(queues["NEWS_QUEUE"]))
        faulty.kill(first)
        after = f"After the fault {uuid.uuid4().hex}"
        publish(writing, title=after, text="Still here.")

        # The form may give up while the queue moves; somebody who publishes would press the button again.
        def published() -> bool:
            told = writing.text(".publish output")
            if told.startswith("Not published"):
                writing.press(".publish button")
            return told.startswith("Published")

        writing.wait("the receipt after the fault", published)
        comment(reading, titled(reading, after), author="Ada", text=f"On {after}")
        writing.wait("the comment after the fault", lambda: f"On {after}" in writing.texts(".entry .text"))

        # Both are live again. Nothing was shown twice, and neither was loaded anew or has complained meanwhile.
        for page in (reading, writing):
            wait_until_live(page)
            assert page.run("window.opened") is True
            shown = page.run("[...document.querySelectorAll('.entry')].map((e) => e.dataset.id)")
            assert len(shown) == len(set(shown))
            assert page.complaints == []

        # A page that has lost its application says so.
        assert pusher.end(signal.SIGINT) == 0
        writing.wait("the loss", lambda: "lost its application" in writing.text("[data-trouble]"))
        assert writing.texts("[data-connected=yes]") == []
        assert consumer.end(signal.SIGTERM) == 0


def test_what_somebody_reads_or_writes_stays_in_its_place(
    cluster: Cluster, queues: dict[str, str], browser: Browser
) -> None:
    with (
        running("news-pusher", cluster, **queues, SOURCE="news.json", INTERVAL_SECONDS="0.2"),
        running("news-consumer", cluster, **queues, AUTO_COMMENTS="false") as consumer,
    ):
        page = browser.open(consumer.url)
        wait_for_entries(page, 5)
        newest = page.run("document.querySelector('.entry').dataset.id")
        entry = f'.entry[data-id="{newest}"]'
        page.press(f"{entry} summary")
        page.fill(f"{entry} [name=text]", "A comment that takes its time")
        # Where it is laid out, wherever its animation has it.
        place = "document.querySelector(a[0]).offsetTop - window.scrollY"
        held, count = page.run(place, entry), len(page.texts(".entry"))
        wait_for_entries(page, count + 10)
        # Browsers scroll by whole pixels.
        assert abs(page.run(place, entry) - held) <= len(page.texts(".entry")) - count
        assert page.run("document.activeElement.value") == "A comment that takes its time"
        # The new ones are counted, and one press goes to them.
        assert int(page.text("[data-above]")) > 0
        page.press(".above")
        page.wait("the top", lambda: page.run("window.scrollY === 0 && document.querySelector('.above').hidden"))
        assert page.complaints == []


def test_no_page_is_wider_than_its_window(cluster: Cluster, queues: dict[str, str], browser: Browser) -> None:
    long = "w" * 120
    with (
        running("news-pusher", cluster, **queues, INTERVAL_SECONDS="60") as pusher,
        running("news-consumer", cluster, **queues, AUTO_COMMENT_EVERY="1") as consumer,
    ):
        story = {"category": long, "title": long, "text": f"{long} {long}"}
        httpx.post(pusher.url.replace("/comments", "/news"), data=story, trust_env=False)
        for url in (pusher.url, consumer.url):
            page = browser.open(url)
            wait_for_entries(page, 1)
            for width in (320, 768, 1400):
                page.look(width, 800)
                assert page.run("document.documentElement.scrollWidth") <= width
            assert page.complaints == []


def test_the_pages_work_without_scripts(cluster: Cluster, queues: dict[str, str]) -> None:
    with (
        running("news-pusher", cluster, **queues, INTERVAL_SECONDS="60") as pusher,
        running("news-consumer", cluster, **queues, AUTO_COMMENTS="true", AUTO_COMMENT_EVERY="1") as consumer,
        httpx.Client(follow_redirects=True, trust_env=False, timeout=30) as http,
    ):
        base = pusher.url.removesuffix("/comments")
        answer = http.post(f"{base}/news", data={"category": "local", "title": "By hand", "text": "No script."})
        assert answer.status_code == 200
        assert "Published with sequence" in answer.text
        # The automatic reader comments on it.
        until("the comment is on the page", lambda: "on <q>By hand</q>" in http.get(pusher.url).text)
        assert "Automatic reader" in http.get(pusher.url).text

        page = http.get(consumer.url).text
        assert "By hand" in page
        entry = re.search(r'name="news_id" value="([^"]+)"', page)
        assert entry is not None
        comments = consumer.url.removesuffix("/news") + "/comments"
        answer = http.post(comments, data={"news_id": entry[1], "author": "Ada", "text": "Fine."})
        assert "Comment sent with sequence" in answer.text
        until("the comment is on the page", lambda: "Fine." in http.get(pusher.url).text)

        # What cannot be done is said, and what another site sends is refused.
        wrong = [
            (f"{base}/news", {"category": "a b", "title": "x", "text": "y"}, 400, "not legal"),
            (f"{base}/news", {"category": "a", "title": " ", "text": "y"}, 400, "The title is missing"),
            (f"{base}/news", {"category": "a", "title": "x" * 201, "text": "y"}, 400, "at most 200"),
            (comments, {"news_id": entry[1], "author": "", "text": "y"}, 400, "Your name is missing"),
            (comments, {"news_id": "gone", "author": "x", "text": "y"}, 410, "reload"),
        ]
        for url, data, status, told in wrong:
            answer = http.post(url, data=data)
            assert (answer.status_code, told in answer.json()["message"]) == (status, True), answer.text
        headers = {"Origin": "http://elsewhere.example"}
        assert http.post(comments, data={"text": "y"}, headers=headers).status_code == 403
        assert http.post(comments, data={"text": "y" * 100_000}).status_code == 413


def test_the_applications_wait_for_a_manager_and_end_cleanly_without(dead_url: str) -> None:
    nobody = Cluster()
    nobody.manager = dead_url
    for name, number in (("news-pusher", signal.SIGTERM), ("news-consumer", signal.SIGINT)):
        with running(name, nobody) as application:
            until("it says what it waits for", lambda app=application: app.log("no manager answered"))  # type: ignore[misc]
            assert "connecting" in httpx.get(application.url, trust_env=False).text
            assert application.end(number) == 0
            assert not application.log("Traceback")


def test_a_second_start_creates_no_second_channel(cluster: Cluster, queues: dict[str, str]) -> None:
    created = "created the channel"
    for first in (True, False):
        with running("news-consumer", cluster, **queues) as consumer:
            until("it is subscribed", lambda app=consumer: app.log("subscribed to"))  # type: ignore[misc]
            assert consumer.log(created) is first
            assert consumer.end(signal.SIGTERM) == 0
    # What is remembered is not trusted.
    path = Path(queues["CHANNELS_FILE"])
    (remembered,) = json.loads(path.read_text()).values()
    with MoMClient(cluster.manager) as client:
        client.delete_channel(remembered)
    with running("news-consumer", cluster, **queues) as consumer:
        until("it is subscribed", lambda: consumer.log("subscribed to"))
        assert consumer.log(created)
    assert [remembered] != list(json.loads(path.read_text()).values())


def test_a_setting_that_is_wrong_ends_the_application_with_its_name() -> None:
    for name in ("news-pusher", "news-consumer"):
        done = subprocess.run(
            [sys.executable, name],
            cwd=ROOT,
            env={**os.environ, "NEWS_PORT": "http"},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == 1
        assert "NEWS_PORT must be a whole number, not 'http'" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named(dead_url: str) -> None:
    port = dead_url.rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "news-pusher"],
        cwd=ROOT,
        env={**os.environ, "NEWS_PORT": port, "NEWS_MANAGER_URL": dead_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


if "RMOM_SCREENSHOTS" in os.environ:

    def test_screenshots_are_taken(cluster: Cluster, browser: Browser, tmp_path: Path) -> None:
        folder = Path(os.environ["RMOM_SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"CHANNELS_FILE": str(tmp_path / "channels.json"), "SOURCE": "news.json", "INTERVAL_SECONDS": "0.7"}
        with (
            running("news-pusher", cluster, **settings) as pusher,
            running("news-consumer", cluster, CHANNELS_FILE=str(tmp_path / "others.json")) as consumer,
        ):
            news, comments = browser.open(consumer.url), browser.open(pusher.url)
            wait_for_entries(comments, 2)
            wait_for_entries(news, 9)
            title = news.texts("h2")[0]
            comment(news, titled(news, title), author="Grace", text="I remember that day.")
            comments.wait("the comment", lambda: "Grace" in comments.texts(".meta strong"))
            news.load(consumer.url)
            wait_until_live(news)
            for page, name in ((news, "news-consumer"), (comments, "news-pusher")):
                page.look(1000, 900)
                # No entry is caught while it moves in.
                page.run("document.getAnimations().forEach((one) => one.cancel())")
                page.picture(folder / f"{name}.png")
        with MoMClient(cluster.manager) as client:
            client.delete_queue("news")
            client.delete_queue("comments")
