"""Secrets out of log lines, span attributes, events and exception messages: one rule set.

```text
mapping / value ── key is a secret's ──> the whole value is replaced
        └── otherwise ──> text ──> pairs (`password=…`) and RULES (shapes of secrets)
```

What is replaced becomes `[redacted:RULE]`; everything around it stays. Keys are matched by whole
words (`db_password`, `X-Api-Key`, `clientSecret`), so `partition_key` and `input_tokens` stay.
Each pattern starts with a literal or a set of characters and never looks at a character more than
a bounded number of times, so a hostile text costs time in proportion to its length.
"""

from __future__ import annotations

import base64
import binascii
import operator
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["EMAIL", "OFF", "RULES", "Redactor", "Rule", "mark"]


def mark(name: str) -> str:
    """Return what stands in place of a secret.

    Args:
        name: Name of the rule that found it.

    Returns:
        `[redacted:NAME]`.

    >>> mark("card")
    '[redacted:card]'
    """
    return f"[redacted:{name}]"


_MARK = re.compile(r"\[redacted:[^\]\s]{1,100}\]")


# Rules by content -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """A shape of secrets inside a text.

    Attributes:
        name: What the mark says.
        pattern: Finds a secret. Its group `secret` is what is replaced, or the whole match where
            there is no such group. It must need time in proportion to the text, so with a `check`
            the length of a match must be bounded.
        needles: Lower-case strings of which a text must hold one (case ignored) to be worth a
            scan. Without needles every text is scanned.
        check: Says whether what `pattern` found is a secret; default: always.

    >>> rule = Rule("iban", re.compile(r"DE[0-9]{20}"), needles=("de",))
    >>> Redactor(rules=(rule,)).text("from DE02120300000000202051 to Bob")
    'from [redacted:iban] to Bob'
    """

    name: str
    pattern: re.Pattern[str]
    needles: tuple[str, ...] = ()
    check: Callable[[str], bool] | None = None

    def needs(self, lowered: str) -> bool:
        """Say whether a text, given in lower case, is worth a scan."""
        return not self.needles or _holds_any(lowered, self.needles)

    def apply(self, text: str) -> str:
        """Return `text` with what this rule finds replaced by its mark."""
        return _replaced(text, self._found(text))

    def _found(self, text: str) -> Iterator[_Found]:
        group = "secret" if "secret" in self.pattern.groupindex else 0
        at = 0
        while at <= len(text) and (match := self.pattern.search(text, at)) is not None:
            start, end = match.span(group)
            if self.check is None or self.check(text[start:end]):
                yield start, end, self.name
                at = max(match.end(), match.start() + 1)  # a pattern may match nothing
            else:
                at = match.start() + 1


def _holds_any(text: str, needles: tuple[str, ...]) -> bool:
    for needle in needles:  # noqa: SIM110 - a loop, as a generator would take twice the time
        if needle in text:
            return True
    return False


def _replaced(text: str, found: Iterable[_Found]) -> str:
    """Return `text` with what was found, in order, replaced; marks in it stay as they are."""
    marks = _MARK.finditer(text)
    known = next(marks, None)
    parts: list[str] = []
    at = 0
    for start, end, name in found:
        while known is not None and known.end() <= start:
            known = next(marks, None)
        in_mark = known is not None and known.start() <= start and end <= known.end()
        if start < end and not in_mark:
            parts += (text[at:start], mark(name))
            at = end
    return "".join((*parts, text[at:])) if parts else text


def _token(
    name: str,
    prefix: str,
    body: str,
    *needles: str,
    before: str = "A-Za-z0-9",
    check: Callable[[str], bool] | None = None,
) -> Rule:
    """Return the rule of tokens that begin with `prefix`, which has a fixed width.

    None of the letters `before` may stand before a token, unless they are an escape. That is
    looked at after the prefix, so that the search starts at a literal.
    """
    start = rf"(?:(?<![{before}]{prefix})|(?<=\\[nrt]{prefix})|(?<=%[0-9A-Fa-f]{{2}}{prefix}))"
    return Rule(name, re.compile(prefix + start + body), needles or (prefix.lower(),), check)


def _is_random(text: str) -> bool:
    """Say whether `text` is no name made of words and dashes."""
    return _RANDOM.search(text) is not None


_RANDOM: Final = re.compile("[A-Za-z0-9]{20}|[0-9].*[A-Z]|[A-Z].*[0-9]")


def _is_bearer(text: str) -> bool:
    """Say whether what follows `Bearer` is a token rather than the next word."""
    word = text.rstrip("=")
    return len(word) >= _LONG_WORD or not word.isalpha() or not word[1:].islower()


_LONG_WORD: Final = 20


def _is_basic(text: str) -> bool:
    """Say whether `text` is `user:password` in base64."""
    try:
        return b":" in base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except binascii.Error:
        return False


def _is_card(text: str) -> bool:
    digits = text.replace(" ", "").replace("-", "")
    return _ISSUERS.fullmatch(digits) is not None and _luhn(digits)


def _luhn(digits: str) -> bool:
    code = digits.encode()
    return (sum(code[-1::-2].translate(_ONCE)) + sum(code[-2::-2].translate(_TWICE))) % 10 == 0


_ONCE: Final = bytes((code - 48) % 10 for code in range(256))
_TWICE: Final = bytes(sum(divmod(2 * digit, 10)) for digit in _ONCE)

_ISSUERS: Final = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    r"|5[1-5][0-9]{14}"  # Mastercard
    r"|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|3(?:0[0-5][0-9]|095|[689][0-9]{2})[0-9]{10}"  # Diners Club
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"  # JCB
    r"|6(?:011|4[4-9][0-9]|5[0-9]{2}|2[0-9]{2})[0-9]{12,15}"  # Discover, UnionPay
    r"|220[0-4][0-9]{12,15}"  # Mir
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])[0-9]{8,15}"  # Maestro
)

#: The content rules that a `Redactor` has unless told otherwise, in the order they are applied.
RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "private_key",
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"(?s:.*?)(?:-----END (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----|\Z)"
        ),
        ("private key",),
    ),
    # A password in a URL ends at the last @ before a slash.
    Rule(
        "url",
        re.compile(r"://[^\s/?#@:\[\]\"'<>]*+:(?P<secret>[^\s/?#\"'<>]+)@"),
        ("@",),
    ),
    # One with slashes in it; what begins as a port does is none.
    Rule(
        "url",
        re.compile(
            r"://[^\s/?#@:\[\]\"'<>]*+:(?![0-9]{1,5}[/?#])(?P<secret>(?:(?!://)[^\s\"'<>@])++)@"
        ),
        ("@",),
    ),
    Rule(
        "url",
        re.compile(r"jdbc:oracle:\w{1,20}:[^\s/@]{0,64}+/(?P<secret>[^\s@]{1,128}+)@"),
        ("jdbc:oracle",),
    ),
    # A token in place of the user.
    Rule(
        "url",
        re.compile(r"://(?:(?<=http://)|(?<=https://))(?P<secret>[\w.~%+=-]{16,}+)@"),
        ("@",),
    ),
    Rule(
        "signature",
        re.compile(
            r"[?&;](?i:sig|signature|x-amz-signature|x-amz-credential|x-goog-signature)"
            r"=(?P<secret>[^\s&;#\"'<>\\]+)"
        ),
        ("sig", "credential="),
    ),
    Rule(
        "azure",
        re.compile(r"AccountKey=(?P<secret>[A-Za-z0-9+/]{40,}={0,2})"),
        ("accountkey=",),
    ),
    # A header, a payload and perhaps more parts. It begins no later than the run of characters
    # that it is in, or a long run would be tried from many places.
    _token(
        "jwt",
        "eyJ",
        r"[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+){0,3}",
        before="A-Za-z0-9_-",
    ),
    Rule(
        "bearer",
        re.compile(r"[Bb](?i:earer)(?<!\w.{6})[ \t]+(?P<secret>[\w.~+/=-]{4,}(?<=[\w=/+-]))"),
        ("bearer",),
        _is_bearer,
    ),
    Rule(
        "basic",
        re.compile(r"[Bb](?i:asic)(?<!\w.{5})[ \t]+(?P<secret>[A-Za-z0-9+/]{4,}={0,2})"),
        ("basic",),
        _is_basic,
    ),
    _token("aws", "A(?:KIA|SIA)", "[A-Z0-9]{16}(?![A-Za-z0-9])", "akia", "asia"),
    _token("github", "gh[pousr]_", "[A-Za-z0-9]{30,}", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    _token("github", "github_pat_", "[A-Za-z0-9_]{22,}"),
    _token("gitlab", "glpat-", "[A-Za-z0-9_.-]{20,}"),
    _token("slack", "xox[abeoprs]-", "[A-Za-z0-9-]{10,}", "xox"),
    Rule(
        "slack",
        re.compile(r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[\w/]{8,})"),
        ("hooks.slack.com",),
    ),
    _token("slack", "xapp-", "[A-Za-z0-9-]{10,}"),
    _token("stripe", "[sr]k_(?:live|test)_", "[A-Za-z0-9]{16,}", "k_live_", "k_test_"),
    _token("stripe", "whsec_", "[A-Za-z0-9+/=]{20,}"),
    _token("google", "AIza", "[A-Za-z0-9_-]{30,}"),
    _token("google", r"ya29\.", "[A-Za-z0-9_-]{20,}", "ya29."),
    _token("anthropic", "sk-ant-", "[A-Za-z0-9_-]{16,}"),
    _token("openai", "sk-", "[A-Za-z0-9_-]{20,}+", before="A-Za-z0-9_-", check=_is_random),
    _token("npm", "npm_", "[A-Za-z0-9]{30,}"),
    _token("pypi", "pypi-", "A[A-Za-z0-9_-]{32,}"),
    _token("huggingface", "hf_", "[A-Za-z0-9]{30,}"),
    # Digits alone, or in groups with one kind of gap; no part of a longer number, id or word.
    # Every text is scanned for it, so it gives up early: times and ids do not reach the rest.
    Rule(
        "card",
        re.compile(
            r"[2-6][0-9][0-9][0-9](?=[ -]?[0-9][0-9])(?<!\w....)(?<![0-9][.-]....)(?:[0-9]{8,15}"
            r"|(?P<gap>[ -])(?:[0-9]{4}(?P=gap)[0-9]{4}(?P=gap)[0-9]{1,4}"
            r"(?:(?P=gap)[0-9]{3})?|[0-9]{6}(?P=gap)[0-9]{4,5}))(?!\w)(?![.-][0-9])"
        ),
        check=_is_card,
    ),
)

#: E-mail addresses: personal rather than secret, so only where asked.
EMAIL: Final = Rule(
    "email",
    re.compile(r"[\w%+-](?<![\w.%+-].)[\w.%+-]{0,63}+@(?:[\w-]{1,63}+\.){1,8}[^\W\d_]{2,24}"),
    ("@",),
)


# Rules by key ---------------------------------------------------------------------------------

#: Rule -> the words that make a key a secret's; several words stand one after the other.
_KEYS: Final[Mapping[str, str]] = {
    "private_key": "private key, signing key, encryption key, ssh key, master key",
    "access_key": "access key, access keys, account key, shared key",
    "api_key": "api key, api keys, auth key, subscription key, service account key",
    "authorization": "authorization, basic auth, proxy auth",
    "password": "password, passwords, passwd, pwd, passphrase, passcode, pass word, pass phrase,"
    " db pass, user pass, smtp pass, ftp pass",
    "cookie": "cookie, cookies, phpsessid, jsessionid",
    "credential": "credential, credentials, creds",
    "secret": "secret, secrets",
    "token": "token, tokens, jwt",
    "bearer": "bearer",
}

#: Endings of one word that are as telling as the word alone (`dbpassword`, `accesstoken`).
_ENDINGS: Final[Mapping[str, str]] = {
    "password": "password",
    "passwd": "password",
    "passphrase": "password",
    "secret": "secret",
    "token": "token",
    "apikey": "api_key",
    "accesskey": "access_key",
    "privatekey": "private_key",
    "secretkey": "secret",
}

#: After the words of a secret these say that the value only tells something about it.
_ABOUT: Final = frozenset(
    "age alg algorithm arn at attempts budget changed class count counts created date days enabled"
    " endpoint error errors expiration expire expired expires expiry failures field file filename"
    " format hits ids index kind length len limit limits manager max min missing ms name names path"
    " per policy position present provider rate ratio refreshed required reset retries rotated"
    " seconds set size state status strength time timestamp total ttl type types updated uri url"
    " usage used valid version".split()
)

#: Before `token` these say that it is a unit, or a symbol of a language model.
_UNITS: Final = frozenset(
    "bos cls completion count eos input mask max min n num number output pad per prompt sep special"
    " stop total unk".split()
)

#: Only after these, or alone, `tokens` are secrets rather than a number of them.
_HOLDERS: Final = frozenset(
    "access api auth authorization bearer csrf device id oauth refresh secret security service"
    " session user xsrf".split()
)

#: Parts of text without which no key of a secret can be in it.
_KEY_NEEDLES: Final = ("pass", "pwd", "secret", "token", "key", "auth", "cookie", "cred", "bearer",
                       "jwt", "sessid")  # fmt: skip

_HUMPS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD: Final = re.compile(r"[^\W\d_]+|[0-9]+")

_Words = tuple[str, ...]
_Found = tuple[int, int, str]


def _words(key: str) -> _Words:
    return tuple(_WORD.findall(_HUMPS.sub(" ", key).lower()))


@dataclass(frozen=True, slots=True)
class _KeyRule:
    """Why the value of a key is a secret.

    Attributes:
        name: What the mark says.
        plural: The key may count secrets (`tokens`), so numbers stay.
        asked: The user named the key, so booleans go too.
    """

    name: str
    plural: bool = False
    asked: bool = False

    def is_nothing(self, value: object) -> bool:
        """Say whether `value` gives nothing away, so that it stays."""
        if value is None:
            return True
        if isinstance(value, (str, bytes, bytearray, list, tuple, dict, set, frozenset)):
            return not len(value)
        if isinstance(value, bool):
            return not self.asked
        return self.plural and isinstance(value, (int, float))

    def is_nothing_in_text(self, text: str) -> bool:
        """Say the same of a value that was found in a text."""
        if self.plural and _NUMBER.fullmatch(text):
            return True
        return (_NO_VALUE if self.asked else _NO_SECRET).fullmatch(text) is not None


_NUMBER: Final = re.compile(r"[0-9][0-9.,_]*")
_NO_VALUE: Final = re.compile(r"none|null|nil|[\[{|>-]|\.\.\.", re.IGNORECASE)
_NO_SECRET: Final = re.compile(f"{_NO_VALUE.pattern}|true|false", re.IGNORECASE)

#: The rule of keys whose values are to be left as they are.
_ALLOWED: Final = _KeyRule("allowed")

#: How many short texts are remembered, and how long they may be.
_MOST_KNOWN: Final = 2048
_SHORT: Final = 256


class _Keys:
    """Says which keys are those of secrets, and finds `key=value` in a text."""

    def __init__(self, asked: frozenset[_Words], allowed: frozenset[_Words]) -> None:
        self._allowed = allowed
        self._asked = {words: "_".join(words) for words in asked if words}
        self._phrases = {
            tuple(phrase.split()): name
            for name, phrases in _KEYS.items()
            if _words(name) not in allowed
            for phrase in phrases.split(", ")
        }
        self._endings = {
            ending: name for ending, name in _ENDINGS.items() if _words(name) not in allowed
        }
        self._longest = max(map(len, (*self._phrases, *self._asked)), default=1)
        self._known: dict[str, _KeyRule | None] = {}
        self.needles = (*_KEY_NEEDLES, *(max(words, key=len) for words in self._asked))

    def rule(self, key: str) -> _KeyRule | None:
        """Return why the value of `key` is a secret, or None if it is not."""
        try:
            return self._known[key]
        except KeyError:
            rule = self._rule_of_words(_words(_MARK.sub(" ", key)))
        if len(key) <= _SHORT:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = rule
        return rule

    def _rule_of_words(self, words: _Words) -> _KeyRule | None:
        if words in self._allowed:
            return _ALLOWED
        for start in range(len(words)):
            for end in range(start + 1, min(start + self._longest, len(words)) + 1):
                rule = self._rule_of_phrase(words, start, end)
                if rule is not None:
                    return rule
        return None

    def _rule_of_phrase(self, words: _Words, start: int, end: int) -> _KeyRule | None:
        phrase = words[start:end]
        if phrase in self._asked:
            return _KeyRule(self._asked[phrase], asked=True)
        name = self._phrases.get(phrase) or (self._ending(phrase[0]) if end == start + 1 else None)
        if name is None or not _ABOUT.isdisjoint((*words[end : end + 1], *words[end:][-1:])):
            return None
        before = words[start - 1] if start else ""
        if name == "token" and before in _UNITS:
            return None
        if phrase == ("tokens",) and before and before not in _HOLDERS:
            return None
        return _KeyRule(name, plural=phrase[-1].endswith("s") and phrase[-1] != "pass")

    def _ending(self, word: str) -> str | None:
        for ending, name in self._endings.items():
            if word.endswith(ending):
                return name
        return None

    def pairs(self, text: str) -> Iterator[_Found]:
        """Find the values of `key=value`, `key: value`, `--key value` whose key is a secret's."""
        at = 0
        while (pair := _PAIR.search(text, at)) is not None:
            at = pair.end()
            rule = self._rule_of_pair(pair)
            if rule is None or rule is _ALLOWED:
                continue
            value = self._value_of_pair(rule, pair)
            if value is None:
                continue
            at = value.end()
            if not _tells_nothing(rule, pair, value):
                start, end = value.span(value.lastgroup or 0)
                yield start, end, rule.name

    def _rule_of_pair(self, pair: re.Match[str]) -> _KeyRule | None:
        key, more = pair["option"] or pair["first"] or pair["key"], pair["more"]
        if more is None or self.rule(key) is not None:
            return self.rule(more or key)
        return self.rule(more) or self.rule(f"{key} {more}")

    def _value_of_pair(self, rule: _KeyRule, pair: re.Match[str]) -> re.Match[str] | None:
        text, end = pair.string, pair.end()
        before = text[max(pair.start() - 1, 0) : pair.start()]
        if before in {"?", "&"}:
            return _PARAMETER.match(text, end)
        opened = before in {'"', "'"} and pair["sign"] is not None and pair["closing"] is None
        if opened and text.startswith(before, end):
            return None  # the quote of "Password: " ends it
        return (rule.name == "cookie" and _COOKIES.match(text, end)) or _VALUE.match(text, end)


