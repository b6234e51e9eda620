"""Processes of their own for tests that kill them or let them meet: forked from a server that has
imported torch once, which takes two seconds of every process that starts anew.

The server has the environment of the moment in which its first process starts. So on S3, whose
address is in the environment, processes start anew."""

import multiprocessing
from multiprocessing.context import BaseContext

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["kaccore.data", "orchestrator.work.worker"])


def beside(root: object) -> BaseContext:
    """What starts processes that work on the store at `root`."""
    return multiprocessing.get_context("spawn") if str(root).startswith("s3:") else FORKED
