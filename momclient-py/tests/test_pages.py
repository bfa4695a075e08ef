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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from momclient import MoMClient
from tests.cluster import Cluster
from tests.waiting import SECONDS, until

ROOT = Path(__file__).resolve().parent.parent

Browser = webdriver.Chrome


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
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,1100"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def wait(browser: Browser, what: str, condition: Callable[[Browser], bool]) -> None:
    WebDriverWait(browser, SECONDS, 0.05).until(condition, f"waited {SECONDS:g} s for this: {what}")


def texts(browser: Browser, selector: str) -> list[str]:
    found: list[str] = browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((element) => element.textContent)", selector
    )
    return found


def fill(place: WebElement, **values: str) -> None:
    for name, value in values.items():
        field = place.find_element(By.NAME, name)
        field.clear()
        field.send_keys(value)


def titled(browser: Browser, title: str) -> WebElement:
    return next(
        entry
        for entry in browser.find_elements(By.CSS_SELECTOR, ".entry")
        if entry.find_element(By.TAG_NAME, "h2").text == title
    )


def complaints(browser: Browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]


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
        browser.get(consumer.url)
        reading = browser.current_window_handle
        browser.execute_script("window.opened = true")
        wait(browser, "news from the file", lambda _: "From the file" in texts(browser, "h2"))
        wait(browser, "the state is live", lambda _: texts(browser, "[data-connected=yes]") != [])

        # Somebody publishes something, with characters that a page must not take for its own.
        browser.switch_to.new_window("tab")
        browser.get(pusher.url)
        browser.execute_script("window.opened = true")
        browser.find_element(By.CSS_SELECTOR, ".publish summary").click()
        title = "<b>Hand</b> & 'heart'"
        form = browser.find_element(By.CSS_SELECTOR, ".publish form")
        fill(form, category="Local", title=title, text="<script>document.title = 'taken'</script>")
        form.find_element(By.TAG_NAME, "button").click()
        wait(browser, "the receipt", lambda _: "sequence" in form.find_element(By.TAG_NAME, "output").text)

        # It appears on the other page, where somebody comments on it.
        writing = browser.current_window_handle
        browser.switch_to.window(reading)
        wait(browser, "the news written by hand", lambda _: title in texts(browser, "h2"))
        entry = titled(browser, title)
        assert entry.find_element(By.CSS_SELECTOR, ".chip").text == "Local"
        assert browser.title.startswith("News")
        entry.find_element(By.TAG_NAME, "summary").click()
        fill(entry, author="Ada & Grace", text="Read <i>twice</i>.")
        entry.find_element(By.TAG_NAME, "button").click()
        wait(browser, "the receipt", lambda _: "sequence" in entry.find_element(By.TAG_NAME, "output").text)

        # The comment appears on the first page.
        browser.switch_to.window(writing)
        wait(browser, "the comment", lambda _: "Read <i>twice</i>." in texts(browser, ".entry .text"))
        assert title in texts(browser, ".about q")
        assert "Ada & Grace" in texts(browser, ".meta strong")

        # The MoM that hosts the news dies.
        with MoMClient(faulty.manager) as client:
            first = faulty.hosting(client.get_queue(queues["NEWS_QUEUE"]))
        faulty.kill(first)
        after = f"After the fault {uuid.uuid4().hex}"
        form = browser.find_element(By.CSS_SELECTOR, ".publish form")
        fill(form, title=after, text="Still here.")

        # Its form may give up while the queue moves; somebody who publishes would press the button again.
        def published(_: Browser) -> bool:
            output = form.find_element(By.TAG_NAME, "output").text
            if output.startswith("Not published"):
                form.find_element(By.TAG_NAME, "button").click()
            return output.startswith("Published")

        form.find_element(By.TAG_NAME, "button").click()
        wait(browser, "the receipt after the fault", published)
        browser.switch_to.window(reading)
        wait(browser, "the news after the fault", lambda _: after in texts(browser, "h2"))
        titled(browser, after).find_element(By.TAG_NAME, "summary").click()
        fill(titled(browser, after), author="Ada", text=f"On {after}")
        titled(browser, after).find_element(By.TAG_NAME, "button").click()
        browser.switch_to.window(writing)
        wait(browser, "the comment after the fault", lambda _: f"On {after}" in texts(browser, ".entry .text"))

        # Nothing was shown twice, and neither page was loaded anew or has complained meanwhile.
        for window in (reading, writing):
            browser.switch_to.window(window)
            assert browser.execute_script("return window.opened") is True
            shown = browser.execute_script("return [...document.querySelectorAll('.entry')].map((e) => e.dataset.id)")
            assert len(shown) == len(set(shown))
            assert complaints(browser) == []
        browser.close()
        browser.switch_to.window(reading)
        assert consumer.end(signal.SIGTERM) == 0
        assert pusher.end(signal.SIGINT) == 0


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

    def test_screenshots_are_taken(cluster: Cluster, queues: dict[str, str], browser: Browser) -> None:
        folder = Path(os.environ["RMOM_SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        pusher_settings = {**queues, "SOURCE": "news.json", "INTERVAL_SECONDS": "0.3"}
        with (
            running("news-pusher", cluster, **pusher_settings) as pusher,
            running("news-consumer", cluster, **queues, AUTO_COMMENT_EVERY="2") as consumer,
        ):
            for name, url in (("news-consumer", consumer.url), ("news-pusher", pusher.url)):
                browser.get(url)
                wait(browser, "enough entries", lambda _: len(texts(browser, ".entry")) >= 8)
                # No entry is caught while it moves in.
                browser.execute_script("for (const one of document.getAnimations()) one.finish()")
                assert browser.save_screenshot(str(folder / f"{name}.png"))
