"""The style sheet that reports and the service's pages share."""

from pathlib import Path


def stylesheet() -> str:
    """Its text."""
    return Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
