"""The service as a real process, for tests over real connections."""

import contextlib
import http.client
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from lib.storage import PROJECT_ROOT


def free_port() -> int:
    """A port on the loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@dataclass
class Service:
    """A running service, its address, and what it has written to stderr so far."""

    process: subprocess.Popen
    port: int
    lines: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def read(self) -> None:
        """Collect what the process writes, until it ends."""
        self.lines += iter(self.process.stderr.readline, "")


@contextlib.contextmanager
def running(environment: dict[str, str], *options: str, code: str = "", status: int = 0) -> Iterator[Service]:
    """Run serve.py, or Python `code` that gets the port as its argument, until the block ends, with this exit status.

    The block begins when the process has written a line with "Ready on".
    """
    port = free_port()
    program = ["-c", code, str(port)] if code else ["serve.py", "--port", str(port), *options]
    process = subprocess.Popen(
        [sys.executable, *program], cwd=PROJECT_ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    service = Service(process, port)
    reader = threading.Thread(target=service.read)
    try:
        while "Ready on" not in (service.lines[-1] if service.lines else ""):
            service.lines.append(process.stderr.readline())
            assert service.lines[-1], service.lines
        reader.start()
        yield service
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=40) == status
    finally:
        process.kill()
        process.wait()
        if reader.ident is not None:  # it was started
            reader.join()
        process.stderr.close()


def ask(service, method="GET", path="/livez", body=None, headers=None):
    """One request on a connection of its own: status, headers and whole body."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def form(files, names=()):
    """A multipart body of files in the field image, and its content type."""
    names = names or [f"{number}.png" for number in range(len(files))]
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in zip(names, files, strict=True)
    ]
    return b"".join(parts) + b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}
