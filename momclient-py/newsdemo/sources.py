"""Where news come from: a JSON file, or what changed in the Debian packages of this machine."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from itertools import cycle
from pathlib import Path

from newsdemo.config import ConfigError
from newsdemo.items import MAX_TEXT, MAX_TITLE, News, now

CHANGELOGS = "/usr/share/doc/*/changelog.Debian.gz"

# The first entry is what we want; the histories behind it can be long.
_READ_BYTES = 32 * 1024
_SHOWN_CHARACTERS = 600

_HEAD = re.compile(r"^(?P<package>\S+) \((?P<version>[^)]+)\) (?P<suite>[^;]+);")
# Says who made the changes below it.
_MAINTAINER = re.compile(r"^\s+\[ .* \]$")
_FOOT = re.compile(r"^ -- .*>  (?P<date>.+)$")


@dataclass(frozen=True)
class Story:
    """News before it is published."""

    category: str
    title: str
    text: str
    source: str

    def publish(self) -> News:
        """Return it as news of this moment."""
        return News(self.category, self.title[:MAX_TITLE], self.text[:MAX_TEXT], self.source, now())


def stories(source: str, folder: Path) -> Iterator[Story]:
    """Return the news of a source without end: `auto`, `changelogs`, or a path, relative to `folder`."""
    found: list[Story] = []
    if source in ("auto", "changelogs"):
        found = changelogs(Path("/").glob(CHANGELOGS.lstrip("/")))
        if not found and source == "changelogs":
            raise ConfigError(f"source is changelogs, but there are none at {CHANGELOGS}: use auto or a JSON file")
    if not found:
        found = from_file(folder / ("news.json" if source == "auto" else source))
    return cycle(found)


def from_file(path: Path) -> list[Story]:
    """Read a JSON file: a list of objects with the strings category, title and text."""
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"source {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"source {path} is not JSON: {error}") from error
    if not isinstance(found, list) or not found:
        raise ConfigError(f"source {path} must hold a list with at least one piece of news")
    told = []
    for at, item in enumerate(found):
        keys = ("category", "title", "text")
        if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in keys):
            raise ConfigError(f"source {path}: entry {at} must have the strings category, title and text")
        told.append(Story(item["category"], item["title"], item["text"], path.name))
    return told


def changelogs(paths: Iterable[Path]) -> list[Story]:
    """Return the latest entry of each changelog, the newest first."""
    dated: dict[str, tuple[datetime, Story]] = {}
    for path in paths:
        try:
            with gzip.open(path, "rb") as file:
                text = file.read(_READ_BYTES).decode("utf-8", errors="replace")
        except (OSError, EOFError):
            # A link to a package that is not installed, or a file cut short.
            continue
        entry = latest_entry(text)
        if entry is not None:
            # Packages that are built from one source have the same changelog.
            dated[entry[1].title] = entry
    return [story for _, story in sorted(dated.values(), key=lambda found: found[0], reverse=True)]


def latest_entry(text: str) -> tuple[datetime, Story] | None:
    """Return the first entry of a Debian changelog with its date, or None if there is no whole one."""
    lines = text.splitlines()
    head = _HEAD.match(lines[0]) if lines else None
    if head is None:
        return None
    body: list[str] = []
    for line in lines[1:]:
        foot = _FOOT.match(line)
        if foot is not None:
            date = _date(foot["date"])
            if date is None:
                return None
            changes = "\n".join(body).strip("\n")
            if len(changes) > _SHOWN_CHARACTERS:
                changes = changes[:_SHOWN_CHARACTERS].rsplit(" ", 1)[0] + " …"
            title = f"{head['package']} {head['version']}"
            source = f"Debian changelog of {head['package']}, {date:%-d %B %Y}"
            return date, Story(_category(head["suite"], changes), title, changes, source)
        if not _MAINTAINER.match(line):
            body.append(line.removeprefix("  "))
    return None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)


def _category(suite: str, changes: str) -> str:
    lower = changes.lower()
    if "security" in suite or "cve-" in lower:
        return "security"
    if "rebuild" in lower or "non-maintainer" in lower:
        return "maintenance"
    if "new upstream" in lower or "upload to unstable" in lower:
        return "new-version"
    return "fixes"
