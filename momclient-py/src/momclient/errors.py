"""What can go wrong, as one tree of exceptions.

::

    MoMError
    ├── InvalidArgument         a label, topic, id or content that can never be accepted
    ├── NotFound
    │   ├── QueueNotFound
    │   └── ChannelNotFound
    ├── AlreadyExists           the label is taken
    ├── Unavailable             nothing was done, trying again later can succeed
    │   ├── ManagerUnreachable  no manager answered
    │   └── Overloaded          refused before it was accepted, because there was too much
    ├── OutcomeUnknown          the answer was lost: it may have been done or not
    ├── ServerFault             the server failed by a bug of its own, or answered what makes no sense
    └── Closed                  the client, pusher or subscriber was closed before or during the call

Each carries `code`, the stable code string that gRPC (metadata `rmom-code`) and REST (problem+json) share, or None
where the error arose on this side without one.
"""

from __future__ import annotations

__all__ = [
    "AlreadyExists",
    "ChannelNotFound",
    "Closed",
    "InvalidArgument",
    "ManagerUnreachable",
    "MoMError",
    "NotFound",
    "OutcomeUnknown",
    "Overloaded",
    "QueueNotFound",
    "ServerFault",
    "Unavailable",
]


class MoMError(Exception):
    """The base of every error that this package raises."""

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code

    def __str__(self) -> str:
        return self.detail if self.code is None else f"{self.detail} [{self.code}]"


class InvalidArgument(MoMError):
    """What was given can never be accepted: `detail` says what is legal."""


class NotFound(MoMError):
    """What was asked for does not exist."""


class QueueNotFound(NotFound):
    """There is no queue of that label."""


class ChannelNotFound(NotFound):
    """There is no channel of that id."""


class AlreadyExists(MoMError):
    """There is a queue of that label already."""


class Unavailable(MoMError):
    """Nothing was done, because a server could not be reached or does not serve at the moment."""


class ManagerUnreachable(Unavailable):
    """None of the managers answered."""


class Overloaded(Unavailable):
    """The server refused before it accepted anything, because too much was waiting already."""


class OutcomeUnknown(MoMError):
    """The request may have been carried out or not: its answer was lost, or did not come in time."""


class ServerFault(MoMError):
    """The server reports a fault of its own, or its answer makes no sense."""


class Closed(MoMError):
    """The client, pusher or subscriber is closed."""
