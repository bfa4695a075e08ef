"""The asyncio form of the client; the same names without `aio` are the plain form."""

from momclient.aio.client import MoMClient
from momclient.aio.pusher import Pusher
from momclient.aio.subscriber import Subscriber
from momclient.values import Channel, Message, MoMInfo, Receipt, Start

__all__ = ["Channel", "Message", "MoMClient", "MoMInfo", "Pusher", "Receipt", "Start", "Subscriber"]
