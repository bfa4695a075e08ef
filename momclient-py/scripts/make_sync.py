"""Writes the plain form of the client and its tests from the asyncio form, or checks it with `--check`.

The asyncio form is the one to edit. What does not translate word by word is in `momclient/_links.py`, as pairs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Folder of the asyncio form, folder of what is generated from it.
FORMS = (
    (ROOT / "src" / "momclient" / "aio", ROOT / "src" / "momclient" / "_sync"),
    (ROOT / "tests" / "aio", ROOT / "tests" / "sync"),
)

WORDS = (
    (r"from momclient\.aio import", "from momclient import"),
    (r"momclient\.aio\.", "momclient._sync."),
    (r"momclient\.aio\b", "momclient"),
    (r"tests\.aio\b", "tests.sync"),
    (r"import grpc\.aio\n", ""),
    (r"grpc\.aio\.", "grpc."),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync([A-Z]\w*)", r"\1"),
    (r"\basync_(\w+)", r"\1"),
    (r"\baclose\b", "close"),
    (r"\banext\b", "next"),
    (r"__a(enter|exit|iter|next)__", r"__\1__"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bThe asyncio form\b", "The plain form"),
    (r"\ban asyncio\b", "a plain"),
)


def translate(source: Path) -> str:
    """Return the plain form of a module."""
    text = source.read_text()
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    origin = source.relative_to(ROOT).as_posix()
    text = f"# Generated from {origin} by scripts/make_sync.py: edit that one, then run `make sync`.\n\n{text}"
    # Shorter words can make the import order and the line breaks other ones.
    for command in (["check", "--select", "I", "--fix-only", "--quiet"], ["format", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(source), "-"],
            cwd=ROOT,
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"ruff {command[0]} fails on what becomes of {origin}: {done.stderr}")
        text = done.stdout
    return text


def main() -> None:
    """Write the generated modules, or compare them with what is committed."""
    fresh: dict[Path, str] = {}
    present: set[Path] = set()
    for source, target in FORMS:
        fresh |= {target / module.name: translate(module) for module in source.glob("*.py")}
        present |= set(target.glob("*.py"))
    stale = [path for path, text in fresh.items() if path not in present or path.read_text() != text]
    left = present - set(fresh)
    if "--check" in sys.argv[1:]:
        if stale or left:
            names = ", ".join(str(path.relative_to(ROOT)) for path in [*stale, *left])
            raise SystemExit(f"{names} do not match the asyncio form: run `make sync`")
        return
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(fresh[path])
        print(f"wrote {path.relative_to(ROOT)}")
    for path in left:
        path.unlink()
        print(f"removed {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
