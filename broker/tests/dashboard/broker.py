"""A broker under test, driven by its JSON calls, and workers of it."""

import base64
import contextlib
import glob
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request

PATIENCE_S = 30
HEARTBEAT_S = 5


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


class Broker:
    """A broker with a Postgres of its own."""

    def __init__(self, binary, directory, http_port, settings=()):
        self.url = f"http://127.0.0.1:{http_port}"
        self.directory = directory
        self.log = open(pathlib.Path(directory) / "broker.log", "ab")
        command = [
            binary, "dev", "--data-dir", f"{directory}/data", "--grpc-listen", "127.0.0.1:0",
            "--http-listen", f"127.0.0.1:{http_port}",
        ]
        environment = {**os.environ, **dict(settings)}
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        self.eventually(lambda: urllib.request.urlopen(f"{self.url}/health/ready").status == 200)

    @staticmethod
    def eventually(holds):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError):
                if holds():
                    return
            assert time.monotonic() < deadline, "not in time"
            time.sleep(0.1)

    def open(self, call, body):
        request = urllib.request.Request(
            f"{self.url}/api/currant.v1.{call}", json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        return urllib.request.urlopen(request)

    def call(self, call, body=None):
        with self.open(call, body or {}) as answer:
            return json.load(answer)

    def enqueue(self, queue, count, **job):
        payload = base64.b64encode(json.dumps({"to": "ada@example.com", "number": 7}).encode()).decode()
        job = {"queue": queue, "kind": "send_email", "payload": payload, "contentType": "application/json", **job}
        return self.call("JobService/Enqueue", {"jobs": [job] * count})["jobIds"]

    def database_url(self, name="currant"):
        return f"host={self.directory}/data port=5432 user=postgres dbname='{name}'"

    def let_in(self, allowed):
        """Whether its database takes connections; if not, those that are there end."""
        psql = shutil.which("psql") or max(glob.glob("/usr/lib/postgresql/*/bin/psql"))
        sql = [f"ALTER DATABASE currant ALLOW_CONNECTIONS {allowed}"]
        if not allowed:
            sql.append("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'currant'")
        command = [psql, "-q", "-d", self.database_url("postgres")] + [word for one in sql for word in ("-c", one)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE_S)
        self.log.close()


class Worker(threading.Thread):
    """Reports what `outcome` says of each job, which is None for one that goes on running."""

    def __init__(self, broker, name, queue, credit, outcome):
        super().__init__(daemon=True)
        self.broker, self.outcome = broker, outcome
        self.received, self.held = 0, []
        self.subscription = {"worker": name, "queues": [queue], "maxInFlight": credit}
        self.start()

    def run(self):
        # The stream ends with the broker.
        with contextlib.suppress(OSError, ValueError):
            self.work()

    def work(self):
        stream = self.broker.open("WorkerService/Subscribe", self.subscription)
        for line in stream:
            if not line.startswith(b"data: "):
                continue
            message = json.loads(line[6:])
            if message.get("welcome"):
                self.session = message["welcome"]["sessionId"]
                threading.Thread(target=self.beat, args=[message["welcome"]], daemon=True).start()
            assignments = message.get("assignments") or {}
            for job in assignments.get("jobs", []):
                outcome = self.outcome(job)
                if outcome is None:
                    self.held.append({"jobId": job["jobId"], "attempt": job["attempt"]})
                    continue
                completion = {"jobId": job["jobId"], "attempt": job["attempt"], **outcome}
                self.broker.call("WorkerService/Complete", {"sessionId": self.session, "completions": [completion]})
            self.received = assignments.get("seq", self.received)

    def report(self, percent, message):
        """How far it is with the first job that it holds."""
        report = {**self.held[0], "percent": percent, "message": message}
        self.broker.call("WorkerService/ReportProgress", {"sessionId": self.session, "reports": [report]})

    def beat(self, welcome):
        """Shows life until the broker is gone."""
        with contextlib.suppress(OSError):
            while True:
                time.sleep(HEARTBEAT_S)
                life = {"sessionId": welcome["sessionId"], "epoch": welcome["epoch"]}
                life |= {"receivedSeq": self.received, "held": self.held}
                self.broker.call("WorkerService/Heartbeat", life)
