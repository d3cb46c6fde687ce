"""What is taken for a secret, what is not, and what stands in its place."""

from __future__ import annotations

import base64
import collections
import copy
import dataclasses
import enum
import pickle
import re
import threading
import time
from types import MappingProxyType
from typing import Any, cast

import pytest

from otel_pipeline.redaction import EMAIL, OFF, RULES, Redactor, Rule, mark

REDACTOR = Redactor()

# Shaped like real ones, but put together here, so that no scanner of sources takes them for real.
MIXED = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6kL9nO2qR5tU8wX"
UPPER = "ABCDEFGHIJKLMNOP"
PEM = "-----BEGIN {0}PRIVATE KEY{1}-----\nMIIEpAIBAAKCAQEA\nx7+/=\n-----END {0}PRIVATE KEY{1}-----"
JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1234567890"}', b"signature-of-it")
)
BASIC = base64.b64encode(b"ann:hunter2").decode()


@pytest.mark.parametrize(
    ("rule", "secret"),
    [
        ("jwt", JWT),
        ("jwt", JWT.rpartition(".")[0] + "."),
        ("aws", "AK" + "IA" + UPPER),
        ("aws", "AS" + "IA" + UPPER),
        ("github", "gh" + "p_" + MIXED[:36]),
        ("github", "gh" + "s_" + MIXED[:36]),
        ("github", "github" + "_pat_" + MIXED[:22] + "_" + MIXED),
        ("gitlab", "gl" + "pat-" + MIXED[:20]),
        ("slack", "xo" + "xb-123456789012-" + MIXED[:24]),
        ("slack", "xa" + "pp-1-A0123-" + MIXED[:24]),
        ("stripe", "sk" + "_live_" + MIXED[:24]),
        ("stripe", "rk" + "_test_" + MIXED[:24]),
        ("stripe", "wh" + "sec_" + MIXED[:32]),
        ("google", "AI" + "za" + MIXED[:35]),
        ("google", "ya" + "29." + MIXED),
        ("openai", "sk" + "-" + MIXED[:48]),
        ("openai", "sk" + "-proj-" + MIXED[:12] + "_" + MIXED[:12] + "-" + MIXED[:12]),
        ("anthropic", "sk" + "-ant-api03-" + MIXED),
        ("npm", "np" + "m_" + MIXED[:36]),
        ("pypi", "py" + "pi-AgEIcHlwaS5vcmc" + MIXED),
        ("huggingface", "hf" + "_" + MIXED[:34]),
        *(("card", number) for number in (
            "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "4222222222222",
            "5555555555554444", "2223003122003222", "378282246310005", "3782 822463 10005",
            "6011111111111117", "3530111333300000", "30569309025904", "3056 930902 5904",
            "6200000000000005", "6759649826438453", "2200000000000004", "4000 0000 0000 0000 006",
        )),
        *(("private_key", PEM.format(*kind)) for kind in (
            ("", ""), ("RSA ", ""), ("OPENSSH ", ""), ("EC ", ""), ("ENCRYPTED ", ""),
            ("PGP ", " BLOCK"),
        )),
        ("private_key", PEM.format("RSA ", "").replace("\n", "\\n")),
    ],
)  # fmt: skip
def test_a_secret_is_replaced_by_the_mark_of_its_rule_wherever_it_stands(rule, secret):
    """A secret goes alone, in a sentence, in quotes and after an escape; the rest stays."""
    for frame in ("{}", "got {} from ann", '["{}"]', "id={}, n=1", "({})", "a\n{}\nb", "a\\n{} b"):
        if frame == "a\\n{} b" and rule == "card":
            continue
        assert REDACTOR.text(frame.format(secret)) == frame.format(mark(rule))


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        # Credentials in URLs
        ("postgres://ann:hunter2@db:5432/x", "postgres://ann:[redacted:url]@db:5432/x"),
        ("postgres://ann:p@ss@db/x", "postgres://ann:[redacted:url]@db/x"),
        ("postgres://ann:p%40ss%2F@db/x", "postgres://ann:[redacted:url]@db/x"),
        ("postgres://ann:pa/ss@db/x", "postgres://ann:[redacted:url]@db/x"),
        ("postgres://ann:p?s#s@db/x", "postgres://ann:[redacted:url]@db/x"),
        ("redis://:hunter2@cache/0", "redis://:[redacted:url]@cache/0"),
        ("mongodb+srv://a:b@h1,h2/?x=y@z", "mongodb+srv://a:[redacted:url]@h1,h2/?x=y@z"),
        ("a://b:c@d and e://f:g@h", "a://b:[redacted:url]@d and e://f:[redacted:url]@h"),
        ("https://token:x-oauth@host/a", "https://token:[redacted:url]@host/a"),
        (f"https://{MIXED}@github.com/a", "https://[redacted:url]@github.com/a"),
        (
            "jdbc:oracle:thin:scott/tiger@db:1521:orcl",
            "jdbc:oracle:thin:scott/[redacted:url]@db:1521:orcl",
        ),
        (
            "https://h/p?token=abc&rows=1&api_key=xyz#top",
            "https://h/p?token=[redacted:token]&rows=1&api_key=[redacted:api_key]#top",
        ),
        ("https://b/x?se=1&sig=a%2Fb%3D&sp=r", "https://b/x?se=1&sig=[redacted:signature]&sp=r"),
        ("https://b/x?X-Amz-Signature=0af7", "https://b/x?X-Amz-Signature=[redacted:signature]"),
        (
            f"https://hooks.slack.com/services/T0/B0/{MIXED}",
            "https://hooks.slack.com/services/[redacted:slack]",
        ),
        (
            f"AccountName=x;AccountKey={MIXED}==;EndpointSuffix=y",
            "AccountName=x;AccountKey=[redacted:azure];EndpointSuffix=y",
        ),
        # Headers
        ("Bearer abc123", "Bearer [redacted:bearer]"),
        ("got bearer AbCdEf.", "got bearer [redacted:bearer]."),
        (f"Basic {BASIC} sent", "Basic [redacted:basic] sent"),
        ("Authorization: Bearer abc", "Authorization: [redacted:authorization]"),
        (
            f"proxy-authorization: Basic {BASIC} was refused",
            "proxy-authorization: [redacted:authorization] was refused",
        ),
        (
            "Authorization: AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=h, Signature=0af7 sent",
            "Authorization: [redacted:authorization] sent",
        ),
        (
            "{'Authorization': 'Token a b', 'n': 1}",
            "{'Authorization': '[redacted:authorization]', 'n': 1}",
        ),
        ("Cookie: a=b; c=d", "Cookie: [redacted:cookie]"),
        ('Cookie: a="b c"; d=e then', "Cookie: [redacted:cookie] then"),
        (
            "Set-Cookie: sid=x; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/; Secure\nnext",
            "Set-Cookie: [redacted:cookie]\nnext",
        ),
        ("[('Cookie', 'a=b'), ('n', '1')]", "[('Cookie', '[redacted:cookie]'), ('n', '1')]"),
        ("[(b'cookie', b'a=b')]", "[(b'cookie', b'[redacted:cookie]')]"),
        ('headers["X-Api-Key"] = "abc"', 'headers["X-Api-Key"] = "[redacted:api_key]"'),
        # Numbers before a card's
        ("5 2024 4111 1111 1111 1111", "5 2024 [redacted:card]"),
        # Pairs
        ("password=hunter2", "password=[redacted:password]"),
        ("password: hunter2, user: ann", "password: [redacted:password], user: ann"),
        ("(password=hunter2)", "(password=[redacted:password])"),
        ("password=hunter2; n=1", "password=[redacted:password]; n=1"),
        ("Server=x;Pwd=a;b,c;Database=y", "Server=x;Pwd=[redacted:password];Database=y"),
        ("password=hun'ter\"2,x n", "password=[redacted:password] n"),
        ("password='hun ter, 2' n", "password='[redacted:password]' n"),
        ('password="a""b" n', 'password="[redacted:password]" n'),
        ("password='it''s' n", "password='[redacted:password]' n"),
        ("{'password': 'it\\'s', 'n': 1}", "{'password': '[redacted:password]', 'n': 1}"),
        ('{"password": "a\\"b", "n": 1}', '{"password": "[redacted:password]", "n": 1}'),
        ('{"password" : "abc', '{"password" : "[redacted:password]'),
        ('{"password": "abc\\', '{"password": "[redacted:password]'),
        (
            '"{\\"password\\": \\"a\\\\\\"b\\", \\"n\\": 1}"',
            '"{\\"password\\": \\"[redacted:password]\\", \\"n\\": 1}"',
        ),
        ('["password=abc","n"]', '["password=[redacted:password]","n"]'),
        (
            "User(name='ann', password='x', age=3)",
            "User(name='ann', password='[redacted:password]', age=3)",
        ),
        ("password=b'x' n", "password=b'[redacted:password]' n"),
        ("secrets=['a', ['b']] n", "secrets=[redacted:secret] n"),
        ("credentials={'user': 'ann', 'a': {}} n", "credentials=[redacted:credential] n"),
        (
            "credentials={'a': {'b': {'password': 'x'}}}",
            "credentials={'a': {'b': {'password': '[redacted:password]'}}}",
        ),
        (
            "api key: abc, client secret = def",
            "api key: [redacted:api_key], client secret = [redacted:secret]",
        ),
        ("user[password]=abc", "user[password]=[redacted:password]"),
        ('password: str = "abc", n', 'password: str = "[redacted:password]", n'),
        ("password => abc", "password => [redacted:password]"),
        ("error: password=abc", "error: password=[redacted:password]"),
        ("psql --password hunter2 -h db", "psql --password [redacted:password] -h db"),
        (
            "['psql', '--password', 'hunter2', '-h']",
            "['psql', '--password', '[redacted:password]', '-h']",
        ),
        ("java -Dssl.keyStorePassword=abc", "java -Dssl.keyStorePassword=[redacted:password]"),
        ("PGPASSWORD=abc psql", "PGPASSWORD=[redacted:password] psql"),
        ("password=abc password=def", "password=[redacted:password] password=[redacted:password]"),
        ("private_key: " + PEM.format("", "") + " n", "private_key: [redacted:private_key] n"),
        (PEM.format("RSA ", "")[:60], "[redacted:private_key]"),
        (f"password={'gh' + 'p_' + MIXED}", "password=[redacted:github]"),
        (f"next=%2F%3Ft%3D{JWT}", "next=%2F%3Ft%3D[redacted:jwt]"),
    ],
)  # fmt: skip
def test_only_the_secret_in_a_text_is_replaced(text, redacted):
    """The text around a secret stays as it is, in every notation."""
    assert REDACTOR.text(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "loaded 17 rows in 1.25 s",
        # Ids, numbers and times
        "0af7651916cd43dd8448eb211c80319c",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "4111-1111-1111-1111-111111111111",
        "1714564800123456789",
        "1714564800.4111111111111111",
        "4111111111111112",
        "9111111111111111",
        "2100000000000005",
        "400000000000006",
        "4111111111111111f 4111111111111111_1 4111111111111111.5 4111111111111111-5",
        "41111111111111110000000",
        "order_4111111111111111",
        "0x4111111111111111",
        "2026-05-01T12:00:00.123456Z",
        "4111 1111-1111 1111",
        "4111  1111 1111 1111",
        # URLs without credentials
        "http://db:8080/a@b",
        "http://db:8080?q=a@b",
        "http://[::1]:8080/a@b",
        "https://ann@example.org/x",
        "ssh://git@github.com/a/b",
        "git@github.com:a/b.git",
        "s3://bucket/key=1/part-0.parquet",
        "jdbc:postgresql://db:5432/x",
        "https://h/p?design=1&significant=2",
        "mail ann@example.org",
        # Prose
        "Basic authentication failed",
        "basic credentials required",
        "Bearer authentication required",
        'WWW-Authenticate: Bearer realm="api"',
        "the bearer of news",
        "password: must be at least 8 characters",
        "token: expired",
        "Unexpected token: }",
        "password=None, token=null, secret=true",
        "password='', token=\"\"",
        "password:",
        "password: \nfoo",
        "the password\n: foo",
        "KeyError: 'password'",
        "invalid password for ann",
        'ask("Password: ")',
        "def connect(user: str, password: str | None):",
        "with the --username and --password options",
        "secret: |\ncredentials = {",
        "tokens = [",
        # Other keys
        "partition_key=abc primary key: 5 sort_key: x foreign key = y key: z",
        "input_tokens=12 max_tokens: 5 tokens: 17, token_count=3, eos_token=</s>",
        "tokens=1,234 cost_per_token=0.5",
        "tokenizer: gpt2, author: ann, secretary=bob",
        "password_changed_at=2026-05-01 token_type: Bearer, secret_name=prod/db",
        "//password:abc",
        "'password', 'email'",
        # Shapes that are too short, or inside words
        "task-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "sk-learn-pipeline-with-many-steps",
        "eyJhbGciOi and eyJ.eyJ",
        "AKIAI AKIA" + "B" * 30,
        "ghp_short xoxb-1 hf_x",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text):
    """Ids, numbers, times, URLs, prose and other keys come back as the same object."""
    assert REDACTOR.text(text) is text


