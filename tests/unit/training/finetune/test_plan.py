"""What `auto` comes to, which examples a step takes, and what the log says of it."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from pileus.jobs.metrics import MetricPoint
from pileus.training.finetune.batching import epoch_batches
from pileus.training.finetune.plan import plan_of, rate_at
from pileus.training.finetune.records import Wishes
from pileus.training.finetune.table import metrics_table
from pileus.training.finetune.tickets import CODES, tickets
from pileus.training.finetune.told import step_line, step_of_line


def test_auto_follows_from_how_much_there_is() -> None:
    few, many = plan_of(Wishes(), 10, 8192), plan_of(Wishes(), 100_000, 512)
    assert (few.n_epochs, few.batch_size, few.max_length) == (10, 1, 2048)
    assert (many.n_epochs, many.batch_size, many.max_length) == (1, 8, 512)
    asked = plan_of(Wishes(n_epochs=3, batch_size=64, rank=4), 20, 8192)
    assert (asked.n_epochs, asked.batch_size, asked.rank, asked.alpha) == (3, 20, 4, 8.0)


@given(st.integers(1, 500))
def test_the_rate_rises_and_falls_and_is_never_nothing(steps: int) -> None:
    rates = [rate_at(step, steps) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_takes_each_example_once(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(lengths, size, seed, epoch)
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size)
    assert batches == epoch_batches(lengths, size, seed, epoch)


def test_examples_of_a_batch_are_about_as_long() -> None:
    lengths = [10] * 40 + [1000] * 40
    for batch in epoch_batches(lengths, 8, 1, 0):
        assert len({lengths[place] for place in batch}) == 1
    assert epoch_batches(lengths, 8, 1, 0) != epoch_batches(lengths, 8, 1, 1)


def test_a_line_of_a_step_is_read_again() -> None:
    assert step_of_line(step_line(3, 20, {"train_loss": 0.5})) == 3
    assert step_of_line("files validated: 3/20: good") is None


def test_the_table_has_a_row_a_step_and_empty_cells() -> None:
    rows = (
        metrics_table([MetricPoint(1, 0.0, {"train_loss": 0.5}), MetricPoint(2, 0.0, {"valid_loss": 0.25})])
        .decode()
        .split()
    )
    assert rows[0].startswith("step,train_loss,train_accuracy,valid_loss,")
    assert rows[1].startswith("1,0.5,,,")
    assert rows[2].startswith("2,,,0.25,")


def test_tickets_are_repeatable_even_and_never_both_learnt_and_tested() -> None:
    learnt, tested = tickets(1, 120), tickets(1, 120, held_out=True)
    assert learnt == tickets(1, 120)
    assert learnt != tickets(2, 120)
    assert {code: sum(each.code == code for each in tested) for code in CODES} == dict.fromkeys(CODES, 20)
    assert not {each.text for each in learnt} & {each.text for each in tested}
