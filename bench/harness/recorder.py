"""A proxy between a client and a registry that writes down what is asked and what is answered, and changes nothing of it.

It is for counting, not for times. Bytes are those of HTTP/1.1: the head in text, and the body as it was coded. Where the
registry is one that names its own address in documents, a client would leave the proxy at the first tarball; such
addresses are then replaced in what the client gets, after the answer was counted as it came.
"""

import gzip
import http.client
import re
import socket
import ssl
import threading
import time
import urllib.parse
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .fixtures import ABBREVIATED

FULL = "full"
PACKUMENT = re.compile(r"/(@[^/]+(/|%2f))?[^/@-][^/]*", re.IGNORECASE)
# Of one connection only, so never passed on (RFC 9110, 7.6.1).
HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "host"}
PIECE = 64 * 1024


@dataclass(frozen=True)
class Exchange:
    """One request and its answer. `form` is None for what is no packument."""

    kind: str
    form: str | None
    path: str
    accept: str
    accept_encoding: str
    encoding: str
    status: int
    asked_bytes: int
    answered_bytes: int
    began: float
    ended: float


def kind_of(path):
    path = path.partition("?")[0]
    if path.endswith(".tgz"):
        return "tarball"
    return "packument" if PACKUMENT.fullmatch(path) else "other"


def _form(accept, content_type):
    """By what the answer says that it is; a 304 says nothing, so then by what was asked for first."""
    if content_type:
        return "abbreviated" if content_type.startswith(ABBREVIATED) else FULL
    return "abbreviated" if ABBREVIATED in accept else FULL


class Recorder:
    """Listens on loopback and passes everything on to `registry`, an address of http or https. Use it in `with`."""

    def __init__(self, registry):
        self.target = urllib.parse.urlsplit(registry.rstrip("/"))
        self.registry = registry.rstrip("/")
        # A registry on loopback names the host that it was asked by, which is then this proxy.
        self.keeps_host = self.target.hostname == "127.0.0.1"
        self.exchanges, self.connections, self.lock = [], 0, threading.Lock()
        # Once: reading the system's certificates takes longer than most requests.
        self.context = ssl.create_default_context()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.recorder = self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def take(self):
        """All exchanges and the number of connections since the last call."""
        with self.lock:
            taken = self.exchanges, self.connections
            self.exchanges, self.connections = [], 0
        return taken

    def connect(self):
        # The host is the one of the client's registry setting: the system's certificates decide.
        if self.target.scheme == "https":
            return http.client.HTTPSConnection(self.target.netloc, timeout=120, context=self.context)
        return http.client.HTTPConnection(self.target.netloc, timeout=120)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request, client_address):
        # A client that ends while an answer is on its way is nothing to tell.
        pass


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, with one to the registry behind it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream = None

    def setup(self):
        super().setup()
        self.recorder = self.server.recorder
        with self.recorder.lock:
            self.recorder.connections += 1

    def finish(self):
        if self.upstream:
            self.upstream.close()
        super().finish()

    def log_message(self, *_):
        pass

    def _ask(self, body):
        """The registry's answer. A connection that it has closed meanwhile is opened again, once."""
        recorder = self.recorder
        for last in (False, True):
            fresh = self.upstream is None
            if fresh:
                self.upstream = recorder.connect()
                self.upstream.connect()
                self.upstream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self.upstream.putrequest(self.command, recorder.target.path + self.path, skip_host=True, skip_accept_encoding=True)
                self.upstream.putheader("host", self.headers["host"] if recorder.keeps_host else recorder.target.netloc)
                for name, value in self.headers.items():
                    if name.lower() not in HOP:
                        self.upstream.putheader(name, value)
                self.upstream.endheaders(body)
                return self.upstream.getresponse()
            except (http.client.HTTPException, OSError):
                self.upstream.close()
                self.upstream = None
                if fresh or last:
                    raise

    def _pass(self):
        began = time.perf_counter()
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else None
        answer = self._ask(body)
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP]
        # To be counted: what came, its framing included in its plain form.
        head = sum(len(name) + len(value) + 4 for name, value in answer.getheaders()) + len(f"HTTP/1.1 {answer.status} {answer.reason}\r\n\r\n")
        kind = kind_of(self.path)
        if kind == "packument" or answer.getheader("content-length") is None:
            size = self._send_whole(answer, headers, kind)
        else:
            size = self._send_on(answer, headers)
        asked = len(self.requestline) + 4 + sum(len(name) + len(value) + 4 for name, value in self.headers.items()) + length
        accept = self.headers.get("accept") or ""
        form = _form(accept, answer.getheader("content-type") if answer.status == 200 else None) if kind == "packument" else None
        found = Exchange(
            kind, form, self.path, accept, self.headers.get("accept-encoding") or "", answer.getheader("content-encoding") or "identity",
            answer.status, asked, head + size, began, time.perf_counter(),
        )
        with self.recorder.lock:
            self.recorder.exchanges.append(found)

    def _begin(self, answer, headers):
        self.send_response_only(answer.status, answer.reason)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def _send_on(self, answer, headers):
        self._begin(answer, headers)
        size = 0
        while piece := answer.read(PIECE):
            size += len(piece)
            self.wfile.write(piece)
        return size

    def _send_whole(self, answer, headers, kind):
        body = answer.read()
        size = len(body)
        if kind == "packument" and answer.status == 200 and not self.recorder.keeps_host:
            coding = answer.getheader("content-encoding") or "identity"
            if coding not in ("gzip", "identity"):
                raise RuntimeError(f"no way to read an answer in {coding}")
            plain = gzip.decompress(body) if coding == "gzip" else body
            body = plain.replace(self.recorder.registry.encode(), self.recorder.url.encode())
            headers = [(name, value) for name, value in headers if name.lower() != "content-encoding"]
        if answer.status != 304 and self.command != "HEAD":
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
            headers.append(("content-length", str(len(body))))
        self._begin(answer, headers)
        self.wfile.write(body)
        return size

    do_GET = do_HEAD = do_POST = do_PUT = _pass
