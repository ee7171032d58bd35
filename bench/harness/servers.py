"""The servers that are measured: Holdfast, nginx with the same bytes as files, Verdaccio. Each runs on the first core."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import machine

START_SECONDS = 60
# Those that run now.
RUNNING = []
REST_SECONDS = 60


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def ask(url, headers=None, method="GET", body=None):
    """Status, headers and body of an answer; the body as it came, still coded."""
    request = urllib.request.Request(url, data=body, method=method, headers={"accept-encoding": "identity", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def rest():
    """Waits until all servers are idle. One whose clients have gone may work on for them, on the core that the next one needs."""
    began, before = time.perf_counter(), None
    while time.perf_counter() - began < REST_SECONDS:
        now = sum(server.processor_ticks() for server in RUNNING)
        if before is not None and now - before <= 1:
            return
        before = now
        time.sleep(0.1)


class Server:
    """A program that listens, with a folder and a log of its own. Use it in `with`."""

    def __init__(self, folder, name):
        self.folder = Path(folder) / f"{name}-{free_port()}"
        self.folder.mkdir(parents=True)
        self.name = name
        self.port = free_port()
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    # Where it runs: a server that is measured has a core of its own.
    cores = machine.SERVER_CORES

    def command(self):
        raise NotImplementedError

    def environment(self):
        return {}

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Starts it and waits until it answers. Gives the seconds from the start of the process to the first answer."""
        with (self.folder / "log").open("ab") as log:
            began = time.perf_counter()
            self.process = subprocess.Popen(
                machine.pinned(self.cores, self.command()),
                stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                env={**os.environ, **self.environment()},
            )
        RUNNING.append(self)
        while not self._answers():
            if self.process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.001)
        return time.perf_counter() - began

    def _answers(self):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
            probe.settimeout(START_SECONDS)
            try:
                probe.sendall(f"GET {self.first_path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\nconnection: close\r\n\r\n".encode())
                return bool(probe.recv(1))
            except OSError:
                return False

    first_path = "/-/ping"

    def stop(self):
        if self in RUNNING:
            RUNNING.remove(self)
        if self.process is None or self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _processes(self):
        """The process and those that it started."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, task.read_text().split())
        return found

    def processor_ticks(self):
        """Time that it has been given so far, in hundredths of a second."""
        total = 0
        for pid in self._processes():
            # Of what comes after the program's name in brackets, the 12th and 13th.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total

    def _memory(self, field):
        total = 0
        for pid in self._processes():
            match = re.search(rf"^{field}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
            total += int(match.group(1)) if match else 0
        return total / 1024

    def memory_mib(self):
        """What is in memory now, of all its processes."""
        return self._memory("VmRSS")

    def peak_memory_mib(self):
        """The most that was in memory since the start, or since `forget_peak`."""
        return self._memory("VmHWM")

    def forget_peak(self):
        for pid in self._processes():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def account(self, name="bench"):
        """A new account's token, as npm gets one. Holdfast has to be set to let anybody register."""
        body = json.dumps({"name": name, "password": "only for this run"}).encode()
        url = f"{self.url}/-/user/org.couchdb.user:{name}"
        status, _, answer = ask(url, {"content-type": "application/json"}, "PUT", body)
        if status != 201:
            raise RuntimeError(f"no account was made: {answer.decode()}")
        return json.loads(answer)["token"]


