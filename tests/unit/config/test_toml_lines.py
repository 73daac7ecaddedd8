"""The locator against a plain model: write a document, remember where each key was put."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from pileus.config.toml_lines import key_paths, locate


def test_keys_of_tables_arrays_of_tables_and_inline_tables_have_their_lines() -> None:
    text = """\
top = 1
# a comment

[a]
x = { y = 1, "z.z" = [1, 2] }

[[b]]
k = [
  1, # one
  2,
]
[b.c]
d = 'x'
[[b]]
[[b.e]]
f.g = '''
[not.a.table]
k = 1
'''
"""
    lines = locate(text)
    assert lines == {
        ("top",): 1,
        ("a",): 4,
        ("a", "x"): 5,
        ("a", "x", "y"): 5,
        ("a", "x", "z.z"): 5,
        ("a", "x", "z.z", 0): 5,
        ("a", "x", "z.z", 1): 5,
        ("b", 0): 7,
        ("b", 0, "k"): 8,
        ("b", 0, "k", 0): 8,
        ("b", 0, "k", 1): 8,
        ("b", 0, "c"): 12,
        ("b", 0, "c", "d"): 13,
        ("b", 1): 14,
        ("b", 1, "e", 0): 15,
        ("b", 1, "e", 0, "f"): 16,
        ("b", 1, "e", 0, "f", "g"): 16,
    }


def test_line_endings_of_windows_do_not_shift_lines() -> None:
    assert locate('a = 1\r\nb = """\r\nx"""\r\nc = 2') == {("a",): 1, ("b",): 2, ("c",): 4}


values = st.sampled_from(["1", '"x"', "[\n 1,\n 2,\n]", '"""\n[t]\nk = 1\n"""', "{ p = 1, q = [true] }", "'a#b' # c"])
between = st.sampled_from(["", "\n", "# [x]\n", "\n  # k = 1\n\n"])


@given(st.lists(st.tuples(between, st.booleans(), st.sampled_from("abc"), st.lists(values, max_size=3)), max_size=5))
def test_every_key_of_a_document_is_found_on_the_line_where_it_was_written(
    tables: list[tuple[str, bool, str, list[str]]],
) -> None:
    text, expected = "", {}
    seen: dict[str, int] = {}
    for gap, array, name, entries in tables:
        key = f"{name}{'s' if array else len(seen)}"
        if not array and key in seen:
            continue
        text += gap
        path = (key, seen.get(key, 0)) if array else (key,)
        seen[key] = seen.get(key, 0) + 1
        expected[path] = text.count("\n") + 1
        text += f"[[{key}]]\n" if array else f"[{key}]\n"
        for number, value in enumerate(entries):
            expected[(*path, f"k{number}")] = text.count("\n") + 1
            text += f"k{number} = {value}\n"
    lines = locate(text)
    assert {path: lines[path] for path in expected} == expected
    written = set(key_paths(tomllib.loads(text))) - {(name,) for name in seen if name.endswith("s")}
    assert set(lines) == written
