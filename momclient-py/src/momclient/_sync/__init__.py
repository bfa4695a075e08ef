# Generated from src/momclient/aio/__init__.py by scripts/make_sync.py: edit that one, then run `make sync`.

"""The plain form of the client; the same names without `aio` are the plain form."""

from momclient._sync.client import MoMClient
from momclient._sync.pusher import Pusher
from momclient._sync.subscriber import Subscriber
from momclient.values import Channel, Message, MoMInfo, Receipt, Start

__all__ = ["Channel", "Message", "MoMClient", "MoMInfo", "Pusher", "Receipt", "Start", "Subscriber"]
