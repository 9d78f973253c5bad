"""Figures to touch: each is one HTML output with its own small script or none, working without network and server.

Below every one lies what those see who have no script, no pointer or a sheet of paper: a picture and a table.
"""

from lib.interactive.confusion import show_confusion
from lib.interactive.map import show_map

__all__ = ["show_confusion", "show_map"]
