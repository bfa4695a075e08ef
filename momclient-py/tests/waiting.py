"""Waiting for conditions, in pairs of an asyncio and a plain form: the second is what the generated tests use.

Everything has a deadline, so that a test that would wait for ever fails. The deadline is generous, because it is not
what is tested.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import momclient
from momclient import Message, MoMError, Unavailable, aio

T = TypeVar("T")

SECONDS = 90.0
POLL_SECONDS = 0.02


async def async_until(what: str, condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {SECONDS:g} s for this: {what}"
        await asyncio.sleep(POLL_SECONDS)


def until(what: str, condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {SECONDS:g} s for this: {what}"
        time.sleep(POLL_SECONDS)


async def async_together(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run the calls at the same time and return their results in order."""
    return await asyncio.gather(*(call() for call in calls))


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Run the calls at the same time and return their results in order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls))


async def async_during(calls: Sequence[Callable[[], Awaitable[T]]], fault: Callable[[], Awaitable[None]]) -> list[T]:
    """Run the calls at the same time, and the fault beside them; return the calls' results in order."""
    beside = asyncio.ensure_future(fault())
    results = await async_together(calls)
    await beside
    return results


def during(calls: Sequence[Callable[[], T]], fault: Callable[[], None]) -> list[T]:
    """Run the calls at the same time, and the fault beside them; return the calls' results in order."""
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(fault)
        results = together(calls)
        beside.result()
    return results


async def async_apart(call: Callable[[], T]) -> T:
    """Run a call that blocks where it holds up nothing else."""
    return await asyncio.to_thread(call)


def apart(call: Callable[[], T]) -> T:
    """Run a call that blocks where it holds up nothing else: here every caller has a thread of its own."""
    return call()


async def async_failure(call: Callable[[], Awaitable[object]]) -> MoMError | None:
    """Return what the call fails with, or None."""
    try:
        await call()
    except MoMError as error:
        return error
    return None


def failure(call: Callable[[], object]) -> MoMError | None:
    """Return what the call fails with, or None."""
    try:
        call()
    except MoMError as error:
        return error
    return None


async def async_available(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat the call until it is not refused as unavailable any more."""
    deadline = time.monotonic() + SECONDS
    while isinstance(error := await async_failure(call), Unavailable):
        assert time.monotonic() < deadline, f"after {SECONDS:g} s there still is: {error}"
        await asyncio.sleep(POLL_SECONDS)
    assert error is None, error


def available(call: Callable[[], object]) -> None:
    """Repeat the call until it is not refused as unavailable any more."""
    deadline = time.monotonic() + SECONDS
    while isinstance(error := failure(call), Unavailable):
        assert time.monotonic() < deadline, f"after {SECONDS:g} s there still is: {error}"
        time.sleep(POLL_SECONDS)
    assert error is None, error


class AsyncReading:
    """Reads a subscriber in the background until it ends."""

    def __init__(self, subscriber: aio.Subscriber) -> None:
        self.messages: list[Message] = []
        self._task = asyncio.ensure_future(self._read(subscriber))

    async def reached(self, count: int) -> list[Message]:
        """Wait for that many messages."""
        await async_until(f"message {count}", lambda: len(self.messages) >= count or self._task.done())
        if len(self.messages) < count:
            await self._task
        return self.messages

    async def ended(self) -> list[Message]:
        """Wait for the end and return all messages, or raise what the reading failed with."""
        await asyncio.wait_for(self._task, SECONDS)
        return self.messages

    async def _read(self, subscriber: aio.Subscriber) -> None:
        async for message in subscriber:
            self.messages.append(message)


class Reading:
    """Reads a subscriber in the background until it ends."""

    def __init__(self, subscriber: momclient.Subscriber) -> None:
        self.messages: list[Message] = []
        self._end: Future[None] = Future()
        threading.Thread(target=self._read, args=(subscriber,), daemon=True).start()

    def reached(self, count: int) -> list[Message]:
        """Wait for that many messages."""
        until(f"message {count}", lambda: len(self.messages) >= count or self._end.done())
        if len(self.messages) < count:
            self._end.result()
        return self.messages

    def ended(self) -> list[Message]:
        """Wait for the end and return all messages, or raise what the reading failed with."""
        self._end.result(SECONDS)
        return self.messages

    def _read(self, subscriber: momclient.Subscriber) -> None:
        try:
            for message in subscriber:
                self.messages.append(message)
        except BaseException as error:  # noqa: BLE001 -- it is raised again where the test waits
            self._end.set_exception(error)
        else:
            self._end.set_result(None)


async def async_take(subscriber: aio.Subscriber, count: int) -> list[Message]:
    """Read that many messages here, and no more."""

    async def read() -> list[Message]:
        return [await anext(subscriber) for _ in range(count)]

    return await asyncio.wait_for(read(), SECONDS)


def take(subscriber: momclient.Subscriber, count: int) -> list[Message]:
    """Read that many messages here, and no more."""
    watch = threading.Timer(SECONDS, subscriber.close)
    watch.start()
    try:
        messages = [message for _, message in zip(range(count), subscriber, strict=False)]
    finally:
        watch.cancel()
    assert len(messages) == count, f"only {len(messages)} of {count} messages came within {SECONDS:g} s"
    return messages
