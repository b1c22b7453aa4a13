"""What does a report cost beside an empty notebook that imports the same?

    python benchmarks/report.py [notebook]

The report on the demo data through `journeylab run`; beside it a notebook of one cell that imports what the report
uses, through the command lines of papermill and nbconvert. CPU seconds of all processes, the better of two.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

BIN = Path(sys.executable).parent
# Of a package its parts are imported by itself; these are imported where they are used.
HEAVY = ("duckdb", "ibis", "matplotlib.pyplot", "numpy", "pandas", "pyarrow.parquet", "scipy.stats", "seaborn")
HEAVY += (
    "statsmodels.duration.survfunc",
    "statsmodels.stats.proportion",
    "statsmodels.stats.multitest",
    "sklearn.cluster",
)


def spend(*commands: list[str | Path]) -> tuple[float, float]:
    """CPU and wall seconds of these commands and all that they start."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        time.perf_counter() - begun,
    )


def main(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        empty, done = Path(folder, "empty.ipynb"), Path(folder, "done.ipynb")
        imports = "\n".join(f"import {module}" for module in (*HEAVY, "journeylab"))
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(imports)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, empty)
        papermill = [BIN / "papermill", empty, done, "--no-progress-bar"]
        nbconvert = [BIN / "jupyter-nbconvert", "--to", "html", done]
        run = [BIN / "journeylab", "run", name, "--out", Path(folder, "run")]
        ours, theirs = [], []
        for _ in range(2):
            ours.append(spend(run))
            theirs.append(spend(papermill, nbconvert))
        for label, runs in ((name, ours), ("empty, papermill and nbconvert", theirs)):
            cpu, wall = min(runs)
            print(f"{label:32s} {cpu:5.1f} CPU s  {wall:5.1f} s wall")
        print(f"ratio {min(ours)[0] / min(theirs)[0]:.2f} (CPU)")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "drop_off")
