"""Documents out of files of each format, and what is told of those that cannot be read."""

import gzip
import io
import json
from pathlib import Path

import pytest

from pileus.core.errors import OperatorError
from pileus.data.inputs import Slice, find, format_of, pieces
from pileus.data.lines import lines
from pileus.data.readers import BY_FILE, BY_LINE, BY_PARAGRAPH, read
from pileus.data.records import Bad, Document, Record

PAGE = """<html><head><title>t</title></head><body><nav>Home | About | Contact</nav><article><h1>On rivers</h1>
<p>The river runs through a wide valley, and its water is cold even in summer, when the snow on the hills is gone.</p>
<p>People who live there have fields of wheat, with long walls that their fathers built to keep the sheep out.</p>
</article><footer>Copyright nobody. Cookie settings.</footer></body></html>"""


def records(path: Path, documents: str = BY_FILE, piece_bytes: int = 1 << 25, field: str = "text") -> list[Record]:
    found, _ = find([str(path)])
    return [record for piece in pieces(found, piece_bytes) for part in piece for record in read(part, field, documents)]


def texts(found: list[Record]) -> list[str]:
    return [record.text for record in found if isinstance(record, Document)]


def bad(found: list[Record]) -> list[tuple[str, str]]:
    return [(record.place, record.reason) for record in found if isinstance(record, Bad)]


def test_plain_text_is_one_document_or_many(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n\n\nthree\n")
    assert texts(records(path)) == ["one\ntwo\n\n\nthree\n"]
    assert texts(records(path, BY_PARAGRAPH)) == ["one\ntwo\n", "three\n"]
    assert texts(records(path, BY_LINE)) == ["one\n", "two\n", "three\n"]


def test_a_large_text_is_cut_at_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    paragraph = "word " * 200
    path.write_text("\n\n".join(f"{number} {paragraph}" for number in range(2000)))
    found = texts(records(path, piece_bytes=1 << 20))
    assert "".join(found).split() == path.read_text().split()
    assert len(found) > 50
    assert all(document[0].isdigit() for document in found[1:20])


@pytest.mark.parametrize("piece_bytes", [1 << 25, 5000, 1])
def test_each_line_is_read_once_however_a_file_is_divided(tmp_path: Path, piece_bytes: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"{number} " * (number % 9 + 1)}) + "\n" for number in range(300)))
    assert [int(text.split()[0]) for text in texts(records(path, piece_bytes=piece_bytes))] == list(range(300))


def test_a_bad_line_is_told_with_its_number_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": 5}\nnonsense\n\n{"other": "x"}\n{"text": "b"}\n["c"]\n{"text": " "}\n')
    for piece_bytes in (1 << 25, 20):
        found = records(path, piece_bytes=piece_bytes)
        assert texts(found) == ["a", "b"]
        assert bad(found) == [
            (f"{path}, line 2", "there is no text in 'text'"),
            (f"{path}, line 3", "is no JSON object"),
            (f"{path}, line 5", "there is no field 'text'"),
            (f"{path}, line 7", "is no JSON object"),
            (f"{path}, line 8", "'text' is empty"),
        ]


def test_json_in_another_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "数据清洗很重要"}\n'.encode("gb18030"))
    assert texts(records(path)) == ["数据清洗很重要"]


