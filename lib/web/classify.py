"""From uploaded files to answers, whichever way they are asked for: /predict, Open Inference Protocol, the page."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import g, request

from lib.admission import Work
from lib.errors import ImageError
from lib.prediction import Prediction, Predictor
from lib.production import Logged
from lib.storage import sha256_bytes
from lib.web.context import production_log
from lib.web.explain import explain
from lib.web.logs import seconds_so_far
from lib.web.problems import Problem, from_image_error

FIELD = "image"
MAX_FILES = 64


@dataclass(frozen=True)
class Upload:
    """One file of a request; `filename` is None for a raw body."""

    filename: str | None
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What became of one file.

    Parameters
    ----------
    upload : Upload
    result : Prediction or ImageError
    explanations : dict
        See `explain`.
    id : str
        32 hexadecimal digits, by which feedback finds it.
    """

    upload: Upload
    result: Prediction | ImageError
    explanations: dict[str, Any] = field(default_factory=dict, repr=False)
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


def classify(
    predictor: Predictor, task: str, uploads: Sequence[Upload], work: Work, explained: Sequence[str] = ()
) -> list[Answer]:
    """Wait for a core, then classify files and explain what was found; in the order of the files.

    Raises
    ------
    Problem
        If a single file came and is refused.
    DeadlineError
        If it takes too long.
    """
    with work.slot():
        if not work.alone:  # a core for each is more than all cores for each in turn (benchmarks/serving.py)
            predictor = predictor.with_threads(1)
        results = predictor.predict([upload.data for upload in uploads], check=work.check)
        if len(results) == 1 and isinstance(results[0], ImageError):
            raise from_image_error(results[0])
        answers = [
            Answer(upload, result, explain(predictor, upload.data, result, explained, work))
            for upload, result in zip(uploads, results, strict=True)
        ]
    g.decisions = [(task, str(answer.result.decision)) for answer in answers if not answer.refused]
    return answers


def keep(predictor: Predictor, task: str, answers: Sequence[Answer]) -> bool:
    """Keep what was answered, but for refused files; whether it is durable, so that feedback will find it."""
    log = production_log(task)
    if log is None:
        return False
    good, milliseconds = [answer for answer in answers if not answer.refused], 1000 * seconds_so_far()
    rows = [
        Logged(
            id=answer.id,
            version=predictor.version.name,
            arm="champion",
            label=answer.result.label,
            probability=answer.result.probability,
            decision=answer.result.decision,
            distance=answer.result.distance,
            milliseconds=milliseconds,
            sha256=sha256_bytes(answer.upload.data),
            vector=answer.result.vector,
        )
        for answer in good
    ]
    return log.record(rows, [answer.upload.data for answer in good])
