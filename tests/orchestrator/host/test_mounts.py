"""A store on a network file system, where SQLite's locks do not hold: found by the table of mounts,
said, and the database kept elsewhere."""

from pathlib import Path

import fabricated
import pytest
from fabricated import client_of

from orchestrator.host import mounts
from orchestrator.host.printed import command
from orchestrator.networks import locate
from orchestrator.store.folder import Folder
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records
from orchestrator.tracking import hints, uri
from orchestrator.tracking.publisher import Publisher
from orchestrator.tracking.uri import embedded, sqlite_file

TABLE = """\
24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 24 0:30 / /home rw,relatime shared:5 master:1 - nfs4 server:/home rw,vers=4.2
31 24 0:31 / /scratch rw - lustre 10.0.0.1@o2ib:/scratch rw,flock
32 30 8:2 / /home/local rw - xfs /dev/sdb1 rw
33 24 0:33 / /mnt/my\\040runs rw - fuse.sshfs me@host:/runs rw
34 24 0:34 / /auto rw - autofs systemd-1 rw
35 34 0:35 / /auto rw - nfs server:/auto rw
36 24 0:36 / /disk rw - fuseblk /dev/sdc1 rw
37 24 0:37 / /homestead rw - btrfs /dev/sdd1 rw
a line that is none
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"), ("/data", "ext4"), ("/home", "nfs4"), ("/home/me/runs", "nfs4"), ("/home/local/runs", "xfs"),
        ("/homestead/runs", "btrfs"), ("/scratch/x", "lustre"), ("/mnt/my runs/x", "fuse.sshfs"), ("/mnt/my", "ext4"),
        ("/auto/runs", "nfs"), ("/disk/runs", "fuseblk"),
    ],
)  # fmt: skip
def test_a_folder_is_of_the_kind_of_the_deepest_and_last_mount_above_it(folder, kind):
    assert mounts.kind_of(Path(folder), mounts.mounts(TABLE)) == kind
    assert mounts.kind_of(Path(folder), []) == ""


def test_a_symbolic_link_leads_to_where_it_points(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far")
    table = [(Path("/"), "ext4"), (tmp_path / "far", "nfs4")]
    assert mounts.kind_of(tmp_path / "link" / "runs", table) == "nfs4"


def test_the_machines_own_table_can_be_read():
    found = mounts.mounts(mounts.MOUNTINFO.read_text())
    assert (Path("/proc"), "proc") in found
    assert mounts.kind_of(Path("/proc/1"), found) == "proc"


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A folder that this machine takes for one on NFS, and a cache that is none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mount(tmp_path, monkeypatch, "shared")
    return Folder(tmp_path / "shared" / "runs")


def mount(root: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    lines = [
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
        *(f"2 1 0:2 / {root / n} rw - nfs4 server:/ rw" for n in names),
    ]
    (root / "mountinfo").write_text("\n".join(lines))
    monkeypatch.setattr(mounts, "MOUNTINFO", root / "mountinfo")


def test_a_store_on_a_local_disk_has_its_database_in_it(tmp_path):
    assert embedded(Folder(tmp_path)) == uri.Embedded(tmp_path / "mlflow.db")


def test_the_database_of_a_shared_store_lies_on_a_local_disk_which_is_said(shared, tmp_path):
    records = fabricated.sweep(shared)
    said: list[str] = []
    with Publisher(records, said.append) as publisher:
        pass
    publisher.finish("FINISHED")
    assert publisher.problem == ""
    file = embedded(shared).file
    assert file.is_relative_to(tmp_path / "cache" / "kacflow" / "mlflow") and file.is_file()
    assert not {"mlflow.db", "mlartifacts"} & {p.name for p in shared.iterdir()}
    (line,) = said
    assert line == hints.database_location_note(records)
    assert f"MLflow's database is {file}: {shared} is on nfs4" in line
    assert hints.ui_command(records) == command("ui", "--storage", shared)
    assert line.endswith(hints.ui_command(records))
    found_by_its_model(records, shared)


def found_by_its_model(records: Records, root: Folder) -> None:
    """Other commands look it up in the same place."""
    name = records.plan.experiment.name
    assert locate.locate(f"models:/{name}", root).trial.chain[-1].kind == "student"


def test_an_old_database_in_a_shared_store_is_said_to_be_unused(shared):
    records = fabricated.sweep(shared)
    (shared / "mlflow.db").write_bytes(b"")
    assert f"{shared / 'mlflow.db'} is not used" in hints.database_location_note(records)


def test_where_the_home_is_shared_too_the_database_is_kept_with_the_temporary_files(
    shared, tmp_path, monkeypatch
):
    monkeypatch.setattr(uri.tempfile, "tempdir", str(tmp_path / "tmp"))
    mount(tmp_path, monkeypatch, "shared", "cache")
    one, other = (
        embedded(shared).file,
        embedded(Folder(tmp_path / "shared" / "other" / "runs")).file,
    )
    assert (
        one.is_relative_to(tmp_path / "tmp")
        and other.is_relative_to(tmp_path / "tmp")
        and one != other
    )


def test_where_there_is_no_local_disk_it_stays_in_the_store_and_the_danger_is_said(
    shared, tmp_path, monkeypatch
):
    records = fabricated.sweep(shared)
    monkeypatch.setattr(uri.tempfile, "tempdir", str(tmp_path / "tmp"))
    mount(tmp_path, monkeypatch, "shared", "cache", "tmp")
    assert embedded(shared).file == shared / "mlflow.db"
    assert "may get damaged" in hints.database_location_note(records)


def test_a_shared_stores_database_is_made_again_on_another_machine(shared, tmp_path, monkeypatch):
    records = fabricated.sweep(shared)
    fabricated.publish(records)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache of another machine"))
    again = opening.records_of(records.folder)
    fabricated.publish(again)
    assert sqlite_file(uri.tracking_uri(None, shared)) == embedded(shared).file
    assert "cache of another machine" in str(embedded(shared).file)
    assert len(client_of(again).search_runs(["1"])) == 1 + 3 + 3
