"""The load generator of serving.py, a process of its own: a plan as JSON in its argument, what came of it on stdout.

An answer is a list: status (or "timeout", "error"), and the seconds, since the load began, at which the request was
due, was begun and was over; last whether the answer said when to try again.
"""

import asyncio
import contextlib
import itertools
import json
import random
import socket
import sys
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

TIMEOUT = 10.0  # seconds from when a request was due
MAX_SOCKETS = 500  # in the open loop; requests beyond wait, and their time runs
PROBES = 5  # GET /livez a second
BOUNDARY = "end-of-the-photo"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form_around(file: Path, port: int) -> tuple[bytes, bytes]:
    """A request with a file as field `image`, cut where 20 digits will follow the file's last byte."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{file.name}"\r\n'
    start = f"{part}Content-Type: image/{'png' if file.suffix == '.png' else 'jpeg'}\r\n\r\n".encode()
    start, end = start + file.read_bytes(), f"\r\n--{BOUNDARY}--\r\n".encode()
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {CONTENT_TYPE}\r\n"
    return f"{head}Content-Length: {len(start) + 20 + len(end)}\r\n\r\n".encode() + start, end


def requests(folder: Path, port: int) -> Iterator[bytes]:
    """Requests without end. A number after each image makes it a file of its own, to whoever keeps or caches files."""
    forms = [form_around(file, port) for file in sorted(folder.iterdir())]
    for number in itertools.count(time.time_ns()):
        start, end = forms[number % len(forms)]
        yield b"%b%020d%b" % (start, number, end)


def read_head(head: bytes) -> tuple[int, int, bool]:
    """Of an answer's first lines: status, bytes of the body, and whether it says when to try again."""
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), int(headers["content-length"]), "retry-after" in headers


class Client:
    """One connection that is asked one thing after another, with blocking calls: an answer's time is the service's.

    asyncio's streams cost 0.2 to 0.4 ms a request, which a service of 10 ms would be charged with.
    """

    def __init__(self, port: int):
        self._port = port
        self._socket = self._reader = None

    def _connect(self) -> None:
        """Open the connection."""
        self._socket = socket.create_connection(("127.0.0.1", self._port), TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")

    def close(self) -> None:
        """End the connection."""
        if self._socket:
            self._reader.close()
            self._socket.close()
        self._socket = self._reader = None

    def exchange(self, request: bytes) -> tuple[int, bool]:
        """Send a request and read its answer: status, and whether it says when to try again."""
        if self._socket is None:
            self._connect()
        self._socket.sendall(request)
        lines = []
        while (line := self._reader.readline()) != b"\r\n":
            if not line:
                raise ConnectionError("the answer has no end")
            lines.append(line)
        status, length, says_when = read_head(b"".join(lines))
        if len(self._reader.read(length)) < length:
            raise ConnectionError("the answer has no end")
        return status, says_when

    def attempt(self, request: bytes, began: float) -> list:
        """What came of a request, in seconds since `began`; after a failure the connection is a new one."""
        sent, says_when = time.perf_counter() - began, False
        try:
            status, says_when = self.exchange(request)
        except OSError as error:
            status = "timeout" if isinstance(error, TimeoutError) else "error"
            self.close()
        return [status, sent, sent, time.perf_counter() - began, says_when]


def alone(port: int, folder: Path, seconds: float) -> list[list]:
    """Answers to a client that waits for each before it sends the next request, while there is no other."""
    client, began, answers = Client(port), time.perf_counter(), []
    for request in requests(folder, port):
        if time.perf_counter() - began >= seconds:
            break
        answers.append(client.attempt(request, began))
    client.close()
    return answers


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bool]:
    """Send a request and read its answer: status, and whether it says when to try again."""
    writer.write(request)
    status, length, says_when = read_head(await reader.readuntil(b"\r\n\r\n"))
    await reader.readexactly(length)
    return status, says_when