def _tells_nothing(rule: _KeyRule, pair: re.Match[str], value: re.Match[str]) -> bool:
    """Say whether a value in a text gives nothing away, or is a sentence that goes on."""
    text = value[value.lastgroup or 0]
    in_prose = value.lastgroup == "bare" and pair["sign"] in {":", None} and pair[0][-1].isspace()
    return (
        not text
        or rule.is_nothing_in_text(text)
        or (in_prose and _PROSE.fullmatch(text) is not None)
    )


# key=value in a text --------------------------------------------------------------------------

#: A key and what stands between it and its value: `password=`, `"password": `, `api key: `,
#: `--password `, `('password', `. Each run of letters is read at most twice.
_PAIR: Final = re.compile(
    r"""
    (?<![\w.$-])(?<!//)
    (?:
        (?P<option>--?[A-Za-z][\w.-]*+)["']?,?[ ]{1,4}(?=[^\s-])
      | (?:(?<=\(["'])|(?<=\(b["']))(?P<first>[\w.-]++)["'],\s{0,2}(?=b?["'])
      | (?P<key>[\w.$-]++)(?:[ ](?P<more>\w++))?
        (?P<closing>\\{0,7}["'])?\]?
        [ \t]{0,40}(?P<sign>:[ ](?:str|bytes)(?:[ ]\|[ ]None)?[ ]=|=>|[:=]{1,2})[ \t]{0,40}
    )
    """,
    re.VERBOSE,
)

