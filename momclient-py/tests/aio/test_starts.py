"""Where subscriptions start, and what they see."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import httpx
import pytest

from momclient import InvalidArgument, MoMError
from momclient.aio import MoMClient
from tests.cluster import Cluster
from tests.waiting import async_apart, async_take

pytestmark = pytest.mark.anyio


async def test_latest_misses_nothing_although_the_queue_moves_before_the_first_message(
    faulty: Cluster, queue: str
) -> None:
    async with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        channel = await client.create_channel(queue)
        await pusher.push("before")
        async with client.subscriber(channel, start="latest") as subscriber:
            assert subscriber.last_seq == 1
            faulty.move(queue, 1 - faulty.hosting(channel))
            await pusher.push("meanwhile")
            assert [message.text for message in await async_take(subscriber, 1)] == ["meanwhile"]
        # Without a `with` block it begins when it is told to.
        subscriber = client.subscriber(channel, start="latest")
        await subscriber.open()
        await pusher.push("after")
        assert [message.text for message in await async_take(subscriber, 1)] == ["after"]
        await subscriber.close()
        with pytest.raises(MoMError, match="closed"):
            await subscriber.open()


async def test_a_time_is_a_place_in_the_queue(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        channel = await client.create_channel(queue)
        receipts = [await pusher.push(str(number)) for number in range(3)]
        now = datetime.now(timezone.utc)
        for start, seq in (
            (now - timedelta(minutes=5), 0),
            (datetime(1970, 1, 1, tzinfo=timezone.utc), 0),
            (now + timedelta(minutes=5), receipts[-1].seq),
        ):
            async with client.subscriber(channel, start=start) as subscriber:
                assert subscriber.last_seq == seq
        async with client.subscriber(channel, start="earliest") as subscriber:
            assert [message.seq for message in await async_take(subscriber, 3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("start", "after_seq", "names"),
    [
        ("latest", 0, "after_seq"),
        ("newest", None, "newest"),
        (datetime(2026, 1, 1), None, "time zone"),  # noqa: DTZ001 -- that is what is wrong with it
        (datetime(1969, 1, 1, tzinfo=timezone.utc), None, "1970"),
        (7, None, "start 7"),
    ],
)
async def test_a_start_that_makes_no_sense_is_named(
    manager: str, start: Any, after_seq: int | None, names: str
) -> None:
    async with MoMClient(manager) as client:
        with pytest.raises(InvalidArgument, match=names) as caught:
            client.subscriber("00000000-0000-4000-8000-000000000000", start=start, after_seq=after_seq)
        assert caught.value.code == "invalid_argument"


async def test_a_pattern_sees_the_topics_that_it_stands_for(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        topics = ("news", "news.eu", "news.eu.fr", None, "sports.eu")
        for topic in topics:
            await pusher.push("x", topic=topic)
        for pattern, seen in (
            ("News.*", ["news.eu"]),
            ("news.>", ["news.eu", "news.eu.fr"]),
            ("*.eu", ["news.eu", "sports.eu"]),
            (">", ["news", "news.eu", "news.eu.fr", "sports.eu"]),
        ):
            channel = await client.create_channel(queue, pattern)
            assert channel.topic == pattern.lower()
            async with client.subscriber(channel) as subscriber:
                assert [message.topic for message in await async_take(subscriber, len(seen))] == seen
        for bad in ("news*", "news.>.eu", ">>", "a b.*", "*." + "x" * 254):
            with pytest.raises(InvalidArgument) as caught:
                await client.create_channel(queue, bad)
            assert caught.value.code == "invalid_topic"
        with pytest.raises(InvalidArgument):
            await pusher.push("x", topic="news.*")
        # As a client without this library sends it.
        for path, status in (("news.%3E", 201), ("news.*", 201), ("%3E.news", 400)):
            assert await async_apart(partial(put, f"{manager}/queues/{queue}/channels/{path}")) == status


def put(url: str) -> int:
    return httpx.put(url, timeout=60, trust_env=False).status_code
