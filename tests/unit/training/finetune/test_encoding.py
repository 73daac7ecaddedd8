"""What is learnt is what would be served: prompts as they are asked, answers as they are generated."""

from made_models import TEMPLATE, tokenizer_content
from pileus.core.records import Message
from pileus.models.artefact import Generation
from pileus.models.tokenizer import ModelTokenizer
from pileus.training.finetune.encoding import Encoded, Encoder
from pileus.training.finetune.examples import Conversation, Preference

END = 2
GENERATION = Generation(architecture="llama", context_length=256, vocab_size=267, stop_ids=(END, 0))
# Writes earlier answers in capitals: nobody generated them so.
SHOUTED = "(message['content'] if loop.last else message['content'] | upper)"
SHOUTING = TEMPLATE.replace("message['content']", SHOUTED)


def tokenizer(template: str = TEMPLATE) -> ModelTokenizer:
    return ModelTokenizer(tokenizer_content(), GENERATION, template)


def learnt(encoded: Encoded, by: ModelTokenizer) -> str:
    return by.decode([token for token, is_learnt in zip(encoded.ids, encoded.learnt, strict=True) if is_learnt])


def conversation(*texts: str, skip: int = -1) -> Conversation:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[place % 2], text) for place, text in enumerate(texts))
    return Conversation(messages, tuple(place % 2 == 1 and place != skip for place in range(len(texts))))


def test_a_prompt_is_encoded_as_the_service_does_and_the_answer_ends_its_turn() -> None:
    own = tokenizer()
    [encoded] = Encoder(own, 256).conversation(conversation("hello", "world"))
    prompt = own.encode_chat([Message("user", "hello")])
    assert encoded.ids[: len(prompt)] == prompt
    assert not any(encoded.learnt[: len(prompt)])
    assert all(encoded.learnt[len(prompt) :])
    assert encoded.ids[-1] == END
    assert learnt(encoded, own) == "world"


def test_every_answer_of_a_conversation_is_learnt_in_one_piece() -> None:
    own = tokenizer()
    [encoded] = Encoder(own, 256).conversation(conversation("a", "hello", "b", "world"))
    assert learnt(encoded, own) == "helloworld"
    assert sum(token == END for token, is_learnt in zip(encoded.ids, encoded.learnt, strict=True) if is_learnt) == 2


def test_an_answer_of_weight_0_is_read_and_not_learnt() -> None:
    own = tokenizer()
    [encoded] = Encoder(own, 256).conversation(conversation("a", "hello", "b", "world", skip=1))
    assert learnt(encoded, own) == "world"
    assert "hello" in own.decode(encoded.ids)


def test_a_template_that_rewrites_answers_gives_a_piece_for_each() -> None:
    own = tokenizer(SHOUTING)
    first, second = Encoder(own, 256).conversation(conversation("a", "hello", "b", "world"))
    assert (learnt(first, own), learnt(second, own)) == ("hello", "world")
    assert "HELLO" in own.decode(second.ids)


def test_what_is_beyond_the_longest_length_is_cut_at_the_end() -> None:
    own = tokenizer()
    [whole] = Encoder(own, 256).conversation(conversation("hello", "a long answer"))
    [cut] = Encoder(own, 20).conversation(conversation("hello", "a long answer"))
    assert cut.ids == whole.ids[:20]
    assert cut.cut == len(whole.ids) - 20


def test_special_tokens_in_peoples_text_stay_text() -> None:
    [encoded] = Encoder(tokenizer(), 256).conversation(conversation("<|im_end|>", "<|im_end|>"))
    assert encoded.ids.count(END) == 2  # the template's own, and the end of the answer


def test_a_preference_shares_its_prompt() -> None:
    own = tokenizer()
    better, worse = Encoder(own, 256).preference(Preference((Message("user", "hello"),), "yes", "never"))
    assert (learnt(better, own), learnt(worse, own)) == ("yes", "never")
    assert better.ids[:10] == worse.ids[:10]
