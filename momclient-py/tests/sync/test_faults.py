# Generated from tests/aio/test_faults.py by scripts/make_sync.py: edit that one, then run `make sync`.

"""Pushing and subscribing while MoMs are killed and frozen."""

from __future__ import annotations

import pytest

from momclient import MoMClient, OutcomeUnknown
from tests.cluster import Cluster
from tests.waiting import Reading, until

pytestmark = pytest.mark.anyio


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
    sequences = [message.seq for message in messages]
    # Each once and in order. A push whose answer was lost may be there twice, as two messages.
    assert sequences == list(range(1, after[-1].seq + 1))
    received = [message.id for message in messages]
    assert set(received) >= {receipt.id for receipt in before + after}
    assert len(set(received)) == len(received)


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
    assert [message.seq for message in messages] == list(range(1, last.seq + 1))
    assert {receipt.id, last.id} <= {message.id for message in messages}


def test_an_unknown_outcome_is_raised_where_it_may_not_be_tried_again(faulty: Cluster, queue: str) -> None:
    with MoMClient(faulty.manager) as client, client.pusher(queue, retry_unknown=False) as pusher:
        pusher.push("before")
        faulty.freeze(faulty.hosting(client.get_queue(queue)))
        with pytest.raises(OutcomeUnknown):
            pusher.push("unknown", timeout=1)


def test_where_nothing_was_sent_the_outcome_is_known(faulty: Cluster, queue: str) -> None:
    with MoMClient(faulty.manager) as client, client.pusher(queue, retry_unknown=False) as pusher:
        faulty.kill(faulty.hosting(client.get_queue(queue)))
        # The first attempts meet a MoM that is down, which is no reason to give up.
        assert (pusher.push("content", timeout=60)).seq == 1
