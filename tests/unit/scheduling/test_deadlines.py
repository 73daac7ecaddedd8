"""What is kept of those that waited."""

import gc
import weakref

from pileus.core.records import Lane
from pileus.scheduling.admission import AdmissionQueue
from pileus.scheduling.bounds import Bounds


class Item:
    tenant = "t"
    lane = Lane.BATCH
    priority = 0
    prompt_tokens = choices = max_answer_tokens = 1
    due: float | None = 86_400.0


def test_what_has_left_the_queue_is_forgotten_long_before_its_deadline() -> None:
    queue: AdmissionQueue[Item] = AdmissionQueue(Bounds(1000, 10**6, 60, 60))
    refs: list[weakref.ref[Item]] = []
    for second in range(1000):
        item = Item()
        refs.append(weakref.ref(item))
        queue.offer(item, float(second))
        queue.take(item, float(second))
        queue.served(item, 1, float(second))
        del item
    gc.collect()
    assert sum(ref() is not None for ref in refs) <= 100


def test_a_tenant_that_never_stops_waiting_does_not_keep_what_it_withdrew() -> None:
    queue: AdmissionQueue[Item] = AdmissionQueue(Bounds(1000, 10**6, 60, 60))
    stays = Item()
    queue.offer(stays, 0.0)
    refs: list[weakref.ref[Item]] = []
    for _ in range(1000):
        item = Item()
        refs.append(weakref.ref(item))
        queue.offer(item, 0.0)
        queue.withdraw(item)
        del item
    gc.collect()
    assert queue.head(0.0) is stays
    assert sum(ref() is not None for ref in refs) <= 100
