# Generated from tests/aio/test_faults.py by scripts/make_sync.py: edit that one, then run `make sync`.

"""Pushing and subscribing while queues move, and while MoMs, managers and the database are away."""

from __future__ import annotations

from functools import partial
from threading import Event

import pytest

from momclient import ManagerUnreachable, MoMClient, OutcomeUnknown, Receipt, Unavailable
from tests.cluster import Cluster
from tests.waiting import Reading, apart, available, during, failure, until

pytestmark = pytest.mark.anyio


def test_a_queue_that_moves_is_followed(cluster: Cluster, queue: str) -> None:
    with MoMClient(cluster.manager) as client, client.pusher(queue) as pusher:
        channel = client.create_channel(queue)
        with client.subscriber(channel) as subscriber:
            reading = Reading(subscriber)
            pusher.push("before")
            reading.reached(1)
            old = cluster.hosting(client.get_queue(queue))
            new = next(mom.index for mom in cluster.moms() if mom.index != old)
            cluster.move(queue, new)
            pusher.push("after", timeout=60)
            assert pusher.mom is not None
            assert cluster.hosting(pusher.mom) == new
            messages = reading.reached(2)
            assert [(message.seq, message.text) for message in messages] == [(1, "before"), (2, "after")]
            assert subscriber.place is not None
            assert cluster.hosting(subscriber.place) == new


def test_when_its_mom_is_killed_a_queue_goes_on_elsewhere(faulty: Cluster, queue: str) -> None:
    with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        channel = client.create_channel(queue)
        with client.subscriber(channel) as subscriber:
            reading = Reading(subscriber)
            before = [pusher.push(f"before {number}") for number in range(10)]
            reading.reached(10)
            first = faulty.hosting(client.get_queue(queue))
            faulty.kill(first)
            after = [pusher.push(f"after {number}", timeout=60) for number in range(10)]
            until("the last message has come", lambda: subscriber.last_seq >= after[-1].seq)
            assert subscriber.place is not None
            assert faulty.hosting(subscriber.place) != first
            assert pusher.mom is not None
            assert faulty.hosting(pusher.mom) != first
        messages = reading.ended()
    assert [(message.seq, message.id) for message in messages] == [(r.seq, r.id) for r in before + after]
    assert [message.seq for message in messages] == list(range(1, 21))


def test_a_mom_that_comes_back_serves_as_before(faulty: Cluster, queue: str) -> None:
    with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        with client.subscriber(client.create_channel(queue)) as subscriber:
            reading = Reading(subscriber)
            pusher.push("before")
            reading.reached(1)
            first = faulty.hosting(client.get_queue(queue))
            faulty.kill(first)
            faulty.restart(first)
            receipt = pusher.push("after", timeout=60)
            until("the message has come", lambda: subscriber.last_seq >= receipt.seq)
        assert (reading.ended())[-1].seq == receipt.seq


def test_a_frozen_mom_holds_up_neither_pusher_nor_subscriber(faulty: Cluster, queue: str) -> None:
    with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        with client.subscriber(client.create_channel(queue)) as subscriber:
            reading = Reading(subscriber)
            pusher.push("before")
            reading.reached(1)
            first = faulty.hosting(client.get_queue(queue))
            faulty.freeze(first)
            receipt = pusher.push("after", timeout=60)
            assert pusher.mom is not None
            assert faulty.hosting(pusher.mom) != first
            until("the message has come", lambda: subscriber.last_seq >= receipt.seq)
            faulty.thaw(first)
            last = pusher.push("thawed", timeout=60)
            until("the last message has come", lambda: subscriber.last_seq >= last.seq)
        messages = reading.ended()
    # What the frozen MoM had been sent made no message when it thawed.
    assert [(message.seq, message.text) for message in messages] == [(1, "before"), (2, "after"), (3, "thawed")]
    assert [message.id for message in messages[1:]] == [receipt.id, last.id]


def test_a_push_whose_answer_does_not_come_in_time_is_unknown(faulty: Cluster, queue: str) -> None:
    with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        pusher.push("before")
        faulty.freeze(faulty.hosting(client.get_queue(queue)))
        with pytest.raises(OutcomeUnknown, match=r"0\.5 s"):
            pusher.push("unknown", timeout=0.5)
        # Nobody asks any more what became of it, so once the stream is left no MoM need remember it.
        until("the stream is left", lambda: pusher._pushes.settled == 3)


def test_where_nothing_was_sent_the_outcome_is_known(faulty: Cluster, queue: str) -> None:
    with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        for mom in faulty.moms():
            faulty.kill(mom.index)
        with pytest.raises(Unavailable):
            pusher.push("refused", timeout=1)
        for mom in faulty.moms():
            faulty.restart(mom.index)
        assert (pusher.push("content", timeout=60)).seq == 1


