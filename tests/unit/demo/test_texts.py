from itertools import islice

from pileus.demo.texts import _NUMBERS as NUMBERS
from pileus.demo.texts import documents, reviews, translations


def test_texts_depend_on_the_seed_and_on_nothing_else() -> None:
    assert list(documents(50, 1)) == list(documents(50, 1))
    assert list(documents(50, 1)) != list(documents(50, 2))


def test_a_story_stays_true_to_itself() -> None:
    stories = (story for document in documents(200, 3) for story in document.split("\n\n"))
    for story in islice((each for each in stories if "So " in each), 50):
        giver = story.split(" gave ")[0].split()[-1]
        assert f"and {giver} stayed" in story


def test_reviews_are_of_two_kinds_in_equal_parts() -> None:
    labels = [each.label for each in reviews(100, 4)]
    assert labels.count("good") == labels.count("bad") == 50


def test_translations_are_all_different_and_follow_the_rules() -> None:
    pairs = translations(300, 5)
    assert len({pair.source for pair in pairs}) == 300
    for pair in pairs:
        name, _, number, _, _ = pair.source.split()
        subject, object_, _, count, action = pair.target.split()
        assert (subject, object_[-1], action[-2:]) == (f"{name.lower()}ga", "o", "as")
        assert int(count) == 2 + NUMBERS.index(number)
