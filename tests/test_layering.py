"""Imports run one way, and `import journeylab` brings nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import journeylab

PACKAGE = Path(journeylab.__file__).parent

# A module imports only from those before it. A new one must be given its place here.
ORDER = (
    *("errors", "language", "words", "formats", "shares", "resources", "engine", "schema", "rules", "sources"),
    *(
        "journeys",
        "survival",
        "time_series",
        "retention",
        "lifecycle",
        "conditions",
        "funnel_rules",
        "walks",
        "walks_in_memory",
        "funnel",
        "conversion",
        "drop_off",
        "leaving",
        "explain",
        "comparison",
        "before_after",
        "experiments",
        "monitor",
        "accounts",
        "paths",
        "rfm",
        "contrasts",
        "segments",
        "personas",
        "feedback",
        "planned_path",
        "alignment",
        "deviations",
        "conformance",
        "sheets",
        "journeymap",
    ),
    *("picture", "figures", "tables", "svg_funnel", "svg_flow", "cards", "svg_tracking", "plots", "curves"),
    *(
        "map_day",
        "map_words",
        "map_curve",
        "map_style",
        "map_cells",
        "map_picture",
        "svg_map",
        "map_formats",
        "map_drawio",
        "map_sheets",
    ),
    *("disclosure", "locks", "loading", "recording", "explore", "parameters", "freshness", "kernels"),
    *("templates", "runs", "diff", "report", "printing", "map_page"),
    *("worker", "plan", "batch", "messages"),
    *("cli", "__main__"),
)
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
HEAVY = ("ibis", "pandas", "numpy", "pyarrow", "scipy", "sklearn", "statsmodels", "matplotlib", "seaborn", "papermill")


def name_module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def find_imports(source: str) -> set[str]:
    """Modules of the package that are imported when the file is: not inside a function, not for types alone."""
    found: set[str] = set()
    waiting = list(ast.parse(source).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the package in full"
            if node.module == "journeylab":
                # A module, or a name such as __version__ that the package itself has.
                found |= {alias.name for alias in node.names if (PACKAGE / alias.name).with_suffix(".py").exists()}
                found |= {alias.name for alias in node.names if (PACKAGE / alias.name).is_dir()}
            elif node.module and node.module.startswith("journeylab."):
                found.add(node.module.removeprefix("journeylab."))
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {name.removeprefix("journeylab.") for name in names if name.startswith("journeylab.")}
        waiting += ast.iter_child_nodes(node)
    return found


def test_every_module_has_its_place() -> None:
    present = {name_module(path).split(".")[0] for path in FILES}
    unplaced = sorted(present - set(ORDER))
    assert not unplaced, f"give {', '.join(unplaced)} a place in ORDER, as section 2 of the design has it"
    gone = sorted(set(ORDER) - present)
    assert not gone, f"{', '.join(gone)} no longer exist: take them out of ORDER"


@pytest.mark.parametrize("path", FILES, ids=name_module)
def test_imports_run_one_way(path: Path) -> None:
    own = name_module(path).split(".")[0]
    imported = {name.split(".")[0] for name in find_imports(path.read_text(encoding="utf-8"))} - {own}
    earlier = ORDER[: ORDER.index(own)] if own in ORDER else ()
    late = sorted(imported - set(earlier))
    assert not late, f"{name_module(path)} imports {', '.join(late)}, which do not come before it"


@pytest.mark.parametrize("package", sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()))
def test_no_circles_inside_a_package(package: str) -> None:
    graph = {}
    for path in FILES:
        name = name_module(path)
        if name.split(".")[0] == package:
            imported = find_imports(path.read_text(encoding="utf-8"))
            graph[name] = {other for other in imported if other.split(".")[0] == package and other != name}
    TopologicalSorter(graph).prepare()


def test_what_counts_as_an_import() -> None:
    source = """
from __future__ import annotations
import journeylab.engine
from journeylab import __version__, rules
from journeylab.sources.files import find_files
if TYPE_CHECKING:
    from journeylab.cli import main
else:
    from journeylab import paths
try:
    from journeylab.schema import ROW
except ImportError:
    pass
class Funnel:
    from journeylab.errors import RuleError
    def plot(self):
        from journeylab.plots import plot_funnel
"""
    assert find_imports(source) == {"engine", "rules", "sources.files", "paths", "schema", "errors"}


def test_import_brings_nothing_heavy() -> None:
    code = "import sys, journeylab; dir(journeylab); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "journeylab" in loaded
    assert sorted({name.split(".")[0] for name in loaded} & set(HEAVY)) == []
    assert [name for name in loaded if name.startswith("journeylab.")] == []
