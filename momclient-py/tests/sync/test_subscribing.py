# Generated from tests/aio/test_subscribing.py by scripts/make_sync.py: edit that one, then run `make sync`.

"""Subscribing to a channel while nothing fails."""

from __future__ import annotations

import pytest

from momclient import ChannelNotFound, InvalidArgument, ManagerUnreachable, MoMClient
from tests.waiting import Reading, take, until

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"


def test_what_is_retained_comes_first_and_then_what_is_live(manager: str, queue: str) -> None:
    with MoMClient(manager) as client, client.pusher(queue) as pusher:
        pusher.push("before the channel")
        channel = client.create_channel(queue)
        pusher.push("before the subscription")
        with client.subscriber(channel) as subscriber:
            assert subscriber.last_seq == 0
            assert [message.text for message in take(subscriber, 2)] == [
                "before the channel",
                "before the subscription",
            ]
            pusher.push("live")
            (live,) = take(subscriber, 1)
            assert (live.text, live.seq, live.topic) == ("live", 3, None)
            assert subscriber.last_seq == 3
            assert subscriber.place == channel


def test_a_topic_sees_its_own_and_no_topic_sees_all(manager: str, queue: str) -> None:
    with MoMClient(manager) as client, client.pusher(queue) as pusher:
        some = client.create_channel(queue, "Weather")
        every = client.create_channel(queue)
        for topic in ("weather", None, "sports", "WEATHER"):
            pusher.push(f"on {topic}", topic=topic)
        with client.subscriber(some.id) as subscriber:
            messages = take(subscriber, 2)
            assert [(message.seq, message.topic) for message in messages] == [(1, "weather"), (4, "weather")]
        with client.subscriber(every.id) as subscriber:
            messages = take(subscriber, 4)
            assert [message.topic for message in messages] == ["weather", None, "sports", "weather"]


def test_every_subscriber_of_a_channel_gets_everything(manager: str, queue: str) -> None:
    with MoMClient(manager) as client, client.pusher(queue) as pusher:
        channel = client.create_channel(queue)
        with client.subscriber(channel) as first, client.subscriber(channel) as second:
            one, two = Reading(first), Reading(second)
            for number in range(20):
                pusher.push(str(number))
            assert one.reached(20) == two.reached(20)


def test_a_subscription_resumes_after_a_sequence(manager: str, queue: str) -> None:
    with MoMClient(manager) as client, client.pusher(queue) as pusher:
        channel = client.create_channel(queue)
        for number in range(1, 6):
            pusher.push(str(number))
        with client.subscriber(channel) as subscriber:
            take(subscriber, 2)
            seen = subscriber.last_seq
        with client.subscriber(channel, after_seq=seen) as subscriber:
            assert [message.seq for message in take(subscriber, 3)] == [3, 4, 5]
        with client.subscriber(channel, after_seq=0) as subscriber:
            assert [message.seq for message in take(subscriber, 1)] == [1]


def test_messages_come_in_lists_as_well(manager: str, queue: str) -> None:
    with MoMClient(manager) as client, client.pusher(queue) as pusher:
        pusher.push_many([str(number) for number in range(1, 101)])
        with client.subscriber(client.create_channel(queue), after_seq=10) as subscriber:
            assert [message.seq for message in take(subscriber, 5)] == [11, 12, 13, 14, 15]
            seen = []
            for batch in subscriber.batches():
                seen += [message.text for message in batch]
                assert subscriber.last_seq == batch[-1].seq
                if subscriber.last_seq == 100:
                    break
            assert seen == [str(number) for number in range(16, 101)]


