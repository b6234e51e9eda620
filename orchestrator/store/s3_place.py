"""A prefix in an S3 bucket as a place of the store.

S3 has neither folders nor renames. In their stead:
    whole       an object is there when it is complete
    create      a PUT with If-None-Match: * gets through to one of several writers
    rewrite     a PUT with If-Match changes what this writer wrote last, and brings nothing back that was removed
    adopt       files go below a name of their own; the manifest that says which is created last

An answer may be lost where the question was not. botocore asks again, and then a conditional PUT is
refused for the sake of itself: what was refused is read back, and is this writer's own where the
content is."""

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

from orchestrator.settings.addresses import S3
from orchestrator.store.place import Place, StorageError
from orchestrator.store.s3_client import ask, region_problem
from orchestrator.store.s3_copies import copy_of

T = TypeVar("T")

DRAFTS = "kacflow-"  # how temporary folders are called
TRIES = 6  # of a conditional PUT that met another


class S3Place:
    """An object, or all objects below it, of a bucket; what it shares with Path does what Path's
    does."""

    poll_factor: ClassVar[int] = 5  # each look costs a request: leases beat every 10 s
    is_local: ClassVar[bool] = False

    def __init__(
        self, bucket: str, key: str | PurePosixPath = "", modified: float | None = None
    ) -> None:
        self.bucket = bucket
        self._path = PurePosixPath(key)
        self._modified = modified
        self._etag, self._sent = "", b""  # of what this very object wrote last

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
        return [S3Place(self.bucket, each) for each in self._path.parents]

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
        return bool(self._ask("list_objects_v2", Prefix=self._prefix(), MaxKeys=1).get("KeyCount"))

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: S3 has no folders."""

    def read_bytes(self) -> bytes:
        return self._read()[0]

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object; S3 does not say whether it was there."""
        self._ask("delete_object", Key=self.key)

    # What follows is described where `place.Place` has it.

    def find(self, pattern: str) -> list[Place]:
        """Objects, and what would be folders."""
        steps = pattern.split("/")
        fixed = pattern.split("*")[0]
        flat = (
            "/" in pattern[len(fixed) :]
        )  # the listing goes to the bottom where a folder's name is not known
        found: dict[str, Place] = {}
        for key, modified in self._list(self._prefix() + fixed, "" if flat else "/"):
            below = key[len(self._prefix()) :].split("/")
            name = "/".join(below[: len(steps)])
            fits = len(below) >= len(steps) and all(
                fnmatchcase(*each) for each in zip(below, steps, strict=False)
            )
            if fits:
                found[name] = S3Place(
                    self.bucket, self._path / name, modified if len(below) == len(steps) else None
                )
        return [found[name] for name in sorted(found)]

    def put(self, data: bytes) -> None:
        self._ask("put_object", Key=self.key, Body=data)

    note = put

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
        self._ask("copy_object", Key=target.key, CopySource=origin)
        self.unlink()

    def modified(self) -> float:
        return (
            self._head()["LastModified"].timestamp() if self._modified is None else self._modified
        )

    def listing(self) -> dict[str, tuple[int, int]]:
        below = [
            each for page in self._pages(self._prefix(), "/") for each in page.get("Contents", ())
        ]
        return {
            PurePosixPath(e["Key"]).name: (e["Size"], int(e["LastModified"].timestamp() * 1e9))
            for e in below
        }

    def local(self, anew: bool = False) -> Path:
        """A copy that other processes of this user on this machine find again, as long as the
        object stays as it is."""
        return copy_of(f"{self} {self._head()['ETag']}", self.name, self._download, anew)

    def clear(self) -> None:
        with suppress(OSError):
            keys = [{"Key": key} for key, _ in self._list(self._prefix())]
            for start in range(0, len(keys), 1000):  # S3's limit for one request
                self._ask(
                    "delete_objects", Delete={"Objects": keys[start : start + 1000], "Quiet": True}
                )

    def draft(self) -> Path:
        return Path(mkdtemp(prefix=DRAFTS))

    def adopt(self, drafted: Path, marker: str, said: dict[str, Any]) -> None:
        at = uuid.uuid4().hex[:8]
        try:
            for path in sorted(drafted.iterdir()):
                (self / at / path.name)._upload(path)
            if not (self / marker).create(_json({**said, "at": at})):
                (self / at).clear()
                raise FileExistsError(f"{self}: another process was faster")
        finally:
            shutil.rmtree(drafted, ignore_errors=True)
        for left in self.find("*/*"):  # by who did not get as far
            if left.parent.name != at:
                left.unlink()

    def adopted(self, marker: str) -> bool:
        return (self / marker).exists()

    def withdraw(self, marker: str, aside: Place, keep: bool = False) -> None:
        if keep:
            self._copy(aside)
        (self / marker).unlink()
        self.clear()

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """JSON files are uploaded last: of a checkpoint they say that it is whole."""
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
            if problem := self._asked(lambda s3: region_problem(s3, self.bucket)):
                return problem
            try:
                if not probe.create(b"first") or probe.create(b"second"):
                    return "but this service ignores If-None-Match, which leases need: use another one, or a folder"
            finally:
                probe.unlink()
        except StorageError as e:
            return f"but {str(e).removeprefix(f'{probe}: ').removeprefix(f'{self}: ')}"
        return ""

    def _ask(self, operation: str, **arguments: Any) -> Any:
        return self._asked(lambda s3: getattr(s3, operation)(Bucket=self.bucket, **arguments))

    def _asked(self, question: Callable[[Any], T]) -> T:
        return ask(str(self), self.bucket, question)

    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _head(self) -> dict[str, Any]:
        return self._ask("head_object", Key=self.key)

    def _list(self, prefix: str, delimiter: str = "") -> Iterator[tuple[str, float | None]]:
        """The keys that start with `prefix`, and when they were written; with a `delimiter` also
        what would be folders, instead of what is below them."""
        for page in self._pages(prefix, delimiter):
            yield from (
                (each["Key"], each["LastModified"].timestamp()) for each in page.get("Contents", ())
            )
            yield from (
                (each["Prefix"].rstrip("/"), None) for each in page.get("CommonPrefixes", ())
            )

    def _pages(self, prefix: str, delimiter: str) -> Iterator[dict[str, Any]]:
        more: dict[str, str] = {}
        while True:
            page = self._ask("list_objects_v2", Prefix=prefix, Delimiter=delimiter, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _read(self) -> tuple[bytes, str]:
        """The content and its ETag."""

        def read(s3: Any) -> tuple[bytes, str]:
            answer = s3.get_object(Bucket=self.bucket, Key=self.key)
            return answer["Body"].read(), answer["ETag"]

        return self._asked(read)

    def _put_if(self, data: bytes, **condition: str) -> bool:
        """Write under a condition; whether it was met, and so by this writer."""
        from botocore.exceptions import ClientError

        def put(s3: Any) -> tuple[int, str]:
            try:
                return 200, s3.put_object(Bucket=self.bucket, Key=self.key, Body=data, **condition)[
                    "ETag"
                ]
            except ClientError as e:
                status = e.response["ResponseMetadata"]["HTTPStatusCode"]
                if status in (409, 412):
                    return status, ""
                raise

        before, self._sent = self._sent, data
        for tried in range(TRIES):
            status, etag = self._asked(put)
            if status == 412:
                try:
                    there, etag = self._read()
                except FileNotFoundError:  # removed in between
                    return False
                if there != data:
                    if (
                        "IfMatch" not in condition
                        or there != before
                        or etag == condition["IfMatch"]
                    ):
                        return False
                    condition["IfMatch"] = (
                        etag  # this writer's own, whose answer was lost altogether
                    )
                    continue
            if status != 409:
                self._etag = etag
                return True
            time.sleep(0.1 * 2**tried)  # another wrote at the same time, which S3 refuses to both
        raise StorageError(f"{self}: others write there all the time: run the same command again")

    def _copy(self, target: Place) -> None:
        """Copy all objects below this to below `target`."""
        assert isinstance(target, S3Place)
        keys = [key.removeprefix(self._prefix()) for key, _ in self._list(self._prefix())]
        if not keys:
            raise FileNotFoundError(f"{self}: no such object")

        def copy(s3: Any) -> None:
            for key in keys:
                s3.copy(
                    {"Bucket": self.bucket, "Key": (self / key).key},
                    self.bucket,
                    (target / key).key,
                )

        self._asked(copy)

    def _upload(self, path: Path) -> None:
        def upload(s3: Any) -> None:
            with path.open("rb") as f:
                s3.upload_fileobj(f, self.bucket, self.key)

        self._asked(upload)

    def _download(self, path: Path) -> None:
        def download(s3: Any) -> None:
            with path.open("wb") as f:
                s3.download_fileobj(self.bucket, self.key, f)

        self._asked(download)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
