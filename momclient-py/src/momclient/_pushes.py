"""The pushes of one pusher, from the call to the outcome, as a state machine that waits for nothing and does no IO.

Pushes stand in one line. What can be sent is taken from its front, as batches (`Pushes.take`), and each answer says of
some numbers what became of them (`Pushes.answered`). A push gets its number when it is sent for the first time, and
keeps it however often it is sent, so the order of the numbers is the order of the line.

A message that was refused only for now goes back to where it stood, and so does what has no answer when a stream ends:
nothing overtakes it. It is sent with `after_seq`, as a repeat, if the MoM may have committed it.

Both forms of the client use this: whatever calls it holds the pusher's lock.
"""

from __future__ import annotations

import secrets
import struct
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, chain

from momclient import _wire, errors
from momclient._proto.messages_pb2 import OpenPusherRequest, Outcome, PushAnswer, PushBatch, Run

WINDOW = (1 << 18) - 1
"""How far a number may be ahead of the oldest one that is not settled: what a MoM remembers at the most."""

LAST_NUMBER = (1 << 32) - 1
"""Numbers have 32 bits on the wire and in a message's id."""

MOST_MESSAGES = 1024
"""How many messages a batch may have."""

MOST_BYTES = 1024 * 1024
"""How many bytes of contents a batch may have, unless it is one message."""

# How many batches may be without an answer: one that is being committed, and one that waits for it at the MoM. What
# comes meanwhile goes out as one. Without this bound, threads whose pushes go out apart are answered apart, and so come
# back apart for ever. Measured with 64 threads: 1 makes batches of 50 messages, but what is pushed waits for two ways
# to the MoM; 2 makes 26, 4 makes 19, no bound makes 17. Tasks of one loop come back together under any.
_MOST_BATCHES = 2

# A push that is sent again with less time than this, in seconds, would most likely only make its outcome unknown.
_LEAST_SECONDS = 0.1


class Push:
    """One message, or several that are committed together, from the call until its outcome is known."""

    __slots__ = (
        "_after_seq",
        "_batch",
        "_done",
        "_origin",
        "_refusal",
        "_unknown",
        "contents",
        "deadline",
        "duplicate",
        "error",
        "headers",
        "is_done",
        "key",
        "number",
        "seq",
        "size",
        "timeout",
        "together",
        "topic",
    )

    def __init__(
        self,
        contents: Sequence[bytes],
        topic: str,
        *,
        timeout: float,
        done: Callable[[], None],
        key: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        together: bool = False,
    ) -> None:
        self.contents = contents
        self.size = sum(map(len, contents))
        if headers:
            self.size += sum(len(name) + len(value.encode()) for name, value in headers)
        self.topic = topic
        # In the order of their names.
        self.headers = headers
        # The id that the caller brings, in 16 bytes, or nothing.
        self.key = key
        self.together = together
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout
        # That of the first message, 0 before it was sent for the first time.
        self.number = 0
        # The outcome is known, or nobody wants to know it any more. In the first case `seq` or `error` is there.
        self.is_done = False
        # The sequence of the first message.
        self.seq = 0
        self.duplicate = False
        self.error: errors.MoMError | None = None
        self._done = done
        # What the ids begin with that end in its numbers.
        self._origin = ""
        # The batch that it was sent with, while it has no answer.
        self._batch: _Sent | None = None
        # The lowest sequence that the queue had reached before one of its attempts.
        self._after_seq: int | None = None
        # Why an attempt may have been accepted, and why the last one was not.
        self._unknown: errors.OutcomeUnknown | None = None
        self._refusal: errors.MoMError | None = None

    def ids(self) -> list[str]:
        """Return the ids of the messages, once they are committed."""
        if self.key:
            return [str(uuid.UUID(bytes=self.key))]
        return [f"{self._origin}{number:08x}" for number in range(self.number, self.number + len(self.contents))]

    def _commit(self, seq: int, duplicate: bool) -> None:
        if not self.is_done:
            self.seq, self.duplicate = seq, duplicate
            self.is_done = True
            self._done()

    def _fail(self, error: errors.MoMError) -> None:
        self._end(_wire.after_unknown(error, self._unknown))

    def _run_out(self, last: errors.MoMError) -> None:
        """End a push whose time is up, when the last attempt ended so."""
        error = _wire.after_unknown(last, self._unknown)
        kind = errors.Unavailable if isinstance(error, _wire.Moved) else type(error)
        self._end(kind(f"not acknowledged within {self.timeout:g} s: {error.detail}", code=error.code))

    def _end(self, error: errors.MoMError) -> None:
        if not self.is_done:
            self.error = error
            self.is_done = True
            self._done()


