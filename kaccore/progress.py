"""What takes minutes says how far it is: a line on stderr, which a caller elsewhere can also
listen to."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[str], None]] = []


def say(text: str) -> None:
    """Print `text` on stderr and hand it to all listeners of this process."""
    print(text, file=sys.stderr, flush=True)
    for hear in list(_listeners):
        hear(text)


@contextmanager
def listening(hear: Callable[[str], None]) -> Iterator[None]:
    """While the context is open `hear` is called with each text that is printed in this process."""
    _listeners.append(hear)
    try:
        yield
    finally:
        _listeners.remove(hear)
