"""What the redactor holds for every text and value."""

from __future__ import annotations

import itertools
import json
import re

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from otel_pipeline.redaction import OFF, Redactor

REDACTOR = Redactor(keys=["ssn", "email"])

ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def tokens(prefix: str, size: int, alphabet: str = ALNUM) -> st.SearchStrategy[str]:
    """Make tokens of a vendor's shape; made when run, so no scanner takes them for real ones."""
    return st.text(alphabet, min_size=size, max_size=size).map(prefix.__add__)


#: Text that the rules look for, in pieces that hypothesis puts together.
FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            *("password", "db_password", "apiKey", "api key", "Authorization", "Cookie", "token"),
            *("tokens", "input_tokens", "--password", "secret", "ssn", "key", "author", "KEY"),
            *("=", ":", ": ", " = ", "=>", "==", " ", ", ", ",", ";", "; ", "&", "?", "\n", "\t"),
            *('"', "'", "\\", '\\"', "\\n", "`", "(", ")", "[", "]", "{", "}", "<", ">", "-", "."),
            *("Bearer ", "Basic ", "Digest ", "https://", "postgres://", "@", "/", "user", "host"),
            *("[redacted:password]", "[redacted:", "None", "true", "4111 1111 1111 1111", "4111"),
            *("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----", "%3D", "b'"),
            *("a=b; c=d", "Path=/", "sig=", "eyJ", "sk-", "ghp_", "hunter2", "ann@example.org"),
        ]
    ),
    st.text(max_size=5),
    tokens("ghp" + "_", 36),
    tokens("AK" + "IA", 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    tokens("sk" + "-", 30),
)
TEXTS = st.lists(FRAGMENTS, max_size=14).map("".join)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXTS | st.integers() | st.booleans(), inner, max_size=4)
    ),
    max_leaves=12,
)

#: No spaces, quotes or separators, as these end a value that stands without quotes.
SECRETS = st.text(ALNUM + "!#%*+._~-", min_size=6, max_size=30).filter(
    lambda text: text[0].isalnum() and re.search("[0-9]", text) is not None
)
SECRET_KEYS = st.sampled_from(
    ["password", "DB_PASSWORD", "x-api-key", "clientSecret", "access.token", "Authorization", "pwd"]
)
#: Words without any sign of a secret.
WORDS = st.sampled_from(
    ["loaded", "17", "rows", "orders", "part-00017.parquet", "in", "1.25", "s", "partition_key=7",
     "primary key: 5", "input_tokens=12", "author:", "ann", "2026-05-01T12:00:00.123456Z", "(ok)",
     "0af7651916cd43dd8448eb211c80319c", "http://db:8080/a@b", "s3://bucket/x", "tokenizer", "[1]",
     "1714564800123456789", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "50%", "a=b", "x: y"]
)  # fmt: skip


@given(TEXTS)
@settings(max_examples=400)
@example("Authorization: Bearer [redacted:bearer]")
def test_a_second_pass_changes_nothing(text):
    """What was redacted once is left as it is."""
    once = REDACTOR.text(text)
    assert REDACTOR.text(once) is once


@given(VALUES)
@example(("ann@example.org", False))
def test_a_second_pass_over_values_changes_nothing(value):
    """A redacted value is returned as the same object."""
    once = REDACTOR.value("field", value)
    assert REDACTOR.value("field", once) is once


@given(SECRET_KEYS, SECRETS, st.lists(WORDS, max_size=5), st.lists(WORDS, max_size=5), st.data())
@settings(max_examples=300)
def test_no_planted_secret_survives_in_a_text(key, secret, before, after, data):
    """A secret after its key is gone in every notation, and the words around it stay."""
    forms = [
        f"{key}={secret}",
        f"{key}: {secret}",
        f"{key} = '{secret}'",
        f'{{"{key}": "{secret}"}}',
        f"{{'{key}': '{secret}', 'rows': 7}}",
        json.dumps(json.dumps({key: secret, "rows": 7})),
        f"('{key}', '{secret}')",
        f"(b'{key}', b'{secret}')",
        f"--{key} {secret}",
        f"['--{key}', '{secret}']",
        f"?{key}={secret}&rows=7",
        f"f({key}={secret!r}, rows=7)",
        f"https://{data.draw(st.sampled_from(['', 'ann', 'a.b']))}:{secret}@host/db",
    ]
    form = data.draw(st.sampled_from(forms))
    left, right = " ".join(["start", *before, ""]), " ".join(["", *after, "end"])
    redacted = REDACTOR.text(left + form + right)
    assert secret not in redacted
    assert "[redacted:" in redacted
    assert redacted.startswith(left.rstrip())
    assert redacted.endswith(right.lstrip())
    if "rows" in form:
        assert "rows" in redacted[len(left) : -len(right)]


