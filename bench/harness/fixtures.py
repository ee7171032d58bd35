"""Packages to measure with: made by rule, the same bytes on every machine.

Shapes follow what the public registry has: a manifest of a version is 1.3 to 4 KB with its scripts, dependencies and
signatures, and differs from the next in few places, so that documents compress as real ones do.
"""

import base64
import gzip
import hashlib
import io
import json
import random
import tarfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

OWNER = {"name": "ann", "email": "ann@example.com"}
BEGINNING = datetime(2020, 1, 1, tzinfo=timezone.utc)
ABBREVIATED = "application/vnd.npm.install-v1+json"


def tarball(name, version, size=0):
    """A tarball that npm takes, with `size` bytes in it that do not compress."""
    manifest = json.dumps({"name": name, "version": version, "main": "index.js"}).encode()
    packed = io.BytesIO()
    # Bytes that do not compress need no work either: the time of a publish is to be the registry's.
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=0 if size else 6, mtime=0) as compressed:
        with tarfile.open(fileobj=compressed, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
            contents = {"package/package.json": manifest, "package/index.js": f"module.exports = '{version}'\n".encode()}
            if size:
                contents["package/data.bin"] = random.Random(version).randbytes(size)
            for path, content in contents.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mtime = len(content), 499162500
                archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def manifest(name, version, archive, bulk=1500):
    """A version's manifest as it is published, of about `bulk` bytes."""
    chance = random.Random(name)
    dependencies = {f"dependency-{chance.randrange(10**6):06}": f"^{chance.randrange(9)}.{chance.randrange(30)}.0" for _ in range(12)}
    dev = {f"dev-{chance.randrange(10**6):06}": f"~{chance.randrange(9)}.{chance.randrange(30)}.{version.count('.')}" for _ in range(12)}
    found = {
        "name": name, "version": version, "description": "A package to measure with", "main": "index.js",
        "license": "MIT", "author": OWNER, "keywords": ["measure", "load", "bench"],
        "repository": {"type": "git", "url": f"git+https://git.example.com/bench/{name}.git"},
        "bugs": {"url": f"https://git.example.com/bench/{name}/issues"}, "homepage": f"https://{name}.example.com",
        "engines": {"node": ">=18"}, "scripts": {"test": "node --test", "build": "node build.js", "lint": "lint ."},
        "dependencies": dependencies, "devDependencies": dev,
    }
    padding = bulk - len(json.dumps(found)) - 500
    if padding > 0:
        found["config"] = {f"option-{n:04}": hashlib.sha256(f"{name}{n}".encode()).hexdigest() for n in range(padding // 82)}
    return found | {
        "_id": f"{name}@{version}", "_nodeVersion": "20.20.2", "_npmVersion": "11.0.0", "_npmUser": OWNER,
        "_hasShrinkwrap": False, "maintainers": [OWNER],
        "dist": {
            "integrity": "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode(),
            "shasum": hashlib.sha1(archive).hexdigest(), "fileCount": 2, "unpackedSize": 200,
        },
    }


def version_number(index):
    return f"{1 + index // 1000}.{index // 20 % 50}.{index % 20}"


def instant(index):
    return (BEGINNING + timedelta(hours=index)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Package:
    """A package of `versions` versions, each with a manifest of about `bulk` bytes. All have one tarball's bytes."""

    def __init__(self, name, versions, bulk=1500, tarball_size=0):
        self.name, self.numbers = name, [version_number(n) for n in range(versions)]
        self.archive = tarball(name, "1.0.0", tarball_size)
        self.manifests = {number: manifest(name, number, self.archive, bulk) for number in self.numbers}
        # The digests stand for tarballs that differ, as those of real versions do: they compress to nothing else.
        for number in self.numbers[:-1]:
            digest = hashlib.sha512(f"{name}@{number}".encode()).digest()
            dist = {"integrity": "sha512-" + base64.b64encode(digest).decode(), "shasum": digest[:20].hex()}
            self.manifests[number]["dist"] = self.manifests[number]["dist"] | dist

    def document(self, tarball_base=None):
        """The packument. `tarball_base` is the address below which its tarballs are, where it has to name them."""
        versions = self.manifests
        if tarball_base:
            base = f"{tarball_base}/{self.name}/-/{self.name.rpartition('/')[2]}"
            versions = {
                number: found | {"dist": found["dist"] | {"tarball": f"{base}-{number}.tgz"}}
                for number, found in versions.items()
            }
        time = {"created": instant(0), "modified": instant(len(self.numbers))}
        return {
            "_id": self.name, "name": self.name, "description": "A package to measure with", "maintainers": [OWNER],
            "dist-tags": {"latest": self.numbers[-1]}, "versions": versions,
            "time": time | {number: instant(n) for n, number in enumerate(self.numbers)}, "readme": f"# {self.name}\n",
        }

    def _digest(self, number):
        raw = base64.b64decode(self.manifests[number]["dist"]["integrity"].removeprefix("sha512-"))
        return raw.hex()[:32]

    def put_into_holdfast(self, data):
        """Writes it below a data directory, as the server would (docs/storage-layout.md). Only the last version's tarball is there."""
        data = Path(data)
        number = self.numbers[-1]
        _write(data / "-" / "tarballs" / self.name / f"{number}-{self._digest(number)}.tgz", self.archive)
        document = self.document() | {
            "_rev": f"{len(self.numbers)}-{hashlib.sha256(self.name.encode()).hexdigest()[:32]}",
            "_holdfast": {"tarballs": {number: self._digest(number) for number in self.numbers}},
        }
        _write(data / self.name / "index.json", _json(document))

    def put_into_verdaccio(self, storage):
        """Writes it below a storage directory as Verdaccio 6 does."""
        folder = Path(storage) / self.name
        file = lambda number: f"{self.name.rpartition('/')[2]}-{number}.tgz"
        document = self.document("http://localhost:4873") | {
            "users": {}, "_uplinks": {}, "_distfiles": {}, "_rev": f"{len(self.numbers)}-0123456789abcdef",
            "_attachments": {file(n): {"shasum": m["dist"]["shasum"]} for n, m in self.manifests.items()},
        }
        _write(folder / file(self.numbers[-1]), self.archive)
        _write(folder / "package.json", _json(document))
        index = Path(storage) / ".verdaccio-db.json"
        known = json.loads(index.read_text()) if index.exists() else {"list": [], "secret": "0123456789abcdef" * 2}
        known["list"].append(self.name)
        index.write_text(json.dumps(known))


def publish_body(name, version, archive, bulk=0):
    """What `npm publish` sends."""
    file = f"{name}-{version}.tgz"
    found = manifest(name, version, archive, bulk)
    found["dist"] = found["dist"] | {"tarball": f"http://localhost/{name}/-/{file}"}
    return _json({
        "_id": name, "name": name, "dist-tags": {"latest": version}, "versions": {version: found}, "access": None,
        "_attachments": {file: {
            "content_type": "application/octet-stream", "data": base64.b64encode(archive).decode(), "length": len(archive),
        }},
    })


def _json(value):
    return json.dumps(value, separators=(",", ":")).encode()


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