@pytest.mark.parametrize(
    ("rule", "keys"),
    {
        "password": "password passwd pwd passphrase db_password DB-PASSWORD userPassword password1"
        " PGPASSWORD passWord smtp.pass user_password_hash passwords dbpassword",
        "secret": "secret client_secret clientSecret APP_SECRET secret_key secret_key_base secrets",
        "token": "token access_token accessToken X-Auth-Token csrftoken refresh.token id_token jwt"
        " access_tokens tokens sessionToken token_value",
        "api_key": "api_key apikey apiKey APIKey X-API-Key api_keys xApiKey myapikey auth_key",
        "access_key": "access_key aws_access_key_id accessKey",
        "private_key": "private_key privateKey ssh_key sshPrivateKey",
        "authorization": "authorization Authorization Proxy-Authorization HTTP_AUTHORIZATION",
        "cookie": "cookie Cookie Set-Cookie session_cookie cookies PHPSESSID",
        "credential": "credential credentials awsCredentials creds",
        "bearer": "bearer",
    }.items(),
)
def test_a_value_under_the_key_of_a_secret_goes_whole(rule, keys):
    """Keys are matched by whole words in any spelling, and the mark names the rule."""
    for key in keys.split():
        for value in (
            "x",
            1234567 if not key.endswith("s") else "y",
            ["x"],
            {"a": 1},
            b"x",
            object(),
        ):
            assert REDACTOR.value(key, value) == mark(rule), key
        assert REDACTOR.mapping({key: "x", "n": 1}) == {key: mark(rule), "n": 1}


