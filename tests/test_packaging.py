"""The project's own files: they must not drift apart, and the wheel must hold what the package reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def direct_requirements() -> dict[str, Requirement]:
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, wanted)}


def locked() -> dict[str, list[str]]:
    """Name → its lines: the pin, the hashes, and who wants it."""
    blocks: dict[str, list[str]] = {}
    for line in LOCK.splitlines():
        if line and not line.startswith((" ", "#")):
            name = canonicalize_name(Requirement(line.split(";")[0].rstrip("\\ ")).name)
            blocks.setdefault(name, [])
        if line:
            blocks[name].append(line.strip())
    return blocks


def test_lock_pins_what_pyproject_asks_for() -> None:
    pins = locked()
    for name, requirement in direct_requirements().items():
        assert name in pins, f"{name} is in pyproject.toml but not in requirements.lock: run `make lock`"
        versions = re.findall(r"^\S+==(\S+)", "\n".join(pins[name]), flags=re.MULTILINE)
        assert versions, f"{name} is not pinned"
        assert all(requirement.specifier.contains(version) for version in versions), f"{name}: run `make lock`"


def test_lock_holds_nothing_that_pyproject_dropped() -> None:
    asked_for = {
        name for name, lines in locked().items() if any("journeylab (pyproject.toml)" in line for line in lines)
    }
    assert asked_for == set(direct_requirements())


def test_every_pin_has_hashes_and_no_address() -> None:
    for name, lines in locked().items():
        assert any(line.startswith("--hash=sha256:") for line in lines), f"{name} has no hash"
    assert not re.search(r"https?://|file:|--index|--find-links", LOCK)


def test_conda_gets_the_same_versions() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, by_pip = environment["dependencies"]
    assert pip == "pip"
    # One list for both: nothing that conda installs itself could differ from the lock.
    assert by_pip == {"pip": ["-r requirements.lock"]}
    oldest = re.search(r">=(\d+\.\d+)", PROJECT["requires-python"])
    assert oldest is not None
    assert python == f"python={oldest[1]}"


def test_version_is_said_once() -> None:
    import journeylab

    assert journeylab.__version__ == PROJECT["version"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped_and_runnable(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    # papermill cannot run a notebook without a kernel's name.
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert not re.search(r"^\s*def ", "\n".join("".join(cell["source"]) for cell in code), flags=re.MULTILINE)


def test_wheel_holds_what_the_package_reads(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = tmp_path / "inside"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(inside)
        names = set(archive.namelist())
    shipped = [*NOTEBOOKS, *(ROOT / "data" / "demo").iterdir(), *(ROOT / "data" / "reference").glob("*.toml")]
    for path in shipped:
        assert f"journeylab/{path.relative_to(ROOT).as_posix()}" in names
    assert {name for name in names if name.startswith("journeylab/templates/")} >= {
        f"journeylab/templates/{path.name}" for path in (ROOT / "journeylab" / "templates").glob("*.j2")
    }
    # The package as it lies in the wheel, without the checkout beside it.
    script = (
        "import journeylab as jl; print(jl.__file__); "
        "print(jl.read_events('demo').count().execute(), len(jl.JourneyRules.load('ecommerce').stages), "
        "sorted(jl.list_notebooks()['name']))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(inside), "PATH": "/usr/bin:/bin"},
    )
    where, answer = run.stdout.splitlines()
    assert where.startswith(str(inside))
    assert answer.endswith(str([path.stem for path in NOTEBOOKS]))
