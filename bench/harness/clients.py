"""Real clients that install one real project, each with a home, a cache and a folder of its own: nothing of this machine reaches them.

The project is the one of `tests/fixtures/real-project`; its lock files, one for each client and none with an address in
it, are in `bench/installs-project`. Clients run as they do by default, but for scripts, audits and messages, which are
no business of a registry's.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from . import machine

LOCKS = machine.ROOT / "bench" / "installs-project"
MANIFEST = machine.ROOT / "tests" / "fixtures" / "real-project" / "package.json"
LIMIT_SECONDS = 420

# How an install begins: from a lock file; from one of npm's that has no addresses (`omit-lockfile-registry-resolved`),
# for which npm asks about every package; or from `package.json` alone.
LOCKED, BARE, RESOLVING = "lock file", "lock file without addresses", "no lock file"

# Where a machine has its own certificates, or a proxy to the outside, going direct needs them.
PASSED_ON = [
    "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "no_proxy",
]


@dataclass(frozen=True)
class Tool:
    """A client in one version. `folder` is its place below `target/clients`, `kept_lock` its file in `bench/installs-project`."""

    folder: str
    program: str
    lock: str
    kept_lock: str
    locked: tuple
    resolving: tuple

    @property
    def kind(self):
        return self.folder.partition("-")[0]

    @property
    def modes(self):
        return [LOCKED, BARE, RESOLVING] if self.kind == "npm" else [LOCKED, RESOLVING]

    @property
    def version(self):
        """As `tests/clients` pins it."""
        manifest = json.loads((machine.ROOT / "tests" / "clients" / self.folder / "package.json").read_text())
        return next(iter(manifest["dependencies"].values()))


def _npm(folder):
    return Tool(folder, "npm", "package-lock.json", "package-lock.json", ("ci",), ("install",))


def _pnpm(folder):
    # It installs exactly what the lock file says wherever there is a CI, which is what all clients here believe.
    locked, resolving = ("install", "--frozen-lockfile"), ("install", "--no-frozen-lockfile")
    return Tool(folder, "pnpm", "pnpm-lock.yaml", "pnpm-lock.yaml", locked, resolving)


TOOLS = {tool.folder: tool for tool in [
    _npm("npm-12"), _npm("npm-11"), _pnpm("pnpm-12"), _pnpm("pnpm-11"),
    Tool("yarn-4", "yarn", "yarn.lock", "yarn-berry.lock", ("install", "--immutable"), ("install", "--no-immutable")),
    Tool("yarn-1", "yarn", "yarn.lock", "yarn-classic.lock", ("install", "--frozen-lockfile", "--non-interactive"), ("install", "--non-interactive")),
    Tool("bun", "bun", "bun.lock", "bun.lock", ("install", "--frozen-lockfile"), ("install",)),
]}


def chosen(text):
    """The clients of a list with commas. Ends with what to do when one is not known or not there."""
    found = []
    for name in text.split(","):
        if name not in TOOLS:
            raise SystemExit(f"there is no client {name}; there are: {', '.join(TOOLS)}")
        if not (machine.TARGET / "clients" / name / ".installed").exists():
            raise SystemExit(f"{name} is missing: `scripts/clients` brings it")
        found.append(TOOLS[name])
    return found


def npm_setting(name):
    """What this machine's npm is configured for, or `None`. Not asked in the repository, whose settings are its own."""
    done = subprocess.run(
        ["npm", "config", "get", name], capture_output=True, text=True, timeout=60, check=True, cwd=tempfile.gettempdir(),
    )
    found = done.stdout.strip()
    return None if found in ("", "null", "undefined") else found


def registry_of_this_machine():
    return npm_setting("registry").rstrip("/")


def addressed(lock, registry):
    """npm's lock file with the address of each tarball at this registry, as npm writes them by default."""
    document = json.loads(lock)
    for place, entry in document["packages"].items():
        if place and not entry.get("link") and not entry.get("inBundle"):
            name = entry.get("name") or place.rpartition("node_modules/")[2]
            entry["resolved"] = f"{registry}/{name}/-/{name.rpartition('/')[2]}-{entry['version']}.tgz"
    return json.dumps(document, indent=2)


