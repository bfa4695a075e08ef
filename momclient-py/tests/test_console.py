"""The manager's web console, as somebody uses it by keyboard in a browser.

With RMOM_SCREENSHOTS=DIR it is also put under some load, and saved there as console-light.png, console-dark.png and
console-failover.png.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from momclient import MoMClient
from tests.browser import Browser, Page
from tests.cluster import Cluster

# The ratio of the luminances of a text and what is behind it; the least that WCAG's level AA allows is 4.5.
CONTRASTS = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parts = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (color) => {
    const [r, g, b] = parts(color).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const color = element ? getComputedStyle(element).backgroundColor : "white";
    return parts(color)[3] === 255 ? color : behind(element.parentElement);
  };
  const texts = [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility()
    && !element.closest("svg, [aria-disabled], .skip")
    && [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim()));
  return texts.map((element) => {
    const [dark, bright] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => x - y);
    return [(bright + 0.05) / (dark + 0.05), element.textContent.trim().slice(0, 40)];
  }).filter(([ratio]) => ratio < 4.5);
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


def opened(browser: Browser, cluster: Cluster, path: str = "") -> Page:
    page = browser.open(f"{cluster.manager}/{path}")
    wait_for_state(page, "live")
    return page


def wait_for_state(page: Page, state: str) -> None:
    page.wait(f"the state {state}", lambda: page.texts(f"#live[data-state={state}]") != [])


def wait_for_text(page: Page, selector: str, text: str) -> None:
    page.wait(f"{text!r} in {selector}", lambda: any(text in told for told in page.texts(selector)))


def press(page: Page, name: str, within: str = "main") -> None:
    """Press Enter on the button with that text."""
    marked = page.run(
        "((b) => { document.querySelector('[data-pressed]')?.removeAttribute('data-pressed');"
        " b?.setAttribute('data-pressed', ''); return b !== undefined; })"
        "([...document.querySelectorAll(`${a[1]} button`)].find((b) => b.textContent === a[0]))",
        name,
        within,
    )
    assert marked, f"{within} has no button {name!r}"
    page.press("[data-pressed]")


def go(page: Page, path: str) -> None:
    """Follow a link of the page."""
    page.press(f'a[href="{path}"]')
    page.wait(path, lambda: page.run("location.hash") == path and page.run("document.activeElement.tagName") == "H1")


def push(page: Page, text: str, seq: int) -> None:
    """Push by the form of the queue's page; while the queue moves somebody would press the button again."""

    def committed() -> bool:
        if page.texts("[aria-labelledby=push] [role=alert]") != [""]:
            press(page, "Push")
        return page.texts("[aria-labelledby=push] output.good") == [f"Committed with sequence {seq}"]

    page.fill("[aria-labelledby=push] textarea", text)
    press(page, "Push")
    page.wait("the receipt", committed)


def check(page: Page) -> None:
    """Everything that can be operated has a name, nothing is too wide for a phone, all text can be read."""
    nameless = [role for role, name in page.controls() if not name.strip()]
    assert nameless == []
    assert page.run("document.querySelectorAll('h1').length") == 1
    for dark in (False, True):
        page.look(1200, 900, dark=dark)
        assert page.run(CONTRASTS) == []
    page.look(320, 800)
    assert page.run("document.documentElement.scrollWidth") <= 320
    page.look(1200, 900)


def test_a_queue_is_created_filled_moved_and_deleted(faulty: Cluster, label: str, browser: Browser) -> None:
    page = opened(browser, faulty)
    page.run("window.opened = true")
    page.wait("all MoMs", lambda: len(page.texts(".mom")) == len(faulty.moms()))
    page.press(".skip")
    assert page.run("document.activeElement.id") == "main"
    check(page)

    go(page, "#/queues")
    page.fill("[aria-label='Create a queue'] input", label.upper())
    press(page, "Create")
    page.wait("the queue", lambda: label in page.texts("tbody th"))
    check(page)

    go(page, f"#/queues/{label}")
    page.wait("no message", lambda: page.run("document.querySelector('.empty').checkVisibility()"))
    text = "<img src=x onerror=\"window.taken = true\"> & 'more'"
    push(page, text, 1)
    page.wait("the message", lambda: page.texts(".messages .preview .as-text") == [text])
    page.press(".messages summary")
    page.wait("its content", lambda: page.texts(".messages pre.as-text") == [text])
    assert page.run("window.taken") is None
    page.fill("[aria-label='Create a channel'] input", "weather")
    press(page, "Create")
    page.wait("the channel", lambda: page.texts(".channel .badge") == ["weather"])
    check(page)

    # The MoM that has it dies; nobody reloads anything.
    with MoMClient(faulty.manager) as client:
        first = client.get_queue(label)
    assert page.text(".owner") == f"at {first.host}:{first.port}, epoch 1"
    faulty.kill(faulty.hosting(first))
    wait_for_text(page, ".owner", "epoch 2")
    assert f"{first.host}:{first.port}" not in page.text(".owner")
    push(page, "After the fault", 2)
    page.wait("both messages", lambda: page.texts(".messages .preview .as-text") == [text, "After the fault"])

    go(page, "#/events")
    wait_for_text(page, ".happened", f"Moved{label}")
    wait_for_text(page, ".happened", f"MoM down{first.host}:{first.port}")
    check(page)

    # What would be lost is named, and stays if somebody thinks again.
    go(page, f"#/queues/{label}")
    page.wait("the figures", lambda: page.texts("main > .facts dd")[:1] == ["2"])
    press(page, "Delete …")
    page.wait("the question", lambda: page.texts("dialog h2") == [f"Delete {label}?"])
    assert "2 messages" in page.text("#dialog-lost")
    assert "1 channel will be lost" in page.text("#dialog-lost")
    assert page.run("document.activeElement.textContent") == "Cancel"
    assert page.run(CONTRASTS) == []
    press(page, "Cancel", "dialog")
    page.wait("no question", lambda: page.texts("dialog") == [])

    # Without its messages the queue goes on where it was.
    press(page, "Purge …")
    page.wait("the question", lambda: page.texts("dialog h2") == [f"Purge {label}?"])
    assert "sequences go on from 2" in page.text("#dialog-lost")
    press(page, "Lose 2 messages", "dialog")
    page.wait("none is left", lambda: page.texts("main > .facts dd")[:1] == ["0"])
    page.wait("none is to be seen", lambda: page.texts(".messages li") == [])
    push(page, "After the purge", 3)

    press(page, "Delete …")
    page.wait("the question", lambda: page.texts("dialog") != [])
    press(page, "Delete the queue", "dialog")
    page.wait("the list", lambda: page.run("location.hash") == "#/queues")
    page.wait("the queue is gone", lambda: label not in page.texts("tbody th"))
    with MoMClient(faulty.manager) as client:
        assert label not in client.list_queues()
    assert page.run("window.opened") is True
    assert page.complaints == []


