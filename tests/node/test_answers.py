import json

from node.answers import printed_answer


def test_an_error_reads_as_one_plain_line() -> None:
    assert printed_answer({"error": "Table 'zoo.x' does not exist"}, as_json=False) == (
        "error: Table 'zoo.x' does not exist\n"
    )


def test_an_answer_keeps_its_order_and_its_kinds_of_values() -> None:
    answer = [{"id": 2, "b": None, "a": True, "t": "true", "n": 1795422779404.6902, "l": [], "long": "x " * 200}]
    assert printed_answer(answer, as_json=False) == (
        f"- id: 2\n  b: null\n  a: true\n  t: 'true'\n  n: 1795422779404.6902\n  l: []\n  long: '{'x ' * 200}'\n"
    )


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in printed_answer({"a": "\x1b[31m"}, as_json=False)
    assert "\x1b" not in printed_answer({"a": "\x1b[31m"}, as_json=True)


def test_json_is_indented_and_complete() -> None:
    answer = {"a": [1, "ü"]}
    printed = printed_answer(answer, as_json=True)
    assert json.loads(printed) == answer
    assert printed.count("\n") > 3
    assert "ü" in printed


def test_a_bare_value_is_printed_as_json() -> None:
    assert printed_answer("text", as_json=False) == '"text"\n'