@pytest.mark.parametrize(
    "key",
    "partition_key primary_key sort_key foreign_key key keys keyboard monkey input_tokens"
    " max_tokens prompt_tokens maxTokens vocab_tokens token_count tokens_total token_ids eos_token"
    " max_token cost_per_token tokens_per_second tokenizer tokenized author authors authority"
    " secretary password_changed_at password_policy token_type token_expires secret_name secretArn"
    " cookie_count passwordless compass bypass pass_rate session_id credential_type oauth event"
    " private_key_path".split(),
)
def test_a_value_under_another_key_stays(key):
    """Words that only contain those of a secret, and what counts or describes one, stay."""
    value = "x"
    assert REDACTOR.value(key, value) is value
    fields = {key: value}
    assert REDACTOR.mapping(fields) is fields


@pytest.mark.parametrize("value", [None, True, False, "", b"", [], (), {}], ids=repr)
def test_what_tells_nothing_stays_under_the_key_of_a_secret(value):
    """None, booleans and empty values say at most whether there is a secret."""
    assert REDACTOR.value("password", value) is value


def test_a_number_stays_under_a_plural_and_goes_under_a_singular():
    """`tokens` may count them, `token` may be one."""
    assert REDACTOR.mapping({"tokens": 12, "secrets": 1.5}) == {"tokens": 12, "secrets": 1.5}
    assert REDACTOR.value("token", 123456) == "[redacted:token]"
    assert REDACTOR.value("smtp_pass", 123456) == "[redacted:password]"


