"""Asking a server as fast as it answers, with wrk (HTTP/1.1) and h2load (HTTP/1.1 and HTTP/2)."""

import re
import subprocess
from dataclasses import dataclass

from . import machine

SECONDS = 4


@dataclass(frozen=True)
class Load:
    """What came of it."""

    requests_per_second: float
    bytes_per_second: float
    p50_ms: float | None = None
    p99_ms: float | None = None


UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}
SIZES = {"B": 1, "K": 2**10, "KB": 2**10, "M": 2**20, "MB": 2**20, "G": 2**30, "GB": 2**30}


def _milliseconds(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(value) * UNITS[unit]


def _bytes(text):
    value, unit = re.fullmatch(r"([\d.]+)([KMG]?B|[KMG])", text).groups()
    return float(value) * SIZES[unit]


def _run(command):
    done = subprocess.run(machine.pinned(machine.LOAD_CORES, command), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def http1(url, headers=None, connections=16, seconds=SECONDS, script=None):
    """wrk with one thread. An answer that is no 2xx or 3xx, or an error of a socket, is an error here."""
    command = ["wrk", "--threads", 1, "--connections", connections, "--duration", f"{seconds}s", "--timeout", "30s", "--latency"]
    for name, value in (headers or {}).items():
        command += ["--header", f"{name}: {value}"]
    printed = _run(command + (["--script", script] if script else []) + [url])
    if "Non-2xx" in printed or "Socket errors" in printed:
        raise RuntimeError(f"{url} did not answer well:\n{printed}")
    found = {name: re.search(pattern, printed, re.MULTILINE).group(1) for name, pattern in {
        "rate": r"Requests/sec:\s*([\d.]+)",
        "bytes": r"Transfer/sec:\s*(\S+)",
        "p50": r"^\s*50%\s+(\S+)",
        "p99": r"^\s*99%\s+(\S+)",
    }.items()}
    return Load(float(found["rate"]), _bytes(found["bytes"]), _milliseconds(found["p50"]), _milliseconds(found["p99"]))


def http2(url, headers=None, connections=16, streams=8, seconds=SECONDS):
    """h2load over HTTP/2 without TLS (prior knowledge), `streams` requests at once on each connection. It tells no percentiles."""
    command = ["h2load", "--threads", 1, "--clients", connections, "--max-concurrent-streams", streams]
    command += ["--duration", seconds, "--warm-up-time", 1]
    for name, value in (headers or {}).items():
        command += ["--header", f"{name}: {value}"]
    printed = _run([*command, url])
    if not re.search(r" 0 failed, 0 errored, 0 timeout", printed):
        raise RuntimeError(f"{url} did not answer well:\n{printed}")
    rate, size = re.search(r"finished in \S+ ([\d.]+) req/s, (\S+)/s", printed).groups()
    return Load(float(rate), _bytes(size))
