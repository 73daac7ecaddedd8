"""`pileus gateway`: one more gateway process. The server starts it; people do not."""


def gateway() -> None:
    """Take requests for a server, as the specification on standard input says."""
    from pileus.bootstrap.gateway import run_gateway

    run_gateway()
