"""Whether this interpreter has what a requirements file asks for. Run as a script, before anything is installed."""

import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def pins(path: Path) -> dict[str, str]:
    """Name -> version that a requirements file pins, with the files it includes."""
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"-r\s+(\S+)", line):
            found |= pins(path.parent / match[1])
        elif match := re.match(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*==\s*([^\s#;]+)", line):
            found[match[1]] = match[2]
    return found


def lacking(path: Path) -> list[str]:
    """What is missing or of another version, a phrase each; a local label such as +cpu does not matter."""
    problems = []
    for name, wanted in pins(path).items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{name} is missing")
            continue
        if wanted not in (version, version.split("+")[0]):
            problems.append(f"{name} is {version}, not {wanted}")
    spec = importlib.util.find_spec("lib")
    if spec is None or spec.origin is None or Path(spec.origin).resolve().parent != ROOT / "lib":
        problems.append("lib is not importable from everywhere")
    return problems


if __name__ == "__main__":
    problems = lacking(ROOT / (sys.argv[1] if len(sys.argv) > 1 else "requirements.txt"))
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        print("; ".join(problems[:3]) + more)
    sys.exit(bool(problems))