def test_a_page_that_has_lost_its_manager_says_so_and_finds_it_again(cluster: Cluster, browser: Browser) -> None:
    page = opened(browser, cluster)
    with cluster.without_managers():
        wait_for_state(page, "lost")
        assert page.text("#lost").startswith("The manager does not answer. What you see is of ")
    wait_for_state(page, "live")
    assert page.text("#lost") == ""


def test_light_and_dark_are_chosen_and_remembered(cluster: Cluster, browser: Browser) -> None:
    page = opened(browser, cluster)
    page.look(1200, 900, dark=True)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.run(ground)
    page.press("#theme")
    assert page.text("#theme").strip() == "Light"
    light = page.run(ground)
    assert light != dark
    page.load(f"{cluster.manager}/?again")
    assert page.run(ground) == light
    page.press("#theme")
    assert (page.text("#theme").strip(), page.run(ground)) == ("Dark", dark)
    page.press("#theme")
    assert page.text("#theme").strip() == "System"


if "RMOM_SCREENSHOTS" in os.environ:
    SHOP = (
        "audit",
        "invoices",
        "mail.outgoing",
        "orders",
        "orders.eu",
        "payments",
        "search.index",
        "sessions",
        "thumbnails",
    )

    @contextmanager
    def load(cluster: Cluster) -> Iterator[None]:
        """Have messages pushed to and received from several queues."""
        stop = threading.Event()

        def push(queue: str, pause: float) -> None:
            dice = random.Random(queue)
            order = 0
            with MoMClient(cluster.managers, timeout=30) as client, client.pusher(queue) as pusher:
                while not stop.wait(pause * dice.uniform(0.7, 1.3)):
                    for topic in dice.choices([None, "eu", "us"], k=6):
                        order += 1
                        many = [
                            f'{{"order": {order}, "line": {line}, "total": {dice.uniform(5, 500):.2f}}}'
                            for line in range(dice.randint(4, 12))
                        ]
                        pusher.push_many(many, topic=topic)

        def receive(queue: str, late: float) -> None:
            stop.wait(late)
            with (
                MoMClient(cluster.managers, timeout=30) as client,
                client.subscriber(client.create_channel(queue)) as subscriber,
            ):

                def close() -> None:
                    stop.wait()
                    subscriber.close()

                closer = threading.Thread(target=close)
                closer.start()
                for _ in subscriber.batches():
                    pass
                closer.join()

        with MoMClient(cluster.managers, timeout=30) as client:
            for queue in SHOP:
                client.create_queue(queue)
            threads = [
                threading.Thread(target=push, args=(queue, 0.02 + 0.03 * place)) for place, queue in enumerate(SHOP)
            ]
            # The later ones have something to catch up with.
            threads += [
                threading.Thread(target=receive, args=(queue, late))
                for late, queue in ((0, "orders"), (0, "payments"), (0, "audit"), (25, "orders"), (40, "sessions"))
            ]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
                for queue in SHOP:
                    client.delete_queue(queue)

    def test_screenshots_of_the_console_are_taken(faulty: Cluster, browser: Browser) -> None:
        folder = Path(os.environ["RMOM_SCREENSHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        page = opened(browser, faulty)
        samples = "document.querySelector('.rate .line').getAttribute('d').split('L').length"
        with load(faulty):
            page.look(1200, 820)
            page.wait("a minute of history", lambda: page.run(samples) >= 60)
            page.picture(folder / "console-light.png")
            page.look(1200, 1120, dark=True)
            page.run("location.hash = '#/queues/orders'")
            page.wait("messages and subscribers", lambda: len(page.texts(".messages li")) == 20)
            page.wait("its subscribers", lambda: len(page.texts(".readers li")) == 2)
            page.picture(folder / "console-dark.png")
            page.look(1200, 820)
            page.run("location.hash = '#/'")
            with MoMClient(faulty.managers) as client:
                faulty.kill(faulty.hosting(client.get_queue("orders")))
            page.wait("the failover", lambda: page.texts(".mom.down .since") == ["down for 5 s"])
            page.picture(folder / "console-failover.png")
