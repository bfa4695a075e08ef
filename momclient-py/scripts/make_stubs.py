"""Compiles protos/messages.proto into src/momclient/_proto, or checks with `--check` that this was done.

The file is mapped to `momclient/_proto/messages.proto`, so that the generated module imports and registers under the
package's own name.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT.parent / "protos"
TARGET = ROOT / "src" / "momclient" / "_proto"
GENERATED = ("messages_pb2.py", "messages_pb2.pyi")


def compile_into(folder: Path) -> dict[str, str]:
    """Run protoc and return the text of each generated file."""
    status = protoc.main(
        [
            "protoc",
            f"-Imomclient/_proto={PROTOS}",
            f"--python_out={folder}",
            f"--pyi_out={folder}",
            "momclient/_proto/messages.proto",
        ]
    )
    if status != 0:
        raise SystemExit(f"protoc could not compile {PROTOS / 'messages.proto'} (exit status {status})")
    return {name: (folder / "momclient" / "_proto" / name).read_text() for name in GENERATED}


def main() -> None:
    """Write the stubs, or compare them with what is committed."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = compile_into(Path(folder))
    stale = [name for name, text in fresh.items() if _read(TARGET / name) != text]
    if "--check" in sys.argv[1:]:
        if stale:
            raise SystemExit(f"{', '.join(stale)} in {TARGET} do not match messages.proto: run `make stubs`")
        return
    for name in stale:
        (TARGET / name).write_text(fresh[name])
        print(f"wrote {TARGET / name}")


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    main()
