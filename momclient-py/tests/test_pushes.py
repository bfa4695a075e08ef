"""The line of a pusher's pushes: what goes out when and in what batch, and what answers make of it."""

from __future__ import annotations

import struct
import time
import uuid

import grpc
import pytest

from momclient import InvalidArgument, MoMError, OutcomeUnknown, Overloaded, QueueNotFound, Unavailable, _wire
from momclient._proto.messages_pb2 import Outcome, PushAnswer, PushBatch, Refusal, Run
from momclient._pushes import LAST_NUMBER, MOST_BYTES, MOST_MESSAGES, WINDOW, Push, Pushes, new_pusher

BROKEN = Unavailable("the connection broke")
AWAY = Refusal(status=grpc.StatusCode.UNAVAILABLE.value[0], code="database_unavailable", detail="away")
FULL = Refusal(status=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], code="overloaded", detail="full")
LOST = Refusal(status=grpc.StatusCode.UNAVAILABLE.value[0], code="outcome_unknown", detail="no answer")
ILLEGAL = Refusal(status=grpc.StatusCode.INVALID_ARGUMENT.value[0], code="invalid_topic", detail="illegal")
MOVED = Refusal(status=grpc.StatusCode.FAILED_PRECONDITION.value[0], code="not_owner", detail="moved")


