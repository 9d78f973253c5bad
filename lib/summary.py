"""A version in a sentence, and its card in lines, for people: the index of reports and the service's page."""

from lib.registry import Version


def headline(version: Version) -> str:
    """What an evaluated version is and how good it is."""
    test, card = version.metrics["test"], version.card
    apart, caveat = test.get("apart"), ""
    if apart and apart["accuracy"] and apart["n"] < test["n"]:
        score = interval(apart["accuracy"])
        caveat = f" Without the {test['n'] - apart['n']:,} that have a near copy in training it is {score}."
    return (
        f"{card['model']} on {card['backbone']['name']} is right on {interval(test['accuracy'])} of {test['n']:,} "
        f"test images in {len(card['classes'])} classes (version {version.name}).{caveat}"
    )


def interval(estimate: dict[str, float]) -> str:
    """A score as per cent with its interval."""
    return f"{100 * estimate['value']:.1f} % ({100 * estimate['low']:.1f} to {100 * estimate['high']:.1f})"


def lineage_lines(lineage: dict) -> list[tuple[str, str]]:
    """What an update was made from, and the rules it was held to, as names and texts."""
    added = ", ".join(f"{n} {label}" for label, n in lineage["added"].items())
    rules = [f"{row['rule']}: {row['value']}{'' if row['passed'] else ' (FAILED)'}" for row in lineage["gate"]]
    return [
        ("made from", f"{lineage['parent']}, {lineage['method']}, set off by: {lineage['why']}"),
        ("labels from production", f"{added}; {lineage['n_held_back']} held back"),
        ("new classes", ", ".join(lineage["new_classes"]) or "none"),
        ("gate", "; ".join(rules)),
    ]


def card_lines(card: dict) -> list[tuple[str, str]]:
    """A model card as names and texts."""
    backbone, data, lineage = card["backbone"], card["data"], card.get("lineage")
    return [
        ("model", card["model"]),
        ("why this one", card["selection"]),
        ("backbone", f"{backbone['name']}: {backbone['reason']}"),
        ("precision", backbone.get("precision_reason", "fp32")),
        ("classes", ", ".join(card["classes"])),
        ("trained on", f"{data['n']['train']:,} images; data SHA-256 {data['hash'][:12]}"),
        *(lineage_lines(lineage) if lineage else ()),
        ("temperature", f"{card['temperature']:.3f} (fitted on out-of-fold predictions)"),
        ("seed", str(card["seed"])),
        ("intended use", card["intended_use"]),
        ("limits", card["limits"]),
        ("commit", card["provenance"]["commit"]),
        ("created", card["provenance"]["created"]),
    ]
