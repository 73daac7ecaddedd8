"""`pileus chat` against a scripted server."""

from unit.cli.conftest import Pileus, Stub

CHAT = "/v1/chat/completions"


def test_one_question_streams_one_answer(pileus: Pileus, stub: Stub) -> None:
    stub.answer("GET", "/v1/models", {"data": [{"id": "small"}, {"id": "big"}]})
    stub.stream(CHAT, "A cloud ", "is water.", tokens=5)
    ran = pileus("chat", "What", "is", "a", "cloud?")
    assert (ran.status, ran.out, ran.err) == (0, "A cloud is water.\n", "")
    [body] = stub.bodies
    assert body["model"] == "small"
    assert body["messages"] == [{"role": "user", "content": "What is a cloud?"}]


def test_flags_become_fields_and_absent_ones_are_not_sent(pileus: Pileus, stub: Stub) -> None:
    stub.stream(CHAT, "ok")
    pileus("chat", "hi", "-m", "big", "-s", "Be brief.", "--temperature", "0", "--seed", "7")
    [body] = stub.bodies
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["model"], body["temperature"], body["seed"]) == ("big", 0, 7)
    assert "max_tokens" not in body


def test_a_piped_text_is_added_to_the_question(pileus: Pileus, stub: Stub) -> None:
    stub.stream(CHAT, "ok")
    pileus("chat", "-m", "m", "Summarise:", piped="long text\n")
    assert stub.bodies[0]["messages"][-1]["content"] == "Summarise:\n\nlong text"


def test_nothing_asked_in_a_pipe_is_an_error(pileus: Pileus, stub: Stub) -> None:
    ran = pileus("chat", "-m", "m", piped="")
    assert ran.status == 1
    assert "nothing was asked" in ran.err


def test_json_gives_the_whole_response(pileus: Pileus, stub: Stub) -> None:
    stub.answer("POST", CHAT, {"choices": [{"message": {"content": "ok"}}]})
    assert pileus("chat", "hi", "-m", "m", "--json").json() == {"choices": [{"message": {"content": "ok"}}]}
    assert "stream" not in stub.bodies[0]


def test_stats_count_the_tokens_that_the_server_counted(pileus: Pileus, stub: Stub) -> None:
    stub.stream(CHAT, "a", "b", tokens=2)
    assert pileus("chat", "hi", "-m", "m", "--stats").err.startswith("2 tokens, ")


def test_a_conversation_keeps_its_history_until_reset(pileus: Pileus, stub: Stub) -> None:
    stub.stream(CHAT, "yes")
    ran = pileus("chat", "-m", "m", typed="one\ntwo\n/system Be kind.\n/reset\nthree\n/quit\nnever\n")
    assert ran.status == 0
    first, second, third = (body["messages"] for body in stub.bodies)
    assert [turn["content"] for turn in first] == ["one"]
    assert [turn["content"] for turn in second] == ["one", "yes", "two"]
    assert third == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "three"}]


def test_a_refused_question_is_told_and_forgotten(pileus: Pileus, stub: Stub) -> None:
    stub.refuse("POST", CHAT, 429, "The queue is full.")
    ran = pileus("chat", "-m", "m", typed="one\ntwo\n")
    assert ran.status == 0
    assert ran.err.count("The queue is full.") == 2
    assert [turn["content"] for turn in stub.bodies[1]["messages"]] == ["two"]