class Holdfast(Server):
    """The release build, as it runs by default but for what `settings` say (dotted keys of holdfast.toml).

    `file` is the text of a holdfast.toml, for what variables cannot say; `variables` are those that are not Holdfast's own;
    `program` is another build than the release one.
    """

    def __init__(
        self, folder, data=None, upstream=None, settings=None, store=None, file=None, name="holdfast", variables=None, program=None,
    ):
        super().__init__(folder, name)
        self.data = Path(data) if data else self.folder / "data"
        self.store, self.upstream, self.settings = store, upstream, settings or {}
        self.variables, self.program = variables or {}, program or machine.PROGRAM
        if file:
            (self.folder / "holdfast.toml").write_text(file)

    def command(self):
        command = [self.program, "serve", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--storage", self.store] if self.store else ["--data", self.data]
        return command + (["--upstream", self.upstream] if self.upstream else ["--no-upstream"])

    def environment(self):
        settings = {f"HOLDFAST__{key.upper().replace('.', '__')}": str(value) for key, value in self.settings.items()}
        return settings | self.variables

    def store_calls(self):
        """How often it has called its store since it started: kinds of call to numbers, whatever came of them."""
        _, _, body = ask(f"{self.url}/-/metrics")
        found = {}
        for call, count in re.findall(r'^holdfast_store_calls_total\{[^}]*call="([^"]+)"[^}]*\} (\d+)', body.decode(), re.MULTILINE):
            found[call] = found.get(call, 0) + int(count)
        return found


class Nginx(Server):
    """Files below `www` as they are, with what nginx's own manual advises for static files.

    Without `nopush` its `tcp_nopush` is off: with it, a range that does not begin at a page of the file waits for an
    acknowledgement of 40 ms, which says nothing of nginx.
    """

    first_path = "/"

    def __init__(self, folder, www, extra="", logs=True, nopush=True, name="nginx"):
        super().__init__(folder, name)
        self.www, self.extra, self.logs, self.nopush = Path(www), extra, logs, nopush

    def command(self):
        configuration = self.folder / "nginx.conf"
        # The log is kept as a busy site keeps it: in lines of the usual form, written when 64 KB are together.
        log = f"access_log {self.folder}/access.log combined buffer=64k flush=1s;" if self.logs else "access_log off;"
        user = "user root;" if os.geteuid() == 0 else ""
        configuration.write_text(f"""
{user}
worker_processes 1;
daemon off;
pid {self.folder}/pid;
error_log {self.folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    sendfile on;
    tcp_nopush {'on' if self.nopush else 'off'};
    tcp_nodelay on;
    keepalive_requests 1000000000;
    open_file_cache max=10000 inactive=60s;
    open_file_cache_valid 60s;
    {log}
    default_type application/json;
    client_body_temp_path {self.folder};
    proxy_temp_path {self.folder};
    fastcgi_temp_path {self.folder};
    uwsgi_temp_path {self.folder};
    scgi_temp_path {self.folder};
    map "$http_accept" $form {{ default full; "~application/vnd.npm.install-v1" abbreviated; }}
    # One coding alone is looked up; what clients send is a list, of which the first here that is in it is taken.
    map "$http_accept_encoding" $coding {{
        default identity; "zstd" zstd; "br" br; "gzip" gzip; "~zstd" zstd; "~br" br; "~gzip" gzip;
    }}
    map $coding $content_coding {{ default ""; zstd zstd; br br; gzip gzip; }}
    {self.extra}
    server {{
        listen 127.0.0.1:{self.port};
        root {self.www};
        # One file for each form and coding, as a registry's answers differ by them.
        location ~ ^/(@[^/]+/)?[^/]+$ {{
            try_files $uri/$form.$coding =404;
            add_header Content-Encoding $content_coding;
            add_header Vary "Accept, Accept-Encoding";
            add_header Cache-Control "public, no-cache";
        }}
        location / {{ try_files $uri =404; }}
    }}
}}
""")
        return ["nginx", "-p", self.folder, "-c", configuration]


class Http2Nginx(Nginx):
    """The same over HTTP/2 without TLS."""

    def command(self):
        command = super().command()
        configuration = self.folder / "nginx.conf"
        configuration.write_text(configuration.read_text().replace(f":{self.port};", f":{self.port} http2;"))
        return command


class Verdaccio(Server):
    """Verdaccio as its own configuration has it, but for logs of warnings only, an upstream by choice, and open rights.

    With `jwt` its tokens are signed by it, which its manual advises for speed; by default they hold the password. Packages
    that fit the pattern `closed` are for accounts only.
    """

    def __init__(self, folder, storage=None, upstream=None, jwt=False, closed=None, name="verdaccio"):
        super().__init__(folder, name)
        self.storage = Path(storage) if storage else self.folder / "storage"
        self.upstream, self.jwt, self.closed = upstream, jwt, closed

    def command(self):
        self.storage.mkdir(parents=True, exist_ok=True)
        uplink = f"uplinks:\n  up:\n    url: {self.upstream}\n" if self.upstream else ""
        proxy = "    proxy: up\n" if self.upstream else ""
        security = "security:\n  api:\n    jwt:\n      sign:\n        expiresIn: 29d\n" if self.jwt else ""
        closed = f"  '{self.closed}':\n    access: $authenticated\n    publish: $authenticated\n" if self.closed else ""
        (self.folder / "config.yaml").write_text(f"""
storage: {self.storage}
auth:
  htpasswd:
    file: {self.folder}/htpasswd
{security}{uplink}packages:
{closed}  '**':
    access: $all
    publish: $authenticated
    unpublish: $authenticated
{proxy}max_body_size: 500mb
log: {{ type: stdout, format: json, level: warn }}
""")
        program = machine.verdaccio_folder() / "node_modules" / "verdaccio" / "bin" / "verdaccio"
        return [machine.NODE, program, "--config", self.folder / "config.yaml", "--listen", f"127.0.0.1:{self.port}"]
