"""Reading an uploaded file from a form: this project's way beside Werkzeug's own, which Flask takes otherwise.

Each form has one file and a boundary of its own, as curl and browsers draw them. Both are processes that take turns;
figures are medians.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

from measuring import ROOT, Contender, machine, serve, table, take_turns

OURS, WERKZEUG = "this project", "Werkzeug"
CASES = {"5 kB": 5_000, "50 kB": 50_000, "4 MB": 4_000_000}  # bytes of the file
N_FORMS = 100  # a run


def environ(data: bytes, number: int) -> dict:
    """What a server hands on of a request with a file of these bytes."""
    boundary = f"{'-' * 24}{number:016x}"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
    head += "Content-Type: image/jpeg\r\n\r\n"
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    content = {"CONTENT_TYPE": f"multipart/form-data; boundary={boundary}", "CONTENT_LENGTH": str(len(body))}
    return content | {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}


def prepare(reader: str) -> Callable[[], dict]:
    """Milliseconds that a form costs, by case."""
    import flask

    from lib.web.forms import Request

    kind = Request if reader == OURS else flask.Request

    def cost(case: str) -> float:
        data, seconds = os.urandom(CASES[case]), []
        for number in range(N_FORMS):
            request = kind(environ(data, number))
            started = perf_counter()
            read = request.files["image"].read()
            seconds.append(perf_counter() - started)
            assert read == data
        return 1000 * median(seconds)

    return lambda: {case: cost(case) for case in CASES}


def main() -> None:
    """Let both take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        serve(lambda: prepare(options.contender))
        return
    sys.path.insert(0, str(ROOT))
    contenders = [Contender(name, __file__, name) for name in (OURS, WERKZEUG)]
    take_turns(contenders, options.rounds)
    ours, theirs = contenders
    rows = [
        (case, ours.median(case), theirs.median(case), theirs.median(case) / ours.median(case)) for case in CASES
    ]  # fmt: skip
    for contender in contenders:
        contender.close()
    print(f"{machine()}; {options.rounds} rounds.\n")
    print(table(["file", f"{OURS}, ms", f"{WERKZEUG}, ms", "times ours"], rows))


if __name__ == "__main__":
    main()
