"""Model versions and which of them serves. `python -m lib.registry --help` lists, promotes and rolls back.

`store` keeps them, `champions` says which one answers.
"""

from lib.registry.champions import DEPLOYMENT_FILE, champion, deployment, evaluated, promote, rollback
from lib.registry.store import (
    CARD_FILE,
    CHECKSUMS_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PREDICTIONS_FILE,
    REFERENCE_FILE,
    REQUIRED_FILES,
    RUNNER_UP_FILE,
    TRUSTED_TYPES,
    Version,
    add_evaluation,
    find,
    latest,
    models_dir,
    new_version_name,
    read_checksums,
    save,
    verify,
    versions,
)

__all__ = [
    "CARD_FILE",
    "CHECKSUMS_FILE",
    "DEPLOYMENT_FILE",
    "METRICS_FILE",
    "MODEL_FILE",
    "PREDICTIONS_FILE",
    "REFERENCE_FILE",
    "REQUIRED_FILES",
    "RUNNER_UP_FILE",
    "TRUSTED_TYPES",
    "Version",
    "add_evaluation",
    "champion",
    "deployment",
    "evaluated",
    "find",
    "latest",
    "models_dir",
    "new_version_name",
    "promote",
    "read_checksums",
    "rollback",
    "save",
    "verify",
    "versions",
]
