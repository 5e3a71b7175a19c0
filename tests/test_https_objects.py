"""Objects read from a web server on the loopback address, by ranges."""

import http.server
import re
import threading

import fsspec
import pytest

from object_store import free_port
from oncoarena import store
from oncoarena.errors import BadObject, InputError
from oncoarena.listing import Unreachable, sizes
from oncoarena.objects import ObjectStream

CONTENT = bytes(range(256)) * 200


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one object, by ranges where the path says so."""

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        if not self.path.endswith(".bin"):
            self.send_error(403 if "secret" in self.path else 404)
            return
        body, status = CONTENT, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and "ranged" in self.path:
            first, last = int(asked[1]), min(int(asked[2]), len(CONTENT) - 1)
            body, status = CONTENT[first : last + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if "ranged" in self.path:
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(CONTENT)}")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    fsspec.get_filesystem_class("http").clear_instance_cache()
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_object_stream__reads_a_web_object_by_ranges_each_byte_once(site):
    with ObjectStream(f"{site}/ranged.bin", chunk_bytes=7000) as stream:
        assert stream.readall() == CONTENT
        assert stream.n_fetched == len(CONTENT)


def test_object_stream__server_that_does_not_serve_ranges_is_refused(site):
    whole = f"{site}/whole.bin"
    with (
        ObjectStream(whole, chunk_bytes=7000) as stream,
        pytest.raises(BadObject, match="does not serve ranges"),
    ):
        stream.readall()


def test_sizes__web_objects_are_asked_for_where_no_folder_is_listed(site):
    uris = [f"{site}/data/ranged.bin", f"{site}/data/none", f"{site}/whole.bin"]
    assert sizes(uris) == dict(zip(uris, (len(CONTENT), None, len(CONTENT)), strict=True))
    with pytest.raises(Unreachable, match=r"/secret: could not be asked for .*403"):
        sizes([f"{site}/secret"])


def test_sizes__web_server_that_is_not_there_is_not_an_empty_one():
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:\d+/a: could not be asked for"):
        sizes([f"http://127.0.0.1:{free_port()}/a"])


def test_open_object__absent_web_object_is_one_clear_line(site):
    with pytest.raises(InputError, match="there is no such file"), store.open_object(f"{site}/none"):
        pass
