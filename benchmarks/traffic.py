"""Mixed requests to the service, well-behaved and not, and what came of each."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

PAUSE = 0.15  # seconds between a client's requests, on average
SECOND = "2999-second"  # the version that is promoted beside the champion
BROKEN, ENDED = 0, 1  # stand for a status: the connection broke; it ended as it should
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """One request: seconds since the start, what was asked, which status came and which should, seconds it took."""

    at: float
    name: str
    status: int
    expected: int
    seconds: float


@dataclass
class Traffic:
    """What is asked of one service, and what came of it.

    Parameters
    ----------
    port : int
    token : str
        For promoting.
    images : list of bytes
        Sound image files.
    """

    port: int
    token: str
    images: list[bytes]
    answers: list[Answer] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def ask(
        self, name: str, method: str, path: str, body: bytes = b"", *, expected: int = 200, **headers: str
    ) -> bytes:
        """Send a request on a connection of its own, keep its status and read the answer."""
        data = b"{}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with self.kept(name, expected) as statuses, contextlib.closing(connection):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read()
            statuses.append(response.status)
        return data

    @contextlib.contextmanager
    def kept(self, name: str, expected: int) -> Iterator[list[int]]:
        """Keep the status that the block appends to what it is given; BROKEN if its connection fails."""
        statuses: list[int] = []
        start = time.monotonic()
        with contextlib.suppress(OSError, http.client.HTTPException):
            yield statuses
        now = time.monotonic()
        self.answers.append(Answer(now - self.started, name, (statuses or [BROKEN])[0], expected, now - start))

    def one(self, random: Random) -> None:
        self.ask("predict one", "POST", "/predict", random.choice(self.images))

    def eight(self, random: Random) -> None:
        head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="photo"\r\n\r\n'
        files = b"".join(head + data + b"\r\n" for data in random.choices(self.images, k=8))
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        self.ask("predict eight", "POST", "/predict", files + b"--b--\r\n", **kind)

    def explained(self, random: Random) -> None:
        self.ask("explain", "POST", "/predict?explain=heatmap,neighbors", random.choice(self.images))

    def feedback(self, random: Random) -> None:
        """Predict, and call the answer right."""
        found = json.loads(self.ask("predict one", "POST", "/predict", random.choice(self.images)))
        for answer in found.get("predictions", []):
            body = json.dumps({"id": answer["id"], "label": answer["label"]}).encode()
            self.ask("feedback", "POST", "/feedback", body, expected=201, **JSON)

    def read(self, random: Random) -> None:
        path = random.choice(["/models", "/readyz", "/metrics"])
        self.ask(path, "GET", path)

    def broken(self, random: Random) -> None:
        body, expected = random.choice([(self.images[0][:300], 422), (b"no image", 415), (b"", 400)])
        self.ask("broken image", "POST", "/predict", body, expected=expected)

    def slow(self, random: Random) -> None:
        """Half a request, and the rest two seconds later."""
        with self.kept("slow", 200) as statuses, self._half(random.choice(self.images)) as (client, rest):
            time.sleep(2)
            client.sendall(rest)
            statuses.append(int(client.recv(1000)[9:12] or BROKEN))

    def abandoned(self, random: Random) -> None:
        """Half a request before the client hangs up."""
        with self.kept("abandoned", ENDED) as statuses, self._half(random.choice(self.images)):
            statuses.append(ENDED)

    def half(self, random: Random) -> None:
        """Half a request, until the service hangs up."""
        with self.kept("half", ENDED) as statuses, self._half(random.choice(self.images)) as (client, _):
            client.settimeout(30)
            while client.recv(1000):
                pass
            statuses.append(ENDED)

    @contextlib.contextmanager
    def _half(self, data: bytes) -> Iterator[tuple[socket.socket, bytes]]:
        """A connection that has sent half of a request, and the other half."""
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data)
        middle = len(head) + len(data) // 2
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as client:
            client.sendall((head + data)[:middle])
            yield client, (head + data)[middle:]

    def swap(self, number: int) -> None:
        """Promote the second version, or go back to the first, in turn."""
        path = f"/models/{'rollback' if number % 2 else SECOND + '/promote'}"
        self.ask("swap", "POST", path, Authorization=f"Bearer {self.token}")


# What a client does next -> how often of 1000 times.
MIX = {
    Traffic.one: 560,
    Traffic.eight: 60,
    Traffic.explained: 60,
    Traffic.feedback: 100,
    Traffic.read: 120,
    Traffic.broken: 80,
    Traffic.slow: 8,
    Traffic.abandoned: 10,
    Traffic.half: 2,
}


def client(traffic: Traffic, seed: int, stopped: threading.Event) -> None:
    """Mixed requests with pauses, until told to stop."""
    random = Random(seed)
    while not stopped.wait(random.expovariate(1 / PAUSE)):
        action = random.choices(list(MIX), MIX.values())[0]
        action(traffic, random)
