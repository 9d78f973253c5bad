import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from lib import provenance

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project of its own, in no repository yet."""
    folder = tmp_path / "project"
    (folder / "lib" / "plots").mkdir(parents=True)
    (folder / "lib" / "a.py").write_text("A = 1\n")
    (folder / "lib" / "plots" / "b.py").write_text("B = 1\n")
    monkeypatch.setattr(provenance, "PROJECT_ROOT", folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    return folder


def git(root, *arguments):
    command = ["git", "-C", str(root), *IDENTITY, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(root):
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def test_the_commit_is_named_and_marked_dirty_with_changes(repository):
    head = git(repository, "rev-parse", "HEAD")
    assert provenance.commit() == head[:10]
    (repository / "lib" / "a.py").write_text("A = 2\n")
    assert provenance.commit() == f"{head[:10]}-dirty"


def test_a_tag_does_not_hide_the_commit(repository):
    git(repository, "tag", "-a", "v1", "-m", "release")
    assert provenance.commit() == git(repository, "rev-parse", "HEAD")[:10]


def test_outside_git_and_without_git_the_commit_is_unknown(root, monkeypatch, tmp_path):
    assert provenance.commit() == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit() == "unknown"


def test_the_time_is_utc_to_the_second():
    now = provenance.utc_now()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", now)
    parsed = datetime.strptime(now, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - parsed).total_seconds()) < 60


def test_versions_are_those_of_this_interpreter():
    found = provenance.versions()
    assert found["python"] == sys.version.split()[0]
    assert found["numpy"] == importlib.metadata.version("numpy")


def test_a_package_that_is_not_there_says_so(monkeypatch, tmp_path):
    (tmp_path / "requirements.txt").write_text("numpy==0.0.1\nno-such-package-here==1.0\n")
    monkeypatch.setattr(provenance, "REQUIREMENTS", tmp_path / "requirements.txt")
    found = provenance.versions()
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert found["no-such-package-here"] == "not installed"
    monkeypatch.setattr(provenance, "REQUIREMENTS", tmp_path / "gone.txt")
    assert list(provenance.versions()) == ["python"]


def test_the_library_hash_by_hand(root):
    hashes = [(name, hashlib.sha256((root / name).read_bytes()).hexdigest()) for name in ("lib/a.py", "lib/plots/b.py")]
    text = "".join(f"{name} {sha}\n" for name, sha in hashes)
    assert provenance.library_hash() == hashlib.sha256(text.encode()).hexdigest()


def test_the_library_hash_follows_content_and_names_and_no_compiled_files(root):
    first = provenance.library_hash()
    (root / "lib" / "__pycache__").mkdir()
    (root / "lib" / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    (root / "notes.txt").write_text("outside lib")
    assert provenance.library_hash() == first
    (root / "lib" / "a.py").rename(root / "lib" / "c.py")
    renamed = provenance.library_hash()
    (root / "lib" / "c.py").write_text("A = 2\n")
    assert len({first, renamed, provenance.library_hash()}) == 3


def test_provenance_is_json_and_names_the_machine():
    facts = provenance.provenance()
    assert json.loads(json.dumps(facts)) == facts
    assert set(facts) == {"commit", "created", "device", "platform", "versions"}
    assert re.fullmatch(r"CPU, \d+ cores, .+", facts["device"])
    assert provenance.processor() in facts["device"]