def test_containers_are_looked_into():
    """Keys and texts inside dicts, lists, tuples, sets and bytes count, at any depth."""
    point = collections.namedtuple("point", "user password")  # noqa: PYI024
    fields: dict[Any, object] = {
        "a": [{"b": ({"password": "x"}, "Bearer abc123")}],
        "headers": [("Authorization", "x"), ["Set-Cookie", "x"], ("Accept", "*/*")],
        "raw": [(b"cookie", b"x")],
        "set": {"password=x"},
        "frozen": frozenset(["password=x"]),
        "bytes": b"\xff password=x",
        "array": bytearray(b"password=x"),
        "point": point("ann", "x"),
        "view": MappingProxyType({"password": "x"}),
        "ordered": collections.OrderedDict(password="x"),
        "postgres://ann:x@db": {"postgres://ann:x@db": 1},
        7: "password=x",
        b"token": "x",
    }
    before = copy.deepcopy({key: value for key, value in fields.items() if key != "view"})
    assert REDACTOR.mapping(fields) == {
        "a": [{"b": ({"password": "[redacted:password]"}, "Bearer [redacted:bearer]")}],
        "headers": [
            ("Authorization", "[redacted:authorization]"),
            ["Set-Cookie", "[redacted:cookie]"],
            ("Accept", "*/*"),
        ],
        "raw": [(b"cookie", "[redacted:cookie]")],
        "set": {"password=[redacted:password]"},
        "frozen": frozenset(["password=[redacted:password]"]),
        "bytes": b"\xff password=[redacted:password]",
        "array": bytearray(b"password=[redacted:password]"),
        "point": point("ann", "[redacted:password]"),
        "view": {"password": "[redacted:password]"},
        "ordered": {"password": "[redacted:password]"},
        "postgres://ann:[redacted:url]@db": {"postgres://ann:[redacted:url]@db": 1},
        7: "password=[redacted:password]",
        b"token": "[redacted:token]",
    }
    assert {key: value for key, value in fields.items() if key != "view"} == before


