"""A template of this folder -> an HTML output."""

from pathlib import Path
from typing import Any

from IPython.display import HTML, display
from jinja2 import Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).resolve().parent


def show(template: str, **values: Any) -> None:
    """Show a template; text in `values` is escaped, `markupsafe.Markup` is not."""
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    display(HTML(environment.get_template(template).render(values)))
