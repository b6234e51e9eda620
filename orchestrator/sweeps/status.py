"""The status of a trial, and the state of a sweep, in one word."""

from enum import StrEnum


class Status(StrEnum):
    """The status of a trial in the latest run of its sweep."""

    WAITING = "waiting"  # to be run, or running
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # it had begun
    STOPPED = "stopped"  # early, by the scheduler
    CANCELLED = "cancelled"  # by a request
    NOT_STARTED = "not started"  # kept from being run by a budget, by --only or by an interrupt

    @property
    def well(self) -> bool:
        """Whether a sweep is a success if all its trials have such a status."""
        return self in (Status.DONE, Status.STOPPED, Status.CANCELLED, Status.NOT_STARTED)


class State(StrEnum):
    """The state of a sweep; `state.state_of` decides it."""

    RUNNING = "running"  # by a process, somewhere
    PAUSED = "paused"  # the same, which begins nothing until it is told to go on
    DONE = "done"
    FAILED = "failed"  # a trial has an error
    INTERRUPTED = "interrupted"  # or killed: the same command runs what is left