async def exchange_alone(port: int, request: bytes) -> tuple[int, bool]:
    """`exchange` on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await exchange(reader, writer, request)
    finally:
        writer.transport.abort()  # nothing more is wanted, and no socket waits


class Connections:
    """Connections that are kept for the next request, as load generators do (wrk, vegeta); as many as are needed."""

    def __init__(self, port: int):
        self.port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def exchange(self, request: bytes) -> tuple[int, bool]:
        """`exchange` on an idle one, or on a new one if there is none or the service has closed it meanwhile."""
        while self._idle:
            kept = self._idle.pop()
            if not kept[0].at_eof():
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    return await self._exchange(kept, request)
        return await self._exchange(await asyncio.open_connection("127.0.0.1", self.port), request)

    async def _exchange(self, pair: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> tuple:
        """`exchange`, and keep the connection if the answer came."""
        try:
            answer = await exchange(*pair, request)
        except BaseException:
            pair[1].transport.abort()
            raise
        self._idle.append(pair)
        return answer

    def close(self) -> None:
        """Close those that are idle."""
        for _, writer in self._idle:
            writer.transport.abort()
        self._idle.clear()


class Load:
    """Clients of one service, more than one.

    Parameters
    ----------
    port : int
    folder : Path
        The images.
    seconds : float
        For how long requests are sent; answers are waited for.
    """

    def __init__(self, port: int, folder: Path, seconds: float):
        self.port, self.seconds = port, seconds
        self.requests = requests(folder, port)
        self.answers: list[list] = []
        self.probes: list[list] = []
        self._began = asyncio.get_running_loop().time()

    def now(self) -> float:
        """Seconds since the load began."""
        return asyncio.get_running_loop().time() - self._began

    async def attempt(self, due: float, answering: Awaitable[tuple[int, bool]]) -> list:
        """Wait for an answer until TIMEOUT after it was due."""
        sent, says_when = self.now(), False
        try:
            async with asyncio.timeout(due + TIMEOUT - sent):
                status, says_when = await answering
        except TimeoutError:
            status = "timeout"
        except (OSError, asyncio.IncompleteReadError):
            status = "error"
        return [status, due, sent, self.now(), says_when]

    async def client(self) -> None:
        """One request after another on a connection that is kept."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while self.now() < self.seconds:
            answer = await self.attempt(self.now(), exchange(reader, writer, next(self.requests)))
            self.answers.append(answer)
            if answer[0] in ("timeout", "error"):
                writer.transport.abort()
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.transport.abort()

    async def closed(self, clients: int) -> None:
        """So many clients, each of which waits for its answer."""
        await asyncio.gather(*(self.client() for _ in range(clients)))

    async def open(self, rate: float, seed: int) -> None:
        """Requests due at random (Poisson) at so many a second, on as many connections as that takes."""
        connections = Connections(self.port)
        gate, chance, due, tasks = asyncio.Semaphore(MAX_SOCKETS), random.Random(seed), 0.0, []

        async def send() -> tuple[int, bool]:
            async with gate:
                return await connections.exchange(next(self.requests))

        async def one(due: float) -> None:
            self.answers.append(await self.attempt(due, send()))

        while (due := due + chance.expovariate(rate)) < self.seconds:
            await asyncio.sleep(max(0.0, due - self.now()))
            tasks.append(asyncio.create_task(one(due)))
        await asyncio.gather(asyncio.sleep(self.seconds - self.now()), *tasks)
        connections.close()

    async def probe(self) -> None:
        """Ask whether the service lives, PROBES times a second."""
        request = f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode()

        async def one(due: float) -> None:
            self.probes.append(await self.attempt(due, exchange_alone(self.port, request)))

        async with asyncio.TaskGroup() as group:
            for number in range(int(PROBES * self.seconds)):
                await asyncio.sleep(max(0.0, number / PROBES - self.now()))
                group.create_task(one(number / PROBES))


async def together(plan: dict) -> dict:
    """Carry a plan of several clients, or of a rate, out: by the same means, for a rate is compared with their rate."""
    load = Load(plan["port"], Path(plan["folder"]), plan["seconds"])
    if "clients" in plan:
        await load.closed(plan["clients"])
    else:
        probing = [load.probe()] if plan["probe"] else []
        await asyncio.gather(load.open(plan["rate"], plan["seed"]), *probing)
    return {"answers": load.answers, "probes": load.probes, "cpu": time.process_time(), "wall": load.now()}


def main(plan: dict) -> dict:
    """Carry a plan out."""
    if plan.get("clients") == 1:
        return {"answers": alone(plan["port"], Path(plan["folder"]), plan["seconds"])}
    return asyncio.run(together(plan))


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