def test_packed_files_are_unpacked_and_damaged_ones_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b"".join(b'{"text": "%d"}\n' % number for number in range(20_000)))
    path.write_bytes(whole)
    assert len(texts(records(path))) == 20_000
    path.write_bytes(whole[: len(whole) // 2])
    found = records(path)
    assert 0 < len(texts(found)) < 20_000
    assert [place for place, _ in bad(found)] == [str(path)]


def test_tables_are_read_by_their_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,"first\nline"\n2,second,extra\n3,third\n')
    found = records(path)
    assert texts(found) == ["first\nline", "third"]
    assert bad(found) == [(f"{path}, line 4", "the row has 3 columns of 2")]
    assert bad(records(path, field="body")) == [(f"{path}, line 1", "there is no column 'body', but id, text")]


def test_a_table_is_divided_by_its_own_name_and_not_its_folder_s(tmp_path: Path) -> None:
    (tmp_path / "my.tsv.files").mkdir()
    path = tmp_path / "my.tsv.files" / "a.csv"
    path.write_text("text,other\none,two\n")
    assert texts(records(path)) == ["one"]


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the `data` extra is not installed: `make extras`")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", None, "b"], "x": [1, 2, 3]}), path)
    found = records(path)
    assert texts(found) == ["a", "b"]
    assert bad(found) == [(f"{path}, row 2", "there is no text in 'text'")]
    path.write_bytes(b"PAR1 nothing")
    assert "no Parquet file" in bad(records(path))[0][1]


def test_pages_are_read_without_what_surrounds_them(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura", reason="the `data` extra is not installed: `make extras`")
    (tmp_path / "a.html").write_text(PAGE)
    (tmp_path / "b.html").write_text("<html><body></body></html>")
    found = records(tmp_path)
    (text,) = texts(found)
    assert "wide valley" in text
    assert "Cookie" not in text
    assert "About" not in text
    assert bad(found) == [(str(tmp_path / "b.html"), "the page has no text")]
    (tmp_path / "c.html").write_bytes(bytes(range(256)) * 40 + b"<p>" * 20_000)
    assert len(records(tmp_path / "c.html")) == 1  # whatever it is taken for


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the writer leaves its files open
def test_archives_of_the_web_are_read(tmp_path: Path) -> None:
    pytest.importorskip("warcio", reason="the `data` extra is not installed: `make extras`")
    pytest.importorskip("trafilatura", reason="the `data` extra is not installed: `make extras`")
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    path = tmp_path / "a.warc.gz"
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        for number, (kind, body) in enumerate([("text/html", PAGE), ("image/png", "x"), ("text/plain", "plain")]):
            headers = StatusAndHeaders("200 OK", [("Content-Type", kind)], protocol="HTTP/1.0")
            writer.write_record(
                writer.create_warc_record(
                    f"http://example.com/{number}", "response", io.BytesIO(body.encode()), http_headers=headers
                )
            )
    found = records(path)
    first, second = texts(found)
    assert "wide valley" in first
    assert second == "plain"
    assert next(record.place for record in found if isinstance(record, Document)) == f"{path}, http://example.com/0"


def test_inputs_are_files_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.txt", "a.jsonl", "sub/c.md.gz", "sub/d.bin", "e"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    known, others = find([str(tmp_path / "b.txt"), str(tmp_path)])
    assert [path.name for path in known] == ["b.txt", "a.jsonl", "c.md.gz"]
    assert [path.name for path in others] == ["e", "d.bin"]
    assert [path.name for path in find([str(tmp_path / "**" / "*.md.gz")])[0]] == ["c.md.gz"]
    assert find([str(tmp_path / "e")])[0] == [tmp_path / "e"]  # named by itself, it is text
    with pytest.raises(OperatorError, match="there is no"):
        find([str(tmp_path / "nothing")])


def test_small_files_go_together_and_packed_ones_stay_whole(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text("x" * 30)
    (tmp_path / "z.txt.gz").write_bytes(b"x" * 500)
    made = pieces(find([str(tmp_path)])[0], 100)
    assert [len(piece) for piece in made] == [3, 3, 3, 1, 1]
    assert format_of(Path("A.TXT.GZ")) == "text"


def test_a_line_that_is_too_long_is_told_and_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pileus.data.lines.MAX_RECORD_BYTES", 100)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "' + "x" * 1000 + '"}\n{"text": "b"}\n')
    assert [line for _, line in lines(Slice(str(path), "jsonl", 0, path.stat().st_size))] == [b"", b'{"text": "b"}\n']
    assert texts(records(path)) == ["b"]
