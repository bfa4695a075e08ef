"""What both forms of the client share and what needs no input or output: names, addresses, backoff and errors."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import quote, urlsplit

import grpc

from momclient import errors
from momclient._proto import messages_pb2
from momclient.values import NO_HEADERS, Start

NO_TOPIC = "__none__"
"""The word that stands for "no topic" in the protocol."""

CODE_METADATA = "rmom-code"
"""The metadata entry of a gRPC error that carries its stable code."""

OWNER_METADATA = "rmom-owner"
"""The metadata entry by which a MoM that has lost a queue names the one that has it."""

START_METADATA = "rmom-start-seq"
"""The metadata entry by which a MoM says after which sequence a subscription starts."""

MAX_RECEIVE_BYTES = 16 * 1024 * 1024

GRPC_OPTIONS: list[tuple[str, Any]] = [
    # A frozen MoM keeps its connections open; only an unanswered ping tells. gRPC waits for the answer as long as the
    # ping timeout says, whose default is a minute, whatever the keepalive timeout is.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    # Retrying is ours: gRPC's own would hide that an outcome is unknown.
    ("grpc.enable_retries", 0),
    # How long one attempt to connect may take, and how often gRPC repeats it on a channel that is kept.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A new channel dials at once, whatever backoff an earlier one to the same address was in.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,255}")

# Of the parts of a pattern one or more are wildcards.
_PATTERN = re.compile(r"(?:(?:[A-Za-z0-9_:-]*|\*)\.)*(?:[A-Za-z0-9_:-]*|\*|>)")

_LONGEST_NAME = 255

_HEADER_NAME = re.compile(r"[A-Za-z0-9._-]+")

# What is no text: control characters, and halves of pairs, which have no UTF-8.
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_MOST_HEADERS = 16
_LONGEST_HEADER_NAME = 64
_LARGEST_HEADER_VALUE = 1024
_MOST_HEADER_BYTES = 4096

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# Statuses that gRPC itself makes up when a connection breaks. Without a code of the MoM's they say nothing else.
_BROKEN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.ABORTED,
}

# With these codes of its own a MoM that is not available says that it accepted nothing.
_NOT_ACCEPTED = {"database_unavailable", "stopping"}

_STATUSES = {status.value[0]: status for status in grpc.StatusCode}

PUSHER_NOT_OPEN = "pusher_not_open"
"""The code by which a MoM says that it does not know the pusher (any more)."""

_ID_CONFLICT = "id_conflict"


class Moved(errors.Unavailable):
    """The MoM does not host the queue or channel (any more, or yet). Never leaves the package.

    `owner` is the host and the port of the MoM that does, if the one that was asked knows it.
    """

    def __init__(self, detail: str, *, code: str | None = None, owner: tuple[str, int] | None = None) -> None:
        super().__init__(detail, code=code)
        self.owner = owner


def label(name: str) -> str:
    """Return a queue's label as the servers keep it, or raise InvalidArgument."""
    folded = _folded("label", name)
    if folded == NO_TOPIC:
        raise errors.InvalidArgument(f'label "{NO_TOPIC}" is reserved, it stands for no topic', code="invalid_label")
    return folded


def topic_out(topic: str | None) -> str:
    """Return a topic as the wire has it, or raise InvalidArgument."""
    return NO_TOPIC if topic is None else _folded("topic", topic)


def channel_topic_out(topic: str | None) -> str:
    """Return the topic or the pattern of a channel as the wire has it, or raise InvalidArgument."""
    if not isinstance(topic, str) or not ("*" in topic or ">" in topic):
        return topic_out(topic)
    if len(topic) > _LONGEST_NAME or not _PATTERN.fullmatch(topic):
        raise errors.InvalidArgument(
            f"topic {topic!r} is not legal: '*' and '>' have to be parts of their own, '>' the last one, and all of it"
            f" 1 to {_LONGEST_NAME} characters",
            code="invalid_topic",
        )
    return topic.lower()


def topic_in(topic: str) -> str | None:
    """Return a topic as users have it."""
    return None if topic in ("", NO_TOPIC) else topic


