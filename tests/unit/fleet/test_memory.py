"""The estimate, and its arithmetic in one line."""

from pileus.fleet.memory import Footprint, shortage

SMALL = Footprint(weights=145_000_000, kv=1_073_741_824)


def test_what_fits_is_placed() -> None:
    assert shortage("chat", 2, SMALL, 2_437_483_648) == ""


def test_what_does_not_fit_is_refused_with_the_arithmetic() -> None:
    assert shortage("chat", 2, SMALL, 2_437_483_647) == (
        "chat does not fit: 2 x (145 MB of weights + 1.07 GB of KV cache) = 2.44 GB, "
        "and 2.44 GB of memory are available"
    )
    assert shortage("chat", 1, SMALL, 0) == (
        "chat does not fit: 145 MB of weights + 1.07 GB of KV cache = 1.22 GB, and 0 MB of memory are available"
    )


def test_what_is_not_known_is_not_counted() -> None:
    assert shortage("chat", 64, Footprint(), 0) == ""
