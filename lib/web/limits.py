"""How large a request may be: exactly so many bytes, whichever way they come."""

from flask import Flask, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

MAX_BODY = "MAX_BODY"  # in the app's configuration: bytes


def limit_bodies(app: Flask, max_body: int) -> None:
    """Refuse bodies of more than `max_body` bytes, and forms of more parts or longer texts than images need.

    Werkzeug's own limit refuses a form that has exactly as many bytes as are allowed, and cuts a body of unknown
    length that has more; so it stands one byte higher, and the length that the server has counted is looked at first.
    """
    app.config[MAX_BODY] = max_body
    app.config.update(MAX_CONTENT_LENGTH=max_body + 1, MAX_FORM_PARTS=1000, MAX_FORM_MEMORY_SIZE=500_000)

    @app.before_request
    def refuse_large_bodies() -> None:
        if (request.content_length or 0) > max_body:
            raise RequestEntityTooLarge

    @app.before_request
    def refuse_compressed_bodies() -> None:
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise UnsupportedMediaType(
                f"Bodies are read as they are, not compressed ({encoding[:40]}); send the file itself."
            )
