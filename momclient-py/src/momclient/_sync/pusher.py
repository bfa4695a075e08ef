# Generated from src/momclient/aio/pusher.py by scripts/make_sync.py: edit that one, then run `make sync`.

"""Pushing: find the MoM, push, and find it again when the queue has moved."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import TypeVar

import grpc

from momclient import _wire, errors
from momclient._links import Flag, Turns
from momclient._proto import messages_pb2
from momclient._sync.manager import Manager
from momclient.values import MoMInfo, Receipt

Self = TypeVar("Self", bound="Pusher")

# An attempt that is repeated with less time than this would most likely only make the outcome unknown.
_LEAST_SECONDS = 0.1


class _Link:
    """A connection to the MoM that hosts the queue."""

    def __init__(self, mom: MoMInfo) -> None:
        self.mom = mom
        # How many pushes are on it: a link that has been replaced is closed by the last of them, so that the failure
        # of one push does not tear down others that would still be answered.
        self.pushes = 0
        self.channel = grpc.insecure_channel(_wire.target(mom.host, mom.port), options=_wire.GRPC_OPTIONS)
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
        retry_unknown: bool,
        attempt_timeout: float,
        in_flight: int,
        forget: Callable[[Pusher], None],
    ) -> None:
        if in_flight < 1:
            raise errors.InvalidArgument(f"in_flight {in_flight} is not legal: use 1 or more", code="invalid_argument")
        self._manager = manager
        self._queue = _wire.label(queue)
        self._retry_unknown = retry_unknown
        self._attempt_timeout = attempt_timeout
        self._in_flight = in_flight
        self._turns = Turns(in_flight)
        self._forget = forget
        self._closed = Flag()
        self._lock = Lock()
        self._link: _Link | None = None
        self._known: MoMInfo | None = None
        # Where the queue is now, as the MoM said that had it before.
        self._moved_to: MoMInfo | None = None

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def queue(self) -> str:
        """The label of the queue."""
        return self._queue

    @property
    def mom(self) -> MoMInfo | None:
        """The MoM that this pusher is connected to, or None."""
        link = self._link
        return None if link is None else link.mom

    def push(self, content: bytes | str, topic: str | None = None, *, timeout: float = 10.0) -> Receipt:
        """Push one message and return what it was committed as. Text is sent as UTF-8.

        For up to `timeout` seconds, whatever can pass is tried again: a queue that is moving, a MoM or manager that
        is down, a MoM that has too much to do. An attempt that is not answered may have been committed all the same,
        so trying it again can make a second message with another id; with `retry_unknown=False` it is not tried
        again and OutcomeUnknown is raised.

        Raises QueueNotFound and InvalidArgument at once, and when the time is up Overloaded, ManagerUnreachable,
        Unavailable (the message was certainly not accepted) or OutcomeUnknown (some attempt may have been).
        """
        request = messages_pb2.Push(
            content=_wire.content(content), topic=_wire.topic_out(topic), queue_label=self._queue
        )
        deadline = time.monotonic() + timeout
        # gRPC's deadline runs as well while a call waits in its own line, and then does not tell that it was not sent.
        if not self._turns.take(timeout):
            raise errors.Overloaded(
                f"not sent within {timeout:g} s: {self._in_flight} pushes of this pusher were in flight all the time",
                code="in_flight_limit",
            )
        try:
            return self._push(request, deadline, timeout)
        finally:
            self._turns.give()

    def close(self) -> None:
        """Close the connection once the pushes that are on it have ended."""
        self._closed.set()
        self._forget(self)
        with self._lock:
            link, self._link = self._link, None
            idle = link is not None and link.pushes == 0
        if link is not None and idle:
            link.channel.close()

    def _push(self, request: messages_pb2.Push, deadline: float, timeout: float) -> Receipt:
        backoff = _wire.Backoff()
        unknown: errors.OutcomeUnknown | None = None
        while True:
            try:
                return self._attempt(request, deadline)
            except errors.OutcomeUnknown as error:
                if not self._retry_unknown:
                    raise
                unknown = error
                last: errors.MoMError = error
            except errors.Unavailable as error:
                last = error
            pause = backoff.pause()
            if time.monotonic() + pause + _LEAST_SECONDS >= deadline:
                raise _time_is_up(timeout, unknown or last) from last
            if self._closed.wait(pause):
                raise unknown or errors.Closed("the pusher was closed before the message was accepted")

    def _attempt(self, request: messages_pb2.Push, deadline: float) -> Receipt:
        link = self._connect(deadline)
        failure: errors.MoMError | None = None
        try:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                failure = errors.Unavailable("finding the MoM of the queue took all the time")
                raise failure
            # A frozen MoM answers nothing, while its queues move on: where an attempt may be repeated, it does not
            # get all the time there is.
            limit = min(remaining, self._attempt_timeout) if self._retry_unknown else remaining
            answer = link.push(request, timeout=limit)
            return Receipt(id=answer.id, seq=answer.seq)
        except grpc.RpcError as error:
            failure = _wire.push_error(error)
            if isinstance(failure, errors.NotFound):
                # Only the manager knows whether the queue is gone or on its way to another MoM.
                failure = _wire.Moved(failure.detail, code=failure.code)
            raise failure from error
        finally:
            self._release(link, failure)

    def _connect(self, deadline: float) -> _Link:
        with self._lock:
            if self._closed.is_set():
                raise errors.Closed("the pusher is closed")
            if self._link is None:
                self._link = _Link(self._find(deadline))
            self._link.pushes += 1
            return self._link

    def _find(self, deadline: float) -> MoMInfo:
        if self._moved_to is not None:
            self._known, self._moved_to = self._moved_to, None
            return self._known
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            # Others' look-ups have used the time that this push had.
            raise errors.Unavailable("the MoM of the queue was not found in time")
        try:
            # Where there is a place to fall back on, some time is left for it.
            limit = remaining if self._known is None else remaining / 2
            self._known = self._manager.queue(self._queue, timeout=limit)
        except errors.Unavailable:
            # Without a manager nothing moves, so the MoM may well be where it was.
            if self._known is None:
                raise
        return self._known

    def _release(self, link: _Link, failure: errors.MoMError | None) -> None:
        keep = failure is None or _wire.is_in_place(failure)
        with self._lock:
            link.pushes -= 1
            if not keep and self._link is link:
                self._link = None
                if isinstance(failure, _wire.Moved) and failure.owner is not None:
                    self._moved_to = MoMInfo(*failure.owner, self._queue)
            idle = self._link is not link and link.pushes == 0
        if idle:
            link.channel.close()


def _time_is_up(timeout: float, error: errors.MoMError) -> errors.MoMError:
    kind = errors.Unavailable if isinstance(error, _wire.Moved) else type(error)
    return kind(f"not acknowledged within {timeout:g} s: {error.detail}", code=error.code)
