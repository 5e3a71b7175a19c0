"""A real S3 server on the loopback address, and a proxy before it that counts bytes, can cut and can keep waiting."""

import contextlib
import os
import signal
import socket
import subprocess
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import fsspec
import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "testsecret"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def s3_server(folder):
    """Start SeaweedFS with the bucket ``genomics``; all its ports are on loopback, its data in ``folder``."""
    ports = {
        name: free_port()
        for name in ("s3", "master", "filer", "volume", "s3g", "masterg", "filerg", "volumeg")
    }
    command = [
        str(Path(sysconfig.get_path("scripts"), "weed")),
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.port={ports['s3']}",
        f"-master.port={ports['master']}",
        f"-filer.port={ports['filer']}",
        f"-volume.port={ports['volume']}",
        f"-s3.port.grpc={ports['s3g']}",
        f"-master.port.grpc={ports['masterg']}",
        f"-filer.port.grpc={ports['filerg']}",
        f"-volume.port.grpc={ports['volumeg']}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        "-volume.max=0",
        "-volume.preStopSeconds=0",
        "-bucket=genomics",
    ]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(command, env=os.environ | KEYS, stdout=log, stderr=log, cwd=folder)
    try:
        wait_until_healthy(f"http://127.0.0.1:{ports['s3']}/healthz", server, folder / "log")
        yield ports["s3"]
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextlib.contextmanager
def s3_environment(port):
    """Let s3fs talk to a port of this machine, by clients of its own: those made before know another server."""
    changed = KEYS | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    clients = fsspec.get_filesystem_class("s3")
    clients.clear_instance_cache()
    try:
        yield
    finally:
        clients.clear_instance_cache()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def wait_until_healthy(url, server, log):
    for _ in range(150):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the S3 server did not start: {log.read_text(errors='replace')[-2000:]}")


class CountingProxy:
    """Passes bytes between clients and a port of this machine, counts what comes back, and cuts on demand."""

    def __init__(self, port):
        self.port = free_port()
        self.n_bytes = 0
        self.n_cuts = 0
        self._cut_after = []
        self._held = {}
        self._target = port
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.settimeout(0.2)
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self, *n_bytes):
        """Close a connection once this many more bytes have come back, for each number given, in turn."""
        with self._lock:
            self._cut_after = [*n_bytes]

    def hold(self, *beginnings):
        """Let the next request that begins with each text wait for ever; return events that tell when it has come."""
        events = [threading.Event() for _ in beginnings]
        self._held |= {text.encode(): event for text, event in zip(beginnings, events, strict=True)}
        return events

    def close(self):
        self._closed.set()
        for thread in list(self._threads):
            thread.join(10)
        self._listener.close()

    def _accept(self):
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client):
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            upward = threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True)
            upward.start()
            self._pass_on(server, client, True)
            upward.join(10)

    def _pass_on(self, source, target, is_answer):
        source.settimeout(0.2)
        while not self._closed.is_set():
            try:
                data = source.recv(1 << 16)
                if not data or (is_answer and self._is_cut(len(data))):
                    break
                if not is_answer:
                    self._wait_if_held(data)
                target.sendall(data)
            except TimeoutError:
                continue
            except OSError:
                break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _wait_if_held(self, data):
        for text in [text for text in self._held if data.startswith(text)]:
            self._held.pop(text).set()
            self._closed.wait()

    def _is_cut(self, n_bytes):
        with self._lock:
            self.n_bytes += n_bytes
            if not self._cut_after:
                return False
            self._cut_after[0] -= n_bytes
            if self._cut_after[0] > 0:
                return False
            self._cut_after.pop(0)
            self.n_cuts += 1
            return True
