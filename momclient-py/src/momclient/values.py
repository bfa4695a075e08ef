"""The values that the clients take and return. None of them can be changed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Literal, TypeAlias

__all__ = ["Channel", "Message", "MoMInfo", "Receipt", "Start"]

Start: TypeAlias = Literal["earliest", "latest"] | datetime
"""Where a subscription starts: with the oldest message that is retained, with what is committed from now on, or with
the first message that was committed at a time or later. The time has a time zone."""


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class MoMInfo:
    """The MoM that hosts a queue: where to push at this moment."""

    host: str
    port: int
    label: str


@dataclass(frozen=True, slots=True)
class Channel:
    """A read end of a queue, and the MoM that serves it at this moment."""

    id: str
    host: str
    port: int
    topic: str | None
    """A topic, or a pattern of topics. None: the channel sees every message of its queue."""


class Message:
    """A message as a channel delivers it."""

    # Not a dataclass: making a frozen one takes six times as long, which is half of all that a received message costs.
    __slots__ = ("_content", "_headers", "_id", "_seq", "_topic")
    __match_args__ = ("id", "content", "topic", "seq", "headers")

    def __init__(
        self,
        id: str | int,  # noqa: A002
        content: bytes,
        topic: str | None,
        seq: int,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        # As a number an id is written out when it is asked for, and few ask.
        self._id = id
        self._content = content
        self._topic = topic
        self._seq = seq
        self._headers = headers

    @property
    def id(self) -> str:
        """Unique for ever: a UUID."""
        return self._id if isinstance(self._id, str) else str(uuid.UUID(int=self._id))

    @property
    def content(self) -> bytes:
        """What was pushed, byte for byte."""
        return self._content

    @property
    def text(self) -> str:
        """The content, decoded from UTF-8."""
        return self._content.decode()

    @property
    def topic(self) -> str | None:
        """The topic that it was pushed with."""
        return self._topic

    @property
    def seq(self) -> int:
        """The place in the queue: 1, 2, 3 … in the order of commit."""
        return self._seq

    @property
    def headers(self) -> Mapping[str, str]:
        """What it carries beside its content, such as a `traceparent`. Names are in lower case."""
        return self._headers

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Message) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        headers = f", headers={dict(self._headers)!r}" if self._headers else ""
        return f"Message(id={self.id!r}, content={self._content!r}, topic={self._topic!r}, seq={self._seq!r}{headers})"

    def _values(self) -> tuple[str, bytes, str | None, int, frozenset[tuple[str, str]]]:
        return self.id, self._content, self._topic, self._seq, frozenset(self._headers.items())


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a message was committed as."""

    id: str
    seq: int
    duplicate: bool = False
    """Whether it had been committed before: by an earlier push with the same id, or by an attempt of this push whose
    answer was lost."""
