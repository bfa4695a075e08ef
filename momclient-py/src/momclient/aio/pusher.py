"""Pushing: find the MoM, make the pusher known there, push, and find it again when the queue has moved.

Each push bears its number in the session, so that a MoM knows it again however often it is tried.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import TypeVar

import grpc
import grpc.aio

from momclient import _wire, errors
from momclient._links import AsyncFlag, AsyncTurns
from momclient._proto import messages_pb2
from momclient._session import Session, Ticket
from momclient.aio.manager import Manager
from momclient.values import MoMInfo, Receipt

Self = TypeVar("Self", bound="Pusher")

# An attempt that is repeated with less time than this would most likely only make the outcome unknown.
_LEAST_SECONDS = 0.1

# For how long a push with an id of the caller's own is tried. MoMs know it again for two minutes, unless they are
# configured otherwise.
_LONGEST_WITH_ID_SECONDS = 60.0

# How often a push looks whether the oldest one has its answer, while that is a quarter of a million pushes behind.
_WINDOW_SECONDS = 0.1

# How many MoMs in a row may say where to go on, before a manager is asked.
_MOST_HOPS = 3


class _Link:
    """A connection to the MoM that hosts the queue."""

    def __init__(self, mom: MoMInfo) -> None:
        self.mom = mom
        # How many pushes are on it: a link that has been replaced is closed by the last of them, so that the failure
        # of one push does not tear down others that would still be answered.
        self.pushes = 0
        # At which term the MoM knows each identity of the session.
        self.terms: dict[bytes, int] = {}
        # A sequence that the queue is known to have reached; lower than the truth is as right, only slower.
        self.reached = 0
        self.channel = grpc.aio.insecure_channel(_wire.target(mom.host, mom.port), options=_wire.GRPC_OPTIONS)
        self.open = self.channel.unary_unary(
            "/messages.MessageStream/OpenPusher",
            request_serializer=messages_pb2.OpenPusherRequest.SerializeToString,
            response_deserializer=messages_pb2.OpenPusherResponse.FromString,
        )
        self.push = self.channel.unary_unary(
            "/messages.MessageStream/PushToQueue",
            request_serializer=messages_pb2.Push.SerializeToString,
            response_deserializer=messages_pb2.PushOkResponse.FromString,
        )


class Pusher:
    """Pushes messages to one queue. Made by `MoMClient.pusher`; may be shared."""

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
        self._in_flight = in_flight
        self._turns = AsyncTurns(in_flight)
        self._forget = forget
        self._closed = AsyncFlag()
        self._session = Session()
        # Held for moments only, never across a call: it guards the link, who is on it, and where to go next.
        self._lock = Lock()
        self._link: _Link | None = None
        # Where the queue is now, as the MoM said that had it before, and how many of them have said so in a row.
        self._moved_to: MoMInfo | None = None
        self._hops = 0
        # Held by the one push that looks the queue up for all. The rest is written only by that one.
        self._turn_to_look = AsyncTurns(1)
        self._looks = 0
        self._failed_look: errors.Unavailable | None = None
        self._known: MoMInfo | None = None

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
        link = self._link
        return None if link is None else link.mom

    async def push(
        self,
        content: bytes | str,
        topic: str | None = None,
        *,
        id: str | uuid.UUID | None = None,  # noqa: A002 -- it is the `id` of the message and of the receipt
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

        Raises QueueNotFound and InvalidArgument at once, and when the time is up Overloaded, ManagerUnreachable or
        Unavailable: the message was not accepted, and will not be. OutcomeUnknown is raised instead of any of these
        if some attempt may have been accepted and its answer was lost. The outcome of a push that is cancelled is
        unknown as well.
        """
        request = messages_pb2.Push(
            content=_wire.content(content), topic=_wire.topic_out(topic), queue_label=self._queue
        )
        if id is not None:
            request.id = _wire.message_id(id)
            timeout = min(timeout, _LONGEST_WITH_ID_SECONDS)
        deadline = time.monotonic() + timeout
        # gRPC's deadline runs as well while a call waits in its own line, and then does not tell that it was not sent.
        if not await self._turns.take(timeout):
            raise errors.Overloaded(
                f"not sent within {timeout:g} s: {self._in_flight} pushes of this pusher were in flight all the time",
                code="in_flight_limit",
            )
        try:
            if id is not None:
                return await self._push(request, None, deadline, timeout)
            ticket = await self._begin(deadline, timeout)
            try:
                return await self._push(request, ticket, deadline, timeout)
            finally:
                self._session.settle(ticket)
        finally:
            self._turns.give()

    async def close(self) -> None:
        """Close the connection once the pushes that are on it have ended."""
        self._closed.set()
        self._forget(self)
        with self._lock:
            link, self._link = self._link, None
            idle = link is not None and link.pushes == 0
        if link is not None and idle:
            await link.channel.close()

    async def _begin(self, deadline: float, timeout: float) -> Ticket:
        while True:
            ticket = self._session.begin()
            if ticket is not None:
                return ticket
            if time.monotonic() + _WINDOW_SECONDS >= deadline:
                raise errors.Overloaded(
                    f"not sent within {timeout:g} s: the oldest push of this pusher had no answer all the time",
                    code="in_flight_limit",
                )
            if await self._closed.wait(_WINDOW_SECONDS):
                raise _closed()

    async def _push(
        self, request: messages_pb2.Push, ticket: Ticket | None, deadline: float, timeout: float
    ) -> Receipt:
        backoff = _wire.Backoff()
        unknown: errors.OutcomeUnknown | None = None
        while True:
            try:
                return await self._attempt(request, ticket, deadline, is_repeat=unknown is not None)
            except errors.OutcomeUnknown as error:
                last: errors.MoMError = error
                unknown = error
            except errors.Unavailable as error:
                last = error
            except errors.MoMError as error:
                raise _wire.after_unknown(error, unknown) from error
            pause = backoff.pause()
            if time.monotonic() + pause + _LEAST_SECONDS >= deadline:
                raise _time_is_up(timeout, _wire.after_unknown(last, unknown)) from last
            if await self._closed.wait(pause):
                raise _wire.after_unknown(_closed(), unknown)

    async def _attempt(
        self, request: messages_pb2.Push, ticket: Ticket | None, deadline: float, *, is_repeat: bool
    ) -> Receipt:
        link = await self._connect(deadline)
        failure: errors.MoMError | None = None
        try:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise errors.Unavailable("finding the MoM of the queue took all the time")
            if ticket is not None:
                failure = _sign(request, ticket, link, is_repeat)
                if failure is not None:
                    raise failure
            # A frozen MoM answers nothing, while its queues move on: one attempt does not get all the time there is.
            answer = await link.push(request, timeout=min(remaining, self._attempt_timeout))
            link.reached = max(link.reached, answer.seq)
            return Receipt(id=answer.id, seq=answer.seq, duplicate=answer.duplicate)
        except grpc.RpcError as error:
            failure = _elsewhere(_wire.push_error(error))
            raise failure from error
        finally:
            await self._release(link, failure)

    async def _connect(self, deadline: float) -> _Link:
        """Return the connection, which the caller has to release. One push looks the queue up for all."""
        looks = self._looks
        link = self._use()
        if link is not None:
            return link
        if not await self._turn_to_look.take(deadline - time.monotonic()):
            raise errors.Unavailable("the MoM of the queue was not found in time")
        try:
            link = self._use()
            if link is not None:
                return link
            failed = self._failed_look
            if self._looks > looks and failed is not None:
                # It was looked for while this push waited: a thousand failing pushes ask the manager once.
                raise type(failed)(failed.detail, code=failed.code)
            self._looks += 1
            self._failed_look = None
            try:
                link = await self._open(deadline)
            except errors.Unavailable as error:
                self._failed_look = error
                raise
            with self._lock:
                if not self._closed.is_set():
                    self._link = link
                    link.pushes += 1
                    return link
            await link.channel.close()
            raise _closed()
        finally:
            self._turn_to_look.give()

    def _use(self) -> _Link | None:
        with self._lock:
            if self._closed.is_set():
                raise _closed()
            if self._link is not None:
                self._link.pushes += 1
            return self._link

    async def _open(self, deadline: float) -> _Link:
        """Connect to the MoM of the queue and make the pusher known there."""
        link = _Link(await self._find(deadline))
        is_open = False
        try:
            for pusher, settled in self._session.identities():
                request = messages_pb2.OpenPusherRequest(queue_label=self._queue, pusher=pusher, settled=settled)
                limit = max(0.0, min(deadline - time.monotonic(), self._attempt_timeout))
                answer = await link.open(request, timeout=limit)
                link.terms[pusher] = answer.term
                link.reached = answer.seq
            is_open = True
            return link
        except grpc.RpcError as error:
            failure = _elsewhere(_wire.open_error(error))
            with self._lock:
                self._go_on(link, failure)
            raise failure from error
        finally:
            if not is_open:
                await link.channel.close()

    async def _find(self, deadline: float) -> MoMInfo:
        with self._lock:
            moved_to, self._moved_to = self._moved_to, None
            if moved_to is None:
                self._hops = 0
        if moved_to is not None:
            self._known = moved_to
            return moved_to
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            # Others' look-ups have used the time that this push had.
            raise errors.Unavailable("the MoM of the queue was not found in time")
        try:
            # Where there is a place to fall back on, some time is left for it.
            limit = remaining if self._known is None else remaining / 2
            self._known = await self._manager.queue(self._queue, timeout=limit)
        except errors.Unavailable:
            # Without a manager nothing moves, so the MoM may well be where it was.
            if self._known is None:
                raise
        return self._known

    async def _release(self, link: _Link, failure: errors.MoMError | None) -> None:
        keep = failure is None or _wire.is_in_place(failure)
        with self._lock:
            link.pushes -= 1
            if not keep and failure is not None and self._link is link:
                self._link = None
                self._go_on(link, failure)
            idle = self._link is not link and link.pushes == 0
        if idle:
            await link.channel.close()

    def _go_on(self, link: _Link, failure: errors.MoMError) -> None:
        """Remember where to go on, if the MoM has said it."""
        if not isinstance(failure, _wire.Moved) or self._hops >= _MOST_HOPS:
            return
        if failure.owner is not None:
            self._moved_to = MoMInfo(*failure.owner, self._queue)
            self._hops += 1
        elif failure.code == _wire.PUSHER_NOT_OPEN:
            self._moved_to = link.mom
            self._hops += 1


