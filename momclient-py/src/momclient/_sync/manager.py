# Generated from src/momclient/aio/manager.py by scripts/make_sync.py: edit that one, then run `make sync`.

"""REST calls to the managers, each of which answers everything: they are tried in order until one does.

What only reads goes to the next manager as soon as one is silent for a second, since that one may be frozen. What
changes something is sent to one manager only, unless it certainly did not get there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any, TypeVar

import httpx

from momclient import _wire, errors
from momclient.values import Channel, MoMInfo

T = TypeVar("T")

# A reverse proxy's way to say that the manager behind it is gone, and a manager's to say that its database is.
_ELSEWHERE = (502, 503, 504)

# How long one manager may take to answer before the next is asked.
_PATIENCE_SECONDS = 1.0


class Manager:
    """The managers of one cluster, as one."""

    def __init__(self, urls: str | Iterable[str], timeout: float) -> None:
        self._urls = _wire.manager_urls(urls)
        self._timeout = timeout
        # The manager that answered last is asked first, so that one that is down costs its time only once.
        self._first = 0
        self._http = httpx.Client(
            # A GET or DELETE has no body; existing clients send this type with every request, and so do we.
            headers={"content-type": "application/json", "accept": "application/json, application/problem+json"},
            # The managers close idle connections after five seconds, and a request must not meet that.
            limits=httpx.Limits(keepalive_expiry=2.0),
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def status(self) -> str:
        """Return what `GET /status` says."""
        return (self._call("GET", "/status")).text.strip()

    def create_queue(self, label: str) -> None:
        """Create a queue."""
        self._call("POST", f"/queues/{_wire.segment(_wire.label(label))}")

    def queues(self) -> list[str]:
        """Return the labels of all queues."""
        return _strings(self._call("GET", "/queues"))

    def queue(self, label: str, timeout: float | None = None) -> MoMInfo:
        """Return where a queue is."""
        path = f"/queues/{_wire.segment(_wire.label(label))}"
        found = _object(self._call("GET", path, timeout=timeout))
        return MoMInfo(
            host=_field(found, "host", str), port=_field(found, "port", int), label=_field(found, "label", str)
        )

    def delete_queue(self, label: str) -> None:
        """Delete a queue."""
        self._call("DELETE", f"/queues/{_wire.segment(_wire.label(label))}")

    def topics(self, label: str) -> list[str]:
        """Return the distinct topics of a queue's channels."""
        return _strings(self._call("GET", f"/queues/{_wire.segment(_wire.label(label))}/topics"))

    def create_channel(self, label: str, topic: str | None) -> Channel:
        """Create a channel."""
        name, on = _wire.label(label), _wire.segment(_wire.channel_topic_out(topic))
        found = _object(self._call("PUT", f"/queues/{_wire.segment(name)}/channels/{on}"))
        return _channel(found)

    def channels(self) -> list[str]:
        """Return the ids of all channels."""
        return _strings(self._call("GET", "/channels"))

    def channel(self, channel_id: str, timeout: float | None = None) -> Channel:
        """Return where a channel is."""
        path = f"/channels/{_wire.channel_id(channel_id)}"
        return _channel(_object(self._call("GET", path, timeout=timeout)))

    def delete_channel(self, channel_id: str) -> None:
        """Delete a channel."""
        path = f"/channels/{_wire.channel_id(channel_id)}"
        self._call("DELETE", path)

    def _call(self, method: str, path: str, *, timeout: float | None = None) -> httpx.Response:
        """Ask until one manager answers. `timeout` bounds all of it, if given; each request has its own bound."""
        if self._http.is_closed:
            raise errors.Closed("the client is closed")
        deadline = None if timeout is None else time.monotonic() + timeout
        asking = _Asking()
        count = len(self._urls)
        order = [(self._first + turn) % count for turn in range(count)]
        patience = _PATIENCE_SECONDS if method == "GET" and count > 1 else self._timeout
        silent = self._ask_each(order, method, path, min(patience, self._timeout), deadline, asking)
        if asking.response is None and silent and patience < self._timeout:
            # Nobody has served it at once: those who only were slow get the time that there is.
            self._ask_each(silent, method, path, self._timeout, deadline, asking)
        return asking.outcome()

    def _ask_each(
        self, order: list[int], method: str, path: str, limit: float, deadline: float | None, asking: _Asking
    ) -> list[int]:
        """Ask until one manager answers, and return those that were silent for too long."""
        silent: list[int] = []
        for index in order:
            url = self._urls[index]
            if deadline is not None:
                limit = min(limit, deadline - time.monotonic())
                if limit <= 0:
                    asking.failures.append(f"{url}: there was no time left to ask it")
                    continue
            try:
                response = self._http.request(method, url + path, timeout=limit)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                asking.failures.append(f"{url}: {_reason(error)}")
                continue
            except httpx.TransportError as error:
                if method != "GET":
                    # Should it be asked for again, another one has better chances.
                    self._first = (index + 1) % len(self._urls)
                    raise errors.OutcomeUnknown(f"{method} {url}{path} was sent, but {_reason(error)}") from error
                asking.failures.append(f"{url}: {_reason(error)}")
                if isinstance(error, httpx.TimeoutException):
                    silent.append(index)
                continue
            if response.is_success or method != "GET" or response.status_code not in _ELSEWHERE:
                self._first = index
                asking.response = response
                return silent
            asking.refusal = _refusal(response)
        return silent


class _Asking:
    """What came of asking one manager after another."""

    def __init__(self) -> None:
        # The answer that no other manager would change.
        self.response: httpx.Response | None = None
        # What a manager said that cannot serve at the moment.
        self.refusal: errors.MoMError | None = None
        self.failures: list[str] = []

    def outcome(self) -> httpx.Response:
        """Return the answer, or raise what there is instead."""
        if self.response is not None:
            if self.response.is_success:
                return self.response
            raise _refusal(self.response)
        if self.refusal is not None:
            raise self.refusal
        tried = "; ".join(dict.fromkeys(self.failures))
        raise errors.ManagerUnreachable(f"no manager answered; is one running, and its address right? {tried}")


def _reason(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


def _refusal(response: httpx.Response) -> errors.MoMError:
    code, detail = None, ""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        code, detail = problem.get("code"), problem.get("detail") or problem.get("title") or ""
    request = response.request
    return _wire.rest_error(
        response.status_code,
        code if isinstance(code, str) else None,
        str(detail)
        or f"{request.method} {request.url} was answered with HTTP status {response.status_code}: is it a manager?",
    )


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise errors.ServerFault(f"{response.request.url} answered what is not JSON: is it a manager?") from None


def _strings(response: httpx.Response) -> list[str]:
    found = _json(response)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise errors.ServerFault(f"{response.request.url} answered no list of strings: is it a manager?")
    return found


def _object(response: httpx.Response) -> dict[str, Any]:
    found = _json(response)
    if not isinstance(found, dict):
        raise errors.ServerFault(f"{response.request.url} answered no JSON object: is it a manager?")
    return found


def _field(found: dict[str, Any], key: str, kind: type[T]) -> T:
    value = found.get(key)
    if not isinstance(value, kind):
        raise errors.ServerFault(f"the manager's answer has no {kind.__name__} {key!r}: {found}")
    return value


def _channel(found: dict[str, Any]) -> Channel:
    return Channel(
        id=_field(found, "id", str),
        host=_field(found, "host", str),
        port=_field(found, "port", int),
        topic=_wire.topic_in(_field(found, "topic", str)),
    )