class Line:
    """The pushes of a pusher, with a MoM that is told what to answer."""

    def __init__(self, in_flight: int = 1 << 20, last_number: int = LAST_NUMBER) -> None:
        self.pushes = Pushes("queue", in_flight, last_number)
        self.woken: list[Push] = []
        self.pusher = b""
        self.open()

    def open(self, seq: int = 0, messages: int = 1 << 20, size: int = 1 << 30) -> PushBatch:
        """Begin with a stream and have it opened."""
        self.pushes.begin(time.monotonic())
        opening = self.take()
        self.pusher = opening.open.pusher
        assert not opening.runs
        assert self.pushes.take(time.monotonic()) is None, "nothing goes out before the MoM has answered"
        self.answer(PushAnswer(seq=seq, window_messages=messages, window_bytes=size))
        return opening

    def add(
        self,
        *contents: bytes,
        topic: str = "t",
        timeout: float = 60.0,
        key: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Push:
        push: Push
        together = len(contents) > 1

        def done() -> None:
            self.woken.append(push)

        push = Push(contents, topic, timeout=timeout, done=done, key=key, headers=headers, together=together)
        self.pushes.add(push)
        return push

    def take(self) -> PushBatch:
        batch = self.pushes.take(time.monotonic())
        assert batch is not None
        return batch

    def takes_nothing(self) -> bool:
        return self.pushes.take(time.monotonic()) is None

    def answer(self, answer: PushAnswer) -> MoMError | None:
        return self.pushes.answered(answer, time.monotonic())

    def commit(self, number: int, count: int = 1, *, seq: int, duplicate: bool = False) -> MoMError | None:
        return self.answer(PushAnswer(outcomes=[Outcome(number=number, count=count, seq=seq, duplicate=duplicate)]))

    def refuse(self, number: int, count: int = 1, *, refusal: Refusal) -> MoMError | None:
        return self.answer(PushAnswer(outcomes=[Outcome(number=number, count=count, refusal=refusal)]))


def numbers(batch: PushBatch) -> list[int]:
    found: list[int] = []
    number = batch.number
    for run in batch.runs:
        number += run.gap
        found += range(number, number + run.count)
        number += run.count
    return found


def contents(batch: PushBatch) -> list[bytes]:
    ends = struct.unpack(f"<{len(batch.ends) // 4}I", batch.ends)
    return [batch.contents[start:end] for start, end in zip((0, *ends), ends, strict=False)]


def after_seq(batch: PushBatch) -> int | None:
    return batch.after_seq if batch.HasField("after_seq") else None


def test_an_identity_is_a_uuid_of_this_moment_with_room_for_a_number() -> None:
    before = time.time_ns() // 1_000_000
    pushers = {new_pusher() for _ in range(1000)}
    after = time.time_ns() // 1_000_000
    assert len(pushers) == 1000
    for pusher in pushers:
        assert len(pusher) == 16
        assert pusher[12:] == bytes(4)
        as_uuid = uuid.UUID(bytes=pusher)
        assert (as_uuid.version, as_uuid.variant) == (7, uuid.RFC_4122)
        assert before <= as_uuid.int >> 80 <= after


def test_what_waits_goes_out_as_one_batch_with_runs_of_equal_topic() -> None:
    line = Line()
    for content, topic in ((b"one", "a"), (b"", "a"), (b"three", "b"), (b"four", "a")):
        line.add(content, topic=topic)
    batch = line.take()
    assert (batch.number, batch.settled, after_seq(batch)) == (1, 1, None)
    assert list(batch.runs) == [Run(count=2, topic="a"), Run(count=1, topic="b"), Run(count=1, topic="a")]
    assert contents(batch) == [b"one", b"", b"three", b"four"]
    assert line.takes_nothing()


def test_messages_with_different_headers_are_in_different_runs() -> None:
    line = Line()
    trace = (("a", ""), ("traceparent", "00-ab-cd-01"))
    for headers in ((), trace, trace, (("a", "1"),), ()):
        line.add(b"x", headers=headers)
    sent = [[(header.name, header.value) for header in run.headers] for run in line.take().runs]
    assert sent == [[], list(trace), [("a", "1")], []]


def test_ids_are_made_of_pusher_and_number_or_brought() -> None:
    line = Line()
    key = uuid.uuid4()
    plain, keyed, several, last = line.add(b"1"), line.add(b"2", key=key.bytes), line.add(b"3", b"4"), line.add(b"5")
    batch = line.take()
    assert list(batch.runs) == [
        Run(count=1, topic="t"),
        Run(count=1, topic="t", id=key.bytes),
        Run(count=2, topic="t", together=True),
        Run(count=1, topic="t"),
    ]
    assert line.commit(1, 5, seq=7) is None
    assert [push.seq for push in (plain, keyed, several, last)] == [7, 8, 9, 11]
    made = [str(uuid.UUID(bytes=line.pusher[:12] + number.to_bytes(4, "big"))) for number in range(1, 6)]
    assert [*plain.ids(), *several.ids(), *last.ids()] == [made[0], made[2], made[3], made[4]]
    assert keyed.ids() == [str(key)]


def test_a_batch_is_bounded_unless_it_is_one_message() -> None:
    line = Line()
    for _ in range(MOST_MESSAGES + 1):
        line.add(b"x")
    large = line.add(b"x" * (MOST_BYTES + 1))
    line.add(b"x")
    assert [len(numbers(line.take())) for _ in range(2)] == [MOST_MESSAGES, 1]
    assert line.takes_nothing(), "what is larger than a batch may be goes with nothing beside it"
    line.commit(1, MOST_MESSAGES + 1, seq=1)
    assert numbers(line.take()) == [MOST_MESSAGES + 2] == [large.number]
    assert line.takes_nothing()
    line.commit(large.number, seq=MOST_MESSAGES + 2)
    assert numbers(line.take()) == [MOST_MESSAGES + 3]


def test_no_more_goes_out_than_the_window_or_the_user_allows() -> None:
    line = Line(in_flight=3)
    for _ in range(5):
        line.add(b"x")
    several = line.add(b"x", b"x", b"x", b"x")
    assert numbers(line.take()) == [1, 2, 3]
    assert line.takes_nothing()
    line.commit(2, seq=1)
    assert numbers(line.take()) == [4]
    line.commit(1, seq=2)
    line.commit(3, 2, seq=3)
    # What goes together goes, although it is more than may be in flight, where anything may go.
    assert numbers(line.take()) == [5]
    assert numbers(line.take()) == [6, 7, 8, 9]
    assert not several.is_done
    narrow = Line()
    narrow.answer(PushAnswer(window_messages=2, window_bytes=10))
    for _ in range(3):
        narrow.add(b"x" * 10)
    assert numbers(narrow.take()) == [1, 2]
    assert narrow.takes_nothing()
    narrow.commit(1, 2, seq=1)
    assert numbers(narrow.take()) == [3]


def test_of_many_small_batches_a_few_are_under_way() -> None:
    line = Line()
    sent = 0
    while True:
        line.add(b"x")
        if line.takes_nothing():
            break
        sent += 1
    line.add(b"x")
    assert sent > 1
    line.commit(1, seq=1)
    # What had to wait goes out as one.
    assert numbers(line.take()) == [sent + 1, sent + 2]


def test_a_final_refusal_is_of_these_messages_only() -> None:
    line = Line()
    pushes = [line.add(b"x") for _ in range(4)]
    line.take()
    assert line.refuse(2, 2, refusal=ILLEGAL) is None
    line.commit(1, seq=5)
    line.commit(4, seq=6)
    assert [push.seq for push in pushes] == [5, 0, 0, 6]
    for push in pushes[1:3]:
        assert isinstance(push.error, InvalidArgument)
        assert push.error.code == "invalid_topic"
    assert line.woken == [pushes[1], pushes[2], pushes[0], pushes[3]]


@pytest.mark.parametrize(("refusal", "kind"), [(AWAY, Unavailable), (FULL, Overloaded)])
def test_what_is_refused_for_now_goes_again_in_order_when_all_is_answered(
    refusal: Refusal, kind: type[MoMError]
) -> None:
    line = Line()
    pushes = [line.add(b"%d" % number) for number in range(3)]
    line.take()
    pushes += [line.add(b"%d" % number) for number in range(3, 5)]
    line.take()
    assert line.refuse(2, 2, refusal=refusal) is None
    pushes.append(line.add(b"5"))
    assert line.takes_nothing()
    assert line.commit(1, seq=1) is None
    error = line.refuse(4, 2, refusal=refusal)
    assert type(error) is kind
    assert line.takes_nothing(), "a pause comes first"
    line.pushes.resume()
    batch = line.take()
    assert (numbers(batch), batch.settled) == ([2, 3, 4, 5, 6], 2)
    assert after_seq(batch) is None, "none of them can have been accepted"
    assert contents(batch) == [b"1", b"2", b"3", b"4", b"5"]
    line.commit(2, 5, seq=2)
    assert [push.seq for push in pushes] == [1, 2, 3, 4, 5, 6]


def test_what_is_refused_for_now_and_given_up_is_left_out() -> None:
    line = Line()
    pushes = [line.add(b"x") for _ in range(5)]
    line.take()
    line.refuse(1, 5, refusal=FULL)
    line.pushes.drop(pushes[0])
    line.pushes.give_up(pushes[2])
    assert isinstance(pushes[2].error, Overloaded)
    assert pushes[2].error.code == "overloaded"
    line.pushes.resume()
    batch = line.take()
    assert (numbers(batch), batch.settled) == ([2, 4, 5], 2)
    assert [run.gap for run in batch.runs] == [0, 1]


def test_the_end_of_a_stream_leaves_unknown_what_was_sent_and_it_goes_again_first() -> None:
    line = Line()
    line.commit(1, seq=0)
    pushes = [line.add(b"x") for _ in range(2)]
    line.take()
    line.commit(1, seq=8)
    pushes += [line.add(b"x") for _ in range(2)]
    line.take()
    waiting = line.add(b"x")
    line.pushes.lost(BROKEN)
    opening = line.open(seq=20)
    assert (opening.open.pusher, opening.open.settled) == (line.pusher, 2)
    repeats = line.take()
    # The first of them was sent when nothing was committed yet.
    assert (numbers(repeats), after_seq(repeats), repeats.settled) == ([2, 3, 4], 0, 2)
    fresh = line.take()
    assert (numbers(fresh), after_seq(fresh)) == ([5], None)
    line.commit(2, 3, seq=9, duplicate=True)
    line.commit(5, seq=21)
    assert [(push.seq, push.duplicate) for push in pushes] == [(8, False), (9, True), (10, True), (11, True)]
    assert (waiting.seq, waiting.duplicate) == (21, False)


def test_what_is_looked_for_is_behind_every_attempt() -> None:
    line = Line()
    line.pushes.lost(BROKEN)
    line.open(seq=7)
    line.add(b"x")
    line.take()
    # The queue was made anew in the end.
    for seq, behind in ((9, 7), (0, 0), (3, 0)):
        line.pushes.lost(BROKEN)
        line.open(seq=seq)
        assert after_seq(line.take()) == behind


def test_an_unknown_outcome_is_asked_for_again() -> None:
    line = Line()
    first, second = line.add(b"x"), line.add(b"x")
    line.take()
    line.refuse(1, refusal=LOST)
    error = line.refuse(2, refusal=AWAY)
    assert isinstance(error, OutcomeUnknown)
    line.pushes.resume()
    assert [(numbers(batch), after_seq(batch)) for batch in (line.take(), line.take())] == [([1], 0), ([2], None)]
    line.refuse(1, refusal=ILLEGAL)
    line.refuse(2, refusal=ILLEGAL)
    # What the second attempt was told does not say what became of the first one.
    assert isinstance(first.error, OutcomeUnknown)
    assert isinstance(second.error, InvalidArgument)


def test_a_queue_that_has_moved_is_said_and_nothing_is_lost_by_it() -> None:
    line = Line()
    push = line.add(b"x")
    line.add(b"x")
    line.take()
    line.refuse(1, refusal=MOVED)
    error = line.refuse(2, refusal=AWAY)
    assert isinstance(error, _wire.Moved)
    line.pushes.lost(error)
    line.pushes.give_up(push)
    assert type(push.error) is Unavailable, "no attempt can have been accepted"
    line.open()
    assert numbers(line.take()) == [2]


def test_where_no_push_can_succeed_all_that_wait_end() -> None:
    line = Line()
    sent = line.add(b"x")
    line.take()
    line.pushes.lost(BROKEN)
    waiting = line.add(b"x")
    line.pushes.lost(QueueNotFound("no such queue", code="queue_not_found"))
    assert isinstance(waiting.error, QueueNotFound)
    assert isinstance(sent.error, OutcomeUnknown)
    assert not line.pushes.is_wanted


def test_what_is_too_large_to_be_read_ends_alone() -> None:
    line = Line()
    large = line.add(b"x" * (MOST_BYTES + 1))
    assert numbers(line.take()) == [1]
    waiting = line.add(b"x")
    line.pushes.lost(InvalidArgument("the message is too large to be decoded"))
    assert isinstance(large.error, InvalidArgument)
    line.open()
    assert numbers(line.take()) == [2]
    assert not waiting.is_done


def test_a_push_whose_time_is_up_says_what_is_known() -> None:
    line = Line(in_flight=1)
    sent, waiting = line.add(b"x", timeout=0.5), line.add(b"x")
    line.take()
    line.pushes.give_up(waiting)
    assert isinstance(waiting.error, Overloaded)
    assert waiting.error.code == "in_flight_limit"
    line.pushes.give_up(sent)
    assert isinstance(sent.error, OutcomeUnknown)
    assert "0.5 s" in sent.error.detail
    line.pushes.lost(BROKEN)
    unsent = line.add(b"x")
    line.pushes.give_up(unsent)
    assert type(unsent.error) is Unavailable
    assert BROKEN.detail in unsent.error.detail


def test_nothing_is_sent_again_that_would_have_no_time_for_an_answer() -> None:
    line = Line()
    push = line.add(b"x", timeout=0.05)
    line.take()
    line.refuse(1, refusal=AWAY)
    line.pushes.resume()
    assert line.takes_nothing()
    assert type(push.error) is Unavailable, "it was refused, and another attempt might leave it unknown"


def test_numbers_are_settled_up_to_the_oldest_that_is_wanted() -> None:
    line = Line()
    pushes = [line.add(b"x") for _ in range(4)]
    line.take()
    line.commit(2, seq=1)
    line.add(b"x")
    assert line.take().settled == 1
    line.commit(5, seq=2)
    line.pushes.drop(pushes[0])
    line.add(b"x")
    assert line.take().settled == 1, "it is under way, wanted or not"
    line.commit(6, seq=3)
    line.commit(1, seq=4)
    line.add(b"x")
    assert line.take().settled == 3
    line.commit(3, 2, seq=5)
    line.commit(7, seq=7)
    line.add(b"x")
    assert line.take().settled == 8


def test_a_push_waits_while_the_oldest_is_too_far_behind() -> None:
    line = Line(last_number=LAST_NUMBER)
    oldest = line.add(b"x")
    line.take()
    for number in range(2, WINDOW, MOST_MESSAGES):
        line.add(*[b""] * MOST_MESSAGES)
        if number + MOST_MESSAGES > WINDOW:
            break
        line.take()
        line.commit(number, MOST_MESSAGES, seq=number)
    assert line.takes_nothing()
    line.commit(1, seq=WINDOW)
    assert oldest.is_done
    line.take()


def test_an_identity_whose_numbers_end_is_replaced_when_nothing_bears_one_any_more() -> None:
    line = Line(last_number=MOST_MESSAGES)
    old = line.pusher
    several = line.add(*[b"x"] * (MOST_MESSAGES - 1))
    line.take()
    first, second, third = (line.add(b"x") for _ in range(3))
    assert numbers(line.take()) == [MOST_MESSAGES]
    assert line.takes_nothing()
    spent = [line.pushes.is_spent]
    line.pushes.lost(BROKEN)
    assert line.open().open.pusher == old
    assert numbers(line.take()) == [*range(1, MOST_MESSAGES + 1)]
    line.commit(1, MOST_MESSAGES, seq=1)
    assert line.takes_nothing()
    assert [*spent, line.pushes.is_spent] == [False, True], "first, numbers are under way"
    assert line.open().open.settled == 1
    assert line.pusher != old
    assert numbers(line.take()) == [1, 2]
    line.commit(1, 2, seq=MOST_MESSAGES + 1)
    assert len({*several.ids(), *first.ids(), *second.ids(), *third.ids()}) == MOST_MESSAGES + 2


def test_a_mom_owes_an_answer_to_what_was_sent_and_to_nothing_else() -> None:
    pushes = Pushes("queue", 1)
    assert pushes.silent_since() is None
    pushes.begin(1.0)
    assert pushes.silent_since() == 1.0
    pushes.take(2.0)
    pushes.answered(PushAnswer(window_messages=1, window_bytes=1), 3.0)
    assert pushes.silent_since() is None
    pushes.add(Push([b"x"], "", timeout=60, done=nothing))
    pushes.take(4.0)
    assert pushes.silent_since() == 4.0
    pushes.answered(PushAnswer(), 5.0)
    assert pushes.silent_since() == 5.0
    pushes.lost(BROKEN)
    assert pushes.silent_since() is None


def nothing() -> None:
    pass
