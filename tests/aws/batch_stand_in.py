"""A stand-in for AWS Batch on the loopback address: it runs each job's command in a fresh folder of this machine.

It keeps the capacity of queues, attempts and timeouts, hands out the job role's keys as the container agent does, and
remembers every call. It pulls no image, checks no permission and enforces no memory.
Source: https://docs.aws.amazon.com/batch/latest/APIReference/API_Operations.html
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REGION = "eu-central-1"
ACCOUNT = "123456789012"
RECLAIMED = "Host EC2 (instance i-0123456789abcdef0) terminated."
KINDS = ("VCPU", "MEMORY", "GPU")


@dataclass(frozen=True)
class Queue:
    """A job queue and what its compute environment may hold at a time."""

    vcpus: int
    memory_mb: int
    gpus: int = 0

    def capacity(self) -> dict[str, int]:
        return dict(zip(KINDS, (self.vcpus, self.memory_mb, self.gpus), strict=True))


@dataclass(frozen=True)
class Definition:
    """A job definition: the environment of its container, in place of an image, and how often a job is tried."""

    environment: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 1
    timeout_s: float | None = None


class Job:
    """One submitted job."""

    def __init__(self, number: int, request: Mapping[str, Any], definition: Definition, folder: Path):
        container = request.get("containerOverrides", {})
        asked = {item["type"]: int(item["value"]) for item in container.get("resourceRequirements", [])}
        self.id = f"00000000-0000-0000-0000-{number:012d}"
        self.name, self.queue, self.definition_name = (
            request[key] for key in ("jobName", "jobQueue", "jobDefinition")
        )
        self.definition, self.folder = definition, folder
        self.command = container["command"]
        self.environment = {item["name"]: item["value"] for item in container.get("environment", [])}
        self.asked = {kind: asked.get(kind, 0) for kind in KINDS}
        self.attempts_left = request.get("retryStrategy", {}).get("attempts", definition.attempts)
        self.timeout_s = request.get("timeout", {}).get("attemptDurationSeconds", definition.timeout_s)
        self.status, self.reason, self.exit_code = "RUNNABLE", "", None
        self.process: subprocess.Popen | None = None
        self.kill_reason = ""
        self.started = 0.0
        self.n_started = 0

    def text(self) -> str:
        """What the attempts wrote to stdout and stderr: on AWS, to CloudWatch."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.out")))

    def describe(self) -> dict[str, Any]:
        return {
            "jobId": self.id,
            "jobName": self.name,
            "jobQueue": self.queue,
            "jobDefinition": self.definition_name,
            "status": self.status,
            "startedAt": int(self.started * 1000),
            **({"statusReason": self.reason} if self.reason else {}),
            "container": {} if self.exit_code is None else {"exitCode": self.exit_code},
        }

    def start(self, environment: Mapping[str, str]) -> None:
        self.n_started += 1
        place = self.folder / str(self.n_started)
        place.mkdir(parents=True)
        self.status, self.started, self.kill_reason = "RUNNING", time.time(), ""
        with open(self.folder / f"{self.n_started}.out", "wb") as out:
            self.process = subprocess.Popen(
                self.command,
                cwd=place,
                env={"HOME": str(place), **environment, **self.definition.environment, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def kill(self, reason: str) -> None:
        """End all processes of the job at once, without a warning."""
        self.kill_reason = reason
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def look(self) -> None:
        """Bring the status of a running job up to date."""
        code = self.process.poll()
        if code is None:
            if self.timeout_s and time.time() - self.started > self.timeout_s:
                self.kill("Job attempt duration exceeded timeout")
            return
        self.attempts_left -= 1
        if code == 0 and not self.kill_reason:
            self.status, self.exit_code = "SUCCEEDED", 0
        elif self.attempts_left > 0:
            self.status = "RUNNABLE"
        else:
            self.status, self.reason = "FAILED", self.kill_reason or "Essential container in task exited"
            self.exit_code = None if self.kill_reason else code


class BatchStandIn:
    """The server. ``calls`` is the audit log: (operation, request) of every call, in order."""

    def __init__(
        self,
        folder: Path,
        queues: Mapping[str, Queue],
        definitions: Mapping[str, Definition],
        role_keys: Mapping[str, str],
    ):
        self.folder, self.queues, self.definitions = folder, dict(queues), dict(definitions)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.jobs: dict[str, Job] = {}
        self._role_keys = role_keys
        self._lock = threading.RLock()
        self._closed = threading.Event()

    def __enter__(self) -> "BatchStandIn":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_address[1]
        self._threads = [
            threading.Thread(target=run, daemon=True) for run in (self._server.serve_forever, self._schedule)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()
        for job in self.jobs.values():
            job.kill("the stand-in ended")
            if job.process is not None:
                job.process.wait()

    def submitted(self) -> list[dict[str, Any]]:
        """The requests of all submitted jobs, in order."""
        return [request for operation, request in self.calls if operation == "submitjob"]

    def reclaim(self, job: Job) -> None:
        """Take a job's Spot node away, as AWS does when its capacity is wanted elsewhere."""
        job.kill(RECLAIMED)

    def running(self, word: str) -> Job:
        """Return the running job whose command holds a word."""
        with self._lock:
            return next(
                job for job in self.jobs.values() if job.status == "RUNNING" and word in job.command[-1]
            )

    def answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a call asks. Raises KeyError for a queue, a definition or a job that is not there."""
        with self._lock:
            self.calls.append((operation, request))
            return getattr(self, f"_{operation}")(request)

    def _submitjob(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["jobDefinition"].rpartition("/")[2].partition(":")[0]
        if request["jobQueue"] not in self.queues or name not in self.definitions:
            raise KeyError(f"{request['jobQueue']} or {name} does not exist")
        number = len(self.jobs)
        job = Job(number, request, self.definitions[name], self.folder / f"{number:03d}")
        self.jobs[job.id] = job
        return {"jobId": job.id, "jobName": job.name}

    def _describejobs(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"jobs": [self.jobs[name].describe() for name in request["jobs"] if name in self.jobs]}

    def _terminatejob(self, request: dict[str, Any]) -> dict[str, Any]:
        job = self.jobs[request["jobId"]]
        if job.status == "RUNNABLE":
            job.status, job.reason = "FAILED", request["reason"]
        job.kill(request["reason"])
        return {}

    def _describejobqueues(self, request: dict[str, Any]) -> dict[str, Any]:
        return {
            "jobQueues": [
                {
                    "jobQueueName": name,
                    "jobQueueArn": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{name}",
                    "state": "ENABLED",
                    "status": "VALID",
                    "priority": 1,
                    "computeEnvironmentOrder": [],
                }
                for name in self.queues
                if name in request.get("jobQueues", self.queues)
            ]
        }

    def _describejobdefinitions(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted = request.get("jobDefinitions") or [request.get("jobDefinitionName")]
        return {
            "jobDefinitions": [
                {
                    "jobDefinitionName": name,
                    "jobDefinitionArn": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/{name}:1",
                    "revision": 1,
                    "status": "ACTIVE",
                    "type": "container",
                    "retryStrategy": {"attempts": definition.attempts},
                    "containerProperties": {"image": name, "environment": []},
                }
                for name, definition in self.definitions.items()
                if wanted == [None] or any(str(item).partition(":")[0] == name for item in wanted)
            ]
        }

    def _schedule(self) -> None:
        while not self._closed.wait(0.1):
            with self._lock:
                for job in self.jobs.values():
                    if job.status == "RUNNING":
                        job.look()
                    elif job.status == "RUNNABLE" and self._fits(job):
                        job.start(self._credentials())

    def _fits(self, job: Job) -> bool:
        at_work = [
            other for other in self.jobs.values() if other.status == "RUNNING" and other.queue == job.queue
        ]
        capacity = self.queues[job.queue].capacity()
        return all(
            job.asked[kind] + sum(other.asked[kind] for other in at_work) <= capacity[kind] for kind in KINDS
        )

    def _credentials(self) -> dict[str, str]:
        return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{self.port}/role"}

    def _handler(self) -> Callable[..., BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                role = {
                    "AccessKeyId": stand_in._role_keys["AWS_ACCESS_KEY_ID"],
                    "SecretAccessKey": stand_in._role_keys["AWS_SECRET_ACCESS_KEY"],
                    "Token": "",
                    "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 36000)),
                }
                self._send(200, role) if self.path == "/role" else self._send(404, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                operation = self.path.removeprefix("/v1/")
                try:
                    self._send(200, stand_in.answer(operation, json.loads(body or b"{}")))
                except (KeyError, AttributeError) as error:
                    self._send(400, {"message": str(error)}, {"x-amzn-ErrorType": "ClientException"})

            def _send(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
