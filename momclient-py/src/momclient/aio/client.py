"""The way into a cluster: queues and channels, and the pushers and subscribers on them."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

from momclient.aio.manager import Manager
from momclient.aio.pusher import Pusher
from momclient.aio.subscriber import Subscriber
from momclient.values import Channel, MoMInfo, Start

Self = TypeVar("Self", bound="MoMClient")


class MoMClient:
    """A client of one cluster, by the address of its manager, or of its managers in the order to try them in.

    `timeout` bounds each REST request to one manager, in seconds. Of several managers, one that does not answer within
    a second is passed over for the next where something is only read. What creates or deletes is sent once: when its
    answer is lost, OutcomeUnknown is raised. Labels and topics are 1 to 255 ASCII letters, digits, '.', '_', '-' or
    ':', and upper case is folded to lower case. A topic of None is no topic.
    """

    def __init__(self, manager_url: str | Iterable[str], *, timeout: float = 5.0) -> None:
        self._manager = Manager(manager_url, timeout)
        self._open: set[Pusher | Subscriber] = set()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the client with every pusher and subscriber that it made."""
        for opened in list(self._open):
            await opened.close()
        await self._manager.close()

    async def status(self) -> str:
        """Return what the manager says of itself: "Ok"."""
        return await self._manager.status()

    async def create_queue(self, queue: str) -> None:
        """Create a queue on one of the MoMs. Raises AlreadyExists."""
        await self._manager.create_queue(queue)

    async def list_queues(self) -> list[str]:
        """Return the labels of all queues."""
        return await self._manager.queues()

    async def get_queue(self, queue: str) -> MoMInfo:
        """Return the MoM that hosts a queue. Raises QueueNotFound."""
        return await self._manager.queue(queue)

    async def delete_queue(self, queue: str) -> None:
        """Delete a queue with its channels and messages. Raises QueueNotFound."""
        await self._manager.delete_queue(queue)

    async def topics(self, queue: str) -> list[str]:
        """Return the distinct topics of a queue's channels. Raises QueueNotFound."""
        return await self._manager.topics(queue)

    async def create_channel(self, queue: str, topic: str | None = None) -> Channel:
        """Create a channel on a queue, a new one at each call. Raises QueueNotFound.

        Without a topic it sees every message of the queue, with one exactly the messages pushed with that topic. The
        topic may be a pattern: of its parts, which "." separates, "*" stands for exactly one part of a message's topic,
        and ">", the last one, for one or more: "news.>" sees "news.sports.football", "news.*" sees "news.sports" only.
        """
        return await self._manager.create_channel(queue, topic)

    async def list_channels(self) -> list[str]:
        """Return the ids of all channels."""
        return await self._manager.channels()

    async def get_channel(self, channel_id: str) -> Channel:
        """Return a channel and the MoM that serves it. Raises ChannelNotFound."""
        return await self._manager.channel(channel_id)

    async def delete_channel(self, channel_id: str) -> None:
        """Delete a channel, which ends its subscriptions. Raises ChannelNotFound."""
        await self._manager.delete_channel(channel_id)

    def pusher(self, queue: str, *, attempt_timeout: float = 3.0, in_flight: int = 8192) -> Pusher:
        """Return a pusher to a queue; it looks the queue up at its first push.

        `attempt_timeout` is how many seconds a MoM may be silent while a push waits for its answer, before it is tried
        again over a new connection. `in_flight` is how many messages may be under way at once, if the MoM allows as
        many; further ones wait for their turn.
        """
        pusher = Pusher(
            self._manager,
            queue,
            attempt_timeout=attempt_timeout,
            in_flight=in_flight,
            forget=self._open.discard,
        )
        self._open.add(pusher)
        return pusher

    def subscriber(
        self,
        channel: Channel | str,
        *,
        start: Start | None = None,
        after_seq: int | None = None,
        buffer_messages: int = 65_536,
        buffer_bytes: int = 8 * 1024 * 1024,
    ) -> Subscriber:
        """Return a subscriber to a channel or channel id; it connects when the first message is asked for.

        It starts with the oldest message that the queue retains, or after the sequence `after_seq`, or where `start`
        says: "earliest", the oldest one, is the default; "latest" is what is committed once it is open, which it is
        when the `with` block has been entered or `open` has returned; a time with a time zone is the first message that
        was committed then or later, by the clock of the database, and one that has not come yet is as "latest".
        `buffer_messages` and `buffer_bytes` bound what is received ahead of the reader; the last message may exceed the
        bytes.
        """
        subscriber = Subscriber(
            self._manager,
            channel,
            start=start,
            after_seq=after_seq,
            buffer_messages=buffer_messages,
            buffer_bytes=buffer_bytes,
            forget=self._open.discard,
        )
        self._open.add(subscriber)
        return subscriber
