"""Settings: defaults in a dataclass, then config.json, then variables of the environment."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T", bound="Settings")

PREFIX = "NEWS_"


_LEGAL = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    tuple: "a string or a list of strings",
}


class ConfigError(Exception):
    """A setting that cannot be used; the text says which, and what is legal."""


@dataclass(frozen=True)
class Settings:
    """What both applications are told."""

    manager_url: tuple[str, ...] = ("http://127.0.0.1:8082",)
    """The managers, in the order to try them in."""
    host: str = "127.0.0.1"
    port: int = 0
    news_queue: str = "news"
    comments_queue: str = "comments"
    history: int = 200
    """How many entries the page keeps, and this process with it."""
    channels_file: str = ".channels.json"
    """Where the ids of this application's channels are kept from one start to the next, relative to its folder."""
    peer_url: str = ""
    """Where the other application's page is, for a link to it."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port} is not legal: use 0 to 65535, where 0 takes any free one")
        if not 1 <= self.history <= 10_000:
            raise ConfigError(f"history {self.history} is not legal: use 1 to 10000")


def load(kind: type[T], folder: Path) -> T:
    """Read `folder`/config.json, or the file that NEWS_CONFIG names, and apply the environment to it."""
    path = Path(os.environ.get(f"{PREFIX}CONFIG", folder / "config.json"))
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold one JSON object")
    # The defaults tell the types, and every field has one.
    usual = {field.name: field.default for field in fields(kind)}
    if unknown := sorted(set(found) - set(usual)):
        raise ConfigError(f"{path} has the unknown key {unknown[0]!r}; the keys are {', '.join(usual)}")
    values = {key: _from_json(f"{key} in {path}", usual[key], value) for key, value in found.items()}
    for key in usual:
        variable = f"{PREFIX}{key.upper()}"
        if variable in os.environ:
            values[key] = _from_text(variable, usual[key], os.environ[variable])
    return kind(**values)


def _from_json(name: str, usual: Any, value: Any) -> Any:
    match usual, value:
        case (bool(), bool()) | (str(), str()):
            return value
        case int(), int() if not isinstance(usual, bool) and not isinstance(value, bool):
            return value
        case float(), int() | float() if not isinstance(value, bool):
            return float(value)
        case tuple(), str():
            return (value,)
        case tuple(), list() if all(isinstance(item, str) for item in value):
            return tuple(value)
    raise ConfigError(f"{name} must be {_LEGAL[type(usual)]}, not {json.dumps(value)}")


def _from_text(name: str, usual: Any, text: str) -> Any:
    if isinstance(usual, bool):
        if text.lower() not in ("true", "false", "1", "0"):
            raise ConfigError(f"{name} must be true or false, not {text!r}")
        return text.lower() in ("true", "1")
    if isinstance(usual, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return type(usual)(text)
    except ValueError as error:
        raise ConfigError(f"{name} must be {_LEGAL[type(usual)]}, not {text!r}") from error
