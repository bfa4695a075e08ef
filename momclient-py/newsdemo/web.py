"""The pages' common ground: templates, live events, protection of forms, and the server."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit
from zlib import crc32

from flask import Flask, Response, abort, request
from jinja2 import ChoiceLoader, FileSystemLoader
from waitress.server import create_server
from werkzeug.exceptions import HTTPException

from newsdemo.config import ConfigError
from newsdemo.feed import Feed
from newsdemo.items import Item

log = logging.getLogger("news")

State = dict[str, str | int | bool]

HERE = Path(__file__).resolve().parent

# Waitress keeps a thread for each answer that is being sent, and a live page never ends receiving its answer. So live
# pages get a bounded share of the threads, and the rest always has some to itself.
THREADS = 24
LIVE_PAGES = 16
# A page beyond that share gets what is new and is told to ask again.
ASK_AGAIN_MILLIS = 5_000
STATE_SECONDS = 0.5
PING_SECONDS = 15.0

TONES = 8

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:;"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def make_app(folder: Path, feed: Feed[Item], state: Callable[[], State]) -> Flask:
    """Return an application with the templates of `folder`, `/events`, and the checks that every form needs."""
    app = Flask("news", static_folder=str(HERE / "static"), template_folder=str(folder / "templates"))
    app.jinja_loader = ChoiceLoader([FileSystemLoader(folder / "templates"), FileSystemLoader(HERE / "templates")])
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
    app.jinja_env.filters |= {"clock": _clock, "tone": _tone}
    live = threading.BoundedSemaphore(LIVE_PAGES)

    @app.before_request
    def refuse_foreign_forms() -> None:
        # Any page that a browser has open can send a form to this address; its origin gives it away.
        origin = request.headers.get("Origin")
        if request.method == "POST" and origin is not None and urlsplit(origin).netloc != request.host:
            abort(403, "This form was sent by another site.")

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.extend(HEADERS)
        return response

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> tuple[dict[str, str], int]:
        return {"message": error.description or error.name}, error.code or 500

    @app.get("/events")
    def events() -> Response:
        # After a break the browser says itself what it saw last.
        seen = request.headers.get("Last-Event-ID") or request.args.get("after", "")
        stream = _events(app, feed, state, _number(seen, feed), live)
        return Response(stream, content_type="text/event-stream")

    return app


def serve(app: Flask, feed: Feed[Item], host: str, port: int, path: str) -> None:
    """Serve until SIGINT or SIGTERM, and end the live pages then."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        feed.close()
        sys.exit(0)

    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; set host and port otherwise") from error
    server = create_server(app, sockets=[listener], threads=THREADS, connection_limit=200, ident=None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    log.info("open http://%s:%s%s", host, listener.getsockname()[1], path)
    # Returns when `end` has been called.
    server.run()
    server.close()


def wants_json() -> bool:
    """Tell whether the form was sent by the page's script, which shows the answer in its place."""
    return request.accept_mimetypes.best == "application/json"


def form_text(name: str, what: str, limit: int) -> str:
    """Return a field of the form, or refuse it with a text that the page shows."""
    text = request.form.get(name, "").strip()
    if not text:
        abort(400, f"{what} is missing.")
    if len(text) > limit:
        abort(400, f"{what} has {len(text)} characters; at most {limit} fit.")
    return text


def _number(seen: str, feed: Feed[Item]) -> int:
    # What another process counted means nothing here: the page gets everything, and drops what it has.
    name, _, number = seen.partition(":")
    return int(number) if name == feed.name and number.isdecimal() else -1


def _events(
    app: Flask, feed: Feed[Item], state: Callable[[], State], number: int, live: threading.BoundedSemaphore
) -> Iterator[str]:
    is_live = live.acquire(blocking=False)
    try:
        yield f"retry: {1_000 if is_live else ASK_AGAIN_MILLIS}\n\n"
        if number < 0:
            number = 0
            yield "event: reset\ndata: {}\n\n"
        told: State | None = None
        quiet = 0.0
        while not feed.closed:
            entries = feed.after(number, wait=STATE_SECONDS if told is not None else 0.0)
            for at, entry in entries:
                html = app.jinja_env.get_template(f"_{entry.item.kind}.html").render(entry=entry)
                data = json.dumps({"id": entry.id, "html": html})
                yield f"id: {feed.name}:{at}\nevent: entry\ndata: {data}\n\n"
                number = at
            if (present := state()) != told:
                told = present
                yield f"event: state\ndata: {json.dumps(told)}\n\n"
                quiet = 0.0
            elif not entries:
                quiet += STATE_SECONDS
            if not is_live:
                return
            if quiet >= PING_SECONDS:
                quiet = 0.0
                yield ": still here\n\n"
    finally:
        if is_live:
            live.release()


def _clock(at: str) -> str:
    try:
        return f"{datetime.fromisoformat(at).astimezone(timezone.utc):%H:%M:%S} UTC"
    except ValueError:
        return at


def _tone(word: str) -> str:
    # The style sheet has a colour for each class; a word keeps its own, here and on the other application's page.
    return f"tone-{crc32(word.encode()) % TONES}"
