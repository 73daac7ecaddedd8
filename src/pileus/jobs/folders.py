"""What jobs leave on disk: a folder each, and what of it stays."""

from collections.abc import Collection, Iterable
from pathlib import Path
from shutil import rmtree

from pileus.observability.events import get_log

log = get_log(__name__)


class JobFolders:
    """One folder for each job, under its id. What cannot be deleted stays until the next time. All of it blocks."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, job_id: str) -> Path:
        """The job's own."""
        return self._root / job_id

    def delete(self, job_ids: Iterable[str]) -> None:
        """With all that is in them."""
        for job_id in job_ids:
            rmtree(self.of(job_id), ignore_errors=True)

    def delete_others(self, known: Collection[str]) -> None:
        """All but those of these jobs."""
        if self._root.is_dir():
            self.delete(folder.name for folder in self._root.iterdir() if folder.name not in known)

    def strip(self, spent: Iterable[tuple[str, Collection[str]]]) -> None:
        """Delete what nobody needs of jobs that have ended for good: all but what has these names."""
        for job_id, lasting in spent:
            self._strip(job_id, lasting)

    def _strip(self, job_id: str, lasting: Collection[str]) -> None:
        folder = self.of(job_id)
        try:
            gone = [path for path in folder.iterdir() if path.name not in lasting] if folder.is_dir() else []
            for path in gone:
                if path.is_dir() and not path.is_symlink():
                    rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("jobs.folder_stays", job=job_id, reason=str(error))
