"""Puts the service under load and measures it: python load.py BINARY [--out FILE].

While the worker computes on all cores, 1,000 tasks are submitted by 8 clients and their states are asked for. Afterwards all
must be there; they are run to the end. Times are of this machine; what matters is that nothing is lost and that the API answers
while the cores compute.
"""

import argparse
import base64
import concurrent.futures
import http.client
import json
import os
import re
import struct
import subprocess
import tempfile
import threading
import time
import zlib

from document import put

TASKS = 1000
CLIENTS = 8


def picture(side):
    """A PNG of random-looking pixels."""
    rows = b"".join(b"\0" + bytes((x * y * 7 + c * 31) % 256 for x in range(side) for c in range(3)) for y in range(side))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Client(threading.local):
    """One connection per thread, as clients keep them."""

    connection = None

    def call(self, port, method, path, body=None):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        started = time.perf_counter()
        self.connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        said = json.loads(answer.read())
        return answer.status, said, time.perf_counter() - started


def percentile(times, share):
    return 1000 * sorted(times)[min(len(times) - 1, int(len(times) * share))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [args.binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", folder, "--log", "warn"],
            stderr=subprocess.PIPE, text=True,
        )
        try:
            table = measure(server)
        finally:
            server.kill()
    print(table)
    if args.out:
        put(args.out, "load", table)


def measure(server):
    port = None
    while port is None:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", server.stderr.readline())
        port = found and int(found[1])
    threading.Thread(target=server.stderr.read, daemon=True).start()
    client = Client()
    large = {"image": base64.b64encode(picture(400)).decode(), "request": {"model": "x4plus", "size": {"factor": 12}}}
    status, busy, _ = client.call(port, "POST", "/api/tasks", large)
    assert status == 200, busy
    while client.call(port, "GET", f"/api/tasks/{busy['task_id']}")[1]["status"] != "IN_PROGRESS":
        time.sleep(0.05)

    small = {"image": base64.b64encode(picture(16)).decode(), "request": {"model": "animevideo-v3", "size": {"factor": 2}}}

    def submit(n):
        status, said, took = client.call(port, "POST", "/api/tasks", small)
        asked_status, _, asked = client.call(port, "GET", f"/v1/ai/image-upscaler/{said['task_id']}")
        # A console task is not found by that endpoint: the same look-up, the shortest answer.
        assert status == 200 and asked_status == 404, said
        status, _, asked = client.call(port, "GET", f"/api/tasks/{said['task_id']}")
        assert status == 200
        return said["task_id"], took, asked

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        done = list(pool.map(submit, range(TASKS)))
    seconds = time.perf_counter() - started
    still = client.call(port, "GET", f"/api/tasks/{busy['task_id']}")[1]["status"]
    assert still == "IN_PROGRESS", f"the machine was idle for a part of this: {still}"
    client.call(port, "POST", f"/api/tasks/{busy['task_id']}/cancel")
    while client.call(port, "GET", "/api/status")[1]["queue"]["completed"] < TASKS:
        assert client.call(port, "GET", "/api/status")[1]["queue"]["failed"] == 0
        time.sleep(0.5)
    ids = {task for task, _, _ in done}
    completed = sum(client.call(port, "GET", f"/api/tasks/{task}")[1]["status"] == "COMPLETED" for task in ids)
    submits, asks = [took for _, took, _ in done], [asked for _, _, asked in done]
    rows = [
        ("accepted", f"{len(ids)} of {TASKS}"),
        ("completed afterwards", f"{completed} of {TASKS}"),
        ("submissions per second", f"{TASKS / seconds:.0f}"),
        ("submit, median / p99", f"{percentile(submits, 0.5):.1f} / {percentile(submits, 0.99):.1f} ms"),
        ("status, median / p99", f"{percentile(asks, 0.5):.1f} / {percentile(asks, 0.99):.1f} ms"),
    ]
    head = f"{os.cpu_count()} cores, all of them computing; {CLIENTS} clients; SQLite with synchronous FULL.\n\n| | |\n|---|---|\n"
    return head + "\n".join(f"| {name} | {value} |" for name, value in rows)


if __name__ == "__main__":
    main()
