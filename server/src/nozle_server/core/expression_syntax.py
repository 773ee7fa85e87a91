"""The grammar of expressions over an event, from text to a tree. What the tree means: `expression.py`.

    sum     = product (("+" | "-") product)*
    product = operand (("*" | "/") operand)*
    operand = ["-"] (number | 'text' | event | function "(" sum ("," sum)* ")" | "(" sum ")")
    event   = "event.code" | "event.timestamp" | "event.properties." name

As Lago writes them (https://getlago.com/docs/guide/billable-metrics/sql-expressions): one minus sign before
an operand, no escapes in texts, function names in any case. Beyond Lago, a name may start with an
underscore and white space may be a line break, so that a catalog file can fold a long expression.

Everything is ASCII but the inside of a text. Length and nesting are bounded, and a chain such as 1+1+1+...
is one flat node, so that neither reading nor evaluating can exhaust the stack.
"""

import re
from dataclasses import dataclass
from decimal import Decimal

from nozle_server.core.errors import InvalidInput

MAX_LENGTH = 2_000
MAX_NESTING = 32

_MAX_LITERAL_DIGITS = 18
# How many arguments a function takes at most (None: any number); none takes less than one.
_MOST_ARGUMENTS = {"concat": None, "round": 2, "ceil": 2, "floor": 2, "least": None, "greatest": None}

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<number>[0-9]+(?:\.[0-9]+)?)
      | (?P<text>'[^']*')
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)
      | (?P<sign>[-+*/(),])""",
    re.VERBOSE,
)
_PROPERTY = re.compile(r"event\.properties\.([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class Literal:
    value: Decimal | str


@dataclass(frozen=True, slots=True)
class EventCode:
    pass


@dataclass(frozen=True, slots=True)
class EventTimestamp:
    pass


@dataclass(frozen=True, slots=True)
class EventProperty:
    name: str


@dataclass(frozen=True, slots=True)
class Negation:
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Chain:
    """Operators of one precedence, applied from left to right: `first`, then each (operator, operand)."""

    first: "Node"
    rest: tuple[tuple[str, "Node"], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """`function` in lower case, with as many arguments as it takes."""

    function: str
    arguments: tuple["Node", ...]


Node = Literal | EventCode | EventTimestamp | EventProperty | Negation | Chain | Call


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # a group of _TOKEN, or "end"
    text: str
    position: int  # of its first character, counted from 1


def parse(text: str) -> Node:
    """The tree of an expression; InvalidInput `{"expression": ["invalid_expression"]}` tells the position."""
    if len(text) > MAX_LENGTH:
        raise _invalid(f"The expression is longer than {MAX_LENGTH} characters.")
    return _Parser(_tokenize(text)).parse()


def _tokenize(text: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unexpected(at + 1, "a number, 'text', event attribute, function or operator")
        kind = match.lastgroup
        assert kind is not None, "every alternative of the token pattern is named"
        if kind != "space":
            tokens.append(_Token(kind, match.group(), at + 1))
        at = match.end()
    tokens.append(_Token("end", "", len(text) + 1))
    return tokens


class _Parser:
    """Reads tokens from left to right, one method for each rule of the grammar."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._nesting = 0

    def parse(self) -> Node:
        node = self._sum()
        if self._peek().kind != "end":
            raise _unexpected(self._peek().position, "an operator or the end")
        return node

    def _sum(self) -> Node:
        first = self._product()
        rest = []
        while self._peek().text in ("+", "-"):
            rest.append((self._take().text, self._product()))
        return Chain(first, tuple(rest)) if rest else first

    def _product(self) -> Node:
        first = self._operand()
        rest = []
        while self._peek().text in ("*", "/"):
            rest.append((self._take().text, self._operand()))
        return Chain(first, tuple(rest)) if rest else first

    def _operand(self) -> Node:
        if self._peek().text == "-":
            self._take()
            return Negation(self._primary())
        return self._primary()

    def _primary(self) -> Node:
        token = self._take()
        match token.kind:
            case "number":
                return _number(token)
            case "text":
                return Literal(token.text[1:-1])
            case "name" if self._peek().text == "(":
                return self._call(token)
            case "name":
                return _event_attribute(token)
            case "sign" if token.text == "(":
                (node,) = self._parenthesized(token)
                return node
        raise _unexpected(token.position, "a value")

    def _call(self, name: _Token) -> Call:
        function = name.text.lower()
        if function not in _MOST_ARGUMENTS:
            raise _unexpected(name.position, f"one of the functions {', '.join(_MOST_ARGUMENTS)}")
        arguments = self._parenthesized(self._take(), several=True)
        most = _MOST_ARGUMENTS[function]
        if most is not None and len(arguments) > most:
            raise _unexpected(name.position, f"at most {most} arguments of {function}")
        return Call(function, arguments)

    def _parenthesized(self, opening: _Token, *, several: bool = False) -> tuple[Node, ...]:
        """What stands between parentheses, of which the opening one is taken already."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise _unexpected(opening.position, f"at most {MAX_NESTING} levels of parentheses")
        nodes = [self._sum()]
        while several and self._peek().text == ",":
            self._take()
            nodes.append(self._sum())
        closing = self._take()
        if closing.text != ")":
            raise _unexpected(closing.position, "a closing parenthesis")
        self._nesting -= 1
        return tuple(nodes)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind != "end":  # the end stays, whoever asks
            self._next += 1
        return token


def _number(token: _Token) -> Literal:
    whole, _, fraction = token.text.partition(".")
    if max(len(whole), len(fraction)) > _MAX_LITERAL_DIGITS:
        raise _unexpected(
            token.position, f"a number of at most {_MAX_LITERAL_DIGITS} digits on either side of the point"
        )
    return Literal(Decimal(token.text))


def _event_attribute(token: _Token) -> Node:
    if token.text == "event.code":
        return EventCode()
    if token.text == "event.timestamp":
        return EventTimestamp()
    if property_ := _PROPERTY.fullmatch(token.text):
        return EventProperty(property_.group(1))
    raise _unexpected(token.position, "event.code, event.timestamp or event.properties.name")


def _unexpected(position: int, expected: str) -> InvalidInput:
    return _invalid(f"The expression is not valid at character {position}: expected {expected}.")


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(message, details={"expression": ["invalid_expression"]})