#: Punctuation belongs to a value that stands without quotes unless it ends the word, the string
#: around it or comes before the next key.
_BARE: Final = r"""
    (?:\[redacted:[^\]\s]{1,100}\]
     | [^\s,;&"'`\\()<>\[\]}]++
     | \[
     | (?!["'`]\s{0,4}[,:\]})])[,;&"'`\\()<>\]}]++
       (?![:.!?]?(?:\s|\Z))(?![\w.-]{1,64}\\{0,7}["']?\s?[=:])
    )++
"""

#: A value in quotes (escaped or not), in brackets, or bare.
_VALUE: Final = re.compile(
    r"""
    (?:[bBfFrRuU]{1,2}(?=["']))?
    (?: "(?P<double>(?:[^"\\]++|\\(?s:.)?|"")*+)
      | '(?P<single>(?:[^'\\]++|\\(?s:.)?|'')*+)
      | (?P<quote>\\{1,7}["'])(?P<escaped>(?s:.*?))(?:(?<!\\)(?P=quote)|\Z)
      | (?P<list>\[(?!redacted:)(?:[^\[\]]++|\[[^\[\]]*+\])*+(?:\]|\Z))
      | (?P<dict>\{(?=\\{0,7}["'])(?:[^{}]++|\{[^{}]*+\})*+(?:\}|\Z))
      | (?P<bare>
            (?i:aws4-hmac-sha256|apikey|basic|bearer|digest|dpop|hawk|hmac|mac|negotiate|ntlm|oauth
               |signature|ssws|token)[ \t]+(?=\S) BARE
            (?:,[ ]?[\w-]{1,40}=(?:"[^"]*+"?|[^\s,"']++))*+
          | (?!\{\\{0,7}["']) BARE
        )
    )
    """.replace("BARE", _BARE),
    re.VERBOSE,
)

