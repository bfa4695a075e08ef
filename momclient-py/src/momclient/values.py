"""The values that the clients return. All of them are immutable."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Channel", "Message", "MoMInfo", "Receipt"]


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
    """None: the channel sees every message of its queue."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a channel delivers it."""

    id: str
    """Unique for ever."""
    content: bytes
    topic: str | None
    seq: int
    """The place in the queue: 1, 2, 3 … in the order of commit."""

    @property
    def text(self) -> str:
        """The content, decoded from UTF-8."""
        return self.content.decode()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a message was committed as."""

    id: str
    seq: int
    duplicate: bool = False
    """Whether it had been committed before: by an earlier push with the same id, or by an attempt of this push whose
    answer was lost."""
