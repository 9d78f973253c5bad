"""What the service answered and what people said to it, kept so that nothing acknowledged is lost.

`schema` says what a row is, `writer` makes rows durable, `images` keeps the pictures, `log` puts them together;
`outcomes` and `reading` read beside the service; `backup` copies it all, `python -m lib.production --help`.
"""

from lib.production.images import ImageStore
from lib.production.log import Feedback, Logged, ProductionLog, ProductionLogs
from lib.production.outcomes import Outcomes, read_outcomes
from lib.production.schema import LOG_URL, connect_to, default_url, feedback, predictions

__all__ = [
    "LOG_URL",
    "Feedback",
    "ImageStore",
    "Logged",
    "Outcomes",
    "ProductionLog",
    "ProductionLogs",
    "connect_to",
    "default_url",
    "feedback",
    "predictions",
    "read_outcomes",
]
