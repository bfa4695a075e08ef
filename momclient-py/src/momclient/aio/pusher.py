"""Pushing: find the MoM of the queue, keep a stream of pushes open there, and find it again when the queue has moved.

`Pusher.push` puts a message in the line and waits; what goes out when, and what an answer means, is in `_pushes`. Each
message bears its number, so that a MoM knows it again however often it is sent.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from types import TracebackType
from typing import TypeVar

from momclient import _wire, errors
from momclient._links import AsyncBackground, AsyncFlag, AsyncPromise, AsyncStream
from momclient._proto.messages_pb2 import PushAnswer, PushBatch
from momclient._pushes import MOST_BYTES, MOST_MESSAGES, Push, Pushes
from momclient.aio.manager import Manager
from momclient.values import MoMInfo, Receipt

Self = TypeVar("Self", bound="Pusher")

# For how long a push with an id of the caller's own is tried. MoMs know it again for two minutes, unless they are
# configured otherwise.
_LONGEST_WITH_ID_SECONDS = 60.0

# How long a look-up may take where the MoM may well be where it was, should no manager answer.
_LOOK_UP_SECONDS = 5.0

# How many MoMs in a row may say where to go on, before a manager is asked.
_MOST_HOPS = 3


class Pusher:
    """Pushes messages to one queue. Made by `MoMClient.pusher`; may be shared.

    What is pushed at the same time goes out together. Messages are committed in the order in which they are pushed.
    """

    def __init__(
        self,
        manager: Manager,
        queue: str,
        *,
        attempt_timeout: float,
        in_flight: int,
        forget: Callable[[Pusher], None],
    ) -> None:
        if in_flight < 1:
            raise errors.InvalidArgument(f"in_flight {in_flight} is not legal: use 1 or more", code="invalid_argument")
        self._manager = manager
        self._queue = _wire.label(queue)
        self._attempt_timeout = attempt_timeout
        self._forget = forget
        self._closed = AsyncFlag()
        # Held for moments only, never across a call: it guards the pushes, and what serves them.
        self._lock = Lock()
        self._pushes = Pushes(self._queue, in_flight)
        self._driver: AsyncBackground | None = None
        # Raised when a push waits for a driver that has no stream.
        self._work = AsyncFlag()
        self._stream: AsyncStream[PushBatch, PushAnswer] | None = None
        # The rest is the driver's. Where the queue is, and where it is now, as the MoM said that had it before, and how
        # many of them have said so in a row.
        self._known: MoMInfo | None = None
        self._moved_to: MoMInfo | None = None
        self._hops = 0

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def queue(self) -> str:
        """The label of the queue."""
        return self._queue

    @property
    def mom(self) -> MoMInfo | None:
        """The MoM that this pusher is connected to, or None."""
        return None if self._stream is None else self._known

    async def push(
        self,
        content: bytes | str,
        topic: str | None = None,
        *,
        id: str | uuid.UUID | None = None,  # noqa: A002 -- it is the `id` of the message and of the receipt
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> Receipt:
        """Push one message and return what it was committed as. Text is sent as UTF-8.

        For up to `timeout` seconds, whatever can pass is tried again: a connection that breaks, a queue that is
        moving, a MoM or manager that is down, a MoM that has too much to do. However often it is tried, it makes one
        message at the most.

        `id`, a UUID, is for a push that is to be repeated later, by another pusher or after a restart of the program:
        pushed again within the window of the MoMs (`duplicate_window_secs`, two minutes by default) it makes no second
        message, and the receipt is that of the first, with `duplicate` set. With another content or topic it is an
        InvalidArgument with the code `id_conflict`. It is tried for 60 seconds at the most, well within the window.
        An id costs the MoM memory for all of the window, so a push without is the cheaper one.

        `headers` go with the message beside its content: a `traceparent`, so that the receiver goes on with the trace.
        There may be 16, with 4,096 bytes of names and values together. A name has 1 to 64 of the letters a-z, digits,
        '.', '_' and '-' (upper case is folded), a value at most 1,024 bytes and no control characters. A repeat with
        the same `id` may have other ones, and those of the first stay.

        Raises QueueNotFound and InvalidArgument at once, and when the time is up Overloaded, ManagerUnreachable or
        Unavailable: the message was not accepted, and will not be. OutcomeUnknown is raised instead of any of these
        if some attempt may have been accepted and its answer was lost. The outcome of a push that is cancelled is
        unknown as well.
        """
        key = b""
        if id is not None:
            key = uuid.UUID(_wire.message_id(id)).bytes
            timeout = min(timeout, _LONGEST_WITH_ID_SECONDS)
        promise = AsyncPromise()
        push = Push(
            (_wire.content(content),),
            _wire.topic_out(topic),
            timeout=timeout,
            done=promise.keep,
            key=key,
            headers=_wire.headers_out(headers),
        )
        await self._run(push, promise)
        return Receipt(push.ids()[0], push.seq, push.duplicate)

    async def push_many(
        self,
        contents: Iterable[bytes | str],
        topic: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> list[Receipt]:
        """Push 1 to 1,024 messages together, and return what they were committed as, in order.

        They are committed all or none, with nothing between them. Together they may have 1 MiB. Each has the same
        headers. For the rest it is as with `push`.
        """
        encoded = [_wire.content(content) for content in contents]
        if not 1 <= len(encoded) <= MOST_MESSAGES:
            raise errors.InvalidArgument(
                f"{len(encoded)} messages cannot be pushed together: use 1 to {MOST_MESSAGES}", code="invalid_argument"
            )
        promise = AsyncPromise()
        push = Push(
            encoded,
            _wire.topic_out(topic),
            timeout=timeout,
            done=promise.keep,
            headers=_wire.headers_out(headers),
            together=True,
        )
        if push.size > MOST_BYTES and len(encoded) > 1:
            raise errors.InvalidArgument(
                f"messages of {push.size} bytes cannot be pushed together: use {MOST_BYTES} or less",
                code="message_too_large",
            )
        await self._run(push, promise)
        return [Receipt(name, push.seq + index, push.duplicate) for index, name in enumerate(push.ids())]

    async def close(self) -> None:
        """Close the connection once the pushes that are on it have ended; those that are not sent yet end at once."""
        self._closed.set()
        self._forget(self)
        with self._lock:
            self._pushes.fail(_closed())
            driver, stream = self._driver, self._stream
            self._leave()
        self._work.set()
        if driver is not None:
            await driver.end(is_ending=stream is not None)

    async def _run(self, push: Push, promise: AsyncPromise) -> None:
        """Have the push sent, and wait until its outcome is known or its time is up."""
        with self._lock:
            if self._closed.is_set():
                raise _closed()
            self._pushes.add(push)
            if self._driver is None:
                self._driver = AsyncBackground(self._drive)
            if self._stream is None:
                self._work.set()
            else:
                self._stream.wake()
        try:
            timeout = min(push.timeout, self._attempt_timeout)
            while not await promise.wait(timeout):
                timeout = self._watch(push, time.monotonic())
        except BaseException:
            with self._lock:
                self._pushes.drop(push)
                self._leave()
            raise
        if push.error is not None:
            # Others may end with the same one.
            raise type(push.error)(push.error.detail, code=push.error.code) from push.error

    def _watch(self, push: Push, now: float) -> float:
        """End what has lasted too long, this push or the stream, and return in how many seconds to look again.

        A frozen MoM keeps its connections and answers nothing, and whoever waits for it sees that.
        """
        with self._lock:
            if now >= push.deadline:
                self._pushes.give_up(push)
                self._leave()
            silent_since = self._pushes.silent_since()
            until = push.deadline
            if self._stream is not None and silent_since is not None:
                if now >= silent_since + self._attempt_timeout:
                    self._stream.fault = errors.Unavailable(f"the MoM was silent for {self._attempt_timeout:g} s")
                    self._stream.end()
                else:
                    until = min(until, silent_since + self._attempt_timeout)
            return max(0.0, min(until - now, self._attempt_timeout))

    def _leave(self) -> None:
        """End the stream if the pusher is closed and nobody waits for an answer any more. The caller has the lock."""
        if self._stream is not None and self._closed.is_set() and not self._pushes.is_wanted:
            self._stream.end()

    async def _drive(self) -> None:
        """Serve pushes, as long as the pusher is not closed or some are under way."""
        try:
            while not self._is_over():
                await self._work.wait()
                self._work.clear()
                while self._is_wanted():
                    await self._lose(await self._serve())
                    await self._closed.wait(self._pushes.backoff.pause())
        finally:
            # Should it be interrupted, the next push finds all as at the beginning.
            self._driver = None
            await self._lose(errors.Unavailable("the pusher was interrupted"))

    async def _lose(self, failure: errors.MoMError) -> None:
        """Go on without a stream."""
        self._go_on(failure)
        with self._lock:
            # At once, lest it be given any more to send.
            stream, self._stream = self._stream, None
            self._pushes.lost(failure)
            if self._closed.is_set():
                self._pushes.fail(_closed())
        if stream is not None:
            await stream.close()

    def _is_wanted(self) -> bool:
        with self._lock:
            return self._pushes.is_wanted

    async def _serve(self) -> errors.MoMError:
        """Find the MoM and have it answer pushes; return what ended that."""
        try:
            mom = await self._find()
        except errors.MoMError as error:
            return error
        stream = AsyncStream((mom.host, mom.port), "StreamPushes", self._take, PushAnswer, _wire.push_error)
        with self._lock:
            self._stream = stream
            self._pushes.begin(time.monotonic())
        stream.wake()
        while not self._is_over() and (answer := await stream.read()) is not None:
            with self._lock:
                refusal = self._pushes.answered(answer, time.monotonic())
            if refusal is not None:
                if _wire.is_elsewhere(refusal):
                    return refusal
                await self._closed.wait(self._pushes.backoff.pause())
                with self._lock:
                    self._pushes.resume()
            stream.wake()
        return stream.fault

    def _is_over(self) -> bool:
        return self._closed.is_set() and not self._is_wanted()

    def _take(self, stream: AsyncStream[PushBatch, PushAnswer]) -> PushBatch | None:
        """Return what the stream is to send next."""
        with self._lock:
            if stream is not self._stream:
                return None
            batch = self._pushes.take(time.monotonic())
            if batch is None and self._pushes.is_spent:
                stream.end()
            return batch

    async def _find(self) -> MoMInfo:
        moved_to, self._moved_to = self._moved_to, None
        if moved_to is not None:
            self._known = moved_to
            return moved_to
        self._hops = 0
        try:
            # Where there is a place to fall back on, some time is left for it.
            limit = None if self._known is None else _LOOK_UP_SECONDS
            self._known = await self._manager.queue(self._queue, timeout=limit)
        except errors.Unavailable:
            # Without a manager nothing moves, so the MoM may well be where it was.
            if self._known is None:
                raise
        return self._known

    def _go_on(self, failure: errors.MoMError) -> None:
        """Remember where to go on, if the MoM has said it."""
        if not isinstance(failure, _wire.Moved) or self._hops >= _MOST_HOPS:
            return
        if failure.owner is not None:
            self._moved_to = MoMInfo(*failure.owner, self._queue)
            self._hops += 1
        elif failure.code == _wire.PUSHER_NOT_OPEN:
            self._moved_to = self._known
            self._hops += 1


def _closed() -> errors.Closed:
    return errors.Closed("the pusher is closed, and the message was not accepted")