def test_moms_are_restarted_one_after_the_other_and_no_push_fails(faulty: Cluster, queue: str) -> None:
    receipts: list[Receipt] = []
    with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        with client.subscriber(client.create_channel(queue)) as subscriber:
            reading = Reading(subscriber)
            restarted = Event()

            def push_on(name: int) -> None:
                number = 0
                while not restarted.is_set():
                    receipts.append(pusher.push(f"{name} {number}"))
                    number += 1

            def are_done(some: int) -> bool:
                return len(receipts) >= some

            def restart_each() -> None:
                try:
                    for mom in faulty.moms():
                        apart(partial(faulty.terminate, mom.index))
                        until("pushes go on", partial(are_done, len(receipts) + 50))
                        apart(partial(faulty.restart, mom.index))
                finally:
                    restarted.set()

            during([partial(push_on, name) for name in range(8)], restart_each)
            last = pusher.push("last")
            until("the last message has come", lambda: subscriber.last_seq >= last.seq)
        messages = reading.ended()
    assert [message.seq for message in messages] == list(range(1, len(receipts) + 2))
    assert {(message.seq, message.id) for message in messages[:-1]} == {(r.seq, r.id) for r in receipts}


def test_without_managers_messages_go_on(faulty: Cluster, queue: str) -> None:
    with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        channel = client.create_channel(queue)
        with client.subscriber(channel) as subscriber:
            reading = Reading(subscriber)
            pusher.push("before")
            reading.reached(1)
            with faulty.without_managers():
                pusher.push("meanwhile")
                reading.reached(2)
                with pytest.raises(ManagerUnreachable):
                    client.create_channel(queue)
                with pytest.raises(ManagerUnreachable):
                    client.get_queue(queue)
            assert client.list_queues() != []
            assert client.get_channel(channel.id) == channel


def test_without_managers_a_queue_that_moves_is_followed(faulty: Cluster, queue: str) -> None:
    with MoMClient(faulty.manager) as client, client.pusher(queue) as pusher:
        channel = client.create_channel(queue)
        with client.subscriber(channel) as subscriber:
            reading = Reading(subscriber)
            pusher.push("before")
            reading.reached(1)
            old = faulty.hosting(client.get_queue(queue))
            new = next(mom.index for mom in faulty.moms() if mom.index != old)
            with faulty.without_managers():
                # The MoM that had it says who has it.
                faulty.move(queue, new)
                pusher.push("after", timeout=60)
                messages = reading.reached(2)
                assert [message.text for message in messages] == ["before", "after"]


def test_without_moms_nothing_is_created(faulty: Cluster, label: str) -> None:
    with MoMClient(faulty.manager, timeout=60) as client:
        for mom in faulty.moms():
            faulty.kill(mom.index)
        with pytest.raises(Unavailable) as caught:
            client.create_queue(label)
        assert caught.value.code == "no_mom_up"
        assert label not in client.list_queues()
        for mom in faulty.moms():
            faulty.restart(mom.index)
        # The manager takes a moment to see that they are back.
        available(partial(client.create_queue, label))
        with client.pusher(label) as pusher:
            assert (pusher.push("content")).seq == 1


def test_without_the_database_everything_is_refused_and_nothing_lost(faulty: Cluster, queue: str) -> None:
    with MoMClient(faulty.manager, timeout=60) as client, client.pusher(queue) as pusher:
        with client.subscriber(client.create_channel(queue)) as subscriber:
            reading = Reading(subscriber)
            kept = [pusher.push("before")]
            with faulty.without_database():
                # The push that finds out may be unknown, the ones behind it are refused.
                refusals = [failure(partial(pusher.push, f"refused {n}", timeout=1)) for n in range(3)]
                assert [type(error) for error in refusals[1:]] == [Unavailable] * 2
                assert {error.code for error in refusals[1:] if error is not None} == {"database_unavailable"}
                for call in (client.get_queue, client.create_channel, client.delete_queue):
                    error = failure(partial(call, queue))
                    assert (type(error), error and error.code) == (Unavailable, "database_unavailable")
            kept.append(pusher.push("after", timeout=60))
            assert queue in client.list_queues()
            until("the last message has come", lambda: subscriber.last_seq >= kept[-1].seq)
        messages = reading.ended()
    assert {message.id for message in messages} >= {receipt.id for receipt in kept}
    assert {message.text for message in messages} <= {"before", "refused 0", "after"}
    assert [message.seq for message in messages] == list(range(1, kept[-1].seq + 1))
