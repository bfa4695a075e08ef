"""Queues and channels, by the manager."""

from __future__ import annotations

import time
import uuid

import pytest

from momclient import (
    AlreadyExists,
    ChannelNotFound,
    Closed,
    InvalidArgument,
    ManagerUnreachable,
    OutcomeUnknown,
    QueueNotFound,
    ServerFault,
)
from momclient.aio import MoMClient
from tests.cluster import Cluster
from tests.waiting import async_take

pytestmark = pytest.mark.anyio


async def test_the_manager_says_that_it_is_ok(manager: str) -> None:
    async with MoMClient(manager) as client:
        assert await client.status() == "Ok"


async def test_a_queue_is_created_listed_found_and_deleted(manager: str, label: str, cluster: Cluster) -> None:
    async with MoMClient(manager) as client:
        await client.create_queue(label)
        assert label in await client.list_queues()
        found = await client.get_queue(label)
        assert found.label == label
        assert (found.host, found.port) in {(mom.host, mom.port) for mom in cluster.moms()}
        await client.delete_queue(label)
        assert label not in await client.list_queues()
        with pytest.raises(QueueNotFound):
            await client.get_queue(label)


async def test_upper_case_is_folded(manager: str, label: str) -> None:
    async with MoMClient(manager) as client:
        await client.create_queue(label.upper())
        assert (await client.get_queue(label.upper())).label == label
        assert (await client.create_channel(label.upper(), "Weather")).topic == "weather"
        assert await client.topics(label.upper()) == ["weather"]
        await client.delete_queue(label.upper())
        assert label not in await client.list_queues()


async def test_a_label_is_given_once(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client:
        with pytest.raises(AlreadyExists) as caught:
            await client.create_queue(queue)
        assert caught.value.code == "queue_exists"
        assert queue in caught.value.detail


async def test_a_queue_that_is_missing_is_named(manager: str, label: str) -> None:
    async with MoMClient(manager) as client:
        with pytest.raises(QueueNotFound) as caught:
            await client.get_queue(label)
        assert caught.value.code == "queue_not_found"
        assert label in caught.value.detail
        with pytest.raises(QueueNotFound):
            await client.delete_queue(label)
        with pytest.raises(QueueNotFound):
            await client.topics(label)
        with pytest.raises(QueueNotFound):
            await client.create_channel(label)


async def test_a_channel_is_created_listed_found_and_deleted(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client:
        channel = await client.create_channel(queue, "weather")
        assert channel.topic == "weather"
        assert str(uuid.UUID(channel.id)) == channel.id
        place = await client.get_queue(queue)
        assert (channel.host, channel.port) == (place.host, place.port)
        assert channel.id in await client.list_channels()
        assert await client.get_channel(channel.id) == channel
        assert await client.get_channel(channel.id.upper()) == channel
        await client.delete_channel(channel.id)
        assert channel.id not in await client.list_channels()
        with pytest.raises(ChannelNotFound) as caught:
            await client.get_channel(channel.id)
        assert caught.value.code == "channel_not_found"
        with pytest.raises(ChannelNotFound):
            await client.delete_channel(channel.id)


async def test_every_call_creates_a_channel(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client:
        first = await client.create_channel(queue)
        second = await client.create_channel(queue)
        assert first.id != second.id
        assert first.topic is None


async def test_topics_are_distinct_and_real(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client:
        for topic in ("b", "a", None, "b"):
            await client.create_channel(queue, topic)
        assert sorted(await client.topics(queue)) == ["a", "b"]


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "ä", "a/b", "a?b", "a%20b", "a\n", "\0", "\ud800", "x" * 256, "__none__"]
)
async def test_an_illegal_label_is_refused_with_what_is_legal(manager: str, name: str) -> None:
    async with MoMClient(manager) as client:
        for call in (client.create_queue, client.get_queue, client.delete_queue, client.topics, client.create_channel):
            with pytest.raises(InvalidArgument) as caught:
                await call(name)
            assert caught.value.code == "invalid_label"
        with pytest.raises(InvalidArgument):
            client.pusher(name)


@pytest.mark.parametrize("name", ["x" * 255, "A.b_C-d:9"])
async def test_a_legal_label_is_accepted(manager: str, name: str) -> None:
    async with MoMClient(manager) as client:
        await client.create_queue(name)
        assert (await client.get_queue(name)).label == name.lower()
        await client.delete_queue(name)


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "a%20b", "a\n", "\0", "\ud800", "x" * 256])
async def test_an_illegal_topic_is_refused(manager: str, queue: str, name: str) -> None:
    async with MoMClient(manager) as client:
        with pytest.raises(InvalidArgument) as caught:
            await client.create_channel(queue, name)
        assert caught.value.code == "invalid_topic"


