"""Settings that the environment gives, by themselves or, as secrets of containers come, as the content of a file."""

import os
from pathlib import Path

from lib.errors import ParameterError


def is_set(name: str) -> bool:
    """Whether the environment gives a setting, be it an empty one."""
    return name in os.environ or bool(os.environ.get(f"{name}_FILE"))


def read_setting(name: str) -> str:
    """Value of the variable `name`, or the content of the file that `name`_FILE names; "" where neither is set.

    Raises
    ------
    ParameterError
        If the file cannot be read.
    """
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name, "").strip()
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{name}_FILE names {path}, which cannot be read: {error}") from None
