"""Headless Chromium for the tests, spoken to through its debugging pipe."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
]
needs_chromium = pytest.mark.skipif(CHROMIUM is None or os.name != "posix", reason="no Chromium found")


class Browser:
    """One page of a browser that keeps nothing and tells what the page does."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM
        hears, self._says = os.pipe()
        self._hears, says = os.pipe()

        def connect_pipe() -> None:
            # Chromium reads commands from 3 and writes to 4; both are first moved out of the way.
            one, two = os.dup(hears), os.dup(says)
            os.dup2(one, 3)
            os.dup2(two, 4)

        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=connect_pipe,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(hears)
        os.close(says)
        self._heard_bytes = b""
        self._n = 0
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Page", "Runtime"):
            self.send(f"{domain}.enable")

    _session: str | None = None

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self._say(method, parameters)
        while (answer := self._read()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(self, page: Path, *, width: int = 1280, dark: bool = False) -> list[str]:
        """Load a page and return what it asked for and its policy let through."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        self.events.clear()
        self.send("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())
        # What a page does after it has loaded (refresh, timers) gets its chance too.
        self.ask("new Promise(done => setTimeout(done, 300))")
        refused = [
            each["requestId"] for each in self._heard("Network.loadingFailed") if each.get("blockedReason") == "csp"
        ]
        asked = [each for each in self._heard("Network.requestWillBeSent") if each["requestId"] not in refused]
        return [each["request"]["url"] for each in asked]

    def _say(self, method: str, parameters: dict[str, Any]) -> int:
        self._n += 1
        message: dict[str, Any] = {"id": self._n, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._says, json.dumps(message).encode() + b"\0")
        return self._n

    def _heard(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def ask(self, expression: str) -> Any:
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        return found["result"].get("value")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._says)
        os.close(self._hears)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._heard_bytes:
            assert select.select([self._hears], [], [], 30)[0], "Chromium says nothing more"
            more = os.read(self._hears, 65_536)
            assert more, "Chromium has ended"
            self._heard_bytes += more
        message, _, self._heard_bytes = self._heard_bytes.partition(b"\0")
        told = dict(json.loads(message))
        if told.get("method") == "Page.javascriptDialogOpening":
            self._say("Page.handleJavaScriptDialog", {"accept": True})
            pytest.fail(f"a script has opened a dialog: {told['params']['message']}")
        return told
