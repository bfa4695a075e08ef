"""What smoke-test.sh pushes and subscribes with: the Python client, run inside a container of the system."""

import sys

from momclient import MoMClient

MANAGER = "http://manager:8082"


def push(queue: str, count: int) -> None:
    """Push `count` messages, each after the one before is acknowledged, and print what was acknowledged."""
    with MoMClient(MANAGER) as client, client.pusher(queue) as pusher:
        for number in range(1, count + 1):
            # The deadline is that of a failover, not of a push.
            receipt = pusher.push(f"message {number}", timeout=60.0)
            print(receipt.seq, receipt.id, number, flush=True)


def subscribe(channel: str, last: int) -> None:
    """Print what the channel delivers until the message with the number `last` comes."""
    with MoMClient(MANAGER) as client, client.subscriber(channel) as subscriber:
        for message in subscriber:
            number = int(message.text.removeprefix("message "))
            print(message.seq, message.id, number, flush=True)
            if number == last:
                return


if __name__ == "__main__":
    command, target, number = sys.argv[1:]
    {"push": push, "subscribe": subscribe}[command](target, int(number))
