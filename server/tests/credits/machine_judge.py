"""Whether what was answered, and what is shown afterwards, is what the model says."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import permutations
from typing import Any

from credits.credit_model import Model
from credits.credit_values import ByKey, Id, Refused, Said
from credits.machine_house import Deed, Sent
from credits.machine_view import view
from world import Answer

Scope = tuple[str, str | None]


@dataclass(frozen=True)
class Replayed:
    """The answer that the key got before."""


@dataclass
class Judge:
    """`shown` is what the API shows by path, `first` what keys were answered first."""

    shown: Mapping[str, Any]
    first: Mapping[Scope, bytes]
    customers: Sequence[str]
    wrong: list[str] = field(default_factory=list)

    def explain(self, model: Model, sent: Sequence[Sent]) -> Model | None:
        """The model after these calls, in some order in which all that was answered and is shown is right; None, and
        `wrong` says what is in the order in which they were sent, when there is no such order.

        What got no answer was done, or was not. Where nothing shows which (a denial takes nothing), its key is in doubt:
        the next call with it may be the first.
        """
        for start in _doubted(model, sent):
            for order in permutations(sent):
                fitting = list(self._fitting(start, order))
                if fitting:
                    after, _ = fitting[0]
                    for one in sent:
                        after.doubtful.discard(scope_of(one.deed))
                        if len({one in left_out for _, left_out in fitting}) == 2:
                            after.doubtful.add(scope_of(one.deed))
                    return after
        return None

    def _fitting(self, model: Model, order: Sequence[Sent]) -> Iterator[tuple[Model, list[Sent]]]:
        for left_out in _subsets([one for one in order if not one.known]):
            after = model.copy()
            wrong = self._play(after, [one for one in order if one not in left_out])
            if wrong is None:
                yield after, left_out
            else:
                self.wrong = self.wrong or [wrong]

    def _play(self, model: Model, order: Iterable[Sent]) -> str | None:
        """Do all of it in the model; what does not fit, if anything."""
        for one in order:
            said = apply(model, one.deed)
            wrong = self._compare(one.deed, said, one.answer) if one.answer and one.known else None
            if wrong:
                return wrong
        for name in self.customers:
            for path, said in view(model, model.customers[name]).items():
                got = self.shown.get(path)
                if not fits(said, got):
                    return f"{path} shows {got}\n  where the model has {said}"
        return None

    def _compare(self, deed: Deed, said: Said | Refused | Replayed, answer: Answer) -> str | None:
        got = f"{deed}: answered {answer.status} {answer.body.decode()}"
        match said:
            case Refused():
                if not any((answer.status, answer.code) == (one.status, one.code) for one in said.either):
                    return f"{got}\n  where the model refuses with {said}"
            case Replayed():
                first = self.first.get(scope_of(deed), answer.body)
                if not is_replay(answer) or bare(answer.body) != bare(first):
                    return f"{got}\n  which does not repeat {first.decode()}"
            case _:
                # A replay of what nobody heard the first answer of is the first that is heard.
                if is_replay(answer) and scope_of(deed) in self.first:
                    return f"{got}\n  as if it had been done before"
                if answer.status != 200 or not fits(said, answer.json):
                    return f"{got}\n  where the model says {said}"
        return None


def apply(model: Model, deed: Deed) -> Said | Refused | Replayed:
    """Do it in the model."""
    scope, request = scope_of(deed), str(deed)
    if deed.key is not None and scope in model.keys:
        return Replayed() if model.keys[scope] == request else _reused(model, deed)
    try:
        said = deed.does(model)
    except Refused as refused:
        return refused
    if deed.key is not None:
        model.keys[scope] = request
    return said


def scope_of(deed: Deed) -> Scope:
    """In which a key is one call: other operations may have the same."""
    return deed.operation, deed.key


def _reused(model: Model, deed: Deed) -> Refused:
    """The key is another's; what would be refused anyway may be refused for that."""
    reused = Refused(409, "idempotency_key_reused")
    try:
        deed.does(model.copy())
    except Refused as refused:
        reused.or_else = refused
    return reused


def _doubted(model: Model, sent: Sequence[Sent]) -> Iterator[Model]:
    """The model with the keys of these calls that are in doubt, and without them."""
    yield model
    scopes = {scope_of(one.deed) for one in sent} & model.doubtful
    if scopes:
        without = model.copy()
        for scope in scopes:
            without.keys.pop(scope, None)
        yield without


def _subsets(of: Sequence[Sent]) -> Iterator[list[Sent]]:
    for bits in range(2 ** len(of)):
        yield [one for place, one in enumerate(of) if bits >> place & 1]


def is_replay(answer: Answer) -> bool:
    body = answer.json
    return answer.replayed or (isinstance(body, dict) and body.get("replayed") is True)


def bare(body: bytes) -> bytes:
    """An answer without what it says of being a replay."""
    return body.replace(b',"replayed":true}', b"}").replace(b',"replayed":false}', b"}")


def fits(said: object, got: object) -> bool:
    """Whether something has all that is said of it; ids that are new are learned."""
    match said:
        case Id():
            if said.of.id is None and isinstance(got, str):
                said.of.id = got
            return said.of.id == got
        case ByKey():
            if not isinstance(got, list) or len(got) != len(said.rows):
                return False
            return fits(said.rows, {row[said.key]: row for row in got})
        case dict():
            return isinstance(got, dict) and all(fits(value, got.get(name)) for name, value in said.items())
        case list():
            return isinstance(got, list) and len(said) == len(got) and all(map(fits, said, got))
        case Decimal():
            return isinstance(got, str | int | Decimal) and Decimal(got) == said
        case datetime():
            return isinstance(got, str) and datetime.fromisoformat(got) == said
        case _:
            return said == got
