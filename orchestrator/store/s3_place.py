"""A prefix in an S3 bucket as a place of the store.

S3 has neither folders nor renames. Instead:
    put         an object appears when its upload is complete
    create      a PUT with If-None-Match: * succeeds for one of several writers
    rewrite     a PUT with If-Match replaces what this writer wrote last, and does not recreate a removed object
    commit      files get a unique prefix; the manifest that names the prefix is created last

The response to a PUT may be lost although it has succeeded. botocore then repeats the conditional
PUT, and S3 refuses it because of the first one. So after a refusal the object is read back: if its
content is this writer's, the write has succeeded."""

import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, ClassVar, TypeVar

from orchestrator.fields.addresses import S3
from orchestrator.store.place import Place, StorageError
from orchestrator.store.s3_client import call, region_problem
from orchestrator.store.s3_copies import copy_of

T = TypeVar("T")

DRAFTS = "kacflow-"  # prefix of temporary folders
TRIES = 6  # attempts at a conditional PUT that conflicts with another


class S3Place:
    """An object of a bucket, or all objects below its key. Methods with the name of a method of
    `pathlib.Path` do the same."""

    poll_factor: ClassVar[int] = 5  # a poll costs a request: a heartbeat every 10 s
    is_local: ClassVar[bool] = False

    def __init__(
        self, bucket: str, key: str | PurePosixPath = "", modified: float | None = None
    ) -> None:
        self.bucket = bucket
        self._path = PurePosixPath(key)
        self._modified = modified
        self._etag, self._sent = "", b""  # ETag and content of the latest write by this object

    def __str__(self) -> str:
        return f"{S3}{self.bucket}/{self.key}".rstrip("/")

    def __repr__(self) -> str:
        return f"S3Place({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Place) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: "S3Place") -> bool:
        return str(self) < str(other)

    def __truediv__(self, name: str) -> "S3Place":
        return S3Place(self.bucket, self._path / name)

    @property
    def key(self) -> str:
        """The object's key; empty for the whole bucket."""
        return "/".join(self._path.parts)

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def parent(self) -> "S3Place":
        return S3Place(self.bucket, self._path.parent)

    @property
    def parents(self) -> list["S3Place"]:
        return [S3Place(self.bucket, parent) for parent in self._path.parents]

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.bucket, *self._path.parts)

    def with_suffix(self, suffix: str) -> "S3Place":
        return S3Place(self.bucket, self._path.with_suffix(suffix))

    def absolute(self) -> "S3Place":
        return self

    def exists(self) -> bool:
        try:
            self._head()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether there is an object below this."""
        return bool(
            self._request("list_objects_v2", Prefix=self._prefix(), MaxKeys=1).get("KeyCount")
        )

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: S3 has no folders."""

    def read_bytes(self) -> bytes:
        return self._read()[0]

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object; S3 does not say whether it was there."""
        self._request("delete_object", Key=self.key)

    # The following methods are documented in `place.Place`.

    def find(self, pattern: str) -> list[Place]:
        """Objects, and common prefixes as folders."""
        steps = pattern.split("/")
        fixed = pattern.split("*")[0]
        # a "/" after the first wildcard: list all levels, since the folders' names are not known
        delimiter = "" if "/" in pattern[len(fixed) :] else "/"
        matches: dict[str, Place] = {}
        for key, modified in self._list(self._prefix() + fixed, delimiter):
            parts = key[len(self._prefix()) :].split("/")
            if len(parts) < len(steps):
                continue
            if all(fnmatchcase(part, step) for part, step in zip(parts, steps, strict=False)):
                name = "/".join(parts[: len(steps)])
                is_object = len(parts) == len(steps)
                place = S3Place(self.bucket, self._path / name, modified if is_object else None)
                matches[name] = place
        return [matches[name] for name in sorted(matches)]

    def put(self, data: bytes) -> None:
        self._request("put_object", Key=self.key, Body=data)

    put_fast = put

    def put_json(self, value: Any) -> None:
        self.put(_json(value))

    def create(self, data: bytes) -> bool:
        return self._put_if(data, IfNoneMatch="*")

    def rewrite(self, data: bytes) -> None:
        if not self._put_if(data, IfMatch=self._etag):
            raise FileNotFoundError(f"{self}: removed or changed by another")

    def set_aside(self, suffix: str) -> None:
        origin = {"Bucket": self.bucket, "Key": self.key}
        target = self.with_suffix(suffix)
        self._request("copy_object", Key=target.key, CopySource=origin)
        self.unlink()

    def modified(self) -> float:
        if self._modified is not None:
            return self._modified
        return self._head()["LastModified"].timestamp()

    def listing(self) -> dict[str, tuple[int, int]]:
        states = {}
        for page in self._pages(self._prefix(), "/"):
            for entry in page.get("Contents", ()):
                written = int(entry["LastModified"].timestamp() * 1e9)
                states[PurePosixPath(entry["Key"]).name] = (entry["Size"], written)
        return states

    def local(self, refresh: bool = False) -> Path:
        """A copy in the cache of this user on this machine, valid until the object changes."""
        return copy_of(f"{self} {self._head()['ETag']}", self.name, self._download, refresh)

    def clear(self) -> None:
        with suppress(OSError):
            keys = [{"Key": key} for key, _ in self._list(self._prefix())]
            for start in range(0, len(keys), 1000):  # S3's limit for one request
                objects = {"Objects": keys[start : start + 1000], "Quiet": True}
                self._request("delete_objects", Delete=objects)

    def draft(self) -> Path:
        return Path(mkdtemp(prefix=DRAFTS))

    def commit(self, draft: Path, marker: str, content: dict[str, Any]) -> None:
        at = uuid.uuid4().hex[:8]
        try:
            for path in sorted(draft.iterdir()):
                (self / at / path.name)._upload(path)
            if not (self / marker).create(_json({**content, "at": at})):
                (self / at).clear()
                raise FileExistsError(f"{self}: another process was faster")
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for file in self.find("*/*"):  # remove uploads that were never committed
            if file.parent.name != at:
                file.unlink()

    def committed(self, marker: str) -> bool:
        return (self / marker).exists()

    def withdraw(self, marker: str, target: Place, keep: bool = False) -> None:
        if keep:
            self._copy(target)
        (self / marker).unlink()
        self.clear()

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """JSON files are uploaded last: a checkpoint is complete once its JSON file exists."""
        with TemporaryDirectory(prefix=DRAFTS) as folder:
            yield Path(folder)
            for path in sorted(Path(folder).iterdir(), key=lambda p: (p.suffix == ".json", p.name)):
                (self / path.name)._upload(path)

    @contextmanager
    def fetched(self, *names: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix=DRAFTS) as folder:
            for name in names:
                try:
                    (self / name)._download(Path(folder) / name)
                except FileNotFoundError:
                    (Path(folder) / name).unlink()
            yield Path(folder)

    def problem(self) -> str:
        probe = self / f".probe-{uuid.uuid4().hex}"
        try:
            self.is_dir()
            if problem := self._call(lambda s3: region_problem(s3, self.bucket)):
                return problem
            try:
                if not probe.create(b"first") or probe.create(b"second"):
                    what = "but this service ignores If-None-Match, which leases need"
                    return f"{what}: use another one, or a folder"
            finally:
                probe.unlink()
        except StorageError as e:
            return f"but {str(e).removeprefix(f'{probe}: ').removeprefix(f'{self}: ')}"
        return ""

    def _request(self, name: str, **arguments: Any) -> Any:
        return self._call(lambda s3: getattr(s3, name)(Bucket=self.bucket, **arguments))

    def _call(self, operation: Callable[[Any], T]) -> T:
        return call(str(self), self.bucket, operation)

    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _head(self) -> dict[str, Any]:
        return self._request("head_object", Key=self.key)

    def _list(self, prefix: str, delimiter: str = "") -> Iterator[tuple[str, float | None]]:
        """The keys that start with `prefix`, and when they were written. With a `delimiter` keys
        below a common prefix are not listed, but the prefix itself."""
        for page in self._pages(prefix, delimiter):
            for entry in page.get("Contents", ()):
                yield entry["Key"], entry["LastModified"].timestamp()
            for entry in page.get("CommonPrefixes", ()):
                yield entry["Prefix"].rstrip("/"), None

    def _pages(self, prefix: str, delimiter: str) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self._request("list_objects_v2", Prefix=prefix, Delimiter=delimiter, **token)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _read(self) -> tuple[bytes, str]:
        """The content and its ETag."""

        def read(s3: Any) -> tuple[bytes, str]:
            response = s3.get_object(Bucket=self.bucket, Key=self.key)
            return response["Body"].read(), response["ETag"]

        return self._call(read)

    def _put_if(self, data: bytes, **condition: str) -> bool:
        """Write under a condition; returns whether the write succeeded."""
        from botocore.exceptions import ClientError

        def put(s3: Any) -> tuple[int, str]:
            """The HTTP status and, if the write succeeded, the ETag."""
            try:
                response = s3.put_object(Bucket=self.bucket, Key=self.key, Body=data, **condition)
                return 200, response["ETag"]
            except ClientError as e:
                status = e.response["ResponseMetadata"]["HTTPStatusCode"]
                if status in (409, 412):
                    return status, ""
                raise

        previous, self._sent = self._sent, data
        for attempt in range(TRIES):
            status, etag = self._call(put)
            if status == 412:  # the condition does not hold: read the object back
                try:
                    content, etag = self._read()
                except FileNotFoundError:  # removed meanwhile
                    return False
                if content != data:
                    own = "IfMatch" in condition and content == previous
                    if not own or etag == condition["IfMatch"]:
                        return False
                    # this writer's previous write, whose ETag it never received: retry with it
                    condition["IfMatch"] = etag
                    continue
            if status != 409:
                self._etag = etag
                return True
            time.sleep(0.1 * 2**attempt)  # 409: two writers at the same time, and S3 refused both
        raise StorageError(f"{self}: other processes keep writing it: run the same command again")

    def _copy(self, target: Place) -> None:
        """Copy all objects below this to below `target`."""
        assert isinstance(target, S3Place)
        keys = [key.removeprefix(self._prefix()) for key, _ in self._list(self._prefix())]
        if not keys:
            raise FileNotFoundError(f"{self}: no such object")

        def copy(s3: Any) -> None:
            for key in keys:
                origin = {"Bucket": self.bucket, "Key": (self / key).key}
                s3.copy(origin, self.bucket, (target / key).key)

        self._call(copy)

    def _upload(self, path: Path) -> None:
        def upload(s3: Any) -> None:
            with path.open("rb") as f:
                s3.upload_fileobj(f, self.bucket, self.key)

        self._call(upload)

    def _download(self, path: Path) -> None:
        def download(s3: Any) -> None:
            with path.open("wb") as f:
                s3.download_fileobj(self.bucket, self.key, f)

        self._call(download)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
