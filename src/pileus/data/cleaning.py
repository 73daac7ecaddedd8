"""One piece of input to clean documents: every step that looks at a document by itself, and equal ones within the
piece."""

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from msgspec import Struct

from pileus.data.boilerplate import without_notices
from pileus.data.contamination import Contamination
from pileus.data.language import Identifier
from pileus.data.normalise import normalise
from pileus.data.personal import without_personal
from pileus.data.quality import broken_rule
from pileus.data.records import Bad, Record
from pileus.data.repair import repair
from pileus.data.spec import DataSpec
from pileus.data.words import Words, words_of

DIGEST_BYTES: Final = 16
_BAD_KEPT: Final = 100  # of a piece, with their places
_SIZES: Final = 32


class Clean(Struct, frozen=True):
    """A document that is kept, as far as it is known by itself."""

    text: str
    digest: bytes  # of the text before personal data was replaced
    words: Words


class Account(Struct, kw_only=True):
    """What became of the records of a piece, or of all of them."""

    read: int = 0  # documents
    read_characters: int = 0
    bad: int = 0
    bad_records: list[Bad] = []  # the first of them
    left_out: dict[str, int] = {}  # by the reason
    repaired: int = 0
    notices: int = 0  # documents that had some
    personal: dict[str, int] = {}  # what was replaced
    languages: dict[str, int] = {}  # of those that were looked at
    kept: int = 0
    kept_characters: int = 0
    sizes: list[int] = []  # of kept documents: how many have 2^n characters or more, but less than the next

    def add(self, other: "Account") -> None:
        for name in ("read", "read_characters", "bad", "repaired", "notices", "kept", "kept_characters"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.bad_records = (self.bad_records + other.bad_records)[:_BAD_KEPT]
        for name in ("left_out", "personal", "languages"):
            setattr(self, name, dict(Counter(getattr(self, name)) + Counter(getattr(other, name))))
        both = zip(self.sizes or [0] * _SIZES, other.sizes or [0] * _SIZES, strict=True)
        self.sizes = [one + another for one, another in both]


class Cleaner:
    """The steps that a spec asks for, in their order: cheap ones first, so that the dear ones see little."""

    def __init__(self, spec: DataSpec, contamination: Contamination) -> None:
        self._spec = spec
        self._contamination = contamination
        self._identifier = Identifier(spec.languages) if spec.languages else None

    def clean(self, records: Iterable[Record], account: Account) -> Iterator[Clean]:
        """Those that are kept. The account is written on the way."""
        seen: set[bytes] = set()
        left_out: Counter[str] = Counter()
        account.sizes = [0] * _SIZES
        for record in records:
            if isinstance(record, Bad):
                account.bad += 1
                if len(account.bad_records) < _BAD_KEPT:
                    account.bad_records.append(record)
                continue
            account.read += 1
            account.read_characters += len(record.text)
            found = self._one(record.text, seen, account)
            if isinstance(found, str):
                left_out[found] += 1
                continue
            account.kept += 1
            account.kept_characters += len(found.text)
            account.sizes[min(len(found.text).bit_length(), _SIZES) - 1] += 1
            yield found
        account.left_out = dict(left_out)

    def _one(self, given: str, seen: set[bytes], account: Account) -> Clean | str:
        """The document, or why it is left out."""
        spec = self._spec
        text = self._prepared(given, account)
        if not text:
            return "empty"
        words = words_of(text)
        if spec.rules is not None and (rule := broken_rule(text, words, spec.rules, spec.languages)):
            return rule
        digest = blake2b(text.encode(errors="replace"), digest_size=DIGEST_BYTES).digest()
        if spec.exact and digest in seen:
            return "exact_duplicate"
        seen.add(digest)
        if self._identifier is not None and not self._is_asked(text, self._identifier, account):
            return "language"
        if self._contamination.overlaps(words):
            return "contaminated"
        if spec.personal:
            text = _impersonal(text, account)
        return Clean(text, digest, words)

    def _prepared(self, given: str, account: Account) -> str:
        text = given
        if self._spec.repair:
            text = repair(given)
            account.repaired += text != given
        text = normalise(text)
        if self._spec.boilerplate:
            shorter = without_notices(text)
            account.notices += shorter != text
            text = shorter
        return text

    def _is_asked(self, text: str, identifier: Identifier, account: Account) -> bool:
        language = identifier.identify(text)
        account.languages[language] = account.languages.get(language, 0) + 1
        return language in self._spec.languages


def _impersonal(text: str, account: Account) -> str:
    text, found = without_personal(text)
    if found:
        account.personal = dict(Counter(account.personal) + found)
    return text
