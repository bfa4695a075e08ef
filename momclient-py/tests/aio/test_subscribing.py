"""Subscribing to a channel while nothing fails."""

from __future__ import annotations

import pytest

from momclient import ChannelNotFound, InvalidArgument, ManagerUnreachable
from momclient.aio import MoMClient
from tests.waiting import AsyncReading, async_take, async_until

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"


async def test_what_is_retained_comes_first_and_then_what_is_live(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        await pusher.push("before the channel")
        channel = await client.create_channel(queue)
        await pusher.push("before the subscription")
        async with client.subscriber(channel) as subscriber:
            assert subscriber.last_seq == 0
            assert [message.text for message in await async_take(subscriber, 2)] == [
                "before the channel",
                "before the subscription",
            ]
            await pusher.push("live")
            (live,) = await async_take(subscriber, 1)
            assert (live.text, live.seq, live.topic) == ("live", 3, None)
            assert subscriber.last_seq == 3
            assert subscriber.place == channel


async def test_a_topic_sees_its_own_and_no_topic_sees_all(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        some = await client.create_channel(queue, "Weather")
        every = await client.create_channel(queue)
        for topic in ("weather", None, "sports", "WEATHER"):
            await pusher.push(f"on {topic}", topic=topic)
        async with client.subscriber(some.id) as subscriber:
            messages = await async_take(subscriber, 2)
            assert [(message.seq, message.topic) for message in messages] == [(1, "weather"), (4, "weather")]
        async with client.subscriber(every.id) as subscriber:
            messages = await async_take(subscriber, 4)
            assert [message.topic for message in messages] == ["weather", None, "sports", "weather"]


async def test_every_subscriber_of_a_channel_gets_everything(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        channel = await client.create_channel(queue)
        async with client.subscriber(channel) as first, client.subscriber(channel) as second:
            one, two = AsyncReading(first), AsyncReading(second)
            for number in range(20):
                await pusher.push(str(number))
            assert await one.reached(20) == await two.reached(20)


async def test_a_subscription_resumes_after_a_sequence(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        channel = await client.create_channel(queue)
        for number in range(1, 6):
            await pusher.push(str(number))
        async with client.subscriber(channel) as subscriber:
            await async_take(subscriber, 2)
            seen = subscriber.last_seq
        async with client.subscriber(channel, after_seq=seen) as subscriber:
            assert [message.seq for message in await async_take(subscriber, 3)] == [3, 4, 5]
        async with client.subscriber(channel, after_seq=0) as subscriber:
            assert [message.seq for message in await async_take(subscriber, 1)] == [1]


async def test_messages_come_in_lists_as_well(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        await pusher.push_many([str(number) for number in range(1, 101)])
        async with client.subscriber(await client.create_channel(queue), after_seq=10) as subscriber:
            assert [message.seq for message in await async_take(subscriber, 5)] == [11, 12, 13, 14, 15]
            seen = []
            async for batch in subscriber.batches():
                seen += [message.text for message in batch]
                assert subscriber.last_seq == batch[-1].seq
                if subscriber.last_seq == 100:
                    break
            assert seen == [str(number) for number in range(16, 101)]


@pytest.mark.parametrize(("messages", "size"), [(1, 1 << 20), (3, 1 << 20), (1 << 20, 1), (1 << 20, 100)])
async def test_a_small_buffer_loses_nothing(manager: str, queue: str, messages: int, size: int) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        channel = await client.create_channel(queue)
        async with client.subscriber(channel, buffer_messages=messages, buffer_bytes=size) as subscriber:
            await pusher.push_many([f"{number:030}" for number in range(30)])
            assert [int(message.text) for message in await async_take(subscriber, 30)] == list(range(30))


async def test_a_sequence_that_is_not_reached_is_waited_for(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        channel = await client.create_channel(queue)
        async with client.subscriber(channel, after_seq=3) as subscriber:
            reading = AsyncReading(subscriber)
            for number in range(1, 6):
                await pusher.push(str(number))
            assert [message.seq for message in await reading.reached(2)] == [4, 5]


async def test_closing_ends_an_iteration_that_waits(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        subscriber = client.subscriber(await client.create_channel(queue))
        reading = AsyncReading(subscriber)
        await pusher.push("content")
        await reading.reached(1)
        await subscriber.close()
        assert [message.text for message in await reading.ended()] == ["content"]
        assert subscriber.place is None
        await subscriber.close()
        assert [message async for message in subscriber] == []


async def test_closing_the_client_ends_its_subscribers(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client:
        subscriber = client.subscriber(await client.create_channel(queue))
        reading = AsyncReading(subscriber)
        await async_until("the subscription is open", lambda: subscriber.place is not None)
    assert await reading.ended() == []


async def test_a_channel_that_is_deleted_is_missing(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client:
        channel = await client.create_channel(queue)
        async with client.subscriber(channel) as subscriber:
            reading = AsyncReading(subscriber)
            await async_until("the subscription is open", lambda: subscriber.place is not None)
            await client.delete_channel(channel.id)
            with pytest.raises(ChannelNotFound):
                await reading.ended()


async def test_the_channels_of_a_deleted_queue_are_missing(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client:
        channel = await client.create_channel(queue)
        async with client.subscriber(channel) as subscriber:
            reading = AsyncReading(subscriber)
            await async_until("the subscription is open", lambda: subscriber.place is not None)
            await client.delete_queue(queue)
            with pytest.raises(ChannelNotFound):
                await reading.ended()


async def test_a_channel_that_never_was_is_missing(manager: str) -> None:
    async with MoMClient(manager) as client, client.subscriber(NOBODY) as subscriber:
        with pytest.raises(ChannelNotFound):
            await async_take(subscriber, 1)


async def test_a_subscriber_without_a_manager_says_so(dead_url: str) -> None:
    async with MoMClient(dead_url) as client, client.subscriber(NOBODY) as subscriber:
        with pytest.raises(ManagerUnreachable):
            await async_take(subscriber, 1)


async def test_a_channel_that_was_looked_up_needs_no_manager(manager: str, queue: str, dead_url: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher, MoMClient(dead_url) as lost:
        channel = await client.create_channel(queue)
        await pusher.push("content")
        async with lost.subscriber(channel) as subscriber:
            assert [message.text for message in await async_take(subscriber, 1)] == ["content"]


async def test_a_negative_sequence_is_refused(manager: str) -> None:
    async with MoMClient(manager) as client:
        with pytest.raises(InvalidArgument):
            client.subscriber(NOBODY, after_seq=-1)


@pytest.mark.parametrize(("messages", "size"), [(0, 1), (1, 0), (1 << 32, 1)])
async def test_a_buffer_without_room_is_refused(manager: str, messages: int, size: int) -> None:
    async with MoMClient(manager) as client:
        with pytest.raises(InvalidArgument):
            client.subscriber(NOBODY, buffer_messages=messages, buffer_bytes=size)