#: A value in the query of a URL.
_PARAMETER: Final = re.compile("(?P<bare>[^\\s&#\"'<>]++)")

#: `a=b; c=d; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT`
_COOKIES: Final = re.compile(
    r"""
    (?P<bare>
        [^\s;,"'=<>()]++=(?:"[^"]*+"|[^\s;"'<>]*+)
        (?:;[ ]?[^\s;,"'=<>()]++
            (?:=(?:"[^"]*+"|[^\s;"'<>]*+
                (?:[ ][0-9]{1,2}[ -]\w{3}[ -][0-9]{2,4}[ ][0-9:]{8}[ ]GMT)?))?
        )*+
    )
    """,
    re.VERBOSE,
)

#: What follows `token: ` in a sentence about a token, or in source code.
_PROSE: Final = re.compile(
    r"(?:a|an|and|any|are|bad|bytes|cannot|denied|empty|expected|expired|for|found|has|in|incorrect"
    r"|int|invalid|is|malformed|missing|must|no|not|of|ok|only|options?|or|required|should|str|the"
    r"|too|unexpected|unknown|unset|unsupported|valid|was|wrong)[.:!]?",
    re.IGNORECASE,
)


# The redactor ---------------------------------------------------------------------------------

_ATOMS: Final = frozenset({int, float, bool, type(None)})
_MOST_DEPTH: Final = 32
_MOST_PASSES: Final = 4
#: A longer text that may hold a secret is cut, so that no text holds the program up for long.
_MOST_TEXT: Final = 1 << 19

