"""A headless Chromium driven over its own protocol, as far as the page's tests need it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """The browser's program, if there is one on this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


#: What the browser says when a page goes before it has answered.
LEFT = "navigated or closed"


class PageLeftError(AssertionError):
    """The page that was asked something is gone."""


class Browser:
    """One page. `errors` are the page's own: exceptions, refused resources, messages of console.error."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 800, language: str = "zh-CN") -> None:
        program = chromium()
        assert program is not None
        self._child = subprocess.Popen(
            [
                program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--remote-debugging-port=0", "--remote-allow-origins=*", "--disable-background-networking",
                f"--user-data-dir={folder}", f"--lang={language}", f"--window-size={width},{height}", "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.errors: list[str] = []
        self._events: list[dict[str, Any]] = []
        self._number = 0
        self._socket = self._connect(folder)
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            self.call(f"{domain}.enable")
        agent = self.run("navigator.userAgent")
        self.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=language)
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.size(width, height)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._child.terminate()
        self._child.wait(30)

    def _connect(self, folder: Path) -> Any:
        import websocket

        end = time.monotonic() + 60
        while not (folder / "DevToolsActivePort").exists() or not (folder / "DevToolsActivePort").read_text():
            assert time.monotonic() < end and self._child.poll() is None, "the browser did not start"
            time.sleep(0.1)
        port = (folder / "DevToolsActivePort").read_text().split()[0]
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as listed:
                pages = [page for page in json.load(listed) if page["type"] == "page"]
            if pages:
                return websocket.create_connection(pages[0]["webSocketDebuggerUrl"], timeout=60)
            assert time.monotonic() < end, "the browser has no page"

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                if LEFT in message.get("error", {}).get("message", ""):
                    raise PageLeftError(message)
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._notice(message)

    def _notice(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"], ensure_ascii=False)[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self._events.append(params["request"])

    @property
    def requests(self) -> list[str]:
        """Every address that was asked for."""
        self.run("0")
        return [request["url"] for request in self._events]

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait(f"location.href.startsWith('{url.split('#')[0]}') && document.readyState === 'complete'")

    def size(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def dark(self, on: bool) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def run(self, code: str) -> Any:
        """What JavaScript's `code` gives, promises awaited."""
        done = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, code: str, seconds: float = 90) -> None:
        """Until `code` gives something true."""
        end = time.monotonic() + seconds
        while not self._is_true(code):
            assert time.monotonic() < end, f"never: {code}; errors: {self.errors}"
            time.sleep(0.05)

    def _is_true(self, code: str) -> bool:
        """Not yet, where the page that was asked is just being left for the next one."""
        try:
            return bool(self.run(f"Boolean({code})"))
        except PageLeftError:
            return False

    def choose(self, selector: str, *files: Path) -> None:
        """Files into an <input type=file>, as a person chooses them."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int, text: str = "", modifiers: int = 0) -> None:
        """One key. `modifiers`: 1 Alt, 2 Ctrl, 8 Shift."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def enter(self, modifiers: int = 0) -> None:
        self.press("Enter", 13, "\r", modifiers)

    def shot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
