"""Durable jobs: a lease and a checkpoint. The room knows no kind of job; what a kind does is its handler's.

The owner of the data folder keeps every job (`service`), by the rules of `machine`, and hands leases to worker
processes (`desk`), which it starts and ends (`processes`). A worker runs handlers (`worker`) and tells how far they
are (`wire`). Whatever is killed, the next lease goes on from the last checkpoint, and what an earlier holder says
after that counts for nothing.
"""
