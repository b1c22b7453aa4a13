"""Files that ship with the package: notebooks, ready rules, the demo log."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def find_shipped(name: str) -> Path:
    """Where is a shipped folder such as ``notebooks`` or ``data/demo``?

    In a wheel it lies inside the package, in a checkout beside it.
    """
    inside = _PACKAGE / name
    return inside if inside.exists() else _PACKAGE.parent / name
