"""Executed notebooks as HTML pages, and the index over all tasks. Nothing on a page is loaded from outside."""

from lib.reports.index import headline, write_index
from lib.reports.page import publish

__all__ = ["headline", "publish", "write_index"]