class Client:
    """One user of one client, with an empty cache at first."""

    def __init__(self, tool, folder):
        self.tool = tool
        self.folder = Path(tempfile.mkdtemp(prefix=f"{tool.folder}-", dir=folder))
        self.home, self.cache, self.project = (self.folder / name for name in ("home", "cache", "project"))
        self.cafile = npm_setting("cafile")

    def prepare(self, registry, mode, keep_cache=False):
        """A clean project for one install of this registry, in which nothing is installed yet."""
        for folder in [self.home, self.project] + ([] if keep_cache else [self.cache]):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in [self.home, self.project, self.cache]:
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(MANIFEST, self.project / "package.json")
        self._configure(registry)
        lock = (LOCKS / self.tool.kept_lock).read_text().replace("{registry}", registry)
        if mode == LOCKED and self.tool.kind == "npm":
            lock = addressed(lock, registry)
        if mode != RESOLVING:
            (self.project / self.tool.lock).write_text(lock)
        elif self.tool.folder == "yarn-4":
            # It looks for the root of the project in the folders above, and stops at a lock file.
            (self.project / self.tool.lock).write_text("")

    def _configure(self, registry):
        npmrc = f"registry={registry}/\n" + (f"cafile={self.cafile}\n" if self.cafile else "")
        npmrc += "ignore-scripts=true\naudit=false\nfund=false\nupdate-notifier=false\n"
        if self.tool.folder == "npm-12":
            # It takes the tarball of a package that bundles others for one of a foreign place, at every registry.
            npmrc += "allow-remote=all\n"
        (self.home / ".npmrc").write_text(npmrc)
        if self.tool.folder == "yarn-1":
            # Its own limit of 30 seconds is no longer kept where the client itself is slow, as on a busy machine.
            (self.home / ".yarnrc").write_text(f'registry "{registry}"\nnetwork-timeout 300000\n')
        if self.tool.folder == "yarn-4":
            ca = f'httpsCaFilePath: "{self.cafile}"\n' if self.cafile else ""
            (self.home / ".yarnrc.yml").write_text(
                f'npmRegistryServer: "{registry}"\nunsafeHttpWhitelist: ["127.0.0.1"]\nnodeLinker: node-modules\n'
                f"enableTelemetry: false\nenableScripts: false\n{ca}"
            )

    def _environment(self):
        bins = [machine.TARGET / "clients" / name / "node_modules" / ".bin" for name in (self.tool.folder, "node")]
        mine = {
            "PATH": os.pathsep.join([*map(str, bins), os.environ["PATH"]]), "HOME": self.home, "LANG": "C.UTF-8",
            "CI": "true", "NO_COLOR": "1", "TMPDIR": self.cache, "XDG_CONFIG_HOME": self.home / "config",
            "XDG_CACHE_HOME": self.cache / "xdg", "XDG_DATA_HOME": self.cache / "data", "XDG_STATE_HOME": self.cache / "state",
            "npm_config_cache": self.cache / "npm", "npm_config_globalconfig": self.home / "none",
            "YARN_CACHE_FOLDER": self.cache / "yarn", "YARN_GLOBAL_FOLDER": self.cache / "berry",
            "YARN_ENABLE_GLOBAL_CACHE": "true", "YARN_IGNORE_PATH": "1",
            # As root yarn 1 keeps names in a folder of the machine, whatever its home is, unless it takes root for faked.
            "FAKEROOTKEY": "1",
            "BUN_INSTALL": self.cache / "bun", "BUN_INSTALL_CACHE_DIR": self.cache / "bun-cache", "DO_NOT_TRACK": "1",
        }
        if self.tool.folder == "yarn-4":
            del mine["YARN_CACHE_FOLDER"]
        return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {k: str(v) for k, v in mine.items()}

    def install(self, mode):
        """Installs, after `prepare`. Gives the seconds it took."""
        arguments = self.tool.resolving if mode == RESOLVING else self.tool.locked
        program = machine.TARGET / "clients" / self.tool.folder / "node_modules" / ".bin" / self.tool.program
        command = [program, *arguments]
        if self.tool.folder != "yarn-4":
            command.append("--ignore-scripts")
        with (self.folder / "log").open("wb") as log:
            began = time.perf_counter()
            # A group of its own, so that a client that hangs goes with what it started.
            process = subprocess.Popen(
                machine.pinned(machine.LOAD_CORES, command), cwd=self.project, env=self._environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
            # Not by a limit of `wait`, which looks only every 50 ms.
            limit = threading.Timer(LIMIT_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
            limit.start()
            try:
                status = process.wait()
            finally:
                limit.cancel()
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            took = time.perf_counter() - began
        if status != 0:
            raise RuntimeError(f"{self.tool.folder}, {mode}: status {status}\n{self.log()[-2000:]}")
        return took

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def packages(self):
        """The packages that are installed: pairs of name and version."""
        return set(_packages(self.project / "node_modules"))

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def _packages(modules):
    if not modules.is_dir():
        return
    for entry in os.scandir(modules):
        place = Path(entry.path)
        if not entry.is_dir(follow_symlinks=False):
            continue
        if entry.name == ".pnpm":
            for inner in place.iterdir():
                yield from _packages(inner / "node_modules")
        elif entry.name.startswith("@"):
            yield from _packages(place)
        elif not entry.name.startswith("."):
            manifest = place / "package.json"
            if manifest.exists():
                # By pattern: a manifest may have a mark at its beginning that JSON does not allow.
                text = manifest.read_text(encoding="utf-8-sig", errors="replace")
                version = re.search(r'"version"\s*:\s*"([^"]+)"', text)
                scope = f"{modules.name}/" if modules.name.startswith("@") else ""
                yield scope + entry.name, version.group(1) if version else ""
            yield from _packages(place / "node_modules")
