"""What tells two versions apart, for a person who has to decide between them."""

from typing import Any

from lib.registry.store import Version


def differences(first: Version, second: Version) -> list[tuple[str, str, str]]:
    """(what, of the first, of the second) of everything that differs; of scores also what does not."""
    one, other = _facts(first), _facts(second)
    rows = [(name, one.get(name, ""), other.get(name, "")) for name in one | other]
    return [row for row in rows if row[1] != row[2] or row[0] in ("accuracy", "macro-F1")]


def _facts(version: Version) -> dict[str, str]:
    """A version as names and texts."""
    card, test, lineage = version.card, version.metrics.get("test", {}), version.lineage
    facts = {
        "model": card.get("model"),
        "backbone": card.get("backbone", {}).get("export"),
        "classes": ", ".join(card.get("classes", [])),
        "data": card.get("data", {}).get("hash", "")[:12],
        "trained on": f"{card['n_train']:,} images" if "n_train" in card else "",
        "temperature": _number(card.get("temperature")),
        "parent": lineage.get("parent", ""),
        "method": lineage.get("method", "trained"),
        "added": ", ".join(f"{label} {n}" for label, n in lineage.get("added", {}).items()),
        "accuracy": _score(test.get("accuracy")),
        "macro-F1": _score(test.get("macro_f1")),
    }
    recalls = {f"recall of {label}": _number(row.get("recall")) for label, row in test.get("classes", {}).items()}
    return {name: str(value or "") for name, value in (facts | recalls).items()}


def _score(estimate: Any) -> str:
    """A score with its interval."""
    if not isinstance(estimate, dict) or "low" not in estimate:
        return ""
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _number(value: Any) -> str:
    """A number to three digits."""
    return f"{value:.3f}" if isinstance(value, int | float) else ""
