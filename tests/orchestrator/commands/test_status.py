from commands import run, run_here

from orchestrator.store.run_folder import RunFolder


def test_a_finished_sweep_is_listed_with_its_best_trial_and_shown_by_its_name(default_sweep):
    said = run(default_sweep.cwd, "status")
    assert said.returncode == 0, said.stderr
    (line,) = [line for line in said.stdout.splitlines() if default_sweep.folder.name in line]
    assert " done " in line and " 16 " in line and "fid" in line
    for name in ("nfe-sweep", f"nfe-sweep/{default_sweep.folder.name}", default_sweep.folder):
        said = run_here(default_sweep.cwd, "status", name)
        assert said.returncode == 0, said.stderr
        assert "16 of 16 trials  done" in said.stdout and "16 of 16" in said.stdout
        assert (
            next(line.split()[-1] for line in said.stdout.splitlines() if "student " in line)
            == "done"
        )


def test_a_sweep_that_is_being_run_says_so(copied):
    with RunFolder(copied.storage / "ray" / "abc", f"nfe-sweep/{copied.folder.name}"):
        assert "16 of 16 trials  running" in run_here(copied.cwd, "status", "nfe-sweep").stdout
        assert " running " in run_here(copied.cwd, "status").stdout
    assert "16 of 16 trials  done" in run_here(copied.cwd, "status", "nfe-sweep", "--watch").stdout


def test_a_sweep_that_is_not_there_is_refused_with_those_that_are(default_sweep, tmp_path):
    said = run_here(default_sweep.cwd, "status", "nfe-swep")
    assert said.returncode == 2 and "nor a sweep of runs, which has: nfe-sweep" in said.stderr
    said = run_here(tmp_path, "status", "any")
    assert said.returncode == 2 and "nor a sweep of runs, which has: none" in said.stderr
    assert not list(tmp_path.iterdir())
