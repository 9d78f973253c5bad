"""The HTTP server: what is accepted goes to threads, what is too much is sent away without one, and how it ends."""

import contextlib
import logging
import os
import signal
import sys
import threading
from time import monotonic, sleep
from typing import Any

import waitress
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ThreadedTaskDispatcher

from lib.admission import Admission
from lib.web.refusal import Refusal

SPARE_THREADS = 4  # threads beyond those at work, for probes and for sending away
MAX_RECEIVED = 64_000_000  # bytes after which the server hangs up without a problem document
PATIENCE = 20.0  # seconds that accepted requests have to finish once told to end; waitress then waits 5 for threads


class Dispatcher(ThreadedTaskDispatcher):
    """Gives requests to threads, but for those that would only be sent away: the loop answers these itself.

    To hand a request to a thread and its answer back to the loop costs more than the answer, and takes the time of
    those who are at work (benchmarks/serving.py).

    Parameters
    ----------
    admission : Admission
        Told that the thread which makes this is the loop.
    """

    def __init__(self, admission: Admission):
        super().__init__()
        self.sockets: dict[int, Any] = {}  # all that the loop looks after
        self.admission = admission
        admission.loop = threading.get_ident()
        self.queue_logger.setLevel(logging.ERROR)  # that requests wait is told by metrics

    def add_task(self, channel: "Channel") -> None:
        """Take a channel's next request; its place is kept until a thread comes to it, or more would be taken on."""
        if is_work(channel.requests[0]):
            if self.admission.in_loop and not channel.is_shed and self.admission.is_full:
                channel.is_shed = True
                return
            self.admission.expect()
        super().add_task(channel)


class Channel(HTTPChannel):
    """A connection; after each reading the loop sends away what the dispatcher left to it."""

    is_shed = False

    def service(self) -> None:
        """Answer the request that has waited longest."""
        admission = self.server.task_dispatcher.admission
        comes = is_work(self.requests[0]) and not admission.in_loop
        with admission.expected() if comes else contextlib.nullcontext():
            super().service()

    def received(self, data: bytes) -> bool:
        """Take what was read."""
        taken = super().received(data)
        if self.is_shed:
            self.service()  # one only: requests that came with it go to a thread, for others wait for the loop
            self.is_shed = False
        return taken


def is_work(request: Any) -> bool:
    """Whether a parsed request asks for work that may be refused: an image or a label is sent, and no model changed."""
    return not request.error and request.command == "POST" and not request.path.startswith("/models/")


def make_server(app: Flask, host: str, port: int, max_inflight: int) -> Any:
    """A server that listens; raises OSError, ValueError or OverflowError where it cannot.

    The thread that calls this must be the one that runs the server.
    """
    dispatcher = Dispatcher(app.extensions["admission"])
    server = waitress.create_server(
        Refusal(app),
        map=dispatcher.sockets,
        _dispatcher=dispatcher,
        host=host,
        port=port,
        ident=None,
        connection_limit=1000,
        channel_timeout=10,
        cleanup_interval=5,
        recv_bytes=262144,  # a photo in one reading
        max_request_body_size=MAX_RECEIVED,
    )
    for listening in dispatcher.sockets.values():
        if isinstance(listening, BaseWSGIServer):  # one for each address of the host
            listening.channel_class = Channel
    dispatcher.set_thread_count(max_inflight + SPARE_THREADS)
    return server


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
        channels = [channel for channel in list(dispatcher.sockets.values()) if isinstance(channel, Channel)]
        unsent = sum(channel.total_outbufs_len for channel in channels)
        waiting = any(channel.requests for channel in channels)
        return not (dispatcher.active_count or dispatcher.queue or waiting or unsent)
