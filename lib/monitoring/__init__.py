"""Monitoring that can be believed: what the service saw, held against what its model was made from.

`windows` cuts the log, `baseline` is what windows are held against, `verdicts` says what each is, `survey` all of them;
`causes` and `suggestions` tell what has changed and what to look at, `trials` (on the images of `crossfit`) how far the
alarm can be believed;
`record` keeps what was found, `reporter` and `webhook` tell it. `python -m lib.monitoring --help`.
"""

from lib.monitoring.baseline import Baseline, Views, make_baseline
from lib.monitoring.causes import Causes, compare_looks, find_causes, window_looks
from lib.monitoring.record import MEANING, check_state, write_record
from lib.monitoring.suggestions import LABEL_COLUMNS, foreign_pairs, to_label, unknown_groups
from lib.monitoring.survey import Survey, accuracy_course, make_survey, summary, traffic_table, views_of
from lib.monitoring.trials import TRIAL_CAPTIONS, make_trials
from lib.monitoring.verdicts import MONTH
from lib.monitoring.windows import Span, Window, cut, labelled_by_class, read_window

__all__ = [
    "LABEL_COLUMNS",
    "MEANING",
    "MONTH",
    "TRIAL_CAPTIONS",
    "Baseline",
    "Causes",
    "Span",
    "Survey",
    "Views",
    "Window",
    "accuracy_course",
    "check_state",
    "compare_looks",
    "cut",
    "find_causes",
    "foreign_pairs",
    "labelled_by_class",
    "make_baseline",
    "make_survey",
    "make_trials",
    "read_window",
    "summary",
    "to_label",
    "traffic_table",
    "unknown_groups",
    "views_of",
    "window_looks",
    "write_record",
]
