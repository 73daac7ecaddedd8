"""`pileus worker`: one replica. The fleet starts it; people do not."""


def worker() -> None:
    """Host one engine, as the specification on standard input says."""
    from pileus.bootstrap.worker import run_worker

    run_worker()
