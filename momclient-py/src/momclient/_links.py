"""What differs by more than a keyword between the asyncio form and the plain one, as pairs of the same shape.

The script that generates the plain form renames the first of each pair to the second.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from momclient import _wire, errors

_SERVICE = "/messages.MessageStream/"

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


class AsyncFlag:
    """An event that a pause can wait for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Raise the flag."""
        self._event.set()

    def clear(self) -> None:
        """Take the flag down."""
        self._event.clear()

    def is_set(self) -> bool:
        """Tell whether the flag is raised."""
        return self._event.is_set()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the flag, if given for `timeout` seconds, and tell whether it is raised."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        return True


class Flag:
    """An event that a pause can wait for."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Raise the flag."""
        self._event.set()

    def clear(self) -> None:
        """Take the flag down."""
        self._event.clear()

    def is_set(self) -> bool:
        """Tell whether the flag is raised."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the flag, if given for `timeout` seconds, and tell whether it is raised."""
        return self._event.wait(timeout)


class AsyncPromise:
    """What one caller waits for and another one keeps, once."""

    __slots__ = ("_is_kept", "_loop", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._is_kept = False

    def keep(self) -> None:
        """End the waiting."""
        self._is_kept = True
        _wake(self._waiter)

    async def wait(self, timeout: float) -> bool:
        """Wait for up to `timeout` seconds and tell whether the promise was kept.

        A bare timer costs 2 us; `asyncio.wait_for` costs more than all else that a push does.
        """
        if not self._is_kept:
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(timeout, _wake, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
        return self._is_kept


class Promise:
    """What one caller waits for and another one keeps, once."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        # A bare lock is the cheapest thing that a thread can wait for.
        self._kept = threading.Lock()
        self._kept.acquire()

    def keep(self) -> None:
        """End the waiting."""
        self._kept.release()

    def wait(self, timeout: float) -> bool:
        """Wait for up to `timeout` seconds and tell whether the promise was kept."""
        return self._kept.acquire(timeout=max(0.0, timeout))


class AsyncBackground:
    """A call that runs beside all else."""

    def __init__(self, call: Callable[[], Awaitable[None]]) -> None:
        self._task = asyncio.ensure_future(call())

    async def end(self, *, is_ending: bool) -> None:
        """Wait until it has ended, which it will soon if `is_ending`. Otherwise it is interrupted."""
        if not is_ending:
            self._task.cancel()
        await asyncio.wait([self._task])


class Background:
    """A call that runs beside all else."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=call, name="momclient", daemon=True)
        self._thread.start()

    def end(self, *, is_ending: bool) -> None:
        """Wait until it has ended, which it will soon if `is_ending`. Otherwise it is left to itself."""
        if is_ending:
            self._thread.join()


class AsyncStream(Generic[Request, Answer]):
    """One call in both directions with a connection of its own; `open` once the MoM has accepted it, with `headers`.

    `take` is asked for the next request whenever the one before is on its way, and after each `wake`. Once `read` has
    returned None, `fault` is what ended the stream.
    """

    def __init__(
        self,
        place: tuple[str, int],
        method: str,
        take: Callable[[AsyncStream[Request, Answer]], Request | None],
        answer: type[Answer],
        translate: Callable[[grpc.RpcError], errors.MoMError],
    ) -> None:
        self._take = take
        self._translate = translate
        self._answer = answer
        self._asked = asyncio.Event()
        self._is_ended = False
        self.open = False
        self.headers: dict[str, str] = {}
        self.fault: errors.MoMError = errors.Unavailable("the MoM ended the stream")
        self._channel = grpc.aio.insecure_channel(_wire.target(*place), options=_wire.GRPC_OPTIONS)
        call = self._channel.stream_stream(
            _SERVICE + method,
            request_serializer=_encode,
            response_deserializer=answer.FromString,
        )
        self._call = call(self._requests())

    async def _requests(self) -> AsyncIterator[Request]:
        while True:
            self._asked.clear()
            if self._is_ended:
                return
            request = self._take(self)
            if request is not None:
                yield request
            else:
                await self._asked.wait()

    def wake(self) -> None:
        """Have `take` asked again."""
        if not self._asked.is_set():
            self._asked.set()

    async def begin(self) -> bool:
        """Wait until the MoM has accepted the call, and tell whether it has. If not, `read` finds out why."""
        try:
            # The MoM answers with headers as soon as it has accepted the call.
            self.headers = _wire.headers(await self._call.initial_metadata())
            self.open = not self._call.done()
        except asyncio.CancelledError:
            if not self._is_ended or _task_is_cancelled():
                raise
        except grpc.RpcError:
            pass
        return self.open

    async def read(self) -> Answer | None:
        """Return the next answer, or None when the stream has ended."""
        try:
            if not self.open:
                await self.begin()
            answer: Answer | object = await self._call.read()
        except asyncio.CancelledError:
            # gRPC says "cancelled" both when this task is and when `end` has cancelled the call.
            if self._is_ended and not _task_is_cancelled():
                return None
            raise
        except grpc.RpcError as error:
            if not self._is_ended:
                self.fault = self._translate(error)
            return None
        return answer if isinstance(answer, self._answer) else None

    def end(self) -> None:
        """End the call; a pending `read` returns None."""
        self._is_ended = True
        self.wake()
        self._call.cancel()

    async def close(self) -> None:
        """End the call and its connection."""
        self.end()
        await self._channel.close()


class Stream(Generic[Request, Answer]):
    """One call in both directions with a connection of its own; `open` once the MoM has accepted it, with `headers`.

    `take` is asked for the next request whenever the one before is on its way, and after each `wake`, by a thread of
    gRPC's. Once `read` has returned None, `fault` is what ended the stream.
    """

    def __init__(
        self,
        place: tuple[str, int],
        method: str,
        take: Callable[[Stream[Request, Answer]], Request | None],
        answer: type[Answer],
        translate: Callable[[grpc.RpcError], errors.MoMError],
    ) -> None:
        self._take = take
        self._translate = translate
        self._asked = threading.Event()
        self._is_ended = False
        self.open = False
        self.headers: dict[str, str] = {}
        self.fault: errors.MoMError = errors.Unavailable("the MoM ended the stream")
        self._channel = grpc.insecure_channel(_wire.target(*place), options=_wire.GRPC_OPTIONS)
        call = self._channel.stream_stream(
            _SERVICE + method,
            request_serializer=_encode,
            response_deserializer=answer.FromString,
        )
        self._call = call(self._requests())

    def _requests(self) -> Iterator[Request]:
        while True:
            self._asked.clear()
            if self._is_ended:
                return
            request = self._take(self)
            if request is not None:
                yield request
            else:
                self._asked.wait()

    def wake(self) -> None:
        """Have `take` asked again."""
        if not self._asked.is_set():
            self._asked.set()

    def begin(self) -> bool:
        """Wait until the MoM has accepted the call, and tell whether it has. If not, `read` finds out why."""
        # The MoM answers with headers as soon as it has accepted the call. One that it refuses has none.
        self.headers = _wire.headers(self._call.initial_metadata())
        self.open = self._call.is_active()
        return self.open

    def read(self) -> Answer | None:
        """Return the next answer, or None when the stream has ended."""
        try:
            if not self.open:
                self.begin()
            return next(self._call, None)
        except grpc.RpcError as error:
            if not self._is_ended:
                self.fault = self._translate(error)
            # What is raised is the call itself, and its traceback would keep it until the garbage is collected. At the
            # exit of the program it would then wait for a lock that a thread of gRPC's may have taken with it.
            error.__traceback__ = None
            return None

    def end(self) -> None:
        """End the call; a pending `read` returns None."""
        self._is_ended = True
        self.wake()
        self._call.cancel()

    def close(self) -> None:
        """End the call and its connection."""
        self.end()
        self._channel.close()


def _encode(request: Message) -> bytes:
    return request.SerializeToString()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _task_is_cancelled() -> bool:
    task = asyncio.current_task()
    return sys.version_info >= (3, 11) and task is not None and task.cancelling() > 0
