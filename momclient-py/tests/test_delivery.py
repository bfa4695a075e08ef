"""Received batches, and the credits that they are received for."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable
from itertools import accumulate

import pytest

from momclient import Message, ServerFault
from momclient._delivery import Credits, messages
from momclient._proto.messages_pb2 import BatchSubscription, Header, MessageBatch, Run, SubscriptionRequest

FIRST = uuid.UUID("01900000-0000-7000-8000-0000000000fe")
OTHER = uuid.UUID("01900000-0000-7000-8000-ffff00000000")


def batch_of(first_seq: int, runs: Iterable[Run], contents: list[bytes]) -> MessageBatch:
    ends = struct.pack(f"<{len(contents)}I", *accumulate(map(len, contents)))
    return MessageBatch(first_seq=first_seq, runs=runs, ends=ends, contents=b"".join(contents))


def some() -> MessageBatch:
    runs = [
        Run(count=3, topic="a", id=FIRST.bytes),
        Run(count=1, topic="__none__", id=OTHER.bytes, gap=2, headers=[Header(name="a", value="1")]),
    ]
    return batch_of(5, runs, [b"one", b"", b"three", b"four"])


def test_each_message_has_its_id_sequence_topic_and_content() -> None:
    assert list(messages(some(), 0)) == [
        Message("01900000-0000-7000-8000-0000000000fe", b"one", "a", 5),
        Message("01900000-0000-7000-8000-0000000000ff", b"", "a", 6),
        Message("01900000-0000-7000-8000-000000000100", b"three", "a", 7),
        Message("01900000-0000-7000-8000-ffff00000000", b"four", None, 10, {"a": "1"}),
    ]


def test_a_gap_may_come_first() -> None:
    batch = batch_of(5, [Run(count=1, topic="a", id=FIRST.bytes, gap=3)], [b"x"])
    assert [message.seq for message in messages(batch, 0)] == [8]


def test_what_was_received_before_is_skipped() -> None:
    assert [message.seq for message in messages(some(), 6)] == [7, 10]


def test_a_batch_that_makes_no_sense_is_a_fault() -> None:
    batch = some()
    batch.ends = batch.ends[:-1]
    with pytest.raises(ServerFault):
        messages(batch, 0)


def test_a_message_is_a_value() -> None:
    message = Message(id="a", content=b"text", topic=None, seq=1)
    assert message == Message("a", b"text", None, 1)
    assert message != Message("a", b"text", None, 1, {"a": "1"})
    assert Message("a", b"text", None, 1, {"a": "1"}) in {Message("a", b"text", None, 1, {"a": "1"})}
    assert repr(Message("a", b"", None, 1, {"a": "1"})).endswith("seq=1, headers={'a': '1'})")
    assert len({message, Message("a", b"text", None, 1), Message("a", b"text", None, 2)}) == 2
    assert message != ("a", b"text", None, 1)
    assert repr(message) == "Message(id='a', content=b'text', topic=None, seq=1)"
    assert message.text == "text"
    with pytest.raises(AttributeError):
        message.seq = 2  # type: ignore[misc]


def test_credits_are_given_back_by_halves_of_what_was_read() -> None:
    request = SubscriptionRequest(channel_id="channel", after_seq=4)
    credits_ = Credits(request, 9, 1000)
    assert credits_.take() == BatchSubscription(subscribe=request, messages=9, bytes=1000)
    assert credits_.take() is None
    credits_.read(some())
    assert credits_.take() is None, "4 of 9"
    credits_.read(some())
    assert credits_.take() == BatchSubscription(messages=8, bytes=24)
    assert credits_.take() is None
    credits_.read(batch_of(1, [Run(count=1, id=FIRST.bytes)], [b"x" * 500]))
    assert credits_.take() == BatchSubscription(messages=1, bytes=500)


def test_the_least_credits_go_on_for_ever() -> None:
    credits_ = Credits(SubscriptionRequest(), 1, 1)
    credits_.take()
    for _ in range(3):
        credits_.read(batch_of(1, [Run(count=1, id=FIRST.bytes)], [b""]))
        assert credits_.take() == BatchSubscription(messages=1, bytes=0)
