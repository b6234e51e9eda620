"""`kf.sweep` and its sisters, through a real Ray."""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from commands import TINY, manifests, own_environment, wait_for

pytestmark = pytest.mark.system

SWEEP = "sweep: {space: {sampling.steps: {grid: [2, 4]}}}\n"


def script(folder: Path, text: str) -> "subprocess.Popen[str]":
    """A Python program that runs in `folder`."""
    (folder / "x.yaml").write_text(TINY + SWEEP)
    (folder / "program.py").write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, "program.py"], cwd=folder, env=own_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(process: "subprocess.Popen[str]") -> str:
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, said + errors
    return said


def test_a_sweep_in_python_is_that_of_the_command(tmp_path, on_shared_ray):
    said = finished(
        script(
            tmp_path,
            """
            import json
            import kacflow as kf
            run = kf.sweep("x.yaml", set={"path.damping": 9.0})
            assert (run.status, len(run.results)) == ("done", 2), run
            assert set(run.results["path.damping"]) == {9.0}
            again = kf.sweep(kf.experiment(base="x.yaml", set={"path.damping": 9.0}))
            assert again.folder == run.folder and again.status == "done"
            taught = kf.distill("x.yaml", {"teacher.steps": 10})
            print(json.dumps({"folder": run.folder, "damping": run.best(steps=2).config.path.damping}))
            print(run.best(steps=2).sample(3, labels=["3"]).shape, taught.status)
            """,
        )
    )
    *_, found, last = said.splitlines()
    assert json.loads(found)["damping"] == 9.0 and last == "(3, 8, 8, 1) done"
    assert "trials: 2 of 2 done" in said or "verdict" in said
    kinds = [json.loads(text)["kind"] for text in manifests(tmp_path / "runs").values()]
    assert (kinds.count("teacher"), kinds.count("evaluation")) == (2, 2)
    folder = Path(json.loads(found)["folder"])
    assert (tmp_path / folder / "report.html").exists()


def test_the_ray_of_this_process_is_used_and_stays(tmp_path):
    finished(
        script(
            tmp_path,
            """
            import ray
            ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
            before = ray.get_runtime_context().get_job_id()
            import kacflow as kf
            assert kf.sweep("x.yaml").status == "done"
            assert ray.is_initialized() and ray.get_runtime_context().get_job_id() == before
            """,
        )
    )


def test_an_interrupt_keeps_what_is_done_and_returns_the_run(tmp_path, on_shared_ray):
    process = script(
        tmp_path,
        """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
        import kacflow as kf
        run = kf.train("x.yaml", {"teacher.steps": 100000, "sweep": None})
        print(run.status)
        """,
    )
    wait_for("work/*/checkpoints/step-*.json", tmp_path / "runs", process)
    process.send_signal(signal.SIGINT)
    said = finished(process)
    assert said.splitlines()[-1] == "interrupted" and "the same command resumes" in said


def test_a_fault_of_the_user_is_a_value_error_and_a_failed_trial_is_in_the_results(
    tmp_path, on_shared_ray
):
    finished(
        script(
            tmp_path,
            """
            import kacflow as kf
            for source, values, message in (
                ("x.yaml", {"teacher.steps": 0}, 'set={\"teacher.steps\": 0}: teacher.steps: got 0'),
                ("nowhere.yaml", {}, "nowhere.yaml: there is no such file"),
                ("x.yaml", {"sampling.steps": 2}, "sampling.steps"),
            ):
                try:
                    kf.sweep(source, values)
                except ValueError as error:
                    assert message in str(error), error
                else:
                    raise AssertionError(message)
            failed = kf.sweep("x.yaml", {"teacher.lr": 1.0e30})
            assert failed.status == "failed" and failed.results["error"].notna().all()
            assert failed.verdict == "nothing is measured yet"
            """,
        )
    )
