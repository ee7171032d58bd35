"""Where and with what is measured."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
PROGRAM = TARGET / "release" / "holdfast"

CORES = sorted(os.sched_getaffinity(0))
# A server has the first core, and whatever asks it has the others: with both on one core they would take turns, and the
# answers of a fast server would wait for its client.
SERVER_CORES = CORES[:1]
LOAD_CORES = CORES[1:] or CORES


def pinned(cores, command):
    """The command, kept to these cores."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *map(str, command)]


def first_line(*command):
    """What a program prints of its version, or `None` where it is not there."""
    path = shutil.which(str(command[0])) or shutil.which(str(command[0]), path="/usr/sbin:/usr/local/sbin")
    if path is None:
        return None
    done = subprocess.run([path, *command[1:]], capture_output=True, text=True, timeout=30, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else None


# Verdaccio wants a newer Node than some systems have; `scripts/clients` brings one, which all here run with.
NODE = TARGET / "clients" / "node" / "node_modules" / ".bin" / "node"


def verdaccio_folder():
    return TARGET / "servers" / "verdaccio"


def verdaccio_version():
    manifest = verdaccio_folder() / "node_modules" / "verdaccio" / "package.json"
    found = re.search(r'"version":\s*"([^"]+)"', manifest.read_text()) if manifest.exists() else None
    return found.group(1) if found else None


def describe():
    """The machine and the versions of what is measured, for a report: names to texts. No path and no host name is in it."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    found = {
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "cores": str(len(CORES)),
        "memory": f"{int(memory.group(1)) / 2**20:.0f} GiB" if memory else "unknown",
        "kernel": platform.release(),
        "holdfast": first_line(PROGRAM, "--version"),
        "nginx": first_line("nginx", "-v"),
        "verdaccio": verdaccio_version(),
        "node": first_line(NODE, "--version"),
        "wrk": first_line("wrk", "--version"),
        "h2load": first_line("h2load", "--version"),
    }
    return {name: text for name, text in found.items() if text}


def need(*programs):
    """Ends with what to install when a program is missing."""
    missing = [name for name in programs if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")]
    if missing:
        raise SystemExit(f"missing: {', '.join(missing)}; `bench/tools` brings what the measurements need")
    if not NODE.exists() or not verdaccio_folder().exists():
        raise SystemExit("Node or Verdaccio is missing: `bench/tools` brings them")
    if not PROGRAM.exists():
        raise SystemExit("there is no release build: run `cargo build --release --locked` first")
