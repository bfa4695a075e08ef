"""What a subscriber receives: batches of messages, and the credits by which a MoM knows how many it has room for."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from threading import Lock

from momclient import _wire, errors
from momclient._proto.messages_pb2 import BatchSubscription, MessageBatch, Run, SubscriptionRequest
from momclient.values import Message

MOST_CREDITS = (1 << 32) - 1
"""A number of messages has 32 bits on the wire."""


class Credits:
    """How much the MoM may send, of one subscription.

    What was received counts until it is asked for more, so that no more than `messages` and `size` bytes are there, or
    on their way, that nobody has read; the last message may exceed the bytes.
    """

    def __init__(self, request: SubscriptionRequest, messages: int, size: int) -> None:
        self._lock = Lock()
        self._request: SubscriptionRequest | None = request
        self._messages = messages
        self._bytes = size
        # What was read and is not given back yet.
        self._read_messages = 0
        self._read_bytes = 0

    def read(self, batch: MessageBatch) -> None:
        """Note that all messages of a batch were read."""
        with self._lock:
            self._read_messages += sum(run.count for run in batch.runs)
            self._read_bytes += len(batch.contents)

    def take(self) -> BatchSubscription | None:
        """Return what is to be sent next: the subscription, later half of the credits or more as soon as it is read."""
        with self._lock:
            if self._request is not None:
                first = BatchSubscription(subscribe=self._request, messages=self._messages, bytes=self._bytes)
                self._request = None
                return first
            if 2 * self._read_messages < self._messages and 2 * self._read_bytes < self._bytes:
                return None
            more = BatchSubscription(messages=self._read_messages, bytes=self._read_bytes)
            self._read_messages = self._read_bytes = 0
            return more


def messages(batch: MessageBatch, after_seq: int) -> Iterator[Message]:
    """Return the messages of a batch behind a sequence, each of which is made when it is its turn.

    Raises ServerFault if the batch makes no sense.
    """
    count = sum(run.count for run in batch.runs)
    if len(batch.ends) != 4 * count:
        raise errors.ServerFault(f"a batch of {count} messages has {len(batch.ends)} bytes of ends")
    made = _made(batch.first_seq, batch.runs, struct.unpack(f"<{count}I", batch.ends), batch.contents)
    # A MoM sends what it is asked for, so that there is something to skip only by a fault of it.
    return made if batch.first_seq > after_seq else (message for message in made if message.seq > after_seq)


def _made(seq: int, runs: Iterable[Run], ends: Iterable[int], contents: bytes) -> Iterator[Message]:
    end_of = iter(ends)
    start = 0
    for run in runs:
        seq += run.gap
        topic = _wire.topic_in(run.topic)
        headers = _wire.headers_in(run.headers)
        first = int.from_bytes(run.id, "big")
        for number, end in zip(range(first, first + run.count), end_of, strict=False):
            yield Message(number, contents[start:end], topic, seq, headers)
            start = end
            seq += 1
