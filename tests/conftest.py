"""For all suites: what each file took is printed at the end, slowest first, and a test that takes
over a minute."""

import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SHOWN = 12  # files
LONG_SECONDS = 60.0
STARTING = {
    "default_sweep",
    "running_ray",
    "service",
    "bucket",
}  # fixtures that start Ray or a server
IN_ORDER = "tests/cluster/"  # its files share one cluster, which the last of them takes down
LAST = "kacflow/seconds"  # in pytest's cache: what each file took when it was last run
KEPT = "TEST_SECONDS"  # a file for the seconds of every test, if this is set


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses a finished sweep or an S3 service. Files that start Ray, a server or a browser
    come first, and the slowest ones of the last run before others, so that no process works alone at
    the end; within a file the order stays, and so does that of IN_ORDER."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        on_s3 = parameters is not None and parameters.params.get("root") == "s3"
        if on_s3 or STARTING & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.system)
    starting = {item.path for item in items if item.get_closest_marker("system") is not None}
    cache = config.cache
    seconds: dict[str, float] = {} if cache is None else cache.get(LAST, {})

    def order(item: pytest.Item) -> tuple[bool, float]:
        file = item.nodeid.partition("::")[0]
        took = 0.0 if file.startswith(IN_ORDER) else seconds.get(file, 0.0)
        return item.path not in starting, -took

    items.sort(key=order)


def pytest_collection_finish() -> None:
    """What has been imported stays: the garbage collector, which would look through it again and
    again, leaves it alone and comes less often. That saves a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[None]:
    """What a test writes need not outlive the machine's power: each flush takes milliseconds. The
    processes that tests start flush as ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """One thread, also after a command that has set in this process as many as its settings say:
    these networks are tiny, and two threads that wait for each other take ten times as long."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    seconds = Counter[str]()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid] += report.duration
    if not seconds:
        return
    if KEPT in os.environ:
        Path(os.environ[KEPT]).write_text(json.dumps(seconds, indent=1))
    files = Counter[str]()
    for name, took in seconds.items():
        files[name.partition("::")[0]] += took
    terminalreporter.write_line(f"{sum(files.values()):.0f} s in {len(files)} files, the slowest:")
    cache = terminalreporter.config.cache
    if cache is not None:
        cache.set(LAST, {**cache.get(LAST, {}), **files})
    for name, took in files.most_common(SHOWN):
        terminalreporter.write_line(f"{took:7.1f} s  {name}")
    for name, took in seconds.most_common():
        if took > LONG_SECONDS:
            terminalreporter.write_line(f"{took:7.1f} s  {name}")
