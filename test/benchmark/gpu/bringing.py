# SPDX-License-Identifier: Apache-2.0
"""Files of a run in pieces small enough to be brought back, and put together again."""

from __future__ import annotations

from collections.abc import Iterable
import hashlib
import json
from pathlib import Path

MIB = 2**20
PIECE = 15 * MIB  # files of 16 MiB and more do not come back
LIST = 'pieces.json'


def bring(files: Iterable[Path], target: Path, *, piece: int = PIECE, most: int = 8) -> list[str]:
    """Copy files into a folder, the large ones in pieces; return what was left out, in words.

    Args:
        files: in order of their value, the state last; those that are not there are passed over.
        target: the folder; what was there of an earlier call is replaced.
        piece: most bytes of a file there.
        most: files there, the list of pieces and one more of the caller's among them.
    """
    target.mkdir(parents=True, exist_ok=True)
    content: dict[str, dict[str, object]] = {}
    left_out, room = [], most - 2
    # The last one first: the state must not be of a later moment than what goes with it.
    present = [file for file in files if file.exists()]
    contents = {file: file.read_bytes() for file in reversed(present)}
    for file in present:
        data = contents[file]
        pieces = [data[i : i + piece] for i in range(0, len(data), piece)] or [b'']
        if len(pieces) > room:
            left_out.append(
                f'{file.name} left out: its {len(data) / MIB:.1f} MiB take {len(pieces)} files of '
                f'{piece / MIB:g} MiB, and {room} of {most} are left'
            )
            continue
        room -= len(pieces)
        names = [
            f'{file.name}.{i:02}' if len(pieces) > 1 else file.name for i in range(len(pieces))
        ]
        for name, part in zip(names, pieces, strict=True):
            _write(target / name, part)
        content[file.name] = {'pieces': names, 'sha256': hashlib.sha256(data).hexdigest()}
    _write(target / LIST, json.dumps(content, indent=1).encode())
    _remove_others(target, content)
    return left_out


def restore(source: Path, target: Path) -> None:
    """Put the files that `bring` copied together again.

    Raises:
        SystemExit: a piece is missing or damaged.
    """
    try:
        content = json.loads((source / LIST).read_text())
    except OSError as error:
        raise SystemExit(
            f'{source} holds no run that was brought back ({error.strerror})'
        ) from None
    target.mkdir(parents=True, exist_ok=True)
    for name, entry in content.items():
        missing = [piece for piece in entry['pieces'] if not (source / piece).exists()]
        if missing:
            raise SystemExit(f'{source} lacks {", ".join(missing)}: bring it back again')
        data = b''.join((source / piece).read_bytes() for piece in entry['pieces'])
        if hashlib.sha256(data).hexdigest() != entry['sha256']:
            raise SystemExit(
                f'the pieces of {name} in {source} are damaged: bring them back again'
            )
        _write(target / name, data)


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f'.{path.name}')
    fresh.write_bytes(data)
    fresh.replace(path)


def _remove_others(target: Path, content: dict[str, dict[str, object]]) -> None:
    """Remove pieces of earlier, larger files."""
    wanted = {name for entry in content.values() for name in entry['pieces']}  # type: ignore[attr-defined]
    for path in target.iterdir():
        stem = path.name.removesuffix(path.suffix)
        is_piece = path.suffix[1:].isdigit() and (stem in content or path.name in content)
        if is_piece and path.name not in wanted:
            path.unlink()
