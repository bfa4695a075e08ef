"""Pushing and subscribing while MoMs are killed and frozen."""

from __future__ import annotations

import pytest

from momclient import OutcomeUnknown
from momclient.aio import MoMClient
from tests.cluster import Cluster
from tests.waiting import AsyncReading, async_until

pytestmark = pytest.mark.anyio


async def test_when_its_mom_is_killed_a_queue_goes_on_elsewhere(faulty: Cluster, queue: str) -> None:
    async with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        channel = await client.create_channel(queue)
        async with client.subscriber(channel) as subscriber:
            reading = AsyncReading(subscriber)
            before = [await pusher.push(f"before {number}") for number in range(10)]
            await reading.reached(10)
            first = faulty.hosting(await client.get_queue(queue))
            faulty.kill(first)
            after = [await pusher.push(f"after {number}", timeout=60) for number in range(10)]
            await async_until("the last message has come", lambda: subscriber.last_seq >= after[-1].seq)
            assert subscriber.place is not None
            assert faulty.hosting(subscriber.place) != first
            assert pusher.mom is not None
            assert faulty.hosting(pusher.mom) != first
        messages = await reading.ended()
    sequences = [message.seq for message in messages]
    # Each once and in order. A push whose answer was lost may be there twice, as two messages.
    assert sequences == list(range(1, after[-1].seq + 1))
    received = [message.id for message in messages]
    assert set(received) >= {receipt.id for receipt in before + after}
    assert len(set(received)) == len(received)


async def test_a_mom_that_comes_back_serves_as_before(faulty: Cluster, queue: str) -> None:
    async with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            reading = AsyncReading(subscriber)
            await pusher.push("before")
            await reading.reached(1)
            first = faulty.hosting(await client.get_queue(queue))
            faulty.kill(first)
            faulty.restart(first)
            receipt = await pusher.push("after", timeout=60)
            await async_until("the message has come", lambda: subscriber.last_seq >= receipt.seq)
        assert (await reading.ended())[-1].seq == receipt.seq


async def test_a_frozen_mom_holds_up_neither_pusher_nor_subscriber(faulty: Cluster, queue: str) -> None:
    async with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            reading = AsyncReading(subscriber)
            await pusher.push("before")
            await reading.reached(1)
            first = faulty.hosting(await client.get_queue(queue))
            faulty.freeze(first)
            receipt = await pusher.push("after", timeout=60)
            assert pusher.mom is not None
            assert faulty.hosting(pusher.mom) != first
            await async_until("the message has come", lambda: subscriber.last_seq >= receipt.seq)
            faulty.thaw(first)
            last = await pusher.push("thawed", timeout=60)
            await async_until("the last message has come", lambda: subscriber.last_seq >= last.seq)
        messages = await reading.ended()
    assert [message.seq for message in messages] == list(range(1, last.seq + 1))
    assert {receipt.id, last.id} <= {message.id for message in messages}


async def test_an_unknown_outcome_is_raised_where_it_may_not_be_tried_again(faulty: Cluster, queue: str) -> None:
    async with MoMClient(faulty.manager) as client, client.pusher(queue, retry_unknown=False) as pusher:
        await pusher.push("before")
        faulty.freeze(faulty.hosting(await client.get_queue(queue)))
        with pytest.raises(OutcomeUnknown):
            await pusher.push("unknown", timeout=1)


async def test_where_nothing_was_sent_the_outcome_is_known(faulty: Cluster, queue: str) -> None:
    async with MoMClient(faulty.manager) as client, client.pusher(queue, retry_unknown=False) as pusher:
        faulty.kill(faulty.hosting(await client.get_queue(queue)))
        # The first attempts meet a MoM that is down, which is no reason to give up.
        assert (await pusher.push("content", timeout=60)).seq == 1
