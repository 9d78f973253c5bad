"""How far, how fast and how long still: the bar that long work shows in a terminal and in a notebook."""

from collections.abc import Callable, Iterable

Progress = Callable[[Iterable, int, str], Iterable]


def progress_bar(items: Iterable, total: int, description: str) -> Iterable:
    """Wrap an iterable of `total` items in a bar; a line at most twice a second.

    What is counted follows a comma in the description ("logistic regression, paths"); images where there is none.
    """
    from tqdm import tqdm  # here, for the service does without it

    what, _, unit = description.partition(", ")
    return tqdm(items, total=total, desc=what, unit=f" {unit or 'images'}", mininterval=0.5, smoothing=0.1)


def quiet(items: Iterable, total: int, description: str) -> Iterable:
    """Progress that shows nothing."""
    return items
