"""Pushes that are tried again, by the pusher or by its user, and the one message that each of them makes."""

from __future__ import annotations

import uuid
from functools import partial
from threading import Event

import pytest

from momclient import InvalidArgument, Receipt
from momclient._pushes import Pushes
from momclient.aio import MoMClient
from tests.cluster import Cluster
from tests.proxy import Detour
from tests.waiting import AsyncReading, async_apart, async_during, async_take, async_together, async_until

pytestmark = pytest.mark.anyio


async def test_a_push_whose_answer_is_lost_makes_one_message(cluster: Cluster, queue: str, detour: Detour) -> None:
    async with MoMClient(cluster.manager) as client, client.pusher(queue) as pusher:
        channel = await client.create_channel(queue)
        async with client.subscriber(channel) as subscriber:
            reading = AsyncReading(subscriber)
            await async_until("the subscription is open", lambda: subscriber.place is not None)
            detour.begin()
            first = await pusher.push("first")
            proxy = detour.to(pusher.mom)
            proxy.swallow_answers_to(b"second")

            async def break_the_connection() -> None:
                await reading.reached(2)
                proxy.cut()

            (second,) = await async_during([partial(pusher.push, "second", timeout=60)], break_the_connection)
            third = await pusher.push("third")
            messages = await reading.reached(3)
    assert [receipt.duplicate for receipt in (first, second, third)] == [False, True, False]
    assert [(message.id, message.seq) for message in messages] == [(r.id, r.seq) for r in (first, second, third)]
    assert [message.text for message in messages] == ["first", "second", "third"]


async def test_a_successor_finds_what_was_pushed_to_a_mom_that_died(
    faulty: Cluster, queue: str, detour: Detour
) -> None:
    async with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        channel = await client.create_channel(queue)
        async with client.subscriber(channel) as subscriber:
            reading = AsyncReading(subscriber)
            await async_until("the subscription is open", lambda: subscriber.place is not None)
            detour.begin()
            await pusher.push("first")
            host = faulty.hosting(await client.get_queue(queue))
            detour.to(pusher.mom).swallow_answers_to(b"second")

            async def kill() -> None:
                await reading.reached(2)
                await async_apart(partial(faulty.kill, host))

            (second,) = await async_during([partial(pusher.push, "second", timeout=60)], kill)
            third = await pusher.push("third", timeout=60)
            messages = await reading.reached(3)
    assert (second.seq, second.duplicate) == (2, True)
    assert (third.seq, third.duplicate) == (3, False)
    assert [message.text for message in messages] == ["first", "second", "third"]


async def test_a_queue_made_anew_is_searched_from_its_beginning(faulty: Cluster, queue: str, detour: Detour) -> None:
    async with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher, client.pusher(queue) as other:
        for number in range(9):
            await pusher.push(f"old {number}")
        await client.delete_queue(queue)
        await client.create_queue(queue)
        channel = await client.create_channel(queue)
        async with client.subscriber(channel) as subscriber:
            reading = AsyncReading(subscriber)
            await other.push("first")
            detour.begin()
            detour.to(channel).swallow_answers_to(b"second")

            async def kill() -> None:
                await reading.reached(2)
                for text in ("third", "fourth"):
                    await other.push(text)
                await async_apart(partial(faulty.kill, faulty.hosting(channel)))

            (receipt,) = await async_during([partial(pusher.push, "second", timeout=60)], kill)
            await other.push("fifth", timeout=60)
            messages = await reading.reached(5)
    assert (receipt.seq, receipt.duplicate) == (2, True)
    assert [message.text for message in messages] == ["first", "second", "third", "fourth", "fifth"]