@pytest.mark.parametrize(("messages", "size"), [(1, 1 << 20), (3, 1 << 20), (1 << 20, 1), (1 << 20, 100)])
def test_a_small_buffer_loses_nothing(manager: str, queue: str, messages: int, size: int) -> None:
    with MoMClient(manager) as client, client.pusher(queue) as pusher:
        channel = client.create_channel(queue)
        with client.subscriber(channel, buffer_messages=messages, buffer_bytes=size) as subscriber:
            pusher.push_many([f"{number:030}" for number in range(30)])
            assert [int(message.text) for message in take(subscriber, 30)] == list(range(30))


def test_a_sequence_that_is_not_reached_is_waited_for(manager: str, queue: str) -> None:
    with MoMClient(manager) as client, client.pusher(queue) as pusher:
        channel = client.create_channel(queue)
        with client.subscriber(channel, after_seq=3) as subscriber:
            reading = Reading(subscriber)
            for number in range(1, 6):
                pusher.push(str(number))
            assert [message.seq for message in reading.reached(2)] == [4, 5]


def test_closing_ends_an_iteration_that_waits(manager: str, queue: str) -> None:
    with MoMClient(manager) as client, client.pusher(queue) as pusher:
        subscriber = client.subscriber(client.create_channel(queue))
        reading = Reading(subscriber)
        pusher.push("content")
        reading.reached(1)
        subscriber.close()
        assert [message.text for message in reading.ended()] == ["content"]
        assert subscriber.place is None
        subscriber.close()
        assert [message for message in subscriber] == []


def test_closing_the_client_ends_its_subscribers(manager: str, queue: str) -> None:
    with MoMClient(manager) as client:
        subscriber = client.subscriber(client.create_channel(queue))
        reading = Reading(subscriber)
        until("the subscription is open", lambda: subscriber.place is not None)
    assert reading.ended() == []


def test_a_channel_that_is_deleted_is_missing(manager: str, queue: str) -> None:
    with MoMClient(manager) as client:
        channel = client.create_channel(queue)
        with client.subscriber(channel) as subscriber:
            reading = Reading(subscriber)
            until("the subscription is open", lambda: subscriber.place is not None)
            client.delete_channel(channel.id)
            with pytest.raises(ChannelNotFound):
                reading.ended()


def test_the_channels_of_a_deleted_queue_are_missing(manager: str, queue: str) -> None:
    with MoMClient(manager) as client:
        channel = client.create_channel(queue)
        with client.subscriber(channel) as subscriber:
            reading = Reading(subscriber)
            until("the subscription is open", lambda: subscriber.place is not None)
            client.delete_queue(queue)
            with pytest.raises(ChannelNotFound):
                reading.ended()


def test_a_channel_that_never_was_is_missing(manager: str) -> None:
    with MoMClient(manager) as client, client.subscriber(NOBODY) as subscriber:
        with pytest.raises(ChannelNotFound):
            take(subscriber, 1)


def test_a_subscriber_without_a_manager_says_so(dead_url: str) -> None:
    with MoMClient(dead_url) as client, client.subscriber(NOBODY) as subscriber:
        with pytest.raises(ManagerUnreachable):
            take(subscriber, 1)


def test_a_channel_that_was_looked_up_needs_no_manager(manager: str, queue: str, dead_url: str) -> None:
    with MoMClient(manager) as client, client.pusher(queue) as pusher, MoMClient(dead_url) as lost:
        channel = client.create_channel(queue)
        pusher.push("content")
        with lost.subscriber(channel) as subscriber:
            assert [message.text for message in take(subscriber, 1)] == ["content"]


def test_a_negative_sequence_is_refused(manager: str) -> None:
    with MoMClient(manager) as client:
        with pytest.raises(InvalidArgument):
            client.subscriber(NOBODY, after_seq=-1)


@pytest.mark.parametrize(("messages", "size"), [(0, 1), (1, 0), (1 << 32, 1)])
def test_a_buffer_without_room_is_refused(manager: str, messages: int, size: int) -> None:
    with MoMClient(manager) as client:
        with pytest.raises(InvalidArgument):
            client.subscriber(NOBODY, buffer_messages=messages, buffer_bytes=size)
