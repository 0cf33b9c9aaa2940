"""A client of enlarger's own API, with Python's standard library only."""

import json
import time
import urllib.error
import urllib.request

USUAL_URL = "http://127.0.0.1:7788"
# Seconds that a request may take, and between two looks at a task.
TIMEOUT = 60
PAUSE = 0.5
# Seconds that a server may be away while a task runs: tasks survive a restart.
PATIENCE = 60


class Refused(RuntimeError):
    """The server's sentence about what is wrong, with what to do about it."""


class Server:
    """An enlarger server at a URL, such as http://127.0.0.1:7788; `key` is an API key, if it requires one."""

    def __init__(self, url, key=None):
        self.url = url.strip().rstrip("/")
        self.key = key

    def enlarge(self, png, request, watch):
        """Enlarges an image and returns the result as PNG.

        `request` is what `POST /api/tasks` takes. `watch` is called with the share that is done, 0 to 1, every half second; what it
        raises cancels the task. Raises Refused.
        """
        task = self._json("POST", "/api/tasks", {"image": self._upload(png), "name": "comfyui.png", "request": request})
        try:
            while task["status"] in ("CREATED", "IN_PROGRESS"):
                watch((task.get("progress") or {}).get("fraction", 0.0))
                time.sleep(PAUSE)
                task = self._look(task["task_id"])
        except BaseException:
            self._cancel(task["task_id"])
            raise
        if task["status"] != "COMPLETED":
            raise Refused(_sentence(task.get("error") or {"message": "the task was cancelled on the server"}))
        watch(1.0)
        return self._send("GET", task["result"]["url"])

    def _upload(self, png):
        place = self._json("POST", "/customers/storage", {"file_name": "image.png", "content_type": "image/png"})
        self._send("PUT", place["upload_url"], png, {"Content-Type": "image/png"})
        return place["download_url"]

    def _look(self, task):
        """The task, also if the server is away for a moment."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._json("GET", f"/api/tasks/{task}")
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE)

    def _cancel(self, task):
        try:
            self._json("POST", f"/api/tasks/{task}/cancel")
        except Refused:
            pass  # It has ended, or the server has.

    def _json(self, method, path, body=None):
        headers = {"Accept": "application/json"}
        if self.key:
            headers["X-API-KEY"] = self.key
        if body is not None:
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        return json.loads(self._send(method, self.url + path, body, headers))

    def _send(self, method, url, body=None, headers=None):
        try:
            request = urllib.request.Request(url, body, headers or {}, method=method)
        except ValueError:
            raise Refused(f"{self.url!r} is not a URL. Hint: server must be like {USUAL_URL}") from None
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(_sentence(_error(error))) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(
                f"cannot reach enlarger at {self.url}: {reason}. Hint: start it with `enlarger serve`, or correct server"
            ) from None


class Unreachable(Refused):
    """There is no server, or not at the moment."""


def _error(error):
    try:
        body = json.loads(error.read())
        return body if "message" in body else {"message": f"HTTP {error.code}"}
    except (ValueError, OSError):
        return {"message": f"HTTP {error.code} {error.reason}. Hint: check that server is an enlarger server"}


def _sentence(error):
    hint = error.get("hint")
    return f"{error['message']}. Hint: {hint}" if hint else error["message"]
