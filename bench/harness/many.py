"""Registries of many hosted packages: made once, kept outside of the repository, and left as they were found."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import machine
from .report import note
from .servers import ask

MAKE = machine.ROOT / "bench" / "many-objects" / "make"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holdfast-bench"
OPTION = ("--data", {"type": Path, "default": CACHE, "help": "where made registries of many packages are kept for the next time"})
ONCE_SECONDS = 1800
INDEX_SECONDS = 180


def holdfast(cache, packages):
    """A data directory with so many packages of one version (bench/many-objects/make), with nothing derived in it."""
    folder = cache / f"packages-{packages}"
    if not folder.exists():
        note(f"making {packages:,} packages, once")
        making = cache / f"{folder.name}.making"
        shutil.rmtree(making, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        command = machine.pinned(machine.CORES, [sys.executable, MAKE, making, packages, "--versions", 1])
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=ONCE_SECONDS)
        making.rename(folder)
    clean(folder)
    return folder


def clean(folder, *added):
    """Takes away what a server wrote into it: all but the packages, and of those the ones that were `added`."""
    for found in (folder / "-").iterdir():
        if found.name != "tarballs":
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    for name in added:
        for place in (folder / name, folder / "-" / "tarballs" / name):
            shutil.rmtree(place, ignore_errors=True)


def wait_for_index(server, packages):
    """Seconds until search at a Holdfast knows all packages."""
    began = time.perf_counter()
    while json.loads(ask(f"{server.url}/-/v1/search?text=package&size=1")[2])["total"] < packages:
        if time.perf_counter() - began > INDEX_SECONDS:
            raise RuntimeError(f"search does not know {packages:,} packages after {INDEX_SECONDS} seconds")
        time.sleep(0.05)
    return time.perf_counter() - began


def verdaccio(cache, packages):
    """A storage of Verdaccio with the same packages."""
    storage = cache / f"verdaccio-{packages}"
    if not storage.exists():
        source = holdfast(cache, packages)
        note(f"making {packages:,} packages for Verdaccio, once")
        making = cache / f"{storage.name}.making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        names = []
        for index in source.rglob("index.json"):
            name = str(index.parent.relative_to(source))
            if not name.startswith("-/"):
                _convert(source, making, name)
                names.append(name)
        database = {"list": names, "secret": "0123456789abcdef" * 2}
        (making / ".verdaccio-db.json").write_text(json.dumps(database))
        making.rename(storage)
    return storage


def _convert(source, storage, name):
    document = json.loads((source / name / "index.json").read_text())
    digests = document.pop("_holdfast")["tarballs"]
    short, attachments = name.rpartition("/")[2], {}
    (storage / name).mkdir(parents=True)
    for version, manifest in document["versions"].items():
        file = f"{short}-{version}.tgz"
        manifest["dist"]["tarball"] = f"http://localhost:4873/{name}/-/{file}"
        attachments[file] = {"shasum": manifest["dist"]["shasum"]}
        shutil.copyfile(source / "-" / "tarballs" / name / f"{version}-{digests[version]}.tgz", storage / name / file)
    document |= {"users": {}, "_uplinks": {}, "_distfiles": {}, "_attachments": attachments}
    (storage / name / "package.json").write_text(json.dumps(document))
