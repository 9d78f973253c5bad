"""The few exceptions callers may catch. Each carries one sentence: what came, what is allowed, what to do."""


class ProjectError(Exception):
    """Base of all errors that a user can act on."""


class DataError(ProjectError):
    """The data folder, manifest or dataset name cannot be used as it is."""


class ImageError(ProjectError):
    """One image is refused.

    Parameters
    ----------
    message : str
        The reason, without the file's name.
    kind : {"empty", "unsupported", "broken", "too_large"}
        What is wrong, for callers that answer by kind.
    """

    def __init__(self, message: str, kind: str):
        super().__init__(message)
        self.kind = kind


class BackboneError(ProjectError):
    """A backbone or its weights cannot be had or do not fit."""


class ParameterError(ProjectError):
    """A notebook parameter is unknown or has the wrong type or value."""


class ArtifactError(ProjectError):
    """A stored artifact is missing, damaged or does not fit."""


class ChangedError(ArtifactError):
    """A model cannot be brought up to date, for what it was trained on is not what there is now."""


class UnknownTaskError(ProjectError):
    """A service is asked for a task it does not answer for."""


class OverloadedError(ProjectError):
    """There is more work than is taken on at once."""


class DeadlineError(ProjectError):
    """Work took longer than it may."""


class LogError(ProjectError):
    """The production log could not be written."""


class FeedbackError(ProjectError):
    """Feedback that cannot be kept as it came.

    Parameters
    ----------
    message : str
    kind : {"unknown", "reused"}
        There is no such prediction; its Idempotency-Key came with other feedback before.
    """

    def __init__(self, message: str, kind: str):
        super().__init__(message)
        self.kind = kind


class DiskFullError(ProjectError):
    """There is no room to write; what was written before is whole."""


class EngineError(ProjectError):
    """The machines that were to do the work did not."""


class LockedError(ProjectError):
    """Another run works on the same task."""


class StageError(ProjectError):
    """A notebook failed."""


class AlarmError(ProjectError):
    """What is monitored is in a state on which the one who asked wants to fail."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
