"""Pushing to a queue while nothing fails."""

from __future__ import annotations

import uuid
from functools import partial

import pytest

from momclient import (
    Closed,
    InvalidArgument,
    ManagerUnreachable,
    Message,
    OutcomeUnknown,
    Overloaded,
    QueueNotFound,
    Receipt,
)
from momclient.aio import MoMClient
from tests.cluster import Cluster
from tests.waiting import async_failure, async_take, async_together, async_until

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


async def test_text_that_is_no_unicode_is_refused(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        with pytest.raises(InvalidArgument) as caught:
            await pusher.push("half a \ud800 pair")
        assert caught.value.code == "invalid_argument"
        assert (await pusher.push("whole")).seq == 1


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 5 * 1024 * 1024])
async def test_what_is_too_large_is_refused_at_once(manager: str, queue: str, size: int) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        with pytest.raises(InvalidArgument) as caught:
            await pusher.push(b"x" * size)
        assert caught.value.code in ("message_too_large", None)
        assert (await pusher.push("small")).seq == 1


@pytest.mark.parametrize("topic", ["", "a b", "ä", "a/b", "a%20b", "a\n", "\0", "\ud800", "x" * 256])
async def test_an_illegal_topic_is_refused(manager: str, queue: str, topic: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        with pytest.raises(InvalidArgument) as caught:
            await pusher.push("content", topic=topic)
        assert caught.value.code == "invalid_topic"


async def test_the_word_for_no_topic_is_none(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        await pusher.push("content", topic="__NONE__")
        channel = await client.create_channel(queue, "__none__")
        assert channel.topic is None
        async with client.subscriber(channel) as subscriber:
            assert [message.topic for message in await async_take(subscriber, 1)] == [None]


async def test_a_queue_that_is_missing_is_said_at_once(manager: str, label: str) -> None:
    async with MoMClient(manager) as client, client.pusher(label) as pusher:
        with pytest.raises(QueueNotFound):
            await pusher.push("content", timeout=3600)


async def test_a_queue_deleted_under_a_pusher_is_missing(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        await pusher.push("content")
        await client.delete_queue(queue)
        # What is sent before the pusher hears of it has an unknown outcome.
        await async_until("the MoM has ended the stream", lambda: pusher.mom is None)
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


async def test_pushes_in_flight_are_bounded_and_none_is_sent_twice(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue, in_flight=8) as pusher:
        calls = [partial(pusher.push, f"{number}", timeout=60) for number in range(400)]
        receipts = await async_together(calls)
        assert sorted(receipt.seq for receipt in receipts) == list(range(1, 401))
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            messages = await async_take(subscriber, 400)
        assert sorted(message.text for message in messages) == sorted(str(number) for number in range(400))
        with pytest.raises(InvalidArgument):
            client.pusher(queue, in_flight=0)


async def test_a_push_that_gets_no_turn_was_not_sent(faulty: Cluster, queue: str) -> None:
    async with MoMClient(faulty.manager) as client, client.pusher(queue, in_flight=1) as pusher:
        await pusher.push("before")
        faulty.freeze(faulty.hosting(await client.get_queue(queue)))
        calls = [partial(async_failure, partial(pusher.push, "content", timeout=seconds)) for seconds in (1, 0.5)]
        unknown, overloaded = await async_together(calls)
        assert isinstance(unknown, OutcomeUnknown)
        assert isinstance(overloaded, Overloaded)
        assert overloaded.code == "in_flight_limit"


async def test_pushes_at_the_same_time_are_committed_in_the_order_of_the_calls(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:

        async def push_some(name: int) -> list[Receipt]:
            return [await pusher.push(f"{name} {number}", f"t{number % 3}", timeout=60) for number in range(50)]

        pushed = await async_together([partial(push_some, name) for name in range(16)])
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            messages = await async_take(subscriber, 16 * 50)
    received = {message.seq: message for message in messages}
    assert [message.seq for message in messages] == list(range(1, 16 * 50 + 1))
    for name, receipts in enumerate(pushed):
        assert [receipt.seq for receipt in receipts] == sorted(receipt.seq for receipt in receipts)
        for number, receipt in enumerate(receipts):
            message = received[receipt.seq]
            assert (message.id, message.text, message.topic) == (receipt.id, f"{name} {number}", f"t{number % 3}")


async def test_messages_that_are_pushed_together_are_committed_together(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        calls = [partial(pusher.push_many, [f"{n} {i}" for i in range(100)], "t", timeout=60) for n in range(8)]
        pushed = await async_together(calls)
        (single,) = await pusher.push_many([b"single"])
        large = await pusher.push_many([b"x" * 1024] * 1024, timeout=60)
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            messages = await async_take(subscriber, 8 * 100 + 1 + 1024)
    received = {message.seq: (message.id, message.text) for message in messages}
    for name, receipts in enumerate(pushed):
        first = receipts[0].seq
        assert [receipt.seq for receipt in receipts] == list(range(first, first + 100))
        assert [received[r.seq] for r in receipts] == [(r.id, f"{name} {index}") for index, r in enumerate(receipts)]
    assert (single.seq, large[0].seq, large[-1].seq) == (801, 802, 802 + 1023)


async def test_what_cannot_be_pushed_together_is_refused_as_a_whole(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        for contents in ([], [b"x"] * 1025, [b"x" * 1024 * 1024, b"x"], ["whole", "half a \ud800 pair"]):
            with pytest.raises(InvalidArgument):
                await pusher.push_many(contents)
        with pytest.raises(InvalidArgument):
            await pusher.push_many(["x"], "a b")
        assert (await pusher.push("content")).seq == 1


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


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_headers_arrive_with_their_messages(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        name = uuid.uuid4()
        await pusher.push("none")
        await pusher.push("one", "topic", headers={"Traceparent": TRACEPARENT, "a": "ä"})
        await pusher.push("keyed", id=name, headers={"traceparent": "first"})
        assert (await pusher.push("keyed", id=name, headers={"traceparent": "second"})).duplicate
        await pusher.push_many(["x", "y"], headers={"b": ""})
        await pusher.push("none", headers={})
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            messages = await async_take(subscriber, 6)
    headers = [{}, {"a": "ä", "traceparent": TRACEPARENT}, {"traceparent": "first"}, {"b": ""}, {"b": ""}, {}]
    assert [message.headers for message in messages] == headers
    assert messages[0].headers is messages[5].headers, "there is one for all that have none"
    assert messages[1] != Message(messages[1].id, b"one", "topic", 2)
    with pytest.raises(TypeError):
        messages[1].headers["a"] = "b"  # type: ignore[index]
    # As OpenTelemetry's `extract` reads them.
    assert messages[1].headers.get("traceparent") == TRACEPARENT


@pytest.mark.parametrize(
    ("headers", "limit"),
    [
        ({"a b": "x"}, "1 to 64"),
        ({"": "x"}, "1 to 64"),
        ({"n" * 65: "x"}, "1 to 64"),
        ({"a": "v" * 1025}, "1024 bytes"),
        ({"a": "x\r\n"}, "control characters"),
        ({"a": "half a \ud800 pair"}, "of text"),
        ({"a": "1", "A": "2"}, "once"),
        ({f"h{number}": "" for number in range(17)}, "at most 16"),
        (dict.fromkeys("abcd", "v" * 1023) | {"e": ""}, "4096 bytes"),
    ],
)
async def test_headers_that_are_not_legal_are_refused(
    manager: str, queue: str, headers: dict[str, str], limit: str
) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        with pytest.raises(InvalidArgument, match=limit) as caught:
            await pusher.push("x", headers=headers)
        assert caught.value.code == "invalid_argument"
        assert (await pusher.push("x", headers=dict.fromkeys("abcd", "v" * 1023))).seq == 1
