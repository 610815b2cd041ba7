"""The loop of a stand-in for some server."""

import socket
import threading
from collections.abc import Callable


class Acceptor:
    """Has *serve* take what connects to *listener*, one connection after the other, until it is closed.

    *serve* owns the connection.
    """

    def __init__(self, listener: socket.socket, serve: Callable[[socket.socket], object]) -> None:
        self._listener = listener
        self._serve = serve
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._serve(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