class _Sent:
    """A batch under way."""

    __slots__ = ("at", "left")

    def __init__(self, at: float) -> None:
        self.at = at
        # How many pushes of it have no answer.
        self.left = 0


class Pushes:
    """All pushes of one pusher whose outcome is not known.

    `in_flight` is how many messages may be without an answer, if the MoM allows as many. `last_number` is for tests.
    """

    def __init__(self, queue: str, in_flight: int, last_number: int = LAST_NUMBER) -> None:
        self._queue = queue
        self._in_flight = in_flight
        self._last_number = last_number
        self._renew()
        # Those that are to be sent, in the order in which they are to be: first those that have a number.
        self._line: deque[Push] = deque()
        # Those that were sent in this stream and have no answer, by number and in its order.
        self._flying: dict[int, Push] = {}
        self._messages = 0
        self._bytes = 0
        self._batches = 0
        # Those that were refused for now, and why. Nothing is sent until all that flies has its answer and the pause
        # after it is over.
        self._back: list[Push] = []
        self._held_by: errors.MoMError | None = None
        # The stream: there is one; what opens it was taken; the MoM has answered that.
        self._is_begun = False
        self._is_asked = False
        self._is_open = False
        # When the MoM was heard last, or asked first, in this stream.
        self._heard_at = 0.0
        # A sequence that the queue is known to have reached; lower than the truth is as right, only slower.
        self._reached = 0
        self._window_messages = 0
        self._window_bytes = 0
        # Why nothing can be sent, or could not when it was tried last.
        self._trouble: errors.MoMError | None = None
        self.backoff = _wire.Backoff()
        """The pauses after what can pass; it begins anew when something is committed."""

    def add(self, push: Push) -> None:
        """Put a push at the end of the line."""
        # Those that were given up leave the line here at the latest.
        while self._line and self._line[0].is_done:
            self._line.popleft()
        self._line.append(push)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for an outcome."""
        return any(not push.is_done for push in chain(self._flying.values(), self._back, self._line))

    @property
    def is_spent(self) -> bool:
        """Whether nothing can be sent until `begin` takes a new identity, since the numbers of this one are used up."""
        numbers_left = self._last_number - self._next_number + 1
        return numbers_left < MOST_MESSAGES and not (self._flying or (self._line and self._line[0].number))

    def begin(self, now: float) -> None:
        """Begin with a new stream. What is to be sent first is taken as the batches are."""
        while self._line and self._line[0].is_done:
            self._line.popleft()
        if self.is_spent:
            self._renew()
        self._is_begun = True
        self._is_asked = self._is_open = False
        self._heard_at = now

    def take(self, now: float) -> PushBatch | None:
        """Return what is to be sent next, or None if there is nothing or not yet."""
        if self._is_begun and not self._is_asked:
            self._is_asked = True
            request = OpenPusherRequest(queue_label=self._queue, pusher=self._pusher, settled=self.settled)
            return PushBatch(open=request)
        full = min(self._in_flight, self._window_messages)
        if (
            not self._line
            or not self._is_open
            or self._held_by is not None
            or self._batches >= _MOST_BATCHES
            or self._messages >= full
            or self._bytes >= self._window_bytes
            or self._is_oversized_flying()
        ):
            return None
        taken = self._take(now, min(MOST_MESSAGES, full - self._messages))
        return self._encode(taken) if taken else None

    def answered(self, answer: PushAnswer, now: float) -> errors.MoMError | None:
        """Note what became of which pushes.

        Return why some were refused for now, as soon as all have an answer. They are sent again after `resume`.
        """
        self._heard_at = now
        if answer.window_messages:
            self._window_messages, self._window_bytes = answer.window_messages, answer.window_bytes
        if not self._is_open:
            self._is_open = True
            self._reached = answer.seq
            self._trouble = None
        for outcome in answer.outcomes:
            if outcome.seq > 0:
                self._committed(outcome)
            else:
                self._refused(outcome)
        return None if self._flying else self._held_by

    def resume(self) -> None:
        """Send again what was refused for now."""
        self._return()

    def lost(self, error: errors.MoMError) -> None:
        """Note that the stream has ended, or that there could be none. What has no answer is unknown."""
        self._trouble = error
        is_unreadable = self._is_oversized_flying() and isinstance(error, errors.InvalidArgument)
        self._is_begun = self._is_open = False
        self._messages = self._bytes = self._batches = 0
        flying = list(self._flying.values())
        self._flying.clear()
        for push in flying:
            push._batch = None
            if is_unreadable:
                push._fail(error)
            push._unknown = errors.OutcomeUnknown(f"the MoM did not answer: {error.detail}")
        self._back += flying
        if isinstance(error, errors.Unavailable) or is_unreadable:
            self._return()
        else:
            self.fail(error)

    def fail(self, error: errors.MoMError) -> None:
        """End all pushes that have no answer to wait for, since none of them can succeed."""
        for push in chain(self._back, self._line):
            push._fail(error)
        self._back.clear()
        self._line.clear()
        self._held_by = None

    def give_up(self, push: Push) -> None:
        """End a push whose time is up with what is known of it."""
        if push._batch is not None:
            push._run_out(errors.OutcomeUnknown("the MoM did not answer"))
        elif (last := self._trouble or push._refusal) is not None:
            push._run_out(last)
        elif self._is_open:
            waited = "as many pushes as may be were in flight all the time"
            push._run_out(errors.Overloaded(waited, code="in_flight_limit"))
        else:
            push._run_out(errors.Unavailable("the MoM of the queue was not found in time"))

    def drop(self, push: Push) -> None:
        """Forget a push whose outcome nobody wants to know any more."""
        push.is_done = True

    def silent_since(self) -> float | None:
        """Return since when the MoM owes an answer and was not heard, or None if it owes none."""
        if self._is_begun and not self._is_open:
            return self._heard_at
        oldest = next(iter(self._flying.values()), None)
        return None if oldest is None or oldest._batch is None else max(self._heard_at, oldest._batch.at)

    @property
    def settled(self) -> int:
        """The lowest number whose outcome is still wanted, or that is the next to be given.

        What is under way is not settled even if nobody wants to know: the MoM may have refused it for now, and would
        then not hold back any more what comes after it.
        """
        for push in self._flying.values():
            return push.number
        for push in self._line:
            if not push.number:
                break
            if not push.is_done:
                return push.number
        return min(self._next_number, self._last_number)

    def _is_oversized_flying(self) -> bool:
        """Whether a message is under way that is larger than batches may be.

        A MoM that cannot read it ends the stream. It goes with nothing beside it, so that no other can be to blame.
        """
        return self._bytes > MOST_BYTES and len(self._flying) == 1

    def _take(self, now: float, room: int) -> list[Push]:
        """Take the next from the line: in one batch are first attempts, or repeats, but not both."""
        taken: list[Push] = []
        sent = _Sent(now)
        settled = self.settled
        messages = size = 0
        while self._line:
            push = self._line[0]
            count = len(push.contents)
            if not push.is_done and push.number and push.deadline - now < _LEAST_SECONDS:
                self.give_up(push)
            if push.is_done:
                self._line.popleft()
                continue
            if push.size > MOST_BYTES and self._flying:
                break
            if taken and (
                messages + count > room
                or size + push.size > MOST_BYTES
                or (push._unknown is None) is not (taken[0]._unknown is None)
            ):
                break
            if not push.number:
                last = self._next_number + count - 1
                if last > self._last_number or last - settled > WINDOW:
                    break
                push.number = self._next_number
                push._origin = self._origin
                self._next_number += count
            self._line.popleft()
            if push._after_seq is None or self._reached < push._after_seq:
                push._after_seq = self._reached
            push._batch = sent
            self._flying[push.number] = push
            taken.append(push)
            messages += count
            size += push.size
        sent.left = len(taken)
        self._batches += bool(taken)
        self._messages += messages
        self._bytes += size
        return taken

    def _encode(self, taken: list[Push]) -> PushBatch:
        contents = [content for push in taken for content in push.contents]
        batch = PushBatch(
            settled=self.settled,
            number=taken[0].number,
            runs=_runs(taken),
            ends=struct.pack(f"<{len(contents)}I", *accumulate(map(len, contents))),
            contents=b"".join(contents),
        )
        if taken[0]._unknown is not None:
            batch.after_seq = min(push._after_seq or 0 for push in taken)
        return batch

    def _committed(self, outcome: Outcome) -> None:
        duplicate, first, seq = outcome.duplicate, outcome.number, outcome.seq
        number, end = first, first + outcome.count
        while number < end:
            push = self._land(number)
            if push is None:
                number += 1
                continue
            push._commit(seq + number - first, duplicate)
            number += len(push.contents)
        self._reached = max(self._reached, seq + outcome.count - 1)
        self._trouble = None
        self.backoff.reset()

    def _refused(self, outcome: Outcome) -> None:
        error = _wire.refusal(outcome.refusal)
        for number in range(outcome.number, outcome.number + outcome.count):
            push = self._land(number)
            if push is None:
                continue
            if isinstance(error, errors.OutcomeUnknown):
                push._unknown = error
            elif not isinstance(error, errors.Unavailable):
                push._fail(error)
                continue
            push._refusal = error
            self._back.append(push)
            self._trouble = error
            if self._held_by is None or _wire.is_elsewhere(error):
                self._held_by = error

    def _land(self, number: int) -> Push | None:
        push = self._flying.pop(number, None)
        if push is not None and push._batch is not None:
            self._messages -= len(push.contents)
            self._bytes -= push.size
            push._batch.left -= 1
            if push._batch.left == 0:
                self._batches -= 1
            push._batch = None
        return push

    def _return(self) -> None:
        """Put those that are to be sent again back where they stood."""
        self._held_by = None
        self._back.sort(key=_number, reverse=True)
        self._line.extendleft(push for push in self._back if not push.is_done)
        self._back.clear()

    def _renew(self) -> None:
        self._pusher = new_pusher()
        self._origin = str(uuid.UUID(bytes=self._pusher))[:-8]
        self._next_number = 1


def _number(push: Push) -> int:
    return push.number


def _runs(pushes: list[Push]) -> list[Run]:
    """Describe pushes of ascending numbers by as few runs as possible."""
    runs: list[Run] = []
    last: Push | None = None
    count, next_number = 0, pushes[0].number
    for push in pushes:
        number = push.number
        if (
            last is not None
            and number == next_number
            and push.topic == last.topic
            and push.headers == last.headers
            and not (push.key or push.together or last.key or last.together)
        ):
            count += 1
            next_number += 1
            continue
        if runs:
            runs[-1].count = count
        count = len(push.contents)
        runs.append(Run(topic=push.topic, id=push.key, gap=number - next_number, together=push.together))
        for name, value in push.headers:
            runs[-1].headers.add(name=name, value=value)
        next_number = number + count
        last = push
    runs[-1].count = count
    return runs


def new_pusher() -> bytes:
    """Return a new identity: a UUID of version 7 whose last 4 bytes are zero, where a message's id has its number.

    What remains are 48 bits of milliseconds and 42 random ones.
    """
    millis = time.time_ns() // 1_000_000 & (1 << 48) - 1
    high, low = secrets.randbits(12), secrets.randbits(30)
    return (millis << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low << 32).to_bytes(16, "big")
