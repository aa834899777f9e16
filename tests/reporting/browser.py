"""A headless Chromium, driven over its own debugging pipe: no driver and no package is needed."""

import base64
import json
import os
import shutil
import subprocess
from contextlib import contextmanager

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser():
    """Return the path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A tab: what it shows, what it asked the network for and what it complained of."""

    def __init__(self, send, receive):
        self._send, self._receive, self._number = send, receive, 0
        self.events, self._session = [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Give a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._send(message)
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(self, url, *, width, scheme):
        """Load a page at a width in pixels, in a `light` or `dark` scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not self._seen("Page.loadEventFired"):
            self.events.append(self._receive())

    def evaluate(self, expression):
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def requests(self):
        return [
            event["params"]["request"]["url"] for event in self._seen("Network.requestWillBeSent")
        ]

    def complaints(self):
        """Return errors and warnings, of scripts, of the network and of the security policy."""
        told = [event["params"]["entry"] for event in self._seen("Log.entryAdded")]
        loud = [entry["text"] for entry in told if entry["level"] in {"error", "warning"}]
        return loud + self._seen("Runtime.exceptionThrown") + self._seen("Runtime.consoleAPICalled")

    def screenshot(self):
        """Return the whole page as PNG bytes."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {**size, "scale": 1}
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(image["data"])

    def _seen(self, method):
        return [event for event in self.events if event.get("method") == method]


@contextmanager
def browser(folder):
    """Yield a page of a browser that keeps its files in `folder`."""
    to_browser, from_browser = os.pipe(), os.pipe()
    command = [
        *(find_browser(), "--headless=new", "--remote-debugging-pipe", "--no-sandbox"),
        *("--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={folder}"),
    ]
    # Chromium reads its commands from file 3 and answers on file 4.
    pipes = f'exec 3<&{to_browser[0]} 4>&{from_browser[1]}; exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", pipes, "bash", *command],
        pass_fds=(to_browser[0], from_browser[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    rest = bytearray()

    def send(message):
        os.write(to_browser[1], json.dumps(message).encode() + b"\0")

    def receive():
        while b"\0" not in rest:
            chunk = os.read(from_browser[0], 1 << 16)
            assert chunk, "the browser has gone"
            rest.extend(chunk)
        message, _, remainder = bytes(rest).partition(b"\0")
        rest[:] = remainder
        return json.loads(message)

    try:
        yield Page(send, receive)
    finally:
        process.terminate()
        process.wait()
        os.close(to_browser[1])
        os.close(from_browser[0])
