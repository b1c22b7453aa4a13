"""The process a notebook runs in: a fresh Python, or a fork of one that has already imported what notebooks need."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from journeylab.recording import TABLES_VARIABLE

_LAUNCHER = "ipykernel_launcher"
# The fork that waits for a notebook, if this process has one.
_spare: _ForkedKernel | None = None


@contextmanager
def without_url_grammar() -> Iterator[None]:
    """Keep jsonschema from compiling a grammar of URLs, which nothing here needs and which takes a second."""
    grammar = "rfc3987_syntax"
    absent = grammar not in sys.modules
    if absent:
        sys.modules[grammar] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules[grammar]


def kernel_manager(runtime: Path, tables: Path) -> type:
    """Return the class whose kernel is this very Python, untouched by the user's other kernels and start-up files."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.provisioning import LocalProvisioner
    from traitlets import Unicode

    connection = str(runtime / "kernel.json")
    # Sockets in a folder of our own: no race for ports, nothing on the network. Such paths may have some 100 bytes.
    has_sockets = os.name == "posix" and len(connection) < 80
    environment = {"IPYTHONDIR": str(runtime), TABLES_VARIABLE: str(tables), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", _LAUNCHER, "-f", "{connection_file}"]

    class ForkedProvisioner(LocalProvisioner):  # type: ignore[misc]
        async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
            self.process = _take_spare()
            self.process.begin(cmd[cmd.index(_LAUNCHER) + 1 :], options["env"])
            self.pid = self.pgid = self.process.pid
            return self.connection_info

    class ReportKernel(AsyncKernelManager):  # type: ignore[misc]
        transport = Unicode("ipc" if has_sockets else "tcp")
        connection_file = Unicode(connection)

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(argv=command, display_name="Python 3", language="python")

        async def start_kernel(self, **options: Any) -> None:
            if _spare:
                self.provisioner = ForkedProvisioner(
                    kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
                )
            await super().start_kernel(env=os.environ | environment, **options)

    return ReportKernel


def fork_kernel(*, close: Sequence[int]) -> None:
    """Have the next notebook's kernel ready: a fork of this process, which must have one thread only.

    It waits to be told its arguments, and closes the file descriptors that it shall not have.
    """
    global _spare
    hears, says = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        # Whatever happens, this process must never go on with its parent's work.
        try:
            die_with(parent)
            # A group of its own, so that what the notebook starts can be ended with it.
            os.setsid()
            for handle in (says, *close):
                os.close(handle)
            _become_kernel(hears, parent)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(hears)
    _spare = _ForkedKernel(pid, says)


def die_with(parent: int) -> None:
    """Let the system end this process with its parent, where it can (Linux); elsewhere kernels look every second."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


class _ForkedKernel:
    """A forked kernel, with what jupyter_client asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, says: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._says = says

    def begin(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        with os.fdopen(self._says, "w") as pipe:
            json.dump([list(arguments), dict(environment)], pipe)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        while (code := self.poll()) is None:
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _take_spare() -> _ForkedKernel:
    global _spare
    assert _spare
    spare, _spare = _spare, None
    return spare


def _become_kernel(hears: int, parent: int) -> None:
    """Wait for the word, then be what `python -m ipykernel_launcher` is."""
    with os.fdopen(hears) as pipe:
        told = pipe.read()
    if not told:
        return
    arguments, environment = json.loads(told)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = [_LAUNCHER, *arguments]
    if "numpy" in sys.modules:
        import numpy as np

        # Otherwise all forks would draw the same "random" numbers; those that give a seed do not see it.
        np.random.seed()
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=arguments, parent_handle=parent)
