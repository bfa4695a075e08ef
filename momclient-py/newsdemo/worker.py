"""Work in the background."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Worker(ABC):
    """Has a thread of its own. It is no `Thread`, whose private names would meet those of a subclass."""

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @abstractmethod
    def run(self) -> None:
        """Work until stopped."""

    @abstractmethod
    def stop(self) -> None:
        """End the work and the thread."""

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()
