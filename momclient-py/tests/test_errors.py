"""What servers answer, and which error of the tree it becomes."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from momclient import (
    AlreadyExists,
    ChannelNotFound,
    InvalidArgument,
    MoMError,
    OutcomeUnknown,
    Overloaded,
    QueueNotFound,
    ServerFault,
    Unavailable,
    _wire,
)
from momclient._proto.messages_pb2 import Refusal

Status = grpc.StatusCode


class Failed(grpc.RpcError):
    """A call that ended with a status."""

    def __init__(self, status: Status, code: str | None, detail: str = "the detail", owner: str | None = None) -> None:
        super().__init__()
        self._status = status
        self._code = code
        self._detail = detail
        self._owner = owner

    def code(self) -> Status:
        return self._status

    def details(self) -> str:
        return self._detail

    def trailing_metadata(self) -> Any:
        entries = {"date": "today", "rmom-code": self._code, "rmom-owner": self._owner}
        return tuple((key, value) for key, value in entries.items() if value)


@pytest.mark.parametrize(
    ("owner", "address"),
    [
        ("mom2:50051", ("mom2", 50051)),
        ("[::1]:50051", ("::1", 50051)),
        ("mom2", None),
        ("mom2:", None),
        (":1", None),
        (None, None),
    ],
)
def test_a_mom_that_has_lost_a_queue_names_the_owner(owner: str | None, address: tuple[str, int] | None) -> None:
    failed = Failed(Status.FAILED_PRECONDITION, "not_owner", owner=owner)
    for error in (_wire.push_error(failed), _wire.subscribe_error(failed)):
        assert isinstance(error, _wire.Moved)
        assert (error.code, error.owner) == ("not_owner", address)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (Status.INVALID_ARGUMENT, "invalid_topic", InvalidArgument),
        (Status.INVALID_ARGUMENT, "message_too_large", InvalidArgument),
        (Status.INVALID_ARGUMENT, "id_conflict", InvalidArgument),
        # Whether the queue is gone is for the manager to say.
        (Status.NOT_FOUND, "queue_not_found", Unavailable),
        (Status.FAILED_PRECONDITION, "not_owner", Unavailable),
        (Status.FAILED_PRECONDITION, "not_registered", Unavailable),
        (Status.FAILED_PRECONDITION, "pusher_not_open", Unavailable),
        (Status.RESOURCE_EXHAUSTED, "overloaded", Overloaded),
        (Status.UNAVAILABLE, "database_unavailable", Unavailable),
        (Status.UNAVAILABLE, "stopping", Unavailable),
        (Status.UNAVAILABLE, "outcome_unknown", OutcomeUnknown),
        (Status.UNAVAILABLE, "a code of later", OutcomeUnknown),
        (Status.UNAVAILABLE, "", OutcomeUnknown),
        (Status.INTERNAL, "internal", ServerFault),
        (Status.UNIMPLEMENTED, "", ServerFault),
    ],
)
def test_a_message_is_refused_with(status: Status, code: str, kind: type[MoMError]) -> None:
    error = _wire.refusal(Refusal(status=status.value[0], code=code, detail="the detail"))
    assert isinstance(error, kind)
    assert isinstance(error, Unavailable) == issubclass(kind, Unavailable)
    assert error.code == (code or None)
    assert "the detail" in error.detail


def test_a_status_that_nobody_knows_is_a_fault() -> None:
    assert isinstance(_wire.refusal(Refusal(status=99, detail="the detail")), ServerFault)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (Status.INVALID_ARGUMENT, "invalid_label", InvalidArgument),
        (Status.OUT_OF_RANGE, None, InvalidArgument),
        (Status.NOT_FOUND, "queue_not_found", Unavailable),
        (Status.FAILED_PRECONDITION, "not_owner", Unavailable),
        (Status.FAILED_PRECONDITION, "pusher_not_open", Unavailable),
        (Status.RESOURCE_EXHAUSTED, "overloaded", Overloaded),
        (Status.UNAVAILABLE, "stopping", Unavailable),
        (Status.UNAVAILABLE, "outcome_unknown", Unavailable),
        (Status.UNAVAILABLE, None, Unavailable),
        (Status.DEADLINE_EXCEEDED, None, Unavailable),
        (Status.CANCELLED, None, Unavailable),
        (Status.UNKNOWN, None, Unavailable),
        (Status.INTERNAL, None, Unavailable),
        (Status.INTERNAL, "internal", ServerFault),
        (Status.UNIMPLEMENTED, None, ServerFault),
    ],
)
def test_a_stream_of_pushes_ends_with(status: Status, code: str | None, kind: type[MoMError]) -> None:
    error = _wire.push_error(Failed(status, code))
    assert isinstance(error, kind)
    # What was sent and has no answer is unknown; another stream finds out.
    assert not isinstance(error, OutcomeUnknown)
    assert error.code == code
    assert "the detail" in error.detail


@pytest.mark.parametrize(
    ("error", "is_elsewhere"),
    [
        (_wire.Moved("moved", code="not_owner"), True),
        (Unavailable("stopping", code="stopping"), True),
        (Unavailable("away", code="database_unavailable"), False),
        (Overloaded("full", code="overloaded"), False),
        (OutcomeUnknown("no answer", code="outcome_unknown"), False),
    ],
)
def test_only_what_another_mom_would_answer_otherwise_is_tried_elsewhere(error: MoMError, is_elsewhere: bool) -> None:
    assert _wire.is_elsewhere(error) is is_elsewhere


def test_after_an_attempt_that_may_have_been_accepted_the_outcome_is_unknown() -> None:
    unknown = OutcomeUnknown("no answer", code="outcome_unknown")
    refusal = QueueNotFound("gone", code="queue_not_found")
    assert _wire.after_unknown(refusal, None) is refusal
    assert _wire.after_unknown(unknown, unknown) is unknown
    error = _wire.after_unknown(refusal, unknown)
    assert isinstance(error, OutcomeUnknown)
    assert (error.code, error.detail) == ("outcome_unknown", "no answer; a later attempt: gone")
    # This one says of the earlier attempt as well that it made no message.
    conflict = InvalidArgument("another content", code="id_conflict")
    assert _wire.after_unknown(conflict, unknown) is conflict


def test_pauses_are_short_as_long_as_a_queue_may_take_to_move() -> None:
    for _ in range(100):
        backoff = _wire.Backoff()
        pauses = [backoff.pause() for _ in range(14)]
        assert 0.01 <= pauses[0] <= 0.02
        assert all(pause <= 0.08 for pause in pauses[:12])
        assert 0.4 <= sum(pauses[:12]) <= 0.9
        assert all(0.5 <= pause <= 1.0 for pause in pauses[12:])
        backoff.reset()
        assert backoff.pause() <= 0.02


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (Status.INVALID_ARGUMENT, "invalid_channel_id", InvalidArgument),
        (Status.NOT_FOUND, "channel_not_found", ChannelNotFound),
        (Status.FAILED_PRECONDITION, "not_owner", Unavailable),
        (Status.RESOURCE_EXHAUSTED, "overloaded", Overloaded),
        (Status.UNAVAILABLE, "stopping", Unavailable),
        (Status.UNAVAILABLE, None, Unavailable),
        (Status.CANCELLED, None, Unavailable),
        (Status.UNIMPLEMENTED, None, ServerFault),
    ],
)
def test_a_subscription_ends_with(status: Status, code: str | None, kind: type[MoMError]) -> None:
    error = _wire.subscribe_error(Failed(status, code))
    assert isinstance(error, kind)
    assert error.code == code


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_label", InvalidArgument),
        (413, "body_too_large", InvalidArgument),
        (422, "malformed_request", InvalidArgument),
        (404, "queue_not_found", QueueNotFound),
        (404, "channel_not_found", ChannelNotFound),
        (404, "route_not_found", ServerFault),
        (404, None, ServerFault),
        (405, "method_not_allowed", ServerFault),
        (409, "queue_exists", AlreadyExists),
        (409, "not_owner", Unavailable),
        (429, "overloaded", Overloaded),
        (500, "internal", ServerFault),
        (502, None, Unavailable),
        (503, "database_unavailable", Unavailable),
        (503, "no_mom_up", Unavailable),
    ],
)
def test_a_request_fails_with(status: int, code: str | None, kind: type[MoMError]) -> None:
    error = _wire.rest_error(status, code, "the detail")
    assert type(error) is kind
    assert (error.code, error.detail) == (code, "the detail")
    assert str(error) == ("the detail" if code is None else f"the detail [{code}]")
