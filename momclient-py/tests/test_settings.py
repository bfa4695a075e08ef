"""The example application's settings and sources."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from newsdemo.config import ConfigError, Settings, load
from newsdemo.items import MAX_TEXT, MAX_TITLE
from newsdemo.sources import changelogs, from_file, latest_entry, stories

ROOT = Path(__file__).resolve().parent.parent

ENTRY = """\
left-pad (1.2-3) bookworm-security; urgency=high

  [ A. Maintainer ]
  * Pad on the left again.
    Closes: #1.

 -- A. Maintainer <a@example.org>  Mon, 02 Jan 2023 13:06:21 +0100

left-pad (1.2-2) unstable; urgency=low

  * Older.

 -- A. Maintainer <a@example.org>  Sun, 01 Jan 2023 13:06:21 +0100
"""


def written(folder: Path, **settings: object) -> Path:
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_a_file_goes_before_defaults_and_the_environment_before_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(Settings, written(tmp_path)) == Settings()
    folder = written(tmp_path, manager_url="http://a:1", port=1, history=5)
    assert load(Settings, folder) == Settings(manager_url=("http://a:1",), port=1, history=5)
    monkeypatch.setenv("NEWS_MANAGER_URL", "http://b:1, http://b:2")
    monkeypatch.setenv("NEWS_PORT", "2")
    assert load(Settings, folder) == Settings(manager_url=("http://b:1", "http://b:2"), port=2, history=5)


def test_the_environment_can_name_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"host": "::1"}')
    monkeypatch.setenv("NEWS_CONFIG", str(other))
    assert load(Settings, tmp_path / "nowhere").host == "::1"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prot": 1}, "unknown key 'prot'"),
        ({"port": "1"}, 'port in .* must be a whole number, not "1"'),
        ({"port": True}, "port in .* must be a whole number"),
        ({"port": 65536}, "port 65536 is not legal"),
        ({"host": 1}, "host in .* must be a string"),
        ({"history": 0}, "history 0 is not legal"),
        ({"manager_url": [1]}, "manager_url in .* must be a string or a list of strings"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(Settings, written(tmp_path, **settings))


def test_a_variable_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEWS_PORT", "http")
    with pytest.raises(ConfigError, match="NEWS_PORT must be a whole number, not 'http'"):
        load(Settings, written(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_file_that_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        load(Settings, tmp_path)


def test_the_news_that_are_shipped_can_be_published() -> None:
    told = from_file(ROOT / "news-pusher" / "news.json")
    assert len(told) == 24
    assert all(len(story.title) <= MAX_TITLE and len(story.text) <= MAX_TEXT for story in told)
    assert len({story.title for story in told}) == 24


def test_a_source_begins_again_when_it_ends(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps([{"category": "a", "title": "b", "text": "c"}]))
    told = stories("mine.json", tmp_path)
    assert next(told) == next(told)


@pytest.mark.parametrize("text", ["[]", "{}", '[{"title": "a"}]', "nothing"])
def test_a_source_without_news_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.json"):
        stories("mine.json", tmp_path)


def test_the_latest_change_is_the_news(tmp_path: Path) -> None:
    path = tmp_path / "changelog.Debian.gz"
    path.write_bytes(gzip.compress(ENTRY.encode()))
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(ENTRY.encode())[:40])
    (story,) = changelogs([broken, path, path, tmp_path / "missing.gz"])
    assert story.title == "left-pad 1.2-3"
    assert story.text == "* Pad on the left again.\n  Closes: #1."
    assert story.category == "security"
    assert story.source == "Debian changelog of left-pad, 2 January 2023"


@pytest.mark.parametrize(
    "text",
    ["", "no changelog", ENTRY.split(" --", maxsplit=1)[0], ENTRY.replace("02 Jan 2023", "02 Jan")],
)
def test_what_is_no_whole_entry_is_no_news(text: str) -> None:
    assert latest_entry(text) is None
