"""Text files in any encoding, as UTF-8 for the engine."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from journeylab.errors import SchemaError

#: As much of a file as a guess is made from.
SAMPLE = 1 << 20

_POLISH = set("ąćęłńóśźż")
_RUSSIAN = set("абвгдежзийклмнопрстуфхцчшщъыьэюя")
#: Guesses for text that is not UTF-8, with the small letters that speak for each.
_LEGACY = {
    "cp1250": _POLISH,
    "iso8859_2": _POLISH,
    "cp1251": _RUSSIAN,
    "koi8_r": _RUSSIAN,
    "cp866": _RUSSIAN,
    "mac_cyrillic": _RUSSIAN,
    "cp1252": set("éèêàçñäöüß"),
}


def find_encoding(path: Path, expected: str) -> str:
    """How is this text encoded? Known by its first bytes or by being UTF-8, else guessed with a warning."""
    with open_bytes(path) as file:
        sample = file.read(SAMPLE)
    if not sample.strip():
        raise SchemaError(f"{path.name} is empty: expected {expected}")
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if sample.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if sample.count(0) > len(sample) // 4:
        return "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"
    if _is_utf8(path):
        return "utf-8"
    guess = max(_LEGACY, key=lambda name: _judge_letters(sample, name))
    warnings.warn(
        f"{path.name} is not UTF-8; read as {guess}, judged by its letters. Pass encoding= to be sure.", stacklevel=6
    )
    return guess


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_bytes(path) as file:
        try:
            while chunk := file.read(SAMPLE):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _judge_letters(sample: bytes, encoding: str) -> int:
    """How well does a text read so? Capitals count less: of two Russian encodings one shows the other's small ones."""
    small = _LEGACY[encoding]
    counts = Counter(letter for letter in sample.decode(encoding, errors="replace") if ord(letter) > 127)
    return sum(n * (2 if letter in small else 1 if letter.lower() in small else -1) for letter, n in counts.items())


@contextmanager
def as_utf8(path: Path, encoding: str, *, without_bom: bool = False) -> Iterator[Path]:
    """Give a path to the text in UTF-8: the file itself where it is so, else a copy for the while."""
    is_utf8 = encoding == "utf-8" or (encoding == "utf-8-sig" and not without_bom)
    if is_utf8 and not _has_odd_line_ends(path):
        yield path
        return
    handle, copy = tempfile.mkstemp(suffix=".csv", prefix="journeylab-")
    try:
        with (
            open(handle, "w", encoding="utf-8", newline="\n") as out,
            io.TextIOWrapper(open_bytes(path), encoding=encoding, newline=None) as source,
        ):
            shutil.copyfileobj(source, out)
        yield Path(copy)
    except UnicodeError as error:
        raise SchemaError(f"{path.name}: cannot be read as {encoding} ({error}); pass encoding=") from error
    finally:
        os.unlink(copy)


def _has_odd_line_ends(path: Path) -> bool:
    """Are there other line ends than line feeds, or than the pair of Windows throughout?"""
    n_returns = n_feeds = n_pairs = 0
    last = b""
    with open_bytes(path) as file:
        while chunk := file.read(SAMPLE):
            if last == b"\r" or b"\r" in chunk:
                n_returns += chunk.count(b"\r")
                n_feeds += chunk.count(b"\n")
                n_pairs += chunk.count(b"\r\n") + (last == b"\r" and chunk[:1] == b"\n")
            else:
                n_feeds += b"\n" in chunk
            last = chunk[-1:]
    return n_returns > 0 and not n_returns == n_feeds == n_pairs


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a file for reading, unpacked if its name says gzip."""
    # A GzipFile reads like a BufferedReader.
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]