def test_what_holds_no_secret_is_the_same_object():
    """Callers see by identity that nothing changed, in parts of a changed mapping too."""
    same = [{"rows": (1, "x")}, {"a", 2}, b"x", 1.5]
    fields = {"same": same, "event": "loading keys", "author": "ann"}
    assert REDACTOR.mapping(fields) is fields
    plain: dict[Any, object] = {7: "x", "long": "loaded " * 100, "rows": 3}
    assert REDACTOR.mapping(plain) is plain
    changed = REDACTOR.mapping({**fields, "password": "x"})
    assert changed["same"] is same
    assert REDACTOR.mapping(changed) is changed


def test_other_objects_are_left_for_the_text_they_are_rendered_to():
    """An object is not looked into; what it renders to goes through `text`."""

    @dataclasses.dataclass
    class Login:
        user: str
        password: str

    login = Login("ann", "hunter2")
    assert REDACTOR.value("login", login) is login
    assert REDACTOR.text(repr(login)).endswith("Login(user='ann', password='[redacted:password]')")
    assert login.password == "hunter2"


def test_a_subclass_of_str_is_looked_into():
    """A member of a string enum counts as its text."""
    kind = enum.StrEnum("kind", {"BAD": "password=x", "GOOD": "x"})
    assert REDACTOR.text(kind.BAD) == "password=[redacted:password]"
    assert REDACTOR.text(kind.GOOD) is kind.GOOD
    assert REDACTOR.mapping({"a": kind.BAD}) == {"a": "password=[redacted:password]"}


def test_cycles_and_depth_are_bounded():
    """A container inside itself, and what is nested too deeply, become marks."""
    cycle: dict[str, object] = {"n": 1}
    cycle["again"] = [cycle]
    assert REDACTOR.value("a", cycle) == {"n": 1, "again": ["[redacted:cycle]"]}
    deep: object = "x"
    for _ in range(500):
        deep = [deep]
    assert "[redacted:depth]" in repr(REDACTOR.value("a", deep))


def test_shared_parts_are_looked_at_once():
    """A structure that refers to its parts many times over takes no exponential time."""
    shared: list[Any] = ["password=x"]
    for _ in range(25):
        shared = [shared, shared]
    changed: Any = REDACTOR.value("a", shared)
    for _ in range(25):
        assert changed[0] is changed[1]
        changed = changed[0]
    assert changed == ["password=[redacted:password]"]


def test_a_broken_object_costs_only_its_own_field():
    """Whatever raises is marked, and the fields beside it stay."""

    class Broken(dict):
        def items(self):
            raise RuntimeError

        def __len__(self):
            raise RuntimeError

    class Liar:
        @property  # type: ignore[misc]
        def __class__(self):
            raise RuntimeError

    class Text(str):
        __slots__ = ()
        __str__ = __repr__ = __eq__ = __hash__ = __len__ = None  # type: ignore[assignment]

    assert REDACTOR.mapping({"a": Broken(), "password": Broken(), "b": Liar(), "n": 1}) == {
        "a": "[redacted:error]",
        "password": "[redacted:error]",
        "b": "[redacted:error]",
        "n": 1,
    }
    assert REDACTOR.mapping(Broken()) == {"redaction": "[redacted:error]"}
    assert REDACTOR.text(Text("password=x")) == "password=[redacted:password]"
    text = Text("x")
    assert REDACTOR.value("a", text) is text
    fields = {"a": text, "n": 1}
    assert REDACTOR.mapping(fields) is fields
    assert REDACTOR.text(cast("str", None)) == "[redacted:error]"


