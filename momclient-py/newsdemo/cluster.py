"""Queues and channels that are there when they are needed, and a thread that reads one, whatever happens."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from momclient import (
    AlreadyExists,
    Channel,
    ChannelNotFound,
    InvalidArgument,
    Message,
    MoMClient,
    MoMError,
    QueueNotFound,
    Subscriber,
)
from newsdemo.worker import Worker

log = logging.getLogger("news")

RETRY_SECONDS = 1.0

# No topic can be this.
NO_TOPIC = "*"


def ensure_queue(client: MoMClient, queue: str) -> None:
    """Create a queue unless it exists."""
    try:
        client.get_queue(queue)
    except QueueNotFound:
        try:
            client.create_queue(queue)
            log.info("created the queue %s", queue)
        except AlreadyExists:
            # The other application was faster.
            pass


class Channels:
    """The channels that this application has made, remembered in a file: a start takes up those of the last one.

    A manager tells of a channel where it is and its topic, but not whose queue it is on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._remembered = _read(path)
        self._used: dict[str, str] = {}

    def ensure(self, client: MoMClient, queue: str, topic: str | None) -> Channel:
        """Return the channel of that queue and topic, a new one if there is none any more."""
        ensure_queue(client, queue)
        key = f"{queue} {topic or NO_TOPIC}"
        known = self._remembered.get(key)
        if known is not None:
            try:
                channel = client.get_channel(known)
                if channel.topic == topic:
                    self._remember(key, channel.id)
                    return channel
            except (ChannelNotFound, InvalidArgument):
                log.info("the channel %s of %s is gone", known, queue)
        channel = client.create_channel(queue, topic)
        log.info("created the channel %s on %s", channel.id, queue)
        self._remember(key, channel.id)
        return channel

    def _remember(self, key: str, channel_id: str) -> None:
        with self._lock:
            self._remembered[key] = channel_id
            self._used[key] = channel_id
            fresh = self._path.with_name(f"{self._path.name}.new")
            try:
                # What was remembered of other queues, from settings that were different once, is dropped.
                fresh.write_text(json.dumps(self._used, indent=2) + "\n")
                fresh.replace(self._path)
            except OSError as error:
                log.warning("the next start will create new channels: %s: %s", self._path, error.strerror)


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


class Reader(Worker):
    """Subscribes to a queue, with or without a topic, and hands every message on until it is stopped."""

    def __init__(
        self,
        client: MoMClient,
        channels: Channels,
        queue: str,
        topic: str | None,
        handle: Callable[[Message], None],
    ) -> None:
        super().__init__(f"read-{queue}")
        self._client = client
        self._channels = channels
        self._queue = queue
        self._topic = topic
        self._handle = handle
        self._stopped = threading.Event()
        self._subscriber: Subscriber | None = None

    @property
    def channel(self) -> Channel | None:
        """The channel and its MoM, while subscribed to it."""
        subscriber = self._subscriber
        return None if subscriber is None else subscriber.place

    @property
    def last_seq(self) -> int:
        """The sequence of the last message that was handed on."""
        subscriber = self._subscriber
        return 0 if subscriber is None else subscriber.last_seq

    def run(self) -> None:
        """Read until stopped. A channel or queue that is deleted meanwhile is made anew."""
        while not self._stopped.is_set():
            try:
                channel = self._channels.ensure(self._client, self._queue, self._topic)
                with self._client.subscriber(channel) as self._subscriber:
                    log.info("subscribed to %s by the channel %s", self._queue, channel.id)
                    if self._stopped.is_set():
                        return
                    for message in self._subscriber:
                        self._handle(message)
            except MoMError as error:
                if not self._stopped.is_set():
                    log.warning("cannot read %s: %s; trying again in %g s", self._queue, error, RETRY_SECONDS)
                    self._stopped.wait(RETRY_SECONDS)

    def stop(self) -> None:
        """End the subscription and the thread."""
        self._stopped.set()
        subscriber = self._subscriber
        if subscriber is not None:
            subscriber.close()
        self.join()
