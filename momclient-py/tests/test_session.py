"""The numbers of a pusher's pushes."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from momclient._session import LAST_NUMBER, WINDOW, Session, Ticket, new_pusher


def begin(session: Session) -> Ticket:
    ticket = session.begin()
    assert ticket is not None
    return ticket


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


def test_numbers_are_settled_up_to_the_oldest_push_under_way() -> None:
    session = Session()
    first, second, third, last = (begin(session) for _ in range(4))
    assert [ticket.number for ticket in (first, second, third, last)] == [1, 2, 3, 4]
    session.settle(second)
    assert last.settled == 1, "the first is under way"
    session.settle(first)
    assert last.settled == 3
    session.settle(third)
    assert last.settled == 4
    assert session.identities() == [(last.pusher, 4)]


def test_an_identity_whose_numbers_end_is_replaced_and_lives_on_for_its_pushes() -> None:
    session = Session(last_number=2)
    first = begin(session)
    session.settle(begin(session))
    third = begin(session)
    assert first.pusher != third.pusher
    assert (first.number, third.number) == (1, 1)
    assert session.identities() == [(first.pusher, 1), (third.pusher, 1)]
    session.settle(first)
    assert session.identities() == [(third.pusher, 1)]


def test_an_identity_whose_pushes_have_all_ended_is_replaced_at_once() -> None:
    session = Session(last_number=1)
    first = begin(session)
    session.settle(first)
    second = begin(session)
    assert second.pusher != first.pusher
    assert session.identities() == [(second.pusher, 1)]


def test_what_is_told_of_the_last_number_fits_the_wire() -> None:
    session = Session()
    identity = begin(session)._identity
    identity.settled = LAST_NUMBER
    session.settle(Ticket(identity, LAST_NUMBER))
    assert session.identities() == [(identity.pusher, LAST_NUMBER)]


def test_a_push_waits_while_the_window_is_full() -> None:
    session = Session()
    oldest = begin(session)
    for _ in range(1, WINDOW):
        session.settle(begin(session))
    assert session.begin() is None
    session.settle(oldest)
    assert begin(session).number == WINDOW + 1


def test_what_is_looked_for_is_behind_every_attempt() -> None:
    ticket = begin(Session())
    assert ticket.attempt(7) == 7
    assert ticket.attempt(9) == 7
    # The queue was made anew.
    assert ticket.attempt(0) == 0
    assert ticket.attempt(3) == 0


def test_threads_share_the_numbers() -> None:
    session = Session()

    def push_many(_: int) -> list[int]:
        numbers = []
        for _ in range(500):
            ticket = begin(session)
            assert ticket.settled <= ticket.number
            numbers.append(ticket.number)
            session.settle(ticket)
        return numbers

    with ThreadPoolExecutor(8) as pool:
        numbers = [number for some in pool.map(push_many, range(8)) for number in some]
    assert sorted(numbers) == list(range(1, 4001))
    assert begin(session).settled == 4001