_Container = Mapping[Any, object] | Collection[object]

#: Containers met so far by id, each with what it became.
_Seen = dict[int, tuple[object, object]]


def _remember(known: set[str], texts: list[str]) -> None:
    """Add texts to a set of bounded size."""
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known.update(texts)


def _cut(text: str) -> str:
    """Return `text` without what is beyond the longest that is looked at, cut between words."""
    if len(text) <= _MOST_TEXT:
        return text
    start = _MOST_TEXT - _SHORT
    end = max(text.rfind(space, start, _MOST_TEXT) for space in (" ", "\n", "\t"))
    return text[: end if end > 0 else start] + mark("size")


def _is_mark(value: object) -> bool:
    return isinstance(value, str) and _MARK.fullmatch(value) is not None


def _is_pair(values: Sequence[object]) -> bool:
    return len(values) == 2 and isinstance(values[0], (str, bytes))  # noqa: PLR2004


def _same(old: Sequence[object], new: Sequence[object]) -> bool:
    return all(map(operator.is_, old, new))


def _as_text(key: str | bytes) -> str:
    return str.__str__(key) if isinstance(key, str) else key.decode("utf-8", "surrogateescape")


def _rebuilt(old: object, new: list[object]) -> object:
    """Return `new` in a container of the kind of `old`."""
    if isinstance(old, tuple):
        make = getattr(old, "_make", tuple)
        return make(new)
    for kind in (set, frozenset):
        if isinstance(old, kind):
            return kind(new)
    return new


