"""Write the lock files of the images anew: every package with the hashes of its files, from the pins in requirements.

Run by hand when a pin changes: pip install pip-tools==7.6.2, then python deploy/lock.py. torch is not in them: the
image takes the build for processors from PyTorch's own index, which PyPI does not have. Run it with the oldest Python
that an image may have, Debian bookworm's 3.11.2: packages that need a newer one are not chosen then.
"""

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LOCKS = {
    "serve.lock": "requirements-serve.txt",
    "reporting.lock": "requirements-reporting.txt",
    "pipeline.lock": "requirements.txt",
}
COMPILE = ["pip-compile", "--quiet", "--generate-hashes", "--strip-extras", "--allow-unsafe", "--no-annotate",
           "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"]  # fmt: skip
LEFT_OUT = re.compile(r"(#|(torch|torchvision|triton|nvidia-[\w-]+|cuda-[\w-]+)==)")


def flat(path: Path) -> list[str]:
    """Lines of a requirements file with those of the files it includes, without the project itself."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"-r\s+(\S+)", line):
            lines += flat(path.parent / match[1])
        elif not line.startswith(("-e", "#")) and line.strip():
            lines.append(line)
    return lines


def without_torch(lock: str) -> str:
    """A lock without comments and the packages that come from another index, or only with torch's build for GPUs."""
    return "".join(entry for entry in re.split(r"(?m)^(?=\S)", lock) if not LEFT_OUT.match(entry))


def main() -> int:
    """Write all lock files; 1 if pip-tools is missing or finds no versions that go together."""
    for name, requirements in LOCKS.items():
        found = subprocess.run(
            [*COMPILE, "--output-file", "-", "-"],
            input="\n".join(flat(FOLDER.parent / requirements)), stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if found.returncode:
            return 1
        head = f"# Made by deploy/lock.py from {requirements}; torch apart.\n"
        (FOLDER / name).write_text(head + without_torch(found.stdout), encoding="utf-8")
        print(f"{name}: {found.stdout.count('==')} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
