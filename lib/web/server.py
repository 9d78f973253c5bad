"""The HTTP server, and how it ends: what was accepted is answered in full, what comes after is sent away."""

import logging
import os
import signal
import sys
import threading
from time import monotonic, sleep
from typing import Any

import waitress
from flask import Flask

from lib.admission import Admission

PROBES = 4  # threads beyond those at work, for probes and for sending away
MAX_RECEIVED = 64_000_000  # bytes after which the server hangs up without a problem document
PATIENCE = 20.0  # seconds that accepted requests have to finish once told to end; waitress then waits 5 for threads


def make_server(app: Flask, host: str, port: int, max_inflight: int) -> Any:
    """A server that listens; raises OSError, ValueError or OverflowError where it cannot."""
    return waitress.create_server(
        app,
        host=host,
        port=port,
        threads=max_inflight + PROBES,
        ident=None,
        connection_limit=1000,
        channel_timeout=10,
        cleanup_interval=5,
        recv_bytes=65536,
        max_request_body_size=MAX_RECEIVED,
    )


class Drain:
    """Ends a server in good order at SIGTERM or SIGINT; a second signal ends it at once.

    Parameters
    ----------
    server : waitress server
    admission : Admission
    patience : float, seconds
    """

    def __init__(self, server: Any, admission: Admission, patience: float = PATIENCE):
        self._server, self._admission, self._patience = server, admission, patience
        self.complete = True  # whether all that was accepted has been answered
        self._begun = self._finished = False

    def install(self) -> None:
        """Handle the signals; SIGINT too, which a shell in the background starts its children with ignored."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        """Begin at the first signal, end at the one the drain sends itself, end at once at another."""
        if self._finished:
            sys.exit(0)
        if self._begun:
            os._exit(128 + number)
        self._begun = True
        self._admission.drain()
        threading.Thread(target=self._finish, name="drain", daemon=True).start()

    def _finish(self) -> None:
        """Wait until nothing is left to do or to send, or patience ends; then wake the main thread to exit."""
        until = monotonic() + self._patience
        while not self._is_idle() and monotonic() < until:
            sleep(0.02)
        self.complete = self._is_idle()
        logging.info("Shutting down: %s", "all answered" if self.complete else "some requests were not finished")
        self._finished = True
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

    def _is_idle(self) -> bool:
        """Whether no request is at work or waiting and every answer has been sent."""
        dispatcher = self._server.task_dispatcher
        unsent = sum(getattr(channel, "total_outbufs_len", 0) for channel in list(self._server._map.values()))
        waiting = any(getattr(channel, "requests", ()) for channel in list(self._server._map.values()))
        return not (dispatcher.active_count or dispatcher.queue or waiting or unsent)
