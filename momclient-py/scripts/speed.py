"""Measures how many messages a second one Python process pushes and receives, in each form of the client.

    RMOM_MANAGER=http://127.0.0.1:8082 .venv/bin/python scripts/speed.py

needs a running cluster, in which it makes a queue and deletes it in the end. A cluster of its own:

    cargo build --release -p rmom -p rmom-manager -p testkit
    target/release/rmom-cluster --moms 1 --exec make -C momclient-py speed

Each push is a call of its own, one message each; what is called at the same time is what goes out together. All is
received afterwards, by one reader.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import momclient
from momclient import aio


def report(what: str, count: int, seconds: float) -> None:
    """Print one figure."""
    print(f"{what:<32} {count / seconds:>10,.0f} messages/s", flush=True)


async def push_and_receive(manager: str, queue: str, options: argparse.Namespace) -> None:
    """Measure the asyncio form."""
    content = b"x" * options.size
    share = options.messages // options.tasks

    async with aio.MoMClient(manager) as client, client.pusher(queue) as pusher:

        async def push() -> None:
            for _ in range(share):
                await pusher.push(content, timeout=60)

        await pusher.push(content)
        began = time.perf_counter()
        await asyncio.gather(*(push() for _ in range(options.tasks)))
        report(f"aio, push, {options.tasks} tasks", share * options.tasks, time.perf_counter() - began)

        began = time.perf_counter()
        for _ in range(options.messages // 1000):
            await pusher.push_many([content] * 1000, timeout=60)
        report("aio, push_many, 1000 each", options.messages // 1000 * 1000, time.perf_counter() - began)

        last = (await pusher.push(content)).seq
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            began = time.perf_counter()
            async for message in subscriber:
                if message.seq == last:
                    break
            report("aio, async for message", last, time.perf_counter() - began)
        async with client.subscriber(await client.create_channel(queue)) as subscriber:
            began = time.perf_counter()
            async for batch in subscriber.batches():
                if batch[-1].seq == last:
                    break
            report("aio, async for batch", last, time.perf_counter() - began)


def push_and_receive_plainly(manager: str, queue: str, options: argparse.Namespace) -> None:
    """Measure the plain form."""
    content = b"x" * options.size
    share = options.messages // options.threads

    with momclient.MoMClient(manager) as client, client.pusher(queue) as pusher:

        def push(_: int) -> None:
            for _ in range(share):
                pusher.push(content, timeout=60)

        first = pusher.push(content).seq
        with ThreadPoolExecutor(options.threads) as pool:
            began = time.perf_counter()
            list(pool.map(push, range(options.threads)))
            report(f"plain, push, {options.threads} threads", share * options.threads, time.perf_counter() - began)

        last = pusher.push(content).seq
        with client.subscriber(client.create_channel(queue), after_seq=first) as subscriber:
            began = time.perf_counter()
            for message in subscriber:
                if message.seq == last:
                    break
            report("plain, for message", last - first, time.perf_counter() - began)


def main() -> None:
    """Measure both forms on a new queue each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000, help="how many to push and to receive in each form")
    parser.add_argument("--size", type=int, default=128, help="bytes of content of each")
    parser.add_argument("--tasks", type=int, default=1000, help="how many tasks push at the same time")
    parser.add_argument("--threads", type=int, default=64, help="how many threads push at the same time")
    parser.add_argument("--form", choices=["aio", "plain"], help="measure only this form")
    options = parser.parse_args()
    manager = os.environ.get("RMOM_MANAGER", "http://127.0.0.1:8082").split(",")[0]
    for form in ("aio", "plain"):
        if options.form not in (None, form):
            continue
        queue = f"speed-{uuid.uuid4().hex}"
        with momclient.MoMClient(manager, timeout=60) as client:
            client.create_queue(queue)
            try:
                if form == "aio":
                    asyncio.run(push_and_receive(manager, queue, options))
                else:
                    push_and_receive_plainly(manager, queue, options)
            finally:
                client.delete_queue(queue)


if __name__ == "__main__":
    main()
