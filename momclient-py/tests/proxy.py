"""TCP proxies in front of MoMs, which lose what passes through them."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from momclient import Channel, MoMInfo


class Proxy:
    """A way to a MoM that can be cut at the worst moment."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._swallows = threading.Event()
        self._bait: bytes | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """Let what clients send through, but nothing of what the MoM answers."""
        self._swallows.set()

    def swallow_answers_to(self, sent: bytes) -> None:
        """Swallow as soon as a client has sent this."""
        self._bait = sent

    def cut(self) -> None:
        """Break all connections. Those that are made afterwards are good ones."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._open.clear()
            self._swallows.clear()

    def close(self) -> None:
        """Break all connections and take no new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._to)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open += [near, far]
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not is_answer and self._bait is not None and self._bait in data:
                    self._bait = None
                    self._swallows.set()
                if not (is_answer and self._swallows.is_set()):
                    sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        source.close()


class Detour:
    """Leads what connects to MoMs through a proxy for each, once it has begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._proxies: dict[tuple[str, int], Proxy] = {}
        self._has_begun = False

    def begin(self) -> None:
        """Lead all further connections through proxies; those that there are stay as they are."""
        self._has_begun = True

    def target(self, host: str, port: int) -> str:
        """Return the address to connect to."""
        return self._proxy(host, port).target if self._has_begun else f"{host}:{port}"

    def to(self, place: MoMInfo | Channel | None) -> Proxy:
        """Return the proxy of a MoM."""
        assert place is not None
        return self._proxy(place.host, place.port)

    def close(self) -> None:
        """End all proxies."""
        for proxy in self._proxies.values():
            proxy.close()

    def _proxy(self, host: str, port: int) -> Proxy:
        with self._lock:
            if (host, port) not in self._proxies:
                self._proxies[host, port] = Proxy(host, port)
            return self._proxies[host, port]