def _sign(request: messages_pb2.Push, ticket: Ticket, link: _Link, is_repeat: bool) -> errors.MoMError | None:
    """Write into the request which push it is. With `is_repeat`, an earlier attempt may have been accepted."""
    term = link.terms.get(ticket.pusher)
    if term is None:
        return _wire.Moved("the pusher has a new identity, which the MoM does not know yet", code=_wire.PUSHER_NOT_OPEN)
    after = ticket.attempt(link.reached)
    origin = messages_pb2.Origin(pusher=ticket.pusher, number=ticket.number, settled=ticket.settled, term=term)
    if is_repeat:
        origin.after_seq = after
    request.origin.CopyFrom(origin)
    return None


def _elsewhere(failure: errors.MoMError) -> errors.MoMError:
    if isinstance(failure, errors.NotFound):
        # Only the manager knows whether the queue is gone or on its way to another MoM.
        return _wire.Moved(failure.detail, code=failure.code)
    return failure


def _closed() -> errors.Closed:
    return errors.Closed("the pusher is closed, and the message was not accepted")


def _time_is_up(timeout: float, error: errors.MoMError) -> errors.MoMError:
    kind = errors.Unavailable if isinstance(error, _wire.Moved) else type(error)
    return kind(f"not acknowledged within {timeout:g} s: {error.detail}", code=error.code)
