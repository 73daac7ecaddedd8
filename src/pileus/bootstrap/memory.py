"""What a process does about its memory once it is up."""

import gc


def settle() -> None:
    """Have the garbage collector look no more at what is there now: modules, routes and settings live as long as the
    process. A full collection, in the middle of serving, takes 26 ms with them and next to nothing without."""
    gc.collect()
    gc.freeze()
