"""A bucket to measure on: moto, which speaks S3, and a line to it that is as long as one wants."""

import asyncio
import multiprocessing
import socket

from . import machine
from .servers import Server, ask, free_port

BUCKET = "bench"


class Moto(Server):
    """S3 as moto plays it, in memory, with one empty bucket. It runs beside the load: it is not what is measured."""

    first_path = "/"
    cores = machine.LOAD_CORES

    def __init__(self, folder, name="moto"):
        super().__init__(folder, name)

    def command(self):
        program = machine.TARGET / "servers" / "moto" / "bin" / "python"
        if not program.exists():
            raise SystemExit("moto is missing: `scripts/servers moto` brings it")
        return [program, "-m", "moto.server", "-H", "127.0.0.1", "-p", self.port]

    def start(self):
        seconds = super().start()
        status, _, body = ask(f"{self.url}/{BUCKET}", method="PUT")
        assert status == 200, body
        return seconds


def settings(endpoint):
    """With what a Holdfast finds a store on it."""
    return {
        "storage.endpoint": endpoint, "storage.region": "us-east-1",
        "storage.access_key_id": "test", "storage.secret_access_key": "test",
    }


class LongLine:
    """A TCP proxy on loopback, in a process of its own, in front of a port of this machine: what is sent comes half of
    `milliseconds` later, in each direction. Use it in `with`.

    A new connection costs nothing: moto closes each one after its answer, where real stores keep them open.
    """

    def __init__(self, port, milliseconds):
        self.target, self.half = port, milliseconds / 2000
        self.port = free_port()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=lambda: asyncio.run(self._serve(listener)), daemon=True)
        self.process.start()
        listener.close()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()

    async def _serve(self, listener):
        server = await asyncio.start_server(self._connected, sock=listener)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer), return_exceptions=True)

    async def _carry(self, reader, writer):
        """Each piece is due a while after it came, so that a stream loses time once and not with every piece."""
        loop, due = asyncio.get_running_loop(), asyncio.Queue(maxsize=4096)

        async def deliver():
            while True:
                at, piece = await due.get()
                await asyncio.sleep(max(0, at - loop.time()))
                if not piece:
                    writer.close()
                    return
                writer.write(piece)
                await writer.drain()

        delivering = asyncio.create_task(deliver())
        try:
            while piece := await reader.read(65536):
                await due.put((loop.time() + self.half, piece))
        except OSError:
            pass
        await due.put((loop.time() + self.half, b""))
        await delivering