SHAPES = st.recursive(
    st.just("place"),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "rows"]), inner, min_size=1)
    ),
    max_leaves=4,
)


@given(SECRET_KEYS, SECRETS, SHAPES)
def test_no_planted_secret_survives_in_a_value(key, secret, shape):
    """A secret under its key is gone wherever in nested containers it stands."""

    def planted(place):
        match place:
            case list():
                return [planted(item) for item in place]
            case dict():
                return {name: planted(item) for name, item in place.items()}
        return {key: secret, "rows": 7}

    redacted = REDACTOR.value("field", planted(shape))
    assert secret not in repr(redacted)
    assert "'rows': 7" in repr(redacted)


@given(st.lists(WORDS, max_size=12).map(" ".join))
def test_a_text_without_secrets_is_the_same_object(text):
    """Ordinary words, numbers, times, ids and URLs are returned as they are."""
    assert REDACTOR.text(text) is text


@given(
    st.dictionaries(
        st.sampled_from(["event", "partition_key", "author", "max_tokens", "rows"]),
        WORDS | st.integers() | st.floats() | st.none() | st.booleans(),
    )
)
def test_fields_without_secrets_are_the_same_mapping(fields):
    """A mapping that holds no secret is returned as it is."""
    assert REDACTOR.mapping(fields) is fields


@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_each_field_stays_in_its_place(fields):
    """A mapping keeps its fields, in order, and numbers outside a secret's key."""
    redacted = REDACTOR.mapping(fields)
    assume(len({REDACTOR.text(key) for key in fields}) == len(fields))
    assert list(redacted) == [REDACTOR.text(key) for key in fields]


@given(VALUES)
def test_a_redactor_that_is_off_changes_nothing(value):
    """`OFF` returns everything as it is."""
    fields = {"password": value}
    assert OFF.mapping(fields) is fields
    assert OFF.value("password", value) is value
    assert OFF.text("password=hunter2") == "password=hunter2"


@given(st.text(st.characters(codec=None)) | st.binary())
def test_no_text_or_bytes_makes_it_fail(value):
    """Whatever the characters, surrogates included, there is an answer of the same type."""
    assert type(REDACTOR.value("field", value)) is type(value)


def luhn(digits):
    """Compute the check digit sum of a number, the textbook way."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10


@given(
    st.sampled_from(["4", "51", "2221", "34", "6011", "3528"]),
    st.randoms(use_true_random=False),
    st.sampled_from(["", " ", "-"]),
)
def test_a_card_number_goes_and_the_same_with_another_check_digit_stays(prefix, random, gap):
    """Of ten numbers that differ in the last digit, exactly the one that passes Luhn goes."""
    size = 15 if prefix == "34" else 16
    stem = prefix + "".join(random.choices("0123456789", k=size - 1 - len(prefix)))
    cuts = (0, 4, 10, 15) if size == 15 else (0, 4, 8, 12, 16)
    gone = []
    for digit in "0123456789":
        number = stem + digit
        shown = gap.join(number[a:b] for a, b in itertools.pairwise(cuts))
        if REDACTOR.text(f"paid with {shown}.") == "paid with [redacted:card].":
            gone.append(number)
        else:
            assert REDACTOR.text(f"paid with {shown}.") == f"paid with {shown}."
    assert gone == [stem + digit for digit in "0123456789" if luhn(stem + digit) == 0]


@given(st.integers(0, 10**16 - 1))
def test_a_number_that_is_part_of_something_else_stays(number):
    """Digits inside a UUID, hex, a float, a longer number or a word are no card."""
    digits = f"{number:016}"
    for text in (
        f"{digits[:8]}-{digits[8:12]}-4{digits[1:4]}-{digits[4:8]}-{digits[:12]}",
        f"a{digits}", f"{digits}f", f"0.{digits}", f"{digits}.5", f"id_{digits}",
        f"171{digits}000", f"{digits}{digits}", f"2026-{digits}",
    ):  # fmt: skip
        assert REDACTOR.text(text) is text
