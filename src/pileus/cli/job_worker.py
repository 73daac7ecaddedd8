"""`pileus job-worker`: one more worker for jobs. The server starts it; people do not."""


def job_worker() -> None:
    """Work on jobs of a server, as the specification on standard input says."""
    from pileus.bootstrap.job_worker import run_job_worker

    run_job_worker()