def test_a_rule_that_fails_leaks_nothing():
    """The text that a rule of the user's fails on is marked whole."""

    def fails(text):
        raise ValueError(text)

    redactor = Redactor(rules=(Rule("mine", re.compile("hunter2"), check=fails),))
    assert redactor.text("it is hunter2") == "[redacted:error]"


def test_rules_can_be_added_and_replaced():
    """A rule replaces its group `secret`, if `check` agrees."""
    rule = Rule(
        "badge", re.compile("badge (?P<secret>[0-9]{4})"), ("badge",), lambda text: text > "5"
    )
    redactor = Redactor(rules=(*RULES, rule))
    assert redactor.text("badge 4000, badge 7000") == "badge 4000, badge [redacted:badge]"
    assert redactor.text("Bearer abc123") == "Bearer [redacted:bearer]"
    assert Redactor(rules=()).text("Bearer abc123") == "Bearer abc123"
    assert Redactor(rules=(Rule("x", re.compile("x*")),)).text("axb") == "a[redacted:x]b"


def test_what_a_mark_uncovers_is_found_too():
    """Rules are applied until nothing changes, in whatever order they come."""
    rules = (Rule("b", re.compile("y(?!x)")), Rule("a", re.compile("x")))
    assert Redactor(rules=rules).text("yx") == "[redacted:b][redacted:a]"


def test_a_key_that_holds_a_secret_is_replaced():
    """Names of fields may come from data; a mark in one makes its value no secret."""
    assert REDACTOR.mapping({"postgres://ann:x@db": 1}) == {"postgres://ann:[redacted:url]@db": 1}
    assert REDACTOR.mapping({"[redacted:token]": "x"}) == {"[redacted:token]": "x"}


def test_keys_are_added_in_any_spelling():
    """An asked key is found by its words, is named in the mark, and takes booleans and counts."""
    redactor = Redactor(keys=["patient name", "ssn", "---"])
    fields = {"patientName": "x", "X-Patient-Name-Raw": 1, "ssn_count": True, "password": "x"}
    assert redactor.mapping({**fields, "name": "x", "patient": "x", "ssn": None}) == {
        "patientName": "[redacted:patient_name]",
        "X-Patient-Name-Raw": "[redacted:patient_name]",
        "ssn_count": "[redacted:ssn]",
        "password": "[redacted:password]",
        "name": "x",
        "patient": "x",
        "ssn": None,
    }
    assert redactor.text("patient name: Ann, ssn=true, ssn=None") == (
        "patient name: [redacted:patient_name], ssn=[redacted:ssn], ssn=None"
    )


def test_rules_and_keys_can_be_allowed():
    """A rule is left out by its name, and the value of an allowed key stays as it is."""
    redactor = Redactor(allow=["card", "api-key", "publicToken"])
    number = "4111111111111111"
    assert redactor.text(f"{number} api_key=x public_token=x password=x") == (
        f"{number} api_key=x public_token=x password=[redacted:password]"
    )
    fields = {"public_token": "Bearer abc123", "api_key": {"password": "x"}, "apikey": "x"}
    assert redactor.mapping(fields) is fields
    assert redactor.value("other_token", "x") == "[redacted:token]"


def test_an_email_address_goes_only_where_asked():
    """The option, or `email` among the keys, replaces addresses in texts."""
    text = "from Ann <ann.o'neil+x@mail.example.org>, b_c@x.de; not @home, a@b, x@1.2"
    redacted = "from Ann <ann.o'[redacted:email]>, [redacted:email]; not @home, a@b, x@1.2"
    assert REDACTOR.text(text) is text
    assert Redactor(email=True).text(text) == redacted
    assert Redactor(keys=["email"]).text(text) == redacted
    assert Redactor(email=True).mapping({"email": "none", "to": "a@b.de"}) == {
        "email": "none",
        "to": "[redacted:email]",
    }
    assert Redactor(keys=["email"]).value("email", "none") == "[redacted:email]"
    assert Redactor(email=True, allow=["email"]).text(text) is text
    assert EMAIL not in RULES


