"""What a page shows: a bounded history that any number of readers can wait on."""

from __future__ import annotations

import threading
import uuid
from collections import deque
from typing import Generic

from newsdemo.items import Entry, Item


class Feed(Generic[Item]):
    """The latest entries, numbered as they came."""

    def __init__(self, limit: int) -> None:
        # Numbers begin anew with each process; the name tells a page that was open before.
        self.name = uuid.uuid4().hex[:8]
        self._changed = threading.Condition()
        self._entries: deque[tuple[int, Entry[Item]]] = deque(maxlen=limit)
        self._count = 0
        self._closed = False

    @property
    def count(self) -> int:
        """How many entries have come, also those that are not kept any more."""
        return self._count

    @property
    def closed(self) -> bool:
        """Whether nothing comes any more."""
        return self._closed

    def add(self, entry: Entry[Item]) -> None:
        """Append an entry, unless it is there already: a channel made anew begins with what is retained."""
        with self._changed:
            if any(kept.id == entry.id for _, kept in self._entries):
                return
            self._count += 1
            self._entries.append((self._count, entry))
            self._changed.notify_all()

    def find(self, message_id: str) -> Entry[Item] | None:
        """Return the entry with that message id, if it is kept."""
        with self._changed:
            return next((entry for _, entry in self._entries if entry.id == message_id), None)

    def after(self, number: int, wait: float = 0.0) -> list[tuple[int, Entry[Item]]]:
        """Return what came after entry `number`, oldest first, waiting up to `wait` seconds for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._count > number, wait)
            return [(at, entry) for at, entry in self._entries if at > number]

    def close(self) -> None:
        """Wake everybody who waits, for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
