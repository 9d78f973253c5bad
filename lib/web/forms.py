"""Forms: multipart bodies are read by the library multipart, in memory.

Werkzeug's own reader takes several times as long (benchmarks/forms.py), writes files of more than 500 kB to disk, and
takes a form that is cut short for one without a field.
"""

import io
from collections.abc import Callable, Iterator
from typing import IO

import flask
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from lib.web.problems import Problem

CHUNK = 1 << 20  # bytes read at a time


class FormParser(FormDataParser):
    """Reads the form in a body; one that is no multipart form as Werkzeug does.

    Nothing that a client says of a file but its name is handed on: what it is, its content tells.
    """

    def parse(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str] | None = None
    ) -> tuple[IO[bytes], MultiDict, MultiDict]:
        """The stream, which has been read, and the form's texts and files by their fields' names.

        Raises
        ------
        Problem
            400 where it is cut short, or no form.
        RequestEntityTooLarge
            If it has more parts, more text or longer headers than are allowed.
        """
        if mimetype != "multipart/form-data":
            return super().parse(stream, mimetype, content_length, options)
        try:
            return stream, *self._read(stream, (options or {}).get("boundary", ""))
        except ParserLimitReached as error:
            raise RequestEntityTooLarge from error
        except MultipartError as error:
            reason = str(error.args[0]).removesuffix(" (parser closed)")
            raise Problem(400, f"The multipart form cannot be read ({reason}); send it anew.") from error

    def _read(self, stream: IO[bytes], boundary: str) -> tuple[MultiDict, MultiDict]:
        """Texts and files of a multipart form."""
        texts: list[tuple[str, str]] = []
        files: list[tuple[str, FileStorage]] = []
        n_bytes = 0
        for part, data in read_parts(stream.read, boundary, self.max_form_parts):
            if (filename := filename_of(part)) is not None:
                files.append((part.name, FileStorage(io.BytesIO(data), filename, part.name)))
                continue
            n_bytes += len(data)
            if n_bytes > self.max_form_memory_size:
                raise RequestEntityTooLarge
            texts.append((part.name, data.decode("utf-8", "replace")))
        return self.cls(texts), self.cls(files)


class Request(flask.Request):
    """A request whose forms are read so."""

    form_data_parser_class = FormParser


def read_forms(app: flask.Flask) -> None:
    """Read the forms of every request of an app so."""
    app.request_class = Request


def read_parts(
    read: Callable[[int], bytes], boundary: str, max_parts: int
) -> Iterator[tuple[MultipartSegment, bytes]]:  # fmt: skip
    """The parts of a multipart form and their content; raises MultipartError."""
    parser = PushMultipartParser(boundary, max_segment_count=max_parts)
    pieces: list[bytes] = []
    for event in parser.parse_blocking(read, CHUNK):
        if isinstance(event, MultipartSegment):
            part, pieces = event, []
        elif event is not None:
            pieces.append(event)
        else:
            yield part, pieces[0] if len(pieces) == 1 else b"".join(pieces)


def filename_of(part: MultipartSegment) -> str | None:
    """The name of a part that is a file; some clients write one that is not ASCII as filename* (RFC 5987)."""
    if part.filename is None and "*=" in (header := part["Content-Disposition"]):
        return parse_options_header(header)[1].get("filename")
    return part.filename
