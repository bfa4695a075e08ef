"""What differs by more than a keyword between the asyncio form and the plain one, as pairs of the same shape.

The script that generates the plain form renames the first of each pair to the second.
"""

from __future__ import annotations

import asyncio
import sys
import threading

import grpc
import grpc.aio

from momclient import _wire
from momclient._proto import messages_pb2

_SUBSCRIBE = "/messages.MessageStream/SubscribeToChannel"


class AsyncFlag:
    """An event that a pause can wait for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Raise the flag for good."""
        self._event.set()

    def is_set(self) -> bool:
        """Tell whether the flag is raised."""
        return self._event.is_set()

    async def wait(self, timeout: float) -> bool:
        """Wait for the flag for `timeout` seconds and tell whether it is raised."""
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
        """Raise the flag for good."""
        self._event.set()

    def is_set(self) -> bool:
        """Tell whether the flag is raised."""
        return self._event.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait for the flag for `timeout` seconds and tell whether it is raised."""
        return self._event.wait(timeout)


class AsyncTurns:
    """A number of turns that can be taken at the same time."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    async def take(self, timeout: float) -> bool:
        """Take a turn, waiting for up to `timeout` seconds until one is free, and tell whether it was taken."""
        if not self._free.locked():
            return await self._free.acquire()
        try:
            return await asyncio.wait_for(self._free.acquire(), timeout)
        except asyncio.TimeoutError:
            return False

    def give(self) -> None:
        """Give a turn back."""
        self._free.release()


class Turns:
    """A number of turns that can be taken at the same time."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)

    def take(self, timeout: float) -> bool:
        """Take a turn, waiting for up to `timeout` seconds until one is free, and tell whether it was taken."""
        return self._free.acquire(timeout=max(0.0, timeout))

    def give(self) -> None:
        """Give a turn back."""
        self._free.release()


class AsyncStream:
    """One subscription call with a connection of its own; `open` once the MoM has accepted it."""

    def __init__(self, host: str, port: int, request: messages_pb2.SubscriptionRequest) -> None:
        self._stopped = False
        self.open = False
        self._channel = grpc.aio.insecure_channel(_wire.target(host, port), options=_wire.GRPC_OPTIONS)
        subscribe = self._channel.unary_stream(
            _SUBSCRIBE,
            request_serializer=messages_pb2.SubscriptionRequest.SerializeToString,
            response_deserializer=messages_pb2.Message.FromString,
        )
        self._call = subscribe(request)

    async def read(self) -> messages_pb2.Message | None:
        """Return the next message, or None at the end of the stream and after `close`."""
        try:
            if not self.open:
                # The MoM answers with headers as soon as it has accepted the subscription.
                await self._call.initial_metadata()
                self.open = not self._call.done()
            answer = await self._call.read()
        except asyncio.CancelledError:
            # gRPC says "cancelled" both when this task is and when `close` has cancelled the call.
            if self._stopped and not _task_is_cancelled():
                return None
            raise
        except grpc.RpcError:
            if self._stopped:
                return None
            raise
        return answer if isinstance(answer, messages_pb2.Message) else None

    async def close(self) -> None:
        """End the call and its connection; a pending `read` returns None."""
        self._stopped = True
        self._call.cancel()
        await self._channel.close()


class Stream:
    """One subscription call with a connection of its own; `open` once the MoM has accepted it."""

    def __init__(self, host: str, port: int, request: messages_pb2.SubscriptionRequest) -> None:
        self._stopped = False
        self.open = False
        self._channel = grpc.insecure_channel(_wire.target(host, port), options=_wire.GRPC_OPTIONS)
        subscribe = self._channel.unary_stream(
            _SUBSCRIBE,
            request_serializer=messages_pb2.SubscriptionRequest.SerializeToString,
            response_deserializer=messages_pb2.Message.FromString,
        )
        self._call = subscribe(request)

    def read(self) -> messages_pb2.Message | None:
        """Return the next message, or None at the end of the stream and after `close`."""
        try:
            if not self.open:
                # The MoM answers with headers as soon as it has accepted the subscription.
                self._call.initial_metadata()
                self.open = self._call.is_active()
            return next(self._call, None)
        except grpc.RpcError:
            if self._stopped:
                return None
            raise

    def close(self) -> None:
        """End the call and its connection; a pending `read` returns None."""
        self._stopped = True
        self._call.cancel()
        self._channel.close()


def _task_is_cancelled() -> bool:
    task = asyncio.current_task()
    return sys.version_info >= (3, 11) and task is not None and task.cancelling() > 0
