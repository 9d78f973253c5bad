"""Tensors as the Open Inference Protocol (version 2) sends them: in JSON, or as bytes behind it.

Source: the protocol's REST specification (github.com/kserve/open-inference-protocol) and Triton's extensions for binary
tensor data and classification.
"""

import base64
import binascii
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.web.problems import Problem

MAX_PARTS = 10_000  # brackets and commas of a request's JSON: to parse millions would take the memory of all
LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor


@dataclass(frozen=True)
class Tensor:
    """A named array of an answer.

    Parameters
    ----------
    name : str
    values : ndarray
        float32, or str for BYTES.
    """

    name: str
    values: np.ndarray

    @property
    def datatype(self) -> str:
        """The protocol's name for it."""
        return "FP32" if self.values.dtype == np.float32 else "BYTES"


def split_body(body: bytes, header_length: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON object of a request and the bytes behind it.

    Parameters
    ----------
    body : bytes
    header_length : str or None
        The header Inference-Header-Content-Length: bytes of the JSON; None if nothing is behind it.

    Raises
    ------
    Problem
        400 if it is no JSON object, or shorter than the header says.
    """
    if header_length is None:
        length = len(body)
    elif header_length.isascii() and header_length.isdigit() and len(header_length) < 12:
        length = int(header_length)
    else:
        raise Problem(400, f"Inference-Header-Content-Length must be a number of bytes, not {header_length[:40]!r}.")
    if length > len(body):
        raise Problem(400, f"Inference-Header-Content-Length is {length:,}, but the body has {len(body):,} bytes.")
    text = body[:length]
    if sum(map(text.count, (b"[", b"{", b","))) > MAX_PARTS:
        raise Problem(400, "The JSON has far more parts than an inference request; images are texts in base64.")
    try:
        request = json.loads(text)
    except (ValueError, RecursionError):
        raise Problem(400, "The body is no JSON; see GET /openapi.json for an inference request.") from None
    if not isinstance(request, dict):
        raise Problem(400, "An inference request is a JSON object with a list `inputs`.")
    return request, body[length:]


def read_files(tensor: Any, binary: bytes, name: str) -> list[bytes]:
    """Files from a BYTES tensor of shape [n] or [n, 1], an element a file.

    In JSON the elements are base64 (as MLServer's content type of that name has it); as binary data they are the
    files themselves.

    Raises
    ------
    Problem
        400 if it has another name, type or shape, or its data are not those of its shape.
    """
    if not isinstance(tensor, dict) or tensor.get("name") != name or tensor.get("datatype") != "BYTES":
        raise Problem(400, f"The one input is {name!r} with datatype BYTES: an image file an element.")
    shape = tensor.get("shape")
    n = shape[0] if isinstance(shape, list) and shape else None
    if type(n) is not int or n < 1 or shape not in ([n], [n, 1]):
        raise Problem(400, f"The shape of {name!r} is [n] or [n, 1] for n images, not {str(shape)[:40]!r}.")
    parameters = read_parameters(tensor)
    if "binary_data_size" in parameters:
        files = split_elements(binary, parameters["binary_data_size"])
    elif binary:
        raise Problem(400, f"{len(binary):,} bytes follow the JSON, but {name!r} has no binary_data_size.")
    else:
        files = decode_elements(tensor.get("data"), parameters.get("content_type", "base64"))
    if len(files) != n:
        raise Problem(400, f"The shape of {name!r} says {n} images, but {len(files)} came.")
    return files


def read_parameters(holder: dict[str, Any]) -> dict[str, Any]:
    """The `parameters` of a request, an input or an output; {} where there are none."""
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Problem(400, "`parameters` must be a JSON object.")
    return parameters


def split_elements(binary: bytes, size: Any) -> list[bytes]:
    """Elements of a BYTES tensor as binary data: a length of 4 bytes, little endian, before each."""
    if size != len(binary) or isinstance(size, bool):
        raise Problem(400, f"binary_data_size is {str(size)[:20]!r}, but {len(binary):,} bytes follow the JSON.")
    elements, place = [], 0
    while place < len(binary):
        end = place + LENGTH.size
        length = LENGTH.unpack_from(binary, place)[0] if end <= len(binary) else len(binary)
        if end + length > len(binary):
            raise Problem(400, "An element of the binary data is longer than what came.")
        elements.append(binary[end : end + length])
        place = end + length
    return elements


def decode_elements(data: Any, content_type: Any) -> list[bytes]:
    """Elements of a BYTES tensor in JSON: texts in base64, in one list or a list for each."""
    if content_type != "base64":
        raise Problem(400, f"In JSON, images come with content_type base64, not {str(content_type)[:40]!r}.")
    flat = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in _list(data)]
    try:
        return [base64.b64decode(text, validate=True) for text in flat]
    except (binascii.Error, ValueError, TypeError):
        raise Problem(400, "`data` must be a list of texts in base64, an image file each.") from None


def _list(data: Any) -> list:
    """A value if it is a list."""
    if not isinstance(data, list):
        raise Problem(400, "`data` must be a list of texts in base64, an image file each.")
    return data


def classification(probabilities: np.ndarray, classes: Sequence[str], k: int) -> np.ndarray:
    """The k best classes as texts "probability:index:label", as Triton's classification extension has them.

    Parameters
    ----------
    probabilities : ndarray of shape (n, n_classes), float32
    classes : sequence of str
    k : int

    Returns
    -------
    ndarray of shape (n, min(k, n_classes)), str
    """
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    texts = [
        [f"{row[code]:f}:{code}:{classes[code]}" for code in codes]
        for row, codes in zip(probabilities, best, strict=True)
    ]
    return np.array(texts)


def pack(tensor: Tensor) -> bytes:
    """A tensor as binary data."""
    if tensor.datatype == "FP32":
        return tensor.values.astype("<f4").tobytes()
    elements = [str(text).encode() for text in tensor.values.flat]
    return b"".join(LENGTH.pack(len(element)) + element for element in elements)


def described(tensor: Tensor, binary: bytes | None) -> dict[str, Any]:
    """A tensor's part of the answer's JSON, with its values, or the size of its binary data."""
    head = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.values.shape)}
    if binary is not None:
        return head | {"parameters": {"binary_data_size": len(binary)}}
    return head | {"data": tensor.values.ravel().tolist()}
