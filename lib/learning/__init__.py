"""Learning in production: from labels that people gave to a new version that may serve.

`material` is what there is to learn from, `update` makes a version of it and judges it, `triggers` say when, `worker`
does it beside the service. `python -m lib.learning --help`.
"""

from lib.learning.material import Material, Sources, gather
from lib.learning.triggers import Triggers, due
from lib.learning.update import Outcome, compare_methods, make_update
from lib.learning.worker import Settings, decide, list_quarantined, read_state, remember, step, watch

__all__ = [
    "Material",
    "Outcome",
    "Settings",
    "Sources",
    "Triggers",
    "compare_methods",
    "decide",
    "due",
    "gather",
    "list_quarantined",
    "make_update",
    "read_state",
    "remember",
    "step",
    "watch",
]
