"""Pushes news to a queue, and shows the comments on them that come back from another queue."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# `python news-pusher` puts only this folder on the path, and what both applications share lies beside it.
sys.path.append(str(HERE.parent))

from flask import Flask, abort, redirect, render_template, request  # noqa: E402
from werkzeug.wrappers import Response  # noqa: E402

from momclient import InvalidArgument, Message, MoMClient, MoMError, Pusher  # noqa: E402
from newsdemo import web  # noqa: E402
from newsdemo.cluster import Channels, Reader, ensure_queue  # noqa: E402
from newsdemo.config import ConfigError, Settings, load  # noqa: E402
from newsdemo.feed import Feed  # noqa: E402
from newsdemo.items import MAX_TEXT, MAX_TITLE, Comment, decode, encode  # noqa: E402
from newsdemo.sources import Story, stories  # noqa: E402
from newsdemo.worker import Worker  # noqa: E402

log = logging.getLogger("news")

RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class PusherSettings(Settings):
    """The settings of this application."""

    port: int = 8080
    peer_url: str = "http://127.0.0.1:8081/news"
    source: str = "auto"
    """`changelogs`, the path of a JSON file, or `auto`: changelogs where there are any, else news.json."""
    interval_seconds: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.05 <= self.interval_seconds <= 86_400:
            raise ConfigError(f"interval_seconds {self.interval_seconds} is not legal: use 0.05 to 86400")


class Press(Worker):
    """Publishes a story at each interval, and what people write in between."""

    def __init__(self, client: MoMClient, settings: PusherSettings, told: Iterator[Story]) -> None:
        super().__init__("press")
        self._client = client
        self._queue = settings.news_queue
        self._interval = settings.interval_seconds
        self._told = told
        self._pusher: Pusher = client.pusher(settings.news_queue)
        self._stopped = threading.Event()
        self.published = 0
        self.last = "nothing yet"
        self.problem = ""

    def publish(self, story: Story) -> int:
        """Push one story and return its sequence."""
        news = story.publish()
        receipt = self._pusher.push(encode(news), topic=news.category)
        self.published += 1
        self.last = f"{receipt.seq}: {news.title}"
        self.problem = ""
        return receipt.seq

    def run(self) -> None:
        """Publish until stopped; a story that cannot be pushed is tried again."""
        for story in self._told:
            while not self._stopped.is_set():
                try:
                    ensure_queue(self._client, self._queue)
                    self.publish(story)
                    self._stopped.wait(self._interval)
                    break
                except InvalidArgument as error:
                    log.warning("%r cannot be published and is left out: %s", story.title, error)
                    break
                except MoMError as error:
                    if not self._stopped.is_set():
                        self.problem = str(error)
                        log.warning("cannot publish: %s; trying again in %g s", error, RETRY_SECONDS)
                        self._stopped.wait(RETRY_SECONDS)
            if self._stopped.is_set():
                return

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._pusher.close()
        self.join()


def make_app(settings: PusherSettings, feed: Feed[Comment], press: Press, reader: Reader) -> Flask:
    """Return the application that serves /comments."""

    def state() -> web.State:
        channel = reader.channel
        return {
            "connected": channel is not None,
            "mom": f"{channel.host}:{channel.port}" if channel else "connecting",
            "received": feed.count,
            "last_seq": reader.last_seq,
            "published": press.published,
            "last": press.last,
            "problem": press.problem,
        }

    app = web.make_app(HERE, feed, state)

    @app.get("/")
    def index() -> Response:
        return redirect("/comments")

    @app.get("/comments")
    def comments() -> str:
        entries = feed.after(0)
        after = f"{feed.name}:{entries[-1][0] if entries else 0}"
        return render_template(
            "comments.html", entries=entries[::-1], after=after, state=state(), settings=settings, note=_note()
        )

    @app.post("/news")
    def publish() -> Response | dict[str, str | int]:
        story = Story(
            category=web.form_text("category", "The category", 255),
            title=web.form_text("title", "The title", MAX_TITLE),
            text=web.form_text("text", "The text", MAX_TEXT),
            source="written by hand",
        )
        try:
            seq = press.publish(story)
        except InvalidArgument as error:
            abort(400, str(error))
        except MoMError as error:
            abort(503, f"Not published: {error}")
        if web.wants_json():
            return {"message": f"Published with sequence {seq}.", "seq": seq}
        return redirect(f"/comments?published={seq}", 303)

    return app


def _note() -> str:
    seq = request.args.get("published", "")
    return f"Published with sequence {seq}." if seq.isdecimal() else ""


def main() -> None:
    """Run until a signal ends it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = load(PusherSettings, HERE)
        told = stories(settings.source, HERE)
    except ConfigError as error:
        raise SystemExit(f"news-pusher: {error}") from None
    feed: Feed[Comment] = Feed(settings.history)
    channels = Channels(HERE / settings.channels_file)

    def show(message: Message) -> None:
        try:
            feed.add(decode(Comment, message))
        except ValueError as error:
            log.warning("message %s is not a comment: %s", message.id, error)

    with MoMClient(settings.manager_url) as client:
        press = Press(client, settings, told)
        reader = Reader(client, channels, settings.comments_queue, None, show)
        press.start()
        reader.start()
        try:
            web.serve(make_app(settings, feed, press, reader), feed, settings.host, settings.port, "/comments")
        except ConfigError as error:
            raise SystemExit(f"news-pusher: {error}") from None
        finally:
            press.stop()
            reader.stop()


if __name__ == "__main__":
    main()