@pytest.mark.parametrize("channel_id", ["", "a", "../queues", "00000000-0000-0000-0000-00000000000"])
async def test_a_malformed_channel_id_is_refused(manager: str, channel_id: str) -> None:
    async with MoMClient(manager) as client:
        with pytest.raises(InvalidArgument) as caught:
            await client.get_channel(channel_id)
        assert caught.value.code == "invalid_channel_id"
        with pytest.raises(InvalidArgument):
            await client.delete_channel(channel_id)
        with pytest.raises(InvalidArgument):
            client.subscriber(channel_id)


async def test_managers_are_tried_in_order(manager: str, dead_url: str, queue: str) -> None:
    async with MoMClient([dead_url, manager]) as client:
        assert queue in await client.list_queues()
        assert (await client.create_channel(queue)).topic is None


async def test_a_frozen_manager_holds_up_one_look_up_for_a_second(cluster: Cluster, queue: str) -> None:
    with cluster.with_a_frozen_manager() as (frozen, well):
        async with MoMClient([frozen, well], timeout=60) as client:
            began = time.monotonic()
            assert queue in await client.list_queues()
            assert 1 <= time.monotonic() - began < 10
            # The one that has answered is asked first from now on, so that this is sent to it.
            began = time.monotonic()
            channel = await client.create_channel(queue)
            assert await client.get_channel(channel.id) == channel
            assert time.monotonic() - began < 1


async def test_a_frozen_manager_holds_up_neither_pusher_nor_subscriber(cluster: Cluster, queue: str) -> None:
    async with MoMClient(cluster.managers[-1]) as sound:
        channel = await sound.create_channel(queue)
    with cluster.with_a_frozen_manager() as (frozen, well):
        async with (
            MoMClient([frozen, well], timeout=60) as client,
            client.pusher(queue) as pusher,
            client.subscriber(channel.id) as subscriber,
        ):
            receipt = await pusher.push("content")
            assert [message.id for message in await async_take(subscriber, 1)] == [receipt.id]


async def test_what_changes_something_is_sent_to_one_manager_only(cluster: Cluster, label: str) -> None:
    with cluster.with_a_frozen_manager() as (frozen, well):
        async with MoMClient([frozen, well], timeout=1.5) as client:
            with pytest.raises(OutcomeUnknown):
                await client.create_queue(label)
            assert label not in await client.list_queues()
            # The next goes to the other one.
            await client.create_queue(label)


async def test_managers_that_are_slow_get_the_time_that_there_is(cluster: Cluster, queue: str) -> None:
    with cluster.with_a_frozen_manager() as (frozen, _):
        async with MoMClient([frozen, frozen], timeout=1.5) as client:
            began = time.monotonic()
            with pytest.raises(ManagerUnreachable, match=frozen):
                await client.get_queue(queue)
            assert time.monotonic() - began >= 2 * 1 + 2 * 1.5


async def test_no_manager_at_all_is_said_with_the_addresses(dead_url: str) -> None:
    async with MoMClient([dead_url, dead_url + "/"]) as client:
        with pytest.raises(ManagerUnreachable, match=dead_url):
            await client.list_queues()
        with pytest.raises(ManagerUnreachable):
            await client.create_queue("a")


async def test_an_address_that_is_no_manager_is_said_to_be_none(cluster: Cluster) -> None:
    async with MoMClient(cluster.control) as client:
        with pytest.raises(ServerFault, match="manager"):
            await client.get_queue("a")


@pytest.mark.parametrize("urls", ["", "127.0.0.1:8082", "ftp://127.0.0.1", [], ["http://127.0.0.1:1", "http://"]])
async def test_an_illegal_manager_url_is_refused(urls: str | list[str]) -> None:
    with pytest.raises(InvalidArgument, match="manager_url"):
        MoMClient(urls)


async def test_a_closed_client_says_so(manager: str) -> None:
    client = MoMClient(manager)
    assert await client.status() == "Ok"
    await client.close()
    await client.close()
    with pytest.raises(Closed):
        await client.status()
