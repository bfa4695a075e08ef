"""Subscribing: an endless, gapless sequence of messages, across every failure and move."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import TypeVar

from momclient import _wire, errors
from momclient._delivery import MOST_CREDITS, Credits, messages
from momclient._links import AsyncFlag, AsyncStream
from momclient._proto.messages_pb2 import BatchSubscription, MessageBatch
from momclient.aio.manager import Manager
from momclient.values import Channel, Message, Start

log = logging.getLogger("momclient")

Self = TypeVar("Self", bound="Subscriber")

# A stream that lived this long was a good one: when it breaks, the first pause is the shortest again.
_GOOD_AFTER_SECONDS = 2.0


class Subscriber:
    """Yields the messages of a channel in order, each once. Made by `MoMClient.subscriber`; for one reader.

    When the connection breaks, the MoM ends the stream or the channel moves, it asks the manager where the channel is
    and goes on after the last message that it yielded, for as long as it takes. Iteration ends after `close`, and
    fails with ChannelNotFound when the manager says that the channel is gone, or with ManagerUnreachable when not even
    the first look-up is answered.
    """

    def __init__(
        self,
        manager: Manager,
        channel: Channel | str,
        *,
        start: Start | None,
        after_seq: int | None,
        buffer_messages: int,
        buffer_bytes: int,
        forget: Callable[[Subscriber], None],
    ) -> None:
        if not (1 <= buffer_messages <= MOST_CREDITS and buffer_bytes >= 1):
            raise errors.InvalidArgument(
                f"a buffer of {buffer_messages} messages and {buffer_bytes} bytes is not legal: use 1 or more of each",
                code="invalid_argument",
            )
        self._manager = manager
        self._id = _wire.channel_id(channel if isinstance(channel, str) else channel.id)
        self._place = None if isinstance(channel, str) else channel
        # What `_place` says has failed, so that the manager is asked before it is tried again.
        self._doubted = False
        # Where to start, until a MoM has said which sequence that is. From then on that is what counts, also where the
        # stream breaks before the first message: looked up again, it would pass over what was committed meanwhile.
        self._start, self._last_seq = _wire.start(start, after_seq)
        self._forget = forget
        self._closed = AsyncFlag()
        self._buffer = (buffer_messages, buffer_bytes)
        self._stream: AsyncStream[BatchSubscription, MessageBatch] | None = None
        # Of the present stream: how much the MoM may send, and what of the last batch was not yielded yet.
        self._credits: Credits
        self._batch: MessageBatch | None = None
        self._ready: Iterator[Message] = iter(())
        self._connected_at = 0.0
        self._backoff = _wire.Backoff()

    async def __aenter__(self: Self) -> Self:
        if self._start is not None:
            await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self: Self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while True:
            for message in self._ready:
                self._last_seq = message.seq
                return message
            if not await self._go_on(reads=True):
                raise StopAsyncIteration

    async def batches(self) -> AsyncIterator[list[Message]]:
        """Yield the messages in lists, of those that came together, instead of one by one."""
        while True:
            if batch := list(self._ready):
                self._last_seq = batch[-1].seq
                yield batch
            elif not await self._go_on(reads=True):
                return

    async def open(self) -> None:
        """Connect now instead of with the first message that is asked for, and learn where the subscription starts.

        `start="latest"` means what is committed after this. Entering a `with` block does it for a `start` that has to
        be looked up. It takes as long as it needs, and fails as iteration does.
        """
        if not await self._go_on(reads=False):
            raise errors.Closed("the subscriber is closed")

    async def _go_on(self, *, reads: bool) -> bool:
        """Wait for the next messages, or until it is open, and tell whether that came to be: not after `close`."""
        while not self._closed.is_set():
            try:
                stream = self._stream or await self._connect()
                is_known = stream.open and self._start is None
                if (is_known or await self._begin(stream)) and not reads:
                    return True
                self._read_out(stream)
                batch = await stream.read()
            except errors.Unavailable as error:
                if self._place is None:
                    raise
                await self._broke(error)
            except BaseException:
                # A reader that was interrupted has lost its call, and perhaps messages with it: the next read
                # subscribes anew after the last one that was yielded.
                await self._disconnect()
                raise
            else:
                if batch is not None and self._start is not None:
                    await self._disconnect()
                    raise errors.ServerFault(f"the MoM does not know start={self._start!r}: it is of an older version")
                if batch is not None:
                    self._backoff.reset()
                    self._batch, self._ready = batch, messages(batch, self._last_seq)
                    return True
                await self._broke(stream.fault)
        await self._disconnect()
        return False

    async def _begin(self, stream: AsyncStream[BatchSubscription, MessageBatch]) -> bool:
        """Wait until the MoM has accepted the subscription, note where it starts, and tell whether it has."""
        begun = await stream.begin()
        if self._start is None:
            return begun
        told = stream.headers.get(_wire.START_METADATA, "")
        if not told.isdecimal():
            # For a moment gRPC cannot tell a call that was refused from one that was accepted without saying this.
            return False
        self._start, self._last_seq = None, int(told)
        return begun

    def _read_out(self, stream: AsyncStream[BatchSubscription, MessageBatch]) -> None:
        """Tell the MoM that there is room for as many messages as the last batch had."""
        batch, self._batch = self._batch, None
        if batch is not None:
            self._credits.read(batch)
            stream.wake()

    @property
    def channel_id(self) -> str:
        """The id of the channel."""
        return self._id

    @property
    def last_seq(self) -> int:
        """The sequence of the last message that was yielded; before the first, the one after which it starts.

        With a `start` that has to be looked up, that is known once it is open, and 0 until then.
        """
        return self._last_seq

    @property
    def place(self) -> Channel | None:
        """The channel with the MoM that this subscriber is subscribed to, or None while it is not."""
        stream = self._stream
        return self._place if stream is not None and stream.open else None

    async def close(self) -> None:
        """End the iteration, also one that waits elsewhere, and the connection."""
        self._closed.set()
        self._ready = iter(())
        self._forget(self)
        await self._disconnect()

    async def _connect(self) -> AsyncStream[BatchSubscription, MessageBatch]:
        if self._place is None or self._doubted:
            try:
                self._place = await self._manager.channel(self._id)
            except errors.Unavailable as error:
                # Without a manager nothing moves, so the MoM may well be where it was.
                if self._place is None:
                    raise
                log.warning("channel %s cannot be looked up: %s", self._id, error)
        request = _wire.subscription(self._id, self._start, self._last_seq)
        credits_ = Credits(request, *self._buffer)
        place = (self._place.host, self._place.port)
        stream = AsyncStream(
            place, "SubscribeToBatches", lambda _: credits_.take(), MessageBatch, _wire.subscribe_error
        )
        self._connected_at = time.monotonic()
        self._stream, self._credits, self._batch = stream, credits_, None
        if self._closed.is_set():
            # `close` has not seen this stream, so it is ended here; reading it then says so.
            await self._disconnect()
        return stream

    async def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _broke(self, error: errors.MoMError) -> None:
        await self._disconnect()
        if self._closed.is_set():
            return
        if not isinstance(error, (errors.Unavailable, errors.NotFound)):
            raise error
        if isinstance(error, _wire.Moved) and error.owner is not None and self._place is not None:
            host, port = error.owner
            self._place = replace(self._place, host=host, port=port)
            self._doubted = False
        else:
            self._doubted = True
        if time.monotonic() - self._connected_at > _GOOD_AFTER_SECONDS:
            self._backoff.reset()
        pause = self._backoff.pause()
        log.warning("channel %s: %s; going on after %d in %.2f s", self._id, error, self._last_seq, pause)
        await self._closed.wait(pause)