def headers_out(given: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Return headers as a message has them, in the order of their names, or raise InvalidArgument."""
    if not given:
        return ()
    folded: dict[str, str] = {}
    size = 0
    for name, value in given.items():
        if not isinstance(name, str) or len(name) > _LONGEST_HEADER_NAME or not _HEADER_NAME.fullmatch(name):
            fault = (
                f"header {name!r} is not legal: use 1 to {_LONGEST_HEADER_NAME} of the characters a-z, A-Z, 0-9, '.',"
                " '_' and '-'"
            )
        elif not isinstance(value, str) or _NO_TEXT.search(value) or len(value.encode()) > _LARGEST_HEADER_VALUE:
            fault = (
                f"header {name!r} has a value that is not legal: use at most {_LARGEST_HEADER_VALUE} bytes of text"
                " without control characters"
            )
        elif (lower := name.lower()) in folded:
            fault = f"header {lower!r} is given twice: use each once"
        else:
            folded[lower] = value
            size += len(name) + len(value.encode())
            if len(folded) <= _MOST_HEADERS and size <= _MOST_HEADER_BYTES:
                continue
            fault = (
                f"header {lower!r} is one too many: use at most {_MOST_HEADERS}, and {_MOST_HEADER_BYTES} bytes of"
                " names and values together"
            )
        raise errors.InvalidArgument(fault, code="invalid_argument")
    return tuple(sorted(folded.items()))


def headers_in(headers: Sequence[messages_pb2.Header]) -> Mapping[str, str]:
    """Return headers as users have them, which cannot be changed."""
    return MappingProxyType({header.name: header.value for header in headers}) if headers else NO_HEADERS


def start(given: Start | None, after_seq: int | None) -> tuple[Start | None, int]:
    """Return a starting point that a MoM has to look up, if it is one, and the sequence to start after otherwise."""
    if given is not None and after_seq is not None:
        raise errors.InvalidArgument(
            f"start {given!r} and after_seq {after_seq} are both given: use one of them", code="invalid_argument"
        )
    if after_seq is not None and after_seq < 0:
        raise errors.InvalidArgument(f"after_seq {after_seq} is not legal: use 0 or more", code="invalid_argument")
    if given is None or given == "earliest":
        return None, after_seq or 0
    if given != "latest" and (not isinstance(given, datetime) or given.utcoffset() is None or given < _EPOCH):
        raise errors.InvalidArgument(
            f'start {given!r} is not legal: use "earliest", "latest", or a time since 1970 with a time zone',
            code="invalid_argument",
        )
    return given, 0


def subscription(channel: str, start: Start | None, after_seq: int) -> messages_pb2.SubscriptionRequest:
    """Return the request for a subscription, as `start` has checked it."""
    if start is None:
        return messages_pb2.SubscriptionRequest(channel_id=channel, after_seq=after_seq)
    if isinstance(start, datetime):
        micros = (start - _EPOCH) // timedelta(microseconds=1)
        return messages_pb2.SubscriptionRequest(channel_id=channel, since_micros=micros)
    return messages_pb2.SubscriptionRequest(channel_id=channel, latest=True)


def headers(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Return the entries of a call's metadata."""
    return {key: _text(value) for key, value in metadata or ()}


def content(given: bytes | str) -> bytes:
    """Return the content of a message as the wire has it, or raise InvalidArgument."""
    if isinstance(given, bytes):
        return given
    try:
        return given.encode()
    except UnicodeEncodeError as error:
        raise errors.InvalidArgument(f"content cannot be sent as UTF-8: {error}", code="invalid_argument") from None
    except AttributeError:
        kind = type(given).__name__
        raise errors.InvalidArgument(f"content must be bytes or str, not {kind}", code="invalid_argument") from None


def channel_id(text: str) -> str:
    """Return a channel id in its usual form, or raise InvalidArgument."""
    found = _uuid(text)
    if found is None:
        raise errors.InvalidArgument(f"channel id {text!r} is not a UUID", code="invalid_channel_id")
    return found


def message_id(given: str | uuid.UUID) -> str:
    """Return a message's id in its usual form, or raise InvalidArgument."""
    found = str(given) if isinstance(given, uuid.UUID) else _uuid(given)
    if found is None:
        raise errors.InvalidArgument(f"message id {given!r} is not a UUID", code="invalid_argument")
    return found


def segment(name: str) -> str:
    """Return a name as one segment of a URL path."""
    # "." and ".." are legal labels, but a URL would be shortened by them.
    return name.replace(".", "%2E") if name in (".", "..") else quote(name, safe=":")


def manager_urls(urls: str | Iterable[str]) -> list[str]:
    """Return the managers' addresses without a trailing slash, or raise InvalidArgument."""
    found = [urls] if isinstance(urls, str) else list(urls)
    if not found:
        raise errors.InvalidArgument("manager_url names no manager: give at least one http:// address")
    for url in found:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise errors.InvalidArgument(f"manager_url {url!r} is not an address like http://127.0.0.1:8082")
    return [url.rstrip("/") for url in found]


def target(host: str, port: int) -> str:
    """Return an address as gRPC wants it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Backoff:
    """Pauses between attempts: doubling, bounded and jittered, so that clients of one failure do not return in step.

    A queue moves within some hundred milliseconds after its MoM has died; pauses stay short for as long as that may
    take, which is most of a second, and are long after it.
    """

    FIRST = 0.02
    LONGEST_AT_FIRST = 0.08
    SHORT_ONES = 12
    LONGEST = 1.0

    def __init__(self) -> None:
        self._pauses = 0

    def pause(self) -> float:
        """Return the next pause in seconds: between half of the present step and all of it."""
        longest = self.LONGEST_AT_FIRST if self._pauses < self.SHORT_ONES else self.LONGEST
        step = min(longest, self.FIRST * (1 << min(self._pauses, 10)))
        self._pauses += 1
        return step * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the shortest pause."""
        self._pauses = 0


def refusal(given: messages_pb2.Refusal) -> errors.MoMError:
    """Translate why a message was refused, or why its outcome is not known."""
    status = _STATUSES.get(given.status, grpc.StatusCode.UNKNOWN)
    code = given.code or None
    if status is grpc.StatusCode.UNAVAILABLE:
        kind = errors.Unavailable if code in _NOT_ACCEPTED else errors.OutcomeUnknown
        return kind(given.detail, code=code)
    return _elsewhere(_refusal(status, given.detail, code, errors.QueueNotFound))


def push_error(error: grpc.RpcError) -> errors.MoMError:
    """Translate what a stream of pushes ended with. Unavailable and its kin mean that another can go on with it."""
    status, detail, code, owner = _parts(error)
    if owner is not None:
        return Moved(detail, code=code, owner=owner)
    if status is grpc.StatusCode.UNAVAILABLE or (code is None and status in _BROKEN):
        return errors.Unavailable(detail if code else f"the connection broke ({status.name}): {detail}", code=code)
    return _elsewhere(_refusal(status, detail, code, errors.QueueNotFound))


def after_unknown(error: errors.MoMError, unknown: errors.OutcomeUnknown | None) -> errors.MoMError:
    """Return the error of a push that ends with `error`, after an attempt that may have been accepted if `unknown`.

    What a later attempt was told says nothing of the earlier one, except that its id stands for another message.
    """
    if unknown is None or error is unknown or error.code == _ID_CONFLICT:
        return error
    return errors.OutcomeUnknown(f"{unknown.detail}; a later attempt: {error.detail}", code=unknown.code)


def is_elsewhere(error: errors.MoMError) -> bool:
    """Tell whether it is of no use to try again at the same MoM."""
    return isinstance(error, Moved) or error.code == "stopping"


def subscribe_error(error: grpc.RpcError) -> errors.MoMError:
    """Translate what a subscription ended with. Unavailable and its kin mean that it can be resumed."""
    status, detail, code, owner = _parts(error)
    if owner is not None:
        return Moved(detail, code=code, owner=owner)
    if status in _BROKEN:
        return errors.Unavailable(f"the subscription broke ({status.name}): {detail}", code=code)
    return _refusal(status, detail, code, errors.ChannelNotFound)


def rest_error(status: int, code: str | None, detail: str) -> errors.MoMError:
    """Translate an HTTP status that is not a success."""
    match status, code:
        case 404, "queue_not_found":
            return errors.QueueNotFound(detail, code=code)
        case 404, "channel_not_found":
            return errors.ChannelNotFound(detail, code=code)
        case 409, "queue_exists":
            return errors.AlreadyExists(detail, code=code)
        case 400 | 413 | 422, _:
            return errors.InvalidArgument(detail, code=code)
        case 429, _:
            return errors.Overloaded(detail, code=code)
        case 409 | 502 | 503 | 504, _:
            return errors.Unavailable(detail, code=code)
        case _:
            return errors.ServerFault(detail, code=code)


def _elsewhere(error: errors.MoMError) -> errors.MoMError:
    # Only the manager knows whether the queue is gone or on its way to another MoM.
    return Moved(error.detail, code=error.code) if isinstance(error, errors.NotFound) else error


def _refusal(status: grpc.StatusCode, detail: str, code: str | None, missing: type[errors.MoMError]) -> errors.MoMError:
    match status:
        case grpc.StatusCode.NOT_FOUND:
            return missing(detail, code=code)
        case grpc.StatusCode.FAILED_PRECONDITION:
            return Moved(detail, code=code)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.Overloaded(detail, code=code)
        case grpc.StatusCode.ALREADY_EXISTS:
            return errors.AlreadyExists(detail, code=code)
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            return errors.InvalidArgument(detail, code=code)
        case _:
            return errors.ServerFault(f"{status.name}: {detail}", code=code)


def _parts(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, str | None, tuple[str, int] | None]:
    # Whatever the two forms of gRPC raise is a call as well.
    call = cast("grpc.Call", error)
    entries = headers(call.trailing_metadata())
    owner = _address(entries.get(OWNER_METADATA, ""))
    return call.code(), call.details() or "no details", entries.get(CODE_METADATA), owner


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _address(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else None


def _uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError):
        return None


def _folded(what: str, name: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise errors.InvalidArgument(
            f"{what} {name!r} is not legal: use 1 to 255 ASCII letters, digits, '.', '_', '-' or ':'",
            code=f"invalid_{what}",
        )
    return name.lower()
