"""Counts what a cluster costs its parts: python scaling.py BINARY [--out FILE].

An API and workers, each a process, on a throw-away PostgreSQL that counts statements (pg_stat_statements) and on moto's server for
S3. Proxies count bytes. These are counts, not times: they are the same on any machine, and say what a thousand workers would ask
for.
"""

import argparse
import base64
import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from document import put
from load import picture

TASKS = 50
QUIET = 20
MOTO = """import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


class Proxy:
    """Passes connections on and counts their bytes: to the server and back."""

    def __init__(self, server):
        self.server, self.there, self.back = server, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.server))
            for a, b, name in ((client, server, "there"), (server, client, "back")):
                threading.Thread(target=self.pump, args=(a, b, name), daemon=True).start()

    def pump(self, a, b, name):
        with contextlib.suppress(OSError):
            while data := a.recv(1 << 16):
                setattr(self, name, getattr(self, name) + len(data))
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)

    def take(self):
        there, back, self.there, self.back = self.there, self.back, 0, 0
        return there, back


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Postgres:
    def __init__(self, folder):
        versions = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
        self.bin, self.port, self.data = versions[-1], free_port(), folder / "data"
        # PostgreSQL refuses to run as root.
        self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        if self.as_user:
            shutil.chown(folder, "postgres", "postgres")
        self.run("initdb", "--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=trust", f"--pgdata={self.data}")
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c max_connections=300"
        options += " -c shared_preload_libraries=pg_stat_statements -c pg_stat_statements.track_utility=on"
        self.run("pg_ctl", "start", "--wait", "--silent", f"--pgdata={self.data}", f"--log={folder}/log", "--options", options)
        self.sql("CREATE DATABASE tasks", "postgres")
        self.sql("CREATE EXTENSION pg_stat_statements")
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/tasks"

    def run(self, name, *args):
        done = subprocess.run([*self.as_user, self.bin / name, *args], cwd="/", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sql(self, statement, database="tasks"):
        args = ["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        return self.run("psql", *args, "-d", database, "-c", statement).strip()

    def stop(self):
        self.run("pg_ctl", "stop", "--mode=immediate", "--silent", f"--pgdata={self.data}")

    def reset(self):
        self.sql("SELECT pg_stat_statements_reset()")

    def statements(self):
        """How many since the last reset, but for ours; and the milliseconds that they took inside the database."""
        found = self.sql(
            "SELECT coalesce(sum(calls), 0), coalesce(sum(total_exec_time), 0) FROM pg_stat_statements "
            "WHERE query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE '%/* ours */%'"
        )
        calls, took = found.split("|")
        return int(calls), float(took)


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Cluster:
    def __init__(self, binary, folder, postgres):
        self.binary, self.folder, self.postgres, self.nodes, self.s3 = binary, folder, postgres, [], {}

    def start(self, role):
        data = self.folder / f"node-{len(self.nodes)}"
        storage = f"s3://pictures/here?endpoint=http://127.0.0.1:{self.s3[role].port}"
        args = ["serve", "--role", role, "--listen", "127.0.0.1:0", "--data-dir", data, "--database", self.postgres.url]
        args += ["--storage", storage, "--signing-secret", "s" * 32, "--threads", "1", "--allow-net", "127.0.0.0/8"]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ENLARGER_", "AWS_"))}
        env |= {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "XDG_CONFIG_HOME": "/no/such/folder"}
        node = subprocess.Popen([self.binary, *args], stderr=subprocess.PIPE, text=True, env=env)
        self.nodes.append(node)
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", node.stderr.readline())):
            assert node.poll() is None, "it ended"
        threading.Thread(target=node.stderr.read, daemon=True).start()
        # The first estimate and the first sweep are over.
        time.sleep(3)
        return int(found[1])

    def rest(self):
        left = "SELECT /* ours */ (SELECT count(*) FROM tasks WHERE finished_at IS NULL) + (SELECT count(*) FROM outbox WHERE state = 'pending')"
        while self.postgres.sql(left) != "0":
            time.sleep(0.2)


def call(port, method, path, body=None):
    url = path if path.startswith("http") else f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, body and json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def measure(binary, folder):
    postgres = Postgres(folder / "postgres")
    moto = subprocess.Popen([sys.executable, "-c", MOTO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    cluster = Cluster(binary, folder, postgres)
    hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    try:
        port = int(moto.stdout.readline())
        cluster.s3 = {"api": Proxy(port), "worker": Proxy(port)}
        call(port, "PUT", "/pictures")
        return rows(postgres, cluster, f"http://127.0.0.1:{hook.server_port}/hook")
    finally:
        for node in cluster.nodes:
            node.kill()
            node.wait()
        moto.kill()
        postgres.stop()


def rows(postgres, cluster, hook):
    request = {"model": "animevideo-v3", "size": {"factor": 2}}
    body = {"image": base64.b64encode(picture(64)).decode(), "request": request}
    found = []

    def count(what, per, act, unit, idle=0.0):
        """Runs `act` and says how many statements it took, without those of idle nodes meanwhile."""
        postgres.reset()
        started = time.monotonic()
        result = act()
        seconds = time.monotonic() - started
        calls, took = postgres.statements()
        each = (calls - idle * seconds) / (per or seconds)
        found.append((what, f"{each:.1f} {unit}", f"{took / max(calls, 1):.3f} ms"))
        return each, result

    api = cluster.start("api")
    idle_api, _ = count("an API that nobody uses", None, lambda: time.sleep(QUIET), "per second")
    submit = lambda n, more={}: [json.loads(call(api, "POST", "/api/tasks", body | more))["task_id"] for _ in range(n)]
    cluster.s3["api"].take()
    _, ids = count("a submission", TASKS, lambda: submit(TASKS), "each", idle_api)
    sent = cluster.s3["api"].take()
    count("a status", TASKS, lambda: [call(api, "GET", f"/api/tasks/{id}") for id in ids], "each", idle_api)
    cluster.start("worker")
    cluster.rest()
    time.sleep(2)
    idle_pair, _ = count("an API and a worker that have nothing to do", None, lambda: time.sleep(QUIET), "per second")

    def work(more={}):
        ids = submit(TASKS, more)
        cluster.rest()
        return ids

    cluster.s3["worker"].take()
    count("a job, from submission to result, one worker", TASKS, work, "each", idle_pair)
    worked = cluster.s3["worker"].take()
    _, told = count("the same with a webhook", TASKS, lambda: work({"webhook_url": hook}), "each", idle_pair)
    for _ in range(3):
        cluster.start("worker")
    idle_five, _ = count("an API and 4 workers that have nothing to do", None, lambda: time.sleep(QUIET), "per second")
    count("a job, 4 workers", TASKS, work, "each", idle_five)
    long = {"image": base64.b64encode(picture(256)).decode(), "request": {"model": "x4plus", "size": {"factor": 8}}}
    long = json.loads(call(api, "POST", "/api/tasks", long))["task_id"]
    while json.loads(call(api, "GET", f"/api/tasks/{long}"))["status"] != "IN_PROGRESS":
        time.sleep(0.1)
    time.sleep(1)
    count("a job that runs, beside 3 idle workers and an API", None, lambda: time.sleep(QUIET), "per second", 0)
    still = json.loads(call(api, "GET", f"/api/tasks/{long}"))["status"]
    assert still == "IN_PROGRESS", f"it was not running all the time: {still}"
    call(api, "POST", f"/api/tasks/{long}/cancel")

    cluster.s3["api"].take()
    urls = [json.loads(call(api, "GET", f"/api/tasks/{id}"))["result"]["url"] for id in told]
    count("a download", TASKS, lambda: [call(api, "GET", url) for url in urls], "each", idle_five)
    size = sum(len(call(api, "GET", url)) for url in urls[:1])
    got = cluster.s3["api"].take()
    source = len(base64.b64decode(body["image"]))
    stored = int(postgres.sql("SELECT /* ours */ pg_total_relation_size('tasks') + pg_total_relation_size('outbox') + pg_total_relation_size('idempotency_keys')"))
    tasks = int(postgres.sql("SELECT /* ours */ count(*) FROM tasks"))
    table = "| what | statements | mean time in the database |\n|---|---|---|\n"
    table += "\n".join(f"| {a} | {b} | {c} |" for a, b, c in found)
    per = lambda bytes, n: f"{bytes / n:,.0f}"
    table += f"\n\nOf an image of {source:,} bytes and its result of {size:,} bytes, with requests and headers:\n\n| between | bytes to the bucket | bytes from it |\n|---|---|---|\n"
    table += f"| API and bucket, for a submission | {per(sent[0], TASKS)} | {per(sent[1], TASKS)} |\n"
    table += f"| worker and bucket, for a job | {per(worked[0], TASKS)} | {per(worked[1], TASKS)} |\n"
    table += f"| API and bucket, for a download | {per(got[0], TASKS + 1)} | {per(got[1], TASKS + 1)} |\n"
    return table + f"\nThe database had {stored / tasks:,.0f} bytes per job on disk, with indexes, after {tasks} jobs."


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        (folder / "postgres").mkdir()
        table = measure(args.binary.absolute(), folder)
    print(table)
    if args.out:
        put(args.out, "scaling", table)


if __name__ == "__main__":
    main()
