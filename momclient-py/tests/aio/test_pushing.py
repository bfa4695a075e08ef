"""Pushing to a queue while nothing fails."""

from __future__ import annotations

import uuid
from functools import partial

import pytest

from momclient import (
    Closed,
    InvalidArgument,
    ManagerUnreachable,
    QueueNotFound,
)
from momclient.aio import MoMClient
from tests.waiting import async_take, async_together

pytestmark = pytest.mark.anyio


async def test_a_receipt_says_what_the_message_was_committed_as(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        receipts = [await pusher.push(content) for content in ("one", b"two", "drei äöü")]
        assert [receipt.seq for receipt in receipts] == [1, 2, 3]
        assert len({uuid.UUID(receipt.id) for receipt in receipts}) == 3
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            messages = await async_take(subscriber, 3)
        assert [(message.id, message.seq) for message in messages] == [(r.id, r.seq) for r in receipts]
        assert [message.text for message in messages] == ["one", "two", "drei äöü"]


async def test_content_arrives_byte_for_byte(manager: str, queue: str) -> None:
    contents = [b"", bytes(range(256)), b"x" * 1024 * 1024]
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        for content in contents:
            await pusher.push(content)
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            assert [message.content for message in await async_take(subscriber, 3)] == contents


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 5 * 1024 * 1024])
async def test_what_is_too_large_is_refused_at_once(manager: str, queue: str, size: int) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        with pytest.raises(InvalidArgument):
            await pusher.push(b"x" * size)
        assert (await pusher.push("small")).seq == 1


async def test_an_illegal_topic_is_refused(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        with pytest.raises(InvalidArgument) as caught:
            await pusher.push("content", topic="a b")
        assert caught.value.code == "invalid_topic"


async def test_a_queue_that_is_missing_is_said_at_once(manager: str, label: str) -> None:
    async with MoMClient(manager) as client, client.pusher(label) as pusher:
        with pytest.raises(QueueNotFound):
            await pusher.push("content", timeout=3600)


async def test_a_queue_deleted_under_a_pusher_is_missing(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        await pusher.push("content")
        await client.delete_queue(queue)
        with pytest.raises(QueueNotFound):
            await pusher.push("content", timeout=3600)


async def test_a_queue_made_anew_is_found_again(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        assert (await pusher.push("old")).seq == 1
        await client.delete_queue(queue)
        await client.create_queue(queue)
        receipt = await pusher.push("new", timeout=60)
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            assert [message.id for message in await async_take(subscriber, 1)] == [receipt.id]


async def test_a_pusher_may_be_shared(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        receipts = await async_together([partial(pusher.push, f"{number}", timeout=60) for number in range(50)])
        assert sorted(receipt.seq for receipt in receipts) == list(range(1, 51))
        place = await client.get_queue(queue)
        assert pusher.mom == place


async def test_without_a_manager_the_time_runs_out(dead_url: str) -> None:
    async with MoMClient(dead_url) as client, client.pusher("a") as pusher:
        with pytest.raises(ManagerUnreachable, match=r"0\.3 s"):
            await pusher.push("content", timeout=0.3)


async def test_a_closed_pusher_says_so(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client:
        pusher = client.pusher(queue)
        await pusher.push("content")
        await pusher.close()
        await pusher.close()
        with pytest.raises(Closed):
            await pusher.push("content")


async def test_closing_the_client_closes_its_pushers(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client:
        pusher = client.pusher(queue)
        await pusher.push("content")
    with pytest.raises(Closed):
        await pusher.push("content")