async def test_however_often_connections_break_each_push_makes_one_message(
    faulty: Cluster, queue: str, detour: Detour
) -> None:
    receipts: dict[str, Receipt] = {}
    async with MoMClient(faulty.manager) as client, client.pusher(queue, in_flight=32) as pusher:
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            reading = AsyncReading(subscriber)
            await async_until("the subscription is open", lambda: subscriber.place is not None)
            detour.begin()
            broken = Event()

            async def push_on(name: int) -> None:
                number = 0
                while not broken.is_set():
                    text = f"{name} {number}"
                    receipts[text] = await pusher.push(text, timeout=60)
                    number += 1

            def are_done(some: int) -> bool:
                return len(receipts) > some

            async def break_connections() -> None:
                try:
                    for part in (1, 2, 3):
                        await async_until("some more pushes are done", partial(are_done, len(receipts) + 80))
                        place = await client.get_queue(queue)
                        detour.to(place).swallow()
                        await async_until("answers are lost", lambda: len(reading.messages) > len(receipts))
                        if part < 3:
                            detour.to(place).cut()
                        else:
                            await async_apart(partial(faulty.kill, faulty.hosting(place)))
                finally:
                    broken.set()

            await async_during([partial(push_on, name) for name in range(48)], break_connections)
            last = await pusher.push("last", timeout=60)
            await async_until("the last message has come", lambda: subscriber.last_seq >= last.seq)
        messages = await reading.ended()
    assert any(receipt.duplicate for receipt in receipts.values())
    # A push that made two messages, or none, would shift what comes after it.
    assert [message.seq for message in messages] == list(range(1, len(receipts) + 2))
    received = {message.seq: (message.id, message.text) for message in messages[:-1]}
    assert received == {receipt.seq: (receipt.id, text) for text, receipt in receipts.items()}


async def test_a_pusher_that_its_mom_does_not_know_any_more_is_opened_again(cluster: Cluster, queue: str) -> None:
    async with MoMClient(cluster.manager) as client, client.pusher(queue) as pusher:
        await pusher.push("before")
        place = pusher.mom
        first = cluster.hosting(await client.get_queue(queue))
        other = next(mom.index for mom in cluster.moms() if mom.index != first)
        # The connection stays, but what the MoM knew of the pusher has gone with the queue.
        cluster.move(queue, other)
        cluster.move(queue, first)
        receipt = await pusher.push("after", timeout=60)
        assert (receipt.seq, receipt.duplicate) == (2, False)
        assert pusher.mom == place


async def test_a_pusher_whose_numbers_end_goes_on_as_another_one(manager: str, queue: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        pusher._pushes = Pushes(queue, 8, last_number=1026)
        first = await pusher.push_many(["x"] * 1024, timeout=60)
        singles = await async_together([partial(pusher.push, f"{number}", timeout=60) for number in range(4)])
        receipts = first + singles
        assert sorted(receipt.seq for receipt in receipts) == list(range(1, 1029))
        assert len({receipt.id for receipt in receipts}) == 1028
        assert len({receipt.id[:-8] for receipt in receipts}) == 2


async def test_an_id_of_the_callers_own_makes_one_message_even_across_pushers_and_owners(
    faulty: Cluster, queue: str
) -> None:
    name = uuid.uuid4()
    async with MoMClient(faulty.manager) as client:
        async with client.pusher(queue) as pusher:
            await pusher.push("before")
            first = await pusher.push("one", "t", id=name)
            assert first == Receipt(id=str(name), seq=2, duplicate=False)
            again = await pusher.push("one", "t", id=str(name).upper())
            assert again == Receipt(id=str(name), seq=2, duplicate=True)
        faulty.kill(faulty.hosting(await client.get_queue(queue)))
        async with client.pusher(queue) as other:
            second = await other.push("one", "t", id=name, timeout=3600)
            assert second == Receipt(id=str(name), seq=2, duplicate=True)
            for content, topic in (("two", "t"), ("one", None)):
                with pytest.raises(InvalidArgument) as caught:
                    await other.push(content, topic, id=name)
                assert caught.value.code == "id_conflict"
            await other.push("after")
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            messages = await async_take(subscriber, 3)
    assert [message.text for message in messages] == ["before", "one", "after"]
    assert messages[1].id == str(name)


@pytest.mark.parametrize("name", ["", "a", "00000000-0000-0000-0000-00000000000", b"0" * 16, 7])
async def test_an_id_that_is_no_uuid_is_refused(manager: str, queue: str, name: str) -> None:
    async with MoMClient(manager) as client, client.pusher(queue) as pusher:
        with pytest.raises(InvalidArgument, match="is not a UUID"):
            await pusher.push("content", id=name)
        assert (await pusher.push("content")).seq == 1
