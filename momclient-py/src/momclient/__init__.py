"""Client of rusty-mom, in a plain form (here) and an asyncio form with the same names (`momclient.aio`).

    with MoMClient("http://127.0.0.1:8082") as client:
        client.create_queue("news")
        channel = client.create_channel("news", topic="weather")
        with client.pusher("news") as pusher:
            pusher.push("Sunny.", topic="weather")
        with client.subscriber(channel) as subscriber:
            for message in subscriber:
                print(message.seq, message.text)

Everything that can go wrong is a `MoMError`; `momclient.errors` draws the tree.
"""

from momclient._sync.client import MoMClient
from momclient._sync.pusher import Pusher
from momclient._sync.subscriber import Subscriber
from momclient.errors import (
    AlreadyExists,
    ChannelNotFound,
    Closed,
    InvalidArgument,
    ManagerUnreachable,
    MoMError,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    QueueNotFound,
    ServerFault,
    Unavailable,
)
from momclient.values import Channel, Message, MoMInfo, Receipt, Start

__all__ = [
    "AlreadyExists",
    "Channel",
    "ChannelNotFound",
    "Closed",
    "InvalidArgument",
    "ManagerUnreachable",
    "Message",
    "MoMClient",
    "MoMError",
    "MoMInfo",
    "NotFound",
    "OutcomeUnknown",
    "Overloaded",
    "Pusher",
    "QueueNotFound",
    "Receipt",
    "ServerFault",
    "Start",
    "Subscriber",
    "Unavailable",
]
