"""From uploaded files to answers, whichever way they are asked for: /predict, Open Inference Protocol, the page."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from flask import g, request

from lib.admission import Work
from lib.errors import ImageError
from lib.experiments import SHADOW
from lib.prediction import Prediction, Predictor
from lib.production import Logged, ProductionLog
from lib.quota import client_of
from lib.serving import Arm, ServedTask
from lib.storage import sha256_bytes
from lib.web.explain import explain
from lib.web.logs import seconds_so_far
from lib.web.problems import Problem, from_image_error

FIELD = "image"
MAX_FILES = 64
CLIENT_HEADER, CLIENT_COOKIE = "X-Client-ID", "client"
MAX_CLIENT = 200  # characters that are looked at


@dataclass(frozen=True)
class Upload:
    """One file of a request; `filename` is None for a raw body."""

    filename: str | None
    data: bytes = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        """Of its content; asked for where it is kept."""
        return sha256_bytes(self.data)


@dataclass(frozen=True)
class Answer:
    """What became of one file.

    Parameters
    ----------
    upload : Upload
    result : Prediction or ImageError
    explanations : dict
        See `explain`.
    shadow : Prediction or None
        Of the challenger in shadow.
    id : str
        32 hexadecimal digits, by which feedback finds it.
    """

    upload: Upload
    result: Prediction | ImageError
    explanations: dict[str, Any] = field(default_factory=dict, repr=False)
    shadow: Prediction | None = field(default=None, repr=False)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def refused(self) -> bool:
        """Whether the file was no image that can be read."""
        return isinstance(self.result, ImageError)


def read_uploads(limit: int = MAX_FILES) -> list[Upload]:
    """The request's files.

    Raises
    ------
    Problem
        400 without any, or with more than `limit`.
    """
    if request.mimetype != "multipart/form-data":
        data = request.get_data(parse_form_data=False)
        if not data:
            raise Problem(400, f"No image came: send a file as multipart field {FIELD!r}, or its bytes as the body.")
        return [Upload(None, data)]
    files = request.files.getlist(FIELD)
    if len(files) > limit:
        raise Problem(400, f"{len(files)} files came; at most {limit} are answered in such a request.")
    if not files:
        names = ", ".join(repr(name) for name in sorted({*request.files, *request.form})) or "no field"
        raise Problem(
            400, f"No image came: the form has {names}; send a file as field {FIELD!r} (curl -F {FIELD}=@file)."
        )
    return [Upload(file.filename, file.read()) for file in files]


def asked_arm(task: ServedTask) -> Arm:
    """What answers the client of this request: the same whenever it comes."""
    return task.arm(client_key(task.name))


def client_key(task: str) -> str:
    """Who asks, as a pseudonym: as the client says itself by header or cookie, or else by its address."""
    said = request.headers.get(CLIENT_HEADER) or request.cookies.get(CLIENT_COOKIE)
    return pseudonym(task, said[:MAX_CLIENT] if said else client_of(request.remote_addr))


def pseudonym(task: str, client: str) -> str:
    """16 hexadecimal digits: enough to see that answers or labels belong together, and not to whom."""
    return sha256_bytes(f"{task} {client}".encode("utf-8", "replace"))[:16]


def classify(
    arm: Arm, task: str, uploads: Sequence[Upload], work: Work, log: ProductionLog | None, explained: Sequence[str] = ()
) -> list[Answer]:  # fmt: skip
    """Wait for a core, then classify files and explain what was found; in the order of the files.

    A log that will keep the answers is told of each image at once, so that it can begin.

    Raises
    ------
    Problem
        If a single file came and is refused.
    DeadlineError
        If it takes too long.
    """
    with work.slot():
        if not work.alone:  # a core for each is more than all cores for each in turn (benchmarks/serving.py)
            arm = arm.with_threads(1)
        predictor, files = arm.predictor, [upload.data for upload in uploads]
        begin = partial(begin_image, log, uploads)
        results = predictor.predict(files, check=work.check, decoded=begin)
        if len(results) == 1 and isinstance(results[0], ImageError):
            raise from_image_error(results[0])
        shadows = shadowed(arm, files, results, work)
        answers = [
            Answer(upload, result, explain(predictor, upload.data, result, explained, work), shadow)
            for upload, result, shadow in zip(uploads, results, shadows, strict=True)
        ]
    g.decisions = [(task, str(answer.result.decision)) for answer in answers if not answer.refused]
    return answers


def shadowed(
    arm: Arm, files: list[bytes], results: Sequence[Prediction | ImageError], work: Work
) -> list[Prediction | None]:  # fmt: skip
    """What the challenger in shadow says to the same files; None where there is none, or a file was refused."""
    told: list[Prediction | None] = [None] * len(results)
    good = [place for place, result in enumerate(results) if isinstance(result, Prediction)]
    if arm.shadow is None or not good:
        return told
    if arm.shadow.encoder.fingerprint == arm.predictor.encoder.fingerprint:
        found = arm.shadow.answers(np.stack([results[place].vector for place in good]))
    else:
        found = arm.shadow.predict([files[place] for place in good], check=work.check)
    for place, shadow in zip(good, found, strict=True):
        told[place] = shadow if isinstance(shadow, Prediction) else None
    return told


def begin_image(log: ProductionLog | None, uploads: Sequence[Upload], place: int) -> None:
    """Tell a log of an image that it will be asked to keep."""
    if log:
        log.begin_image(uploads[place].sha256, uploads[place].data)


def keep(log: ProductionLog | None, arm: Arm, task: str, answers: Sequence[Answer]) -> bool:
    """Keep what was answered, but for refused files; whether it is durable, so that feedback will find it."""
    if log is None:
        return False
    good = [answer for answer in answers if not answer.refused]
    told = [(logged_row(answer, answer.result, arm.name, arm.predictor, task), answer.upload.data) for answer in good]
    for answer in good:
        if answer.shadow:
            row = logged_row(answer, answer.shadow, SHADOW, arm.shadow, task)
            told.append((replace(row, id=uuid.uuid4().hex, shadow_of=answer.id), answer.upload.data))
    return log.record([row for row, _ in told], [data for _, data in told])


def logged_row(answer: Answer, result: Prediction, arm: str, predictor: Predictor, task: str) -> Logged:
    """A row of the log."""
    return Logged(
        id=answer.id,
        version=predictor.version.name,
        arm=arm,
        label=result.label,
        probability=result.probability,
        decision=result.decision,
        distance=result.distance,
        milliseconds=1000 * seconds_so_far(),
        sha256=answer.upload.sha256,
        vector=result.vector,
        backbone=predictor.card["backbone"]["fingerprint"],
        client=client_key(task),
    )
