"""Subscribes to news, shows them, and pushes comments on them to another queue."""

from __future__ import annotations

import logging
import queue
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# `python news-consumer` puts only this folder on the path, and what both applications share lies beside it.
sys.path.append(str(HERE.parent))

from flask import Flask, abort, redirect, render_template, request  # noqa: E402
from werkzeug.wrappers import Response  # noqa: E402

from momclient import InvalidArgument, Message, MoMClient, MoMError, Pusher, QueueNotFound  # noqa: E402
from newsdemo import web  # noqa: E402
from newsdemo.cluster import Channels, Reader, ensure_queue  # noqa: E402
from newsdemo.config import ConfigError, Settings, load  # noqa: E402
from newsdemo.feed import Feed  # noqa: E402
from newsdemo.items import MAX_AUTHOR, MAX_TEXT, Comment, Entry, News, decode, encode, now  # noqa: E402
from newsdemo.worker import Worker  # noqa: E402

log = logging.getLogger("news")

# The automatic reader leaves out what it cannot keep up with.
UNREAD = 16


@dataclass(frozen=True)
class ConsumerSettings(Settings):
    """The settings of this application."""

    port: int = 8081
    peer_url: str = "http://127.0.0.1:8080/comments"
    topics: tuple[str, ...] = ()
    """The categories to show; none means all."""
    auto_comments: bool = True
    """Whether an automatic reader comments, so that something happens when nobody writes."""
    auto_comment_every: int = 3
    """It comments on every so many pieces of news."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.auto_comment_every < 1:
            raise ConfigError(f"auto_comment_every {self.auto_comment_every} is not legal: use 1 or more")


class Desk:
    """Pushes comments."""

    def __init__(self, client: MoMClient, label: str) -> None:
        self._client = client
        self._queue = label
        self._pusher: Pusher = client.pusher(label)
        self.sent = 0

    def comment(self, entry: Entry[News], author: str, text: str) -> int:
        """Push a comment on a piece of news and return its sequence."""
        news = entry.item
        comment = Comment(news.category, entry.id, news.title, author, text, now())
        try:
            receipt = self._pusher.push(encode(comment), topic=news.category)
        except QueueNotFound:
            ensure_queue(self._client, self._queue)
            receipt = self._pusher.push(encode(comment), topic=news.category)
        self.sent += 1
        return receipt.seq


class AutomaticReader(Worker):
    """Comments on some of the news by itself, with what it can tell by counting."""

    def __init__(self, desk: Desk, every: int) -> None:
        super().__init__("automatic-reader")
        self._desk = desk
        self._every = every
        self._seen = 0
        self._since = now()
        self._unread: queue.Queue[Entry[News] | None] = queue.Queue(UNREAD)

    def offer(self, entry: Entry[News]) -> None:
        """Consider a piece of news. What was published before this process began has had its comments."""
        if entry.item.at < self._since:
            return
        self._seen += 1
        if self._seen % self._every == 0 and not self._unread.full():
            self._unread.put(entry)

    def run(self) -> None:
        """Comment until stopped."""
        while (entry := self._unread.get()) is not None:
            try:
                self._desk.comment(entry, "Automatic reader", _remark(entry.item.text))
            except MoMError as error:
                log.warning("the automatic reader could not comment: %s", error)

    def stop(self) -> None:
        """End the thread after the comment that it is at."""
        while True:
            try:
                self._unread.put_nowait(None)
                break
            except queue.Full:
                self._unread.get()
        self.join()


def _remark(text: str) -> str:
    words = [word.strip(".,;:()[]\"'*-…") for word in text.split()]
    longest = max((word for word in words if word), key=len, default="")
    # At the usual two hundred words a minute.
    seconds = max(1, round(len(words) * 60 / 200))
    return f"{len(words)} words, about {seconds} s to read. The longest is “{longest}”."


def make_app(settings: ConsumerSettings, feed: Feed[News], desk: Desk, readers: list[Reader]) -> Flask:
    """Return the application that serves /news."""

    def state() -> web.State:
        channels = [reader.channel for reader in readers]
        moms = sorted({f"{channel.host}:{channel.port}" for channel in channels if channel})
        return {
            "connected": all(channels),
            "mom": ", ".join(moms) if all(channels) else "connecting",
            "received": feed.count,
            "last_seq": max(reader.last_seq for reader in readers),
            "sent": desk.sent,
        }

    app = web.make_app(HERE, feed, state)

    @app.get("/")
    def index() -> Response:
        return redirect("/news")

    @app.get("/news")
    def news() -> str:
        entries = feed.after(0)
        after = f"{feed.name}:{entries[-1][0] if entries else 0}"
        return render_template(
            "news.html", entries=entries[::-1], after=after, state=state(), settings=settings, note=_note()
        )

    @app.post("/comments")
    def comment() -> Response | dict[str, str | int]:
        author = web.form_text("author", "Your name", MAX_AUTHOR)
        text = web.form_text("text", "The comment", MAX_TEXT)
        entry = feed.find(request.form.get("news_id", ""))
        if entry is None:
            abort(410, "These news are not kept any more; reload the page for the present ones.")
        try:
            seq = desk.comment(entry, author, text)
        except InvalidArgument as error:
            abort(400, str(error))
        except MoMError as error:
            abort(503, f"Not sent: {error}")
        if web.wants_json():
            return {"message": f"Sent with sequence {seq}.", "seq": seq}
        return redirect(f"/news?sent={seq}", 303)

    return app


def _note() -> str:
    seq = request.args.get("sent", "")
    return f"Comment sent with sequence {seq}." if seq.isdecimal() else ""


def main() -> None:
    """Run until a signal ends it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = load(ConsumerSettings, HERE)
    except ConfigError as error:
        raise SystemExit(f"news-consumer: {error}") from None
    feed: Feed[News] = Feed(settings.history)
    channels = Channels(HERE / settings.channels_file)

    with MoMClient(settings.manager_url) as client:
        desk = Desk(client, settings.comments_queue)
        automatic = AutomaticReader(desk, settings.auto_comment_every) if settings.auto_comments else None

        def show(message: Message) -> None:
            try:
                entry = decode(News, message)
            except ValueError as error:
                log.warning("message %s is not news: %s", message.id, error)
                return
            feed.add(entry)
            if automatic is not None:
                automatic.offer(entry)

        topics: list[str | None] = [topic.lower() for topic in settings.topics] or [None]
        readers = [Reader(client, channels, settings.news_queue, topic, show) for topic in topics]
        workers = [worker for worker in (*readers, automatic) if worker is not None]
        for worker in workers:
            worker.start()
        try:
            web.serve(make_app(settings, feed, desk, readers), feed, settings.host, settings.port, "/news")
        except ConfigError as error:
            raise SystemExit(f"news-consumer: {error}") from None
        finally:
            for worker in workers:
                worker.stop()


if __name__ == "__main__":
    main()
