"""What training reads."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from pileus.data.shards import MANIFEST, Manifest, Shard, ShardReader, permuted

END = 0
DOCUMENTS = [[[*list(range(1, size)), END] for size in sizes] for sizes in ((5, 9, 3), (30,), (2, 8))]


def dataset(folder: Path, width: int = 2) -> Path:
    shards = []
    for number, documents in enumerate(DOCUMENTS):
        tokens = [token for document in documents for token in document]
        np.array(tokens, f"<u{width}").tofile(folder / f"train-{number}.tokens")
        np.cumsum([len(document) for document in documents]).astype("<u8").tofile(folder / f"train-{number}.ends")
        shards.append(Shard(name=f"train-{number}", tokens=len(tokens), documents=len(documents), sha256=""))
    manifest = Manifest(
        id="dataset-x", width=width, vocabulary=50, end_of_text=END, special_tokens={}, splits={"train": shards}
    )
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return folder


ALL = [token for documents in DOCUMENTS for document in documents for token in document]


@pytest.mark.parametrize("width", [2, 4])
def test_documents_and_spans_are_what_was_written(tmp_path: Path, width: int) -> None:
    reader = ShardReader(dataset(tmp_path, width))
    assert (reader.tokens, reader.documents) == (len(ALL), 6)
    assert [document.tolist() for document in reader.each_document()] == [d for shard in DOCUMENTS for d in shard]
    assert reader.span(0, len(ALL)).tolist() == ALL
    assert reader.span(15, 20).tolist() == ALL[15:35]  # over two ends


def test_an_epoch_has_each_window_once_and_the_next_another_order(tmp_path: Path) -> None:
    reader = ShardReader(dataset(tmp_path))
    count = reader.windows(4)
    assert count == len(ALL) // 4
    rows = [reader.batch(7, step, 1, 4)[0].tolist() for step in range(2 * count)]
    windows = sorted(ALL[begin : begin + 4] for begin in range(0, 4 * count, 4))
    assert sorted(rows[:count]) == sorted(rows[count:]) == windows
    assert rows[:count] != rows[count:]


def test_a_batch_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    reader, other = ShardReader(dataset(tmp_path)), ShardReader(tmp_path)
    for step in (5, 0, 3):
        assert (reader.batch(1, step, 3, 5) == other.batch(1, step, 3, 5)).all()
    assert (reader.batch(1, 0, 6, 5)[3:] == reader.batch(1, 1, 3, 5)).all()
    assert any((reader.batch(1, step, 3, 5) != reader.batch(2, step, 3, 5)).any() for step in range(3))
    assert reader.batch(1, 0, 3, 5).shape == (3, 5)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 1000])
def test_a_permutation_has_each_number_once(count: int) -> None:
    assert sorted(permuted(place, count, 3, 1) for place in range(count)) == list(range(count))


def test_the_permutation_is_the_same_for_ever() -> None:
    assert [permuted(place, 1000, 42, 0) for place in range(5)] == [63, 364, 127, 906, 102]


def test_what_is_not_as_it_was_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no split 'test'"):
        ShardReader(dataset(tmp_path), "test")
    with pytest.raises(ValueError, match="less than one window"):
        ShardReader(tmp_path).batch(0, 0, 1, 1000)
    (tmp_path / "train-1.tokens").write_bytes(b"\0\0")
    with pytest.raises(ValueError, match="not as it was made"):
        ShardReader(tmp_path)
