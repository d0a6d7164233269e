"""Firefox without a window, over the protocol that it brings along: WebDriver BiDi, w3c.github.io/webdriver-bidi.

Playwright drives a Firefox of its own making, which has to be fetched from its own servers.
"""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import websocket

NAMES = ("firefox-esr", "firefox")
KEYS = {"Space": " ", "ArrowUp": "\ue013", "Enter": "\ue006"}
PATIENCE = 120
"""Seconds in which the browser has to answer."""


class Firefox:
    """A browser with one tab, and what went wrong in it: `faults` are words on the console and requests."""

    def __init__(self, executable: str, profile: Path) -> None:
        self.faults: list[str] = []
        self._number = 0
        command = [executable, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = self._port(profile / "WebDriverBiDiServer.json")
        address = f"ws://127.0.0.1:{port}/session"
        self.socket = websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
        self.send("session.new", capabilities={})
        self.send("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        # a tab of our own: in the first one the address line has the focus, and keys press no buttons
        self.tab = self.send("browsingContext.create", type="tab")["context"]

    def _port(self, told: Path) -> int:
        for _ in range(20 * PATIENCE):
            with suppress(OSError, ValueError):  # not yet there, or not yet whole
                return int(json.loads(told.read_text(encoding="utf-8"))["ws_port"])
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.process.kill()
        raise TimeoutError("Firefox does not say where it listens")

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait()

    def send(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self.socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv())).get("id") != self._number:
            self._note(answer)
        assert answer["type"] == "success", answer
        return answer["result"]

    def _note(self, event: dict[str, Any]) -> None:
        if event["method"] == "log.entryAdded":
            self.faults.append(event["params"]["text"])
        elif not (url := event["params"]["request"]["url"]).startswith(("file:", "data:", "blob:")):
            self.faults.append(url)

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        self.send("browsingContext.setViewport", context=self.tab, viewport={"width": width, "height": height})
        self.send("browsingContext.navigate", context=self.tab, url="about:blank", wait="complete")
        self.send("browsingContext.navigate", context=self.tab, url=address, wait="complete")
        self.wait('document.querySelector("[data-mounted]")')

    def ask(self, expression: str) -> Any:
        """Return what an expression of JavaScript, or its promise, comes to."""
        text = f"(async () => JSON.stringify(await ({expression})) ?? 'null')()"
        found = self.send("script.evaluate", expression=text, target={"context": self.tab}, awaitPromise=True)
        assert found["type"] == "success", found
        return json.loads(found["result"]["value"])

    def wait(self, condition: str) -> None:
        """Wait until a condition in JavaScript holds, and what follows from it is drawn."""
        frame = "await new Promise(requestAnimationFrame)"
        self.ask(f"(async () => {{ while (!({condition})) {frame}; {frame}; {frame} }})()")

    def settle(self) -> None:
        """Wait until everything is drawn."""
        self.wait("true")

    def press(self, text: str, which: int = 0) -> None:
        """Press the button with this text of one of the page's explorers, with the mouse."""
        buttons = f"[...document.querySelectorAll('.se-root')[{which}].querySelectorAll('button')]"
        self.stroke("mouse", self.middle(f"{buttons}.find((node) => node.textContent === {text!r})"))

    def middle(self, node: str) -> tuple[int, int]:
        """Return the middle of what an expression finds, which is brought into sight for that."""
        self.ask(f"{node}.scrollIntoView({{ block: 'nearest', behavior: 'instant' }})")
        box = self.ask(f"{node}.getBoundingClientRect()")
        return round(box["x"] + box["width"] / 2), round(box["y"] + box["height"] / 2)

    def stroke(self, kind: str, *places: tuple[int, int]) -> None:
        """Go with a mouse or a finger ("touch") from place to place, pressed from the first to the last."""
        there, *ways = [{"type": "pointerMove", "x": x, "y": y} for x, y in places]
        ways = [{**way, "duration": 200} for way in ways]
        actions = [there, {"type": "pointerDown", "button": 0}, *ways, {"type": "pointerUp", "button": 0}]
        self._act({"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": actions})

    def keys(self, *names: str) -> None:
        """Press keys one after another."""
        actions = [{"type": f"key{way}", "value": KEYS[name]} for name in names for way in ("Down", "Up")]
        self._act({"type": "key", "id": "keyboard", "actions": actions})

    def _act(self, source: dict[str, Any]) -> None:
        self.send("input.performActions", context=self.tab, actions=[source])
        self.send("input.releaseActions", context=self.tab)
