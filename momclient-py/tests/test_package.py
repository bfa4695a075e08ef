"""What the package offers, and what only one of its forms has."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path

import pytest

import momclient
from momclient import MoMError, aio
from tests.cluster import Cluster
from tests.waiting import async_take, async_until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"

FORMS = ("MoMClient", "Pusher", "Subscriber")


def test_everything_promised_is_there() -> None:
    assert all(hasattr(momclient, name) for name in momclient.__all__)
    assert all(hasattr(aio, name) for name in aio.__all__)
    assert set(aio.__all__) <= set(momclient.__all__)


def test_every_error_is_exported_and_drawn() -> None:
    for name in momclient.errors.__all__:
        kind = getattr(momclient, name)
        assert issubclass(kind, MoMError)
        assert momclient.errors.__doc__ is not None
        assert name in momclient.errors.__doc__


@pytest.mark.parametrize("name", FORMS)
def test_both_forms_have_the_same_names(name: str) -> None:
    def public(kind: object) -> set[str]:
        return {attribute for attribute in dir(kind) if not attribute.startswith("_")}

    assert public(getattr(momclient, name)) == public(getattr(aio, name))
    assert getattr(momclient, name) is not getattr(aio, name)


def test_the_wheel_has_the_package_its_types_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = tmp_path.iterdir()
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert "momclient/py.typed" in names
    assert {name for name in names if not name.startswith("momclient-")} == {
        found.relative_to(SOURCES).as_posix()
        for found in (SOURCES / "momclient").rglob("*")
        if found.is_file() and "__pycache__" not in found.parts
    }
    assert "Requires-Python: >=3.10" in metadata


async def test_a_push_that_is_cancelled_makes_one_message_at_the_most_and_holds_up_nothing(
    manager: str, queue: str
) -> None:
    async with (
        aio.MoMClient(manager) as client,
        client.pusher(queue, in_flight=4) as pusher,
        client.subscriber(await client.create_channel(queue)) as subscriber,
    ):
        await pusher.push("0")
        texts = [message.text for message in await async_take(subscriber, 1)]
        for number in range(1, 21):
            pushing = asyncio.ensure_future(pusher.push(str(number)))
            if number % 2:
                # The cancellation meets a push that has just begun, waits to be sent, or is on its way.
                for _ in range(number // 2):
                    await asyncio.sleep(0)
            else:
                # It meets the answer.
                texts += await texts_up_to(subscriber, str(number))
            pushing.cancel()
            await asyncio.wait([pushing])
        # Every turn and every number has been given back.
        last = await pusher.push("last")
        assert pusher._pushes.settled == uuid.UUID(last.id).int % (1 << 32) + 1
        texts += await texts_up_to(subscriber, "last")
    assert len(set(texts)) == len(texts)
    assert {"0", *map(str, range(2, 21, 2)), "last"} <= set(texts)


async def test_a_pusher_is_closed_at_once_when_nobody_waits_for_its_pushes(faulty: Cluster, queue: str) -> None:
    async with aio.MoMClient(faulty.manager) as client, client.pusher(queue, attempt_timeout=3600) as pusher:
        await pusher.push("before")
        faulty.freeze(faulty.hosting(await client.get_queue(queue)))
        pushing = asyncio.ensure_future(pusher.push("unknown", timeout=3600))
        await async_until("the push is on its way", lambda: pusher._pushes.silent_since() is not None)
        closing = asyncio.ensure_future(pusher.close())
        await asyncio.sleep(0)
        assert not closing.done(), "the push may still be answered"
        pushing.cancel()
        await closing


async def texts_up_to(subscriber: aio.Subscriber, last: str) -> list[str]:
    texts: list[str] = []
    while last not in texts:
        texts += [message.text for message in await async_take(subscriber, 1)]
    return texts


async def test_a_read_that_is_cancelled_loses_nothing(manager: str, queue: str) -> None:
    async with aio.MoMClient(manager) as client, client.pusher(queue) as pusher:
        channel = await client.create_channel(queue)
        async with client.subscriber(channel) as subscriber:
            await pusher.push("one")
            assert [message.text for message in await async_take(subscriber, 1)] == ["one"]
            for number in range(20):
                reading = asyncio.ensure_future(anext(subscriber))
                pushing = asyncio.ensure_future(pusher.push(str(number)))
                # The cancellation meets the message on its way.
                await pushing
                if not reading.done():
                    reading.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await reading
                    (message,) = await async_take(subscriber, 1)
                else:
                    message = reading.result()
                assert message.text == str(number)