class Redactor:
    """Replaces secrets in texts, values and mappings by marks that name the rule.

    Nothing is changed in place, nothing raises, and what holds no secret is returned as it is
    (the same object). None, empty values and booleans under a secret's key stay, as do numbers
    under a plural that may count (`tokens`); other values there go whole, containers included.
    What cannot be looked at is marked too: `[redacted:cycle]`, `[redacted:depth]` (beyond 32
    levels), `[redacted:error]`, and `[redacted:size]` for what follows the first 512 Ki characters
    of a text that may hold a secret.

    Args:
        keys: More keys whose values are secrets, in any spelling (`patient_name` also finds
            `patientName` and `X-Patient-Name-Raw`); the mark bears the key's name. `email` here
            is also the option of that name. Of the values here only None and empty ones stay.
        allow: Exceptions: rules by name (`card`), and keys whose values stay as they are.
        rules: The content rules, in the order they are applied: `(*RULES, Rule(…))` adds one.
        email: Replace e-mail addresses too.

    >>> redactor = Redactor(keys=["ssn"])
    >>> redactor.mapping({"user": "ann", "db_password": "hunter2", "input_tokens": 12})
    {'user': 'ann', 'db_password': '[redacted:password]', 'input_tokens': 12}
    >>> redactor.text("cannot reach postgres://etl:hunter2@db/orders")
    'cannot reach postgres://etl:[redacted:url]@db/orders'
    """

    __slots__ = ("_clean", "_harmless", "_hint", "_keys", "_rules", "_unhinted")

    def __init__(
        self,
        *,
        keys: Iterable[str] = (),
        allow: Iterable[str] = (),
        rules: Sequence[Rule] = RULES,
        email: bool = False,
    ) -> None:
        asked = frozenset(map(_words, keys))
        allowed = frozenset(map(_words, allow))
        if email or ("email",) in asked:
            rules = (*rules, EMAIL)
        self._rules = tuple(rule for rule in rules if _words(rule.name) not in allowed)
        self._unhinted = tuple(rule for rule in self._rules if not rule.needles)
        self._keys = _Keys(asked, allowed)
        needles = {needle for rule in self._rules for needle in rule.needles}
        self._hint = re.compile("|".join(map(re.escape, sorted(needles | {*self._keys.needles}))))
        self._clean: set[str] = set()
        self._harmless: set[str] = set()

    def text(self, text: str) -> str:
        """Replace the secrets inside a text.

        Args:
            text: Any text: a message, a URL, a traceback.

        Returns:
            The text with marks, or `text` itself where it holds no secret.

        >>> Redactor().text("login with password=hunter2 failed")
        'login with password=[redacted:password] failed'
        """
        try:
            plain = text if type(text) is str else str.__str__(text)
            if plain in self._clean:
                return text
            changed = self._settled(_cut(plain)) if self._may_hold(plain) else plain
        except Exception:  # noqa: BLE001 - a rule of the user's may fail; its text must not leak
            return mark("error")
        if changed != plain:
            return changed
        if len(plain) <= _SHORT:
            _remember(self._clean, [plain])
        return text

    def value(self, key: str, value: object) -> object:
        """Replace a value whose key is a secret's, and the secrets inside any other value.

        Args:
            key: Name of the field, attribute or header.
            value: Anything. Strings, bytes, mappings, lists, tuples and sets are looked into;
                pairs like `("Authorization", "…")` count as keys with values. Other objects stay:
                pass the text that they are rendered to through `text`.

        Returns:
            A mark, a changed copy, or `value` itself where it holds no secret.

        >>> Redactor().value("headers", [("Cookie", "a=b"), ("Accept", "*/*")])
        [('Cookie', '[redacted:cookie]'), ('Accept', '*/*')]
        """
        return self._field(key, value, {}, 0)

    def mapping(self, mapping: Mapping[str, object]) -> Mapping[str, object]:
        """Replace the secrets in the fields of a mapping.

        Args:
            mapping: Fields of a log line, or attributes.

        Returns:
            A new dict, or `mapping` itself where it holds no secret.

        >>> fields = {"event": "loaded", "rows": 3}
        >>> Redactor().mapping(fields) is fields
        True
        """
        try:
            if self._is_plain(mapping):
                return mapping
            return self._mapping(mapping, {}, 0)
        except Exception:  # noqa: BLE001 - a broken mapping must not stop the line it is in
            return {"redaction": mark("error")}

    def _is_plain(self, mapping: Mapping[str, object]) -> bool:
        """Say, as fast as can be, whether the fields are texts and numbers without secrets."""
        harmless, clean = self._harmless, self._clean
        unknown: list[str] = []
        for key, value in mapping.items():
            if key not in harmless and not self._is_harmless(key):
                return False
            if type(value) is str:
                if value not in clean:
                    unknown.append(value)
            elif type(value) not in _ATOMS:
                return False
        if unknown:
            joined = "\n".join(unknown)
            if self._may_hold(joined):
                return False
            if len(joined) <= _SHORT:
                _remember(clean, unknown)
        return True

    def _is_harmless(self, key: object) -> bool:
        """Say whether a key is neither a secret's, nor allowed, nor holds a secret itself."""
        if type(key) is not str:
            return type(key) in _ATOMS
        if self._keys.rule(key) is not None or self.text(key) is not key:
            return False
        if len(key) <= _SHORT:
            _remember(self._harmless, [key])
        return True

    def _may_hold(self, text: str) -> bool:
        """Say, after a cheap look, whether a text may hold a secret."""
        if self._hint.search(text.lower()) is not None:
            return True
        for rule in self._unhinted:  # noqa: SIM110 - as in _holds_any
            if rule.pattern.search(text) is not None:
                return True
        return False

    def _settled(self, text: str) -> str:
        """Apply every rule until nothing changes: a mark may uncover what stands beside it."""
        for _ in range(_MOST_PASSES):
            before, lowered = text, text.lower()
            for rule in self._rules:
                if rule.needs(lowered):
                    text = rule.apply(text)
            if _holds_any(lowered, self._keys.needles):
                text = _replaced(text, self._keys.pairs(text))
            if text == before:
                break
        return text

    def _field(self, key: object, value: object, seen: _Seen, depth: int) -> object:
        try:
            rule = None
            if isinstance(key, (str, bytes)):
                rule = self._keys.rule(self.text(_as_text(key)))
            if rule is None:
                return self._walk(value, seen, depth)
            if rule is _ALLOWED or rule.is_nothing(value) or _is_mark(value):
                return value
            return mark(rule.name)
        except Exception:  # noqa: BLE001 - a broken object must not stop the fields beside it
            return mark("error")

    def _walk(self, value: object, seen: _Seen, depth: int) -> object:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (bytes, bytearray)):
            return self._bytes(value)
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return self._container(value, seen, depth)
        return value

    def _container(self, value: _Container, seen: _Seen, depth: int) -> object:
        if id(value) in seen:
            return seen[id(value)][1]
        if depth == _MOST_DEPTH:
            return mark("depth")
        seen[id(value)] = (value, mark("cycle"))
        if isinstance(value, Mapping):
            changed: object = self._mapping(value, seen, depth)
        else:
            changed = self._sequence(value, seen, depth)
        seen[id(value)] = (value, changed)
        return changed

    def _mapping(
        self, mapping: Mapping[Any, object], seen: _Seen, depth: int
    ) -> Mapping[Any, object]:
        old = list(mapping.items())
        new = [
            (self._walk(key, seen, depth + 1), self._field(key, value, seen, depth + 1))
            for key, value in old
        ]
        return mapping if all(map(_same, old, new)) else dict(new)

    def _sequence(self, values: Collection[object], seen: _Seen, depth: int) -> object:
        old = list(values)
        names = getattr(values, "_fields", None)
        if isinstance(names, tuple):
            new = [
                self._field(name, value, seen, depth + 1)
                for name, value in zip(names, old, strict=False)
            ]
        elif isinstance(values, tuple) and _is_pair(old):
            new = self._pair(old, seen, depth)
        else:
            new = [
                self._pair(value, seen, depth + 1)
                if isinstance(value, list) and _is_pair(value)
                else self._walk(value, seen, depth + 1)
                for value in old
            ]
            self._options(old, new, seen, depth)
        return values if _same(old, new) else _rebuilt(values, new)

    def _options(self, old: list[object], new: list[object], seen: _Seen, depth: int) -> None:
        """Mask what follows an option of a command line, as in `["--password", "hunter2"]`."""
        for index, option in enumerate(old[:-1]):
            value = old[index + 1]
            if isinstance(option, str) and option.startswith("-") and isinstance(value, str):
                masked = self._field(option[:_SHORT].lstrip("-"), value, seen, depth + 1)
                if masked is not value:
                    new[index + 1] = masked

    def _pair(self, pair: list[object], seen: _Seen, depth: int) -> list[object]:
        key, value = pair
        changed = [self._walk(key, seen, depth + 1), self._field(key, value, seen, depth + 1)]
        return pair if _same(pair, changed) else changed

    def _bytes(self, value: bytes | bytearray) -> bytes | bytearray:
        text = value.decode("utf-8", "surrogateescape")
        changed = self.text(text)
        return value if changed is text else type(value)(changed.encode("utf-8", "surrogateescape"))


class _Off(Redactor):
    """Changes nothing."""

    __slots__ = ()

    def text(self, text: str) -> str:
        return text

    def value(self, key: str, value: object) -> object:  # noqa: ARG002
        return value

    def mapping(self, mapping: Mapping[str, object]) -> Mapping[str, object]:
        return mapping


#: A redactor that changes nothing.
OFF: Final[Redactor] = _Off()
