"""What a version changed against the one before it, and what that did to the answers on the same test images."""

from lib.metrics import compare_paired
from lib.registry import PREDICTIONS_FILE, Version
from lib.storage import read_table


def changes(card: dict, before: dict) -> list[str]:
    """What differs between two versions' cards, in words; nothing where the same was trained again."""
    found = []
    images, earlier = sum(card["data"]["n"].values()), sum(before["data"]["n"].values())
    if card["data"]["hash"] != before["data"]["hash"]:
        more = f"{images - earlier:+,} images" if images != earlier else "same number of images"
        found.append(f"data or split ({more})")
    if card["classes"] != before["classes"]:
        new, gone = set(card["classes"]) - set(before["classes"]), set(before["classes"]) - set(card["classes"])
        found += [f"class {label} is new" for label in sorted(new)] + [
            f"class {label} is gone" for label in sorted(gone)
        ]
    n, n_before = (sum(one.get("lineage", {}).get("added", {}).values()) for one in (card, before))
    if n != n_before:
        found.append(f"images from production: {n_before:,} → {n:,}")
    for name, value, old in (
        ("backbone", card["backbone"]["fingerprint"], before["backbone"]["fingerprint"]),
        ("seed", card["seed"], before["seed"]),
        ("folds", card.get("n_folds"), before.get("n_folds")),  # cards of 0.1 did not tell
        ("model", card["model"], before["model"]),
        ("code", card["provenance"]["commit"][:10], before["provenance"]["commit"][:10]),
    ):
        if value != old and None not in (value, old):
            found.append(f"{name}: {old} → {value}")
    return found


def effect(version: Version, before: Version) -> str:
    """The accuracy difference on the test images that both versions were scored on, so that neither was trained on.

    "" where one has not been evaluated.
    """
    paths = [one.folder / PREDICTIONS_FILE for one in (version, before)]
    if not all(path.exists() for path in paths):
        return ""
    tables = (read_table(path, text=["sha256", "label", "predicted"]) for path in paths)
    own, other = (table.drop_duplicates("sha256").set_index("sha256") for table in tables)
    shared = own.index.intersection(other.index)
    shared = shared[(own.loc[shared, "label"] == other.loc[shared, "label"]).to_numpy()]
    if not len(shared):
        return "no test image in common"
    true, first, second = (
        table.loc[shared, column].to_numpy()
        for table, column in ((own, "label"), (own, "predicted"), (other, "predicted"))
    )
    gap = compare_paired(true, first, second).difference
    return f"{gap.points()} on {len(shared):,} images that both were tested on"
