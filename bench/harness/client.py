"""A client for what wrk cannot do: bodies that differ from each other, bodies of hundreds of megabytes, each answer's time.

One thread sends bytes that were made beforehand and throws away what comes, without having it copied out of the system:
so the client is not what is measured, although it is written in Python. It runs on the load's cores, where
`scenario.run` has put this process.
"""

import multiprocessing
import os
import re
import selectors
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PIECE = 2**20
NOWHERE = bytearray(4 * PIECE)
LONGEST_SECONDS = 120


def request(method, url, headers=None, *body):
    """A request as it is sent: a list of buffers, those of the body as they are, without a copy."""
    at = urlsplit(url)
    lines = [f"{method} {at.path}{'?' + at.query if at.query else ''} HTTP/1.1", f"host: {at.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or method != "GET":
        lines.append(f"content-length: {sum(map(len, body))}")
    return [("\r\n".join(lines) + "\r\n\r\n").encode(), *body]


def publish(url, token, name, *body):
    """`npm publish` of a body that was made beforehand."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return request("PUT", f"{url}/{name.replace('/', '%2f')}", headers, *body)


def percentile(values, part):
    """The value that `part` (0 to 1) of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@dataclass
class Asked:
    """What came of it: seconds of each answer, from the first byte sent to the last received, and all in all."""

    times: list = field(default_factory=list)
    received: int = 0
    sent: int = 0
    seconds: float = 0.0

    @property
    def per_second(self):
        return len(self.times) / self.seconds

    @property
    def megabytes_per_second(self):
        """Of what came and what was sent."""
        return (self.received + self.sent) / self.seconds / 1e6

    def ms(self, part=0.5):
        return 1000 * percentile(self.times, part)


class _Connection:
    """One connection: what is still to be sent, and what is still to come."""

    def __init__(self, address):
        self.address, self.sent = address, 0
        self.open()

    def open(self):
        self.socket = socket.create_connection(self.address, timeout=LONGEST_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def begin(self, buffers):
        self.out = [memoryview(buffer) for buffer in buffers]
        self.head, self.left, self.status, self.received, self.closes = b"", None, 0, 0, False
        self.tail = None
        self.began = time.perf_counter()
        self.send()

    def send(self):
        while self.out:
            try:
                sent = self.socket.send(self.out[0][:PIECE])
            except BlockingIOError:
                return
            self.sent += sent
            self.out[0] = self.out[0][sent:]
            if not self.out[0]:
                self.out.pop(0)

    def receive(self):
        """Takes what is there. Tells whether the answer is whole."""
        try:
            if self.left is None:
                self._take(self.socket.recv(65536))
            elif self.tail is not None:
                self._chunks(self.socket.recv(PIECE))
            else:
                # MSG_TRUNC: the system drops the bytes where they are.
                count = self.socket.recv_into(NOWHERE, min(self.left, len(NOWHERE)), socket.MSG_TRUNC)
                self._some(count)
                self.left -= count
        except BlockingIOError:
            return False
        return self.left == 0

    def _some(self, count):
        if count == 0:
            raise RuntimeError("the server closed a connection in the middle of an answer")
        self.received += count

    def _take(self, piece):
        self._some(len(piece))
        self.head += piece
        end = self.head.find(b"\r\n\r\n")
        if end < 0:
            return
        head, rest = self.head[:end].lower(), self.head[end + 4:]
        self.status = int(head[9:12])
        self.closes = b"connection: close" in head
        length = re.search(rb"content-length: *(\d+)", head)
        if self.status in (204, 304):
            self.left = 0
        elif length:
            self.left = int(length.group(1)) - len(rest)
        elif b"transfer-encoding: chunked" in head:
            self.left, self.tail = 1, b""
            if rest:
                self._chunks(rest)
        else:
            raise RuntimeError(f"an answer without a length: {head.decode('latin-1')}")

    def _chunks(self, piece):
        # The last chunk is told by its bytes, at the end of what is there: nothing follows it before the next request.
        self._some(len(piece))
        self.tail = (self.tail + piece)[-5:]
        self.left = 0 if self.tail == b"0\r\n\r\n" else 1

    def renew(self):
        self.socket.close()
        self.open()


def drive(url, requests, connections=1, seconds=None, stop=None, cut=False, good=(200, 201, 206, 304)):
    """Sends `requests` over `connections`, the next one on each as soon as an answer is whole.

    `requests` is an iterable of what `request` makes, and may be endless. `url` may be several servers', which get the connections
    in turn, as from a load balancer. No further one is begun after `seconds`, or once
    `stop()` says so; with `cut` those under way are then dropped and their bytes counted, else waited for. Any other
    status than the `good` ones is an error.
    """
    servers = [urlsplit(one) for one in ([url] if isinstance(url, str) else url)]
    waiting, found = iter(requests), Asked()
    began = time.perf_counter()
    ended = lambda: (seconds is not None and time.perf_counter() - began >= seconds) or (stop is not None and stop())
    selector = selectors.DefaultSelector()

    def start(connection):
        buffers = None if ended() else next(waiting, None)
        if buffers is None:
            return False
        connection.begin(buffers)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.out else 0)
        selector.register(connection.socket, events, connection)
        return True

    addresses = [(at.hostname, at.port) for at in servers]
    every = [_Connection(addresses[number % len(addresses)]) for number in range(connections)]
    under_way = {connection for connection in every if start(connection)}
    try:
        while under_way and not (cut and ended()):
            if time.perf_counter() - began > (seconds or 0) + LONGEST_SECONDS and seconds is not None:
                raise RuntimeError(f"{url} has not answered for {LONGEST_SECONDS} seconds")
            for key, events in selector.select(timeout=0.1):
                connection = key.data
                if events & selectors.EVENT_WRITE and connection.out:
                    connection.send()
                    if not connection.out:
                        selector.modify(connection.socket, selectors.EVENT_READ, connection)
                if not events & selectors.EVENT_READ or not connection.receive():
                    continue
                if connection.status not in good:
                    raise RuntimeError(f"{url} answered {connection.status}: {connection.head[-600:].decode('latin-1')}")
                found.times.append(time.perf_counter() - connection.began)
                found.received += connection.received
                selector.unregister(connection.socket)
                if connection.closes or connection.out:
                    connection.renew()
                if not start(connection):
                    under_way.discard(connection)
        found.seconds = time.perf_counter() - began
        found.received += sum(connection.received for connection in under_way)
        found.sent = sum(connection.sent for connection in every)
        return found
    finally:
        selector.close()
        for connection in every:
            connection.socket.close()


@contextmanager
def beside(url, requests, connections=1):
    """The same, without end, in a process of its own while the body of the `with` runs. Gives a list, in which the `Asked` is afterwards.

    The process is nice to the other load, with which it shares the cores.
    """
    context = multiprocessing.get_context("fork")
    stop, results, found = context.Event(), context.Queue(), []

    def work():
        os.nice(5)
        try:
            results.put(drive(url, requests, connections, stop=stop.is_set, cut=True))
        except BaseException as error:  # It is told where the result is awaited.
            results.put(RuntimeError(f"the load beside failed: {error}"))

    process = context.Process(target=work, daemon=True)
    process.start()
    try:
        yield found
        stop.set()
        result = results.get(timeout=LONGEST_SECONDS)
        if isinstance(result, Exception):
            raise result
        found.append(result)
    finally:
        stop.set()
        process.join(timeout=10)
        if process.is_alive():
            process.kill()
            process.join()