def test_a_redactor_that_is_off_changes_nothing():
    """`OFF` is a redactor, and returns what it is given."""
    fields = {"password": "x"}
    assert isinstance(OFF, Redactor)
    assert OFF.mapping(fields) is fields
    assert OFF.value("password", "x") == "x"
    assert OFF.text("password=x") == "password=x"


def test_a_redactor_can_be_pickled():
    """Processes get the redactor of their parent."""
    redactor = pickle.loads(pickle.dumps(Redactor(keys=["ssn"])))
    assert redactor.mapping({"ssn": 1, "a": "password=x"}) == {
        "ssn": "[redacted:ssn]",
        "a": "password=[redacted:password]",
    }


def test_memory_stays_bounded_whatever_comes():
    """What is remembered of texts and keys has an end, and holds nothing long and no secret."""
    redactor = Redactor()
    for number in range(3000):
        redactor.mapping({f"key {number}": f"text {number}", "x" * 1000: "y" * 1000})
        redactor.text(f"{number}" * 100)
    redactor.mapping({"a": "password=hunter2", "password": "hunter2"})
    remembered = [redactor._clean, redactor._harmless, redactor._keys._known]
    assert all(len(known) <= 2100 for known in remembered)
    assert max(len(text) for known in remembered for text in known) <= 256
    assert not any("hunter2" in text for known in remembered for text in known)


def test_threads_share_a_redactor():
    """Many threads get right answers from one redactor."""
    redactor = Redactor()
    wrong: list[object] = []

    def work(thread):
        for number in range(2000):
            fields = {f"a{number}": f"{thread} {number}", "event": "x"}
            if redactor.mapping(fields) is not fields:
                wrong.append(fields)
            if redactor.mapping({**fields, "b": f"password={number}"})["b"] != (
                "password=[redacted:password]"
            ):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_long_text_is_looked_at_to_its_end_while_it_looks_harmless():
    """10 MB without a sign of a secret come back as they are; else what is too long is cut."""
    harmless = "loaded 17 rows; " * 700_000
    assert REDACTOR.text(harmless) is harmless
    redacted = REDACTOR.text(f"{harmless}password=hunter2")
    assert redacted.startswith("loaded 17 rows; ")
    assert redacted.endswith("rows;[redacted:size]")
    assert len(redacted) < 600_000
    assert REDACTOR.text(redacted) is redacted
    assert REDACTOR.text("password=" + "x" * 10_000_000) == "password=[redacted:password]"


#: Pieces that, repeated, make a careless pattern try again from every place.
HOSTILE = [
    *("a", " ", "4", "\\", "-", ".", "é", "a.", "a@", "a=", "key=", "key=a ", "key key: "),
    *("password", "password=", "password=x ", "password=,,,", "password='", 'password=\\"'),
    *("password=[", "password={'", "password=x,", "password=        ", "token=;a", "token token "),
    *("secret:", "--password ", "('token',", "'password','", "Authorization: Bearer a,b=c,"),
    *("cookie=a=b;", "cookie: a=b; c", "password=[redacted:x]", "[redacted:", "://", "a://b:"),
    *("://b:c", "://a:b@", "://b:c/", "https://aaaaaaaaaaaaaaaa", "jdbc:oracle:a:", "?sig"),
    *("?sig=", "AccountKey=", "eyJ", "-eyJ", "eyJaaaaaaaaaa.", "Bearer ", "bearer a ", "bearer ."),
    *("basic ", "basic aaaa ", "AKIA", "_ghp_", "_github_pat_", "-glpat-", "xoxb-", "-sk-a"),
    *("sk-", "pypi-A", "4111 ", "4111-1111-", "4111111111111112 ", "-----BEGIN A A A ", "%"),
    *("-----BEGIN PRIVATE KEY-----", "a_-.b:= \"'", "hooks.slack.com/services/a ", "\n"),
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
def test_time_grows_with_the_length_of_a_hostile_text(piece):
    """Four times the text takes about four times as long, not sixteen."""
    # All needles are there, so that every rule is tried.
    needles = " ".join(needle for rule in (*RULES, EMAIL) for needle in rule.needles)
    redactor = Redactor(email=True)

    def seconds(size):
        text = f"{needles} secret {piece * (size // len(piece))}"
        start = time.process_time()
        redactor.text(text)
        return time.process_time() - start

    assert seconds(100_000) < 9 * seconds(25_000) + 0.3
