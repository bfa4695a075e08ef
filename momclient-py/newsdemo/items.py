"""News and comments, and their form as the content of a message."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from momclient import Message

# What fits on a page; a form refuses more.
MAX_TITLE = 200
MAX_TEXT = 2_000
MAX_AUTHOR = 80


@dataclass(frozen=True)
class News:
    """A piece of news. Its category is the topic that it is pushed with."""

    category: str
    title: str
    text: str
    source: str
    at: str

    @property
    def kind(self) -> str:
        """What the page calls it."""
        return "news"


@dataclass(frozen=True)
class Comment:
    """A comment on a piece of news, by the id of the news' message."""

    category: str
    news_id: str
    news_title: str
    author: str
    text: str
    at: str

    @property
    def kind(self) -> str:
        """What the page calls it."""
        return "comment"


Item = TypeVar("Item", News, Comment)


@dataclass(frozen=True)
class Entry(Generic[Item]):
    """Something received, with where it was in its queue."""

    id: str
    seq: int
    item: Item


def now() -> str:
    """Return the present time as news and comments carry it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def encode(item: News | Comment) -> str:
    """Return an item as the content of a message."""
    return json.dumps(asdict(item), ensure_ascii=False)


def decode(kind: type[Item], message: Message) -> Entry[Item]:
    """Return what a message holds, or raise ValueError: anybody may push anything to a queue."""
    found: Any = json.loads(message.text)
    if not isinstance(found, dict):
        raise ValueError("the content is no JSON object")
    names = kind.__dataclass_fields__
    values = {name: found.get(name) for name in names}
    wrong = [name for name, value in values.items() if not isinstance(value, str) or len(value) > MAX_TEXT]
    if wrong:
        raise ValueError(f"{wrong[0]} is no string of at most {MAX_TEXT} characters")
    return Entry(message.id, message.seq, kind(**{name: str(value) for name, value in values.items()}))
