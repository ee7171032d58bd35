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
import struct
import tarfile
import zlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

OWNER = {"name": "ann", "email": "ann@example.com"}
BEGINNING = datetime(2020, 1, 1, tzinfo=timezone.utc)
ABBREVIATED = "application/vnd.npm.install-v1+json"


def tarball(name, version, size=0, written=None):
    """A tarball that npm takes, with `size` bytes in it that do not compress. `written` is its package.json, if not a short one."""
    written = written or {"name": name, "version": version, "main": "index.js"}
    packed = io.BytesIO()
    # Bytes that do not compress need no work either: the time of a publish is to be the registry's.
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=0 if size > 100_000 else 6, mtime=0) as compressed:
        with tarfile.open(fileobj=compressed, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
            _add(archive, "package/package.json", _json(written))
            _add(archive, "package/index.js", f"module.exports = '{version}'\n".encode())
            if size:
                _add(archive, "package/data.bin", random.Random(version).randbytes(size))
    return packed.getvalue()


def _add(archive, path, content):
    entry = tarfile.TarInfo(path)
    entry.size, entry.mtime = len(content), 499162500
    archive.addfile(entry, io.BytesIO(content))


def written(name, version, bulk=1500):
    """A package.json whose manifest, once published, has about `bulk` bytes."""
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
    return found


def manifest(name, version, archive, bulk=1500):
    """A version's manifest as it is published, of about `bulk` bytes."""
    return published(written(name, version, bulk), hashlib.sha512(archive).digest(), hashlib.sha1(archive).hexdigest())


def published(found, sha512, shasum):
    """The manifest that npm makes of a package.json, with the hashes of its tarball: SHA-512 as bytes, SHA-1 in hex."""
    name, version = found["name"], found["version"]
    return found | {
        "_id": f"{name}@{version}", "_nodeVersion": "20.20.2", "_npmVersion": "11.0.0", "_npmUser": OWNER,
        "_hasShrinkwrap": False, "maintainers": [OWNER],
        "dist": {
            "integrity": "sha512-" + base64.b64encode(sha512).decode(),
            "shasum": shasum, "fileCount": 2, "unpackedSize": 200,
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


def put_copies(package, names, data, storage=None):
    """The same package under several names of one length, for Holdfast, and for Verdaccio where `storage` is given. Only the
    first one's tarball is there."""
    package.put_into_holdfast(data)
    places = [(Path(data), "index.json")]
    if storage:
        package.put_into_verdaccio(storage)
        places.append((Path(storage), "package.json"))
    for root, file in places:
        first = (root / package.name / file).read_bytes()
        for name in names:
            if name != package.name:
                _write(root / name / file, first.replace(package.name.encode(), name.encode()))


def publish_body(name, version, bulk=1000, size=1000):
    """What `npm publish` sends, of a tarball with `size` bytes that do not compress: some 2 KB of tarball by default."""
    found = written(name, version, bulk)
    archive = tarball(name, version, size, found)
    sha512, shasum = hashlib.sha512(archive).digest(), hashlib.sha1(archive).hexdigest()
    before, after = _around(found, sha512, shasum, len(archive))
    return before + base64.b64encode(archive) + after


def _around(found, sha512, shasum, length):
    """What stands before and after the tarball's base64."""
    name, version = found["name"], found["version"]
    file = f"{name.rpartition('/')[2]}-{version}.tgz"
    manifest = published(found, sha512, shasum)
    manifest["dist"] |= {"tarball": f"http://localhost/{name}/-/{file}"}
    body = _json({
        "_id": name, "name": name, "dist-tags": {"latest": version}, "versions": {version: manifest}, "access": None,
        "_attachments": {file: {"content_type": "application/octet-stream", "length": length, "data": ""}},
    })
    return body[:-4], body[-4:]


class LargePublishes:
    """Publishes of tarballs of `size` bytes that do not compress, each with a package.json of its own, as registries
    that look inside want it. All but the last few hundred bytes is made once: the package.json stands at the end.
    """

    def __init__(self, size):
        stored = zlib.compressobj(0, zlib.DEFLATED, -15)
        entries = self._entries({"package/data.bin": random.Random(size).randbytes(size)})
        # The head of a gzip file without a name or a time, then blocks that end at a whole byte.
        packed = b"\x1f\x8b\x08" + bytes(6) + b"\xff" + stored.compress(entries) + stored.flush(zlib.Z_FULL_FLUSH)
        self.unpacked, self.checksum = len(entries), zlib.crc32(entries)
        self.sha512, self.sha1, self.length = hashlib.sha512(packed), hashlib.sha1(packed), len(packed)
        whole = len(packed) // 3 * 3
        self.base64, self.rest = base64.b64encode(memoryview(packed)[:whole]), packed[whole:]

    @staticmethod
    def _entries(files):
        archived = io.BytesIO()
        with tarfile.open(fileobj=archived, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
            for path, content in files.items():
                _add(archive, path, content)
            end = archive.offset
        # Without the empty blocks that end an archive: they come after the last entry.
        return archived.getvalue()[:end]

    def body(self, name, version):
        """The buffers of one publish."""
        found = written(name, version, 1000)
        last = self._entries({"package/package.json": _json(found)}) + bytes(1024)
        stored = zlib.compressobj(0, zlib.DEFLATED, -15)
        size = (self.unpacked + len(last)) % 2**32
        end = stored.compress(last) + stored.flush() + struct.pack("<II", zlib.crc32(last, self.checksum), size)
        sha512, sha1 = self.sha512.copy(), self.sha1.copy()
        sha512.update(end)
        sha1.update(end)
        before, after = _around(found, sha512.digest(), sha1.hexdigest(), self.length + len(end))
        return [before, self.base64, base64.b64encode(self.rest + end) + after]


def _json(value):
    return json.dumps(value, separators=(",", ":")).encode()


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
