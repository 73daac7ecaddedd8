"""Tells people's servers what happened here, in the form of the Standard Webhooks specification.

What ends a job also queues the deliveries of that news (`service`), in the same transaction: neither is without the
other. A delivery is a job of its own, which a worker process tries until the receiver has it (`delivery`), at addresses
that were checked first (`addresses`), with a signature that the receiver can check (`signing`).
"""
