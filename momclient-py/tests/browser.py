"""Chromium without a window, spoken to in its DevTools protocol over a pair of pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, cast

from tests.waiting import SECONDS, until

NAMES = ("chromium", "chromium-browser", "google-chrome")

OPERATED = {"button", "link", "textbox", "searchbox", "spinbutton", "combobox", "radio", "DisclosureTriangle"}

ARGUMENTS = (
    "--headless=new",
    "--remote-debugging-pipe",
    # Chromium's sandbox refuses to run as root and in many containers. It opens our own pages only.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A page behind another one is read as well, and as fast.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)


class Browser:
    """A browser with a profile of its own; the pages that it opens are tabs."""

    def __init__(self) -> None:
        program = next((path for path in map(shutil.which, NAMES) if path), None)
        assert program is not None, (
            f"none of {', '.join(NAMES)} is installed: run ./first-time-install.sh --with-browser"
        )
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        self._log = Path(self._profile.name) / "log"
        with self._log.open("wb") as log:
            command = [program, *ARGUMENTS, f"--user-data-dir={self._profile.name}"]
            self._process = subprocess.Popen(
                # Chromium takes commands from file 3 and answers to file 4.
                ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >&2', "sh", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._writing = threading.Lock()
        self._asked: dict[int, Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._last = 0
        threading.Thread(target=self._read, daemon=True).start()

    def open(self, url: str) -> Page:
        """Open a page in a tab of its own and return it when it is loaded."""
        target = self.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = Page(self, session)
        self._pages[session] = page
        page.load(url)
        return page

    def close(self) -> None:
        """End the browser and remove its profile."""
        if self._process.poll() is None:
            self._send({"id": 0, "method": "Browser.close"})
        try:
            self._process.wait(SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                cast("IO[bytes]", pipe).close()
            self._profile.cleanup()

    def ask(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """Send a command and return its result."""
        answer: Future[dict[str, Any]] = Future()
        with self._writing:
            self._last += 1
            number = self._last
            self._asked[number] = answer
        command = {"id": number, "method": method, "params": parameters}
        self._send(command if session is None else {**command, "sessionId": session})
        return answer.result(SECONDS)

    def _send(self, command: dict[str, Any]) -> None:
        pipe = cast("IO[bytes]", self._process.stdin)
        with self._writing:
            pipe.write(json.dumps(command).encode() + b"\0")
            pipe.flush()

    def _read(self) -> None:
        pipe = cast("IO[bytes]", self._process.stdout)
        rest = b""
        while read := os.read(pipe.fileno(), 1 << 16):
            *whole, rest = (rest + read).split(b"\0")
            for text in whole:
                self._take(json.loads(text))
        for answer in list(self._asked.values()):
            answer.set_exception(AssertionError(f"the browser has ended: {self._log.read_text(errors='replace')}"))

    def _take(self, told: dict[str, Any]) -> None:
        answer = self._asked.pop(told.get("id", 0), None)
        if answer is not None and "error" in told:
            answer.set_exception(AssertionError(f"the browser refuses: {told['error']}"))
        elif answer is not None:
            answer.set_result(told["result"])
        elif "method" in told and told.get("sessionId") in self._pages:
            self._pages[told["sessionId"]].take(told["method"], told["params"])


class Page:
    """A tab, used by keyboard: what is focused stays focused while entries come in above it."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self._loaded: set[str] = set()
        self.complaints: list[str] = []

    def load(self, url: str) -> None:
        """Go to an address and wait until the page is there."""
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        self._ask("Page.setLifecycleEventsEnabled", enabled=True)
        told = self._ask("Page.navigate", url=url)
        assert "errorText" not in told, f"{url} cannot be opened: {told['errorText']}"
        until(f"{url} is loaded", lambda: told["loaderId"] in self._loaded)

    def run(self, script: str, *arguments: object) -> Any:
        """Evaluate an expression, in which `a` holds the arguments, and return its value."""
        expression = f"((...a) => ({script}))(...{json.dumps(arguments)})"
        told = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds, and say otherwise what the page shows."""
        try:
            until(what, condition)
        except AssertionError as error:
            raise AssertionError(f"{error}; the page shows: {self.run('document.body.innerText')}") from None

    def texts(self, selector: str) -> list[str]:
        """Return the text of every element."""
        return cast("list[str]", self.run("[...document.querySelectorAll(a[0])].map((e) => e.textContent)", selector))

    def text(self, selector: str) -> str:
        """Return the text of the only element."""
        (text,) = self.texts(selector)
        return text

    def press(self, selector: str) -> None:
        """Press Enter on an element."""
        self._focus(selector)
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self._ask("Input.dispatchKeyEvent", type="keyDown", **key)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **key)

    def fill(self, selector: str, text: str) -> None:
        """Type a text into a field, in place of what it has."""
        self._focus(selector)
        self.run("document.activeElement.select()")
        self._ask("Input.insertText", text=text)

    def controls(self) -> list[tuple[str, str]]:
        """Return role and name of all that can be operated, as a screen reader is told them."""
        nodes = self._ask("Accessibility.getFullAXTree")["nodes"]
        told = [(node.get("role", {}).get("value"), node.get("name", {}).get("value", "")) for node in nodes]
        return [(role, name) for role, name in told if role in OPERATED]

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Change the size of the page and the user's wish for light or dark colours."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        wish = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[wish])

    def picture(self, path: Path) -> None:
        """Save what is to be seen as a PNG file."""
        self._show()
        told = self._ask("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(told["data"]))

    def take(self, event: str, told: dict[str, Any]) -> None:
        """Note what the browser says of this page."""
        match event:
            case "Page.lifecycleEvent" if told["name"] == "load":
                self._loaded.add(told["loaderId"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(told["args"]))
            case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    def _focus(self, selector: str) -> None:
        self._show()
        found = self.run("document.querySelector(a[0])?.focus() ?? document.activeElement.matches(a[0])", selector)
        assert found, f"there is no {selector}, or it takes no input"

    def _show(self) -> None:
        self._ask("Page.bringToFront")

    def _ask(self, method: str, **parameters: object) -> dict[str, Any]:
        return self._browser.ask(method, parameters, self._session)
