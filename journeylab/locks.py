"""Folders that several processes share: whoever holds one is alone with it, and a killed process lets go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a folder against other processes; leaves no file. Yields whether it is certain that nobody else has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:  # taken, or a file system without locks
            yield False
        else:
            yield True
    finally:
        os.close(handle)
