"""Requests to a run, and its driver's orders, on a folder and on S3."""

import pytest

from orchestrator.store import run_requests
from orchestrator.store.folder import Folder
from orchestrator.store.place import Place
from orchestrator.store.run_folder import RunFolder
from orchestrator.store.run_requests import CANCEL, PAUSE, Inbox, Orders, Request


def test_requests_are_taken_once_in_the_order_in_which_they_came(root: Place):
    run = root / "ray" / "abc"
    with RunFolder(run, "name/id"):
        inbox = Inbox(run)
        assert list(inbox.take()) == []
        asked = [Request(CANCEL, 3), Request(PAUSE), Request(CANCEL, 1)]
        for request in asked:
            run_requests.ask(run, request)
        (run / "requests" / "0-damaged.json").put(b'{"what": "x", "why": 1}')
        (run / "requests" / "1-damaged.json").put(b"[")
        assert list(inbox.take()) == asked
        assert list(inbox.take()) == []
        run_requests.ask(run, Request(PAUSE))
    assert run.find("*") == []  # they end with the run


def test_orders_are_seen_by_whom_they_concern_until_they_are_withdrawn(root: Place):
    driver = Orders(root / "ray" / "abc")
    assert not driver.paused() and not driver.stops("key")

    def others() -> Orders:
        return Orders(root / "ray" / "abc")

    given = {run_requests.cancelled(1), run_requests.stopped("key")}
    driver.change(set(), given)
    assert others().given() == given
    assert others().cancelled(1) and not others().cancelled(11) and not others().paused()
    assert others().stops("key") and not others().stops("another")
    driver.change(given, {run_requests.PAUSED})
    assert others().given() == {run_requests.PAUSED}
    assert others().paused() and others().stops("another") and not others().cancelled(1)


def test_a_run_that_has_ended_takes_no_request(tmp_path):
    run = Folder(tmp_path) / "ray" / "abc"
    with RunFolder(run, "name/id"):
        Inbox(run)
    with pytest.raises(FileNotFoundError):
        run_requests.ask(run, Request(PAUSE))
    assert not run.exists()
