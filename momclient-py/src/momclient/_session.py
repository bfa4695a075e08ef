"""A pusher's identity, and the numbers of its pushes: what lets a MoM know a repeated push again.

Numbers are given in the order in which pushes begin and settled in the order in which they end; a MoM remembers those
between the oldest push without an answer and the newest. Before the numbers of an identity end it is replaced, and
lives on for the pushes that still bear it.

Both forms of the client use this, so it may be called from any thread, and it waits for nothing.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque

WINDOW = (1 << 18) - 1
"""How far a number may be ahead of the oldest one that is not settled: what a MoM remembers at the most."""

LAST_NUMBER = (1 << 32) - 1
"""Numbers have 32 bits on the wire and in a message's id."""


class _Identity:
    def __init__(self) -> None:
        self.pusher = new_pusher()
        # All lower numbers are settled. It ends one above the last number.
        self.settled = 1
        # Of this number and each above, whether it is settled.
        self.done: deque[bool] = deque()

    @property
    def next_number(self) -> int:
        return self.settled + len(self.done)

    @property
    def settled_on_wire(self) -> int:
        return min(self.settled, LAST_NUMBER)

    def settle(self, number: int) -> None:
        self.done[number - self.settled] = True
        while self.done and self.done[0]:
            self.done.popleft()
            self.settled += 1


class Ticket:
    """The number of a push under way, which is to be settled when it ends, however it ends."""

    def __init__(self, identity: _Identity, number: int) -> None:
        self._identity = identity
        self.number = number
        self._after: int | None = None

    @property
    def pusher(self) -> bytes:
        """Whose push it is."""
        return self._identity.pusher

    @property
    def settled(self) -> int:
        """The number below which all pushes of the same identity are settled."""
        return self._identity.settled_on_wire

    def attempt(self, reached: int) -> int:
        """Begin an attempt at a queue that has reached this sequence; return the one that all attempts are behind.

        That is the lowest: a queue that was deleted and made anew starts again with 1.
        """
        self._after = reached if self._after is None else min(reached, self._after)
        return self._after


class Session:
    """The numbers of one pusher."""

    def __init__(self, last_number: int = LAST_NUMBER) -> None:
        self._lock = threading.Lock()
        self._last_number = last_number
        # The one that numbers new pushes last; before it, those that pushes under way still bear.
        self._identities = deque([_Identity()])

    def begin(self) -> Ticket | None:
        """Return the number of a new push, or None while the oldest push under way is too far behind."""
        with self._lock:
            current = self._identities[-1]
            if len(current.done) >= WINDOW:
                return None
            if current.next_number > self._last_number:
                current = _Identity()
                self._identities.append(current)
                self._forget_settled()
            ticket = Ticket(current, current.next_number)
            current.done.append(False)
            return ticket

    def settle(self, ticket: Ticket) -> None:
        """End a push: nobody will ask any more what became of it."""
        with self._lock:
            ticket._identity.settle(ticket.number)
            self._forget_settled()

    def identities(self) -> list[tuple[bytes, int]]:
        """Return each identity that pushes bear or will bear, and the number below which its pushes are settled."""
        with self._lock:
            return [(identity.pusher, identity.settled_on_wire) for identity in self._identities]

    def _forget_settled(self) -> None:
        while len(self._identities) > 1 and not self._identities[0].done:
            self._identities.popleft()


def new_pusher() -> bytes:
    """Return a new identity: a UUID of version 7 whose last 4 bytes are zero, where a message's id has its number.

    What remains are 48 bits of milliseconds and 42 random ones.
    """
    millis = time.time_ns() // 1_000_000 & (1 << 48) - 1
    high, low = secrets.randbits(12), secrets.randbits(30)
    return (millis << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low << 32).to_bytes(16, "big")
