"""What a file may be called, be for, and how long it may stay."""

from typing import Final, Literal, get_args

from pileus.core.errors import InvalidRequest

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
PURPOSES: Final[tuple[str, ...]] = get_args(Purpose)
MADE_PURPOSES: Final = ("batch_output", "fine-tune-results")  # of files that only the server makes

MOST_UPLOAD_BYTES: Final = 8 * 1024**3
MOST_PART_BYTES: Final = 64 * 1024**2
MOST_PARTS: Final = 10_000  # of an upload
UPLOAD_S: Final = 3600.0  # how long parts are taken
LEAST_EXPIRY_S: Final = 3600
MOST_EXPIRY_S: Final = 30 * 86_400
BATCH_EXPIRY_S: Final = float(MOST_EXPIRY_S)  # of inputs for batches that say nothing else

_FILENAME_LIMIT: Final = 255  # characters


def checked_filename(text: str) -> str:
    """A label, of which no path is ever made; what looks like a path, or would upset a terminal, is none."""
    if not 1 <= len(text) <= _FILENAME_LIMIT or not text.isprintable() or not text.strip():
        raise InvalidRequest(f"`filename` should be 1 to {_FILENAME_LIMIT} printable characters", param="filename")
    if "/" in text or "\\" in text or text in (".", ".."):
        raise InvalidRequest("`filename` should be a name, not a path", param="filename")
    return text


def checked_purpose(text: str) -> str:
    """One that people may give to a file."""
    if text not in PURPOSES:
        raise InvalidRequest(f"`purpose` should be one of {', '.join(PURPOSES)}", param="purpose")
    return text


def expires_at(purpose: str, after_s: float | None, now: float) -> float | None:
    """When a file that is stored now goes; None is never."""
    if after_s is None:
        return now + BATCH_EXPIRY_S if purpose == "batch" else None
    return now + after_s
