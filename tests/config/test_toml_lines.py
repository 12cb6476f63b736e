"""In which line a key of a TOML file stands."""

from __future__ import annotations

import tomllib

import pytest

from brokerwatch.config.toml_lines import TomlLines

FILE = '''\
# what comes first

version = 1   # a number
"a b" = 2
inline = { one = 1, two = { three = 3 } }
text = """
[not.a.table]
version = 2
"""
list = [
  "[x]",   # in the list
  1,
]
literal = \'\'\'
x = 1\'\'\'
dotted.key = 1
[brokers.kraken-main]
  policy = "a \\u0085 b"
[brokers."b.c".rules]
deep = 1
[[scene]]
fault = "x"
[[scene]]
mend = true
[scene.balance]
USD = "1"
[after]
last = 1'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("version", 3),
        ('"a b"', 4),
        ("inline", 5),
        ("inline.two.three", 5),
        ("text", 6),
        ("list", 10),
        ("list #2", 12),
        ("literal", 14),
        ("x", 0),
        ("dotted", 16),
        ("dotted.key", 16),
        ("brokers", 17),
        ("brokers.kraken-main", 17),
        ("brokers.kraken-main.policy", 18),
        ('brokers."b.c".rules.deep', 20),
        ("scene", 21),
        ("scene #1.fault", 22),
        ("scene #2.mend", 24),
        ("after.last", 28),
        ("not.a.table", 0),
        ("nothing", 0),
        ("", 0),
    ],
)
def test_a_key_is_found_where_it_begins(key: str, line: int) -> None:
    assert tomllib.loads(FILE), "the file can be read"
    assert TomlLines(FILE).line_of(key) == line
    assert TomlLines(FILE.replace("\n", "\r\n")).line_of(key) == line


def test_a_table_inside_the_newest_of_an_array_belongs_to_that_one() -> None:
    text = "[[scene]]\n[scene.balance]\nUSD = 1\n[[scene]]\n[scene.balance]\nEUR = 1\n"
    assert TomlLines(text).line_of("scene #2.balance.EUR") == 6
    assert TomlLines(text).line_of("scene #2.balance") == 5


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = [\n1,\n{ b = 1 },\n]\n", "a #2.b", 3),
        ("a = { b = [\n1], c = 2 }\n", "a.c", 2),
        ('a = """\n\\"""\nb = 1"""""\nc = 1\n', "c", 4),
        ('a = """\n\\"""\nb = 1"""""\nc = 1\n', "b", 0),
        ("a = '''\n\\'''\nb = 1\n", "b", 3),
        ("a = '#' # b = 1\nc = ''\n", "c", 2),
        ("'a.b' . \"c\\u0020d\" = 1\n", '"a.b"."c d"', 1),
        ("[a]\n[[a.b]]\n[[a.b]]\n[a.b.c]\nd = 1\n", "a.b #2.c.d", 5),
        ("a = 1979-05-27 07:32:00 # x\nb = inf\nc = 1", "c", 3),
        ('[ "a" . b ] # x\nc = {}\nd = []\ne = 1\n', "a.b.e", 4),
    ],
)
def test_a_key_is_found_behind_values_of_every_form(text: str, path: str, line: int) -> None:
    assert tomllib.loads(text)
    assert TomlLines(text).line_of(path) == line


def test_what_lacks_a_key_is_the_table_around_it() -> None:
    lines = TomlLines("version = 1\n[brokers.k]\nexchange = 1\n")
    assert lines.nearest("brokers.k.rules.window_fetches") == 2
    assert lines.nearest("cluster.name") == 0


def test_lists_that_are_deeper_than_can_be_read_have_no_line() -> None:
    deep = 1_000_000
    assert TomlLines(f"a = {'[' * deep}{']' * deep}\n").line_of("a") == 0
