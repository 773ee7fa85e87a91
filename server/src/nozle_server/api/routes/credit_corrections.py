"""What undoes or moves credits: refunds, corrections, transfers between customers."""

from decimal import Decimal

import msgspec

from nozle_server.api.endpoint import SEED, Amount, Call, Endpoint, Example, Scope
from nozle_server.api.ledger_forms import TRANSACTION, example_transaction, read_system, transaction_json
from nozle_server.api.shapes import BOOLEAN, NUMBER, STRING, shape
from nozle_server.core.errors import InvalidInput, RuleBroken
from nozle_server.core.ids import from_text
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import parse_id, parse_text
from nozle_server.credits.model import ZERO, Entry
from nozle_server.credits.operations.corrections import (
    correct_balance,
    refund_deduction,
    transfer_between_customers,
)
from nozle_server.credits.queries import show_entry
from nozle_server.customers.queries import get_customer


class RefundBody(msgspec.Struct):
    """All that was not given back yet, when no `amount` is given."""

    amount: Amount | None = None
    description: str | None = None


class CorrectionBody(msgspec.Struct):
    """`amount` is signed and not 0; `description` says why."""

    amount: Amount
    description: str
    credit_system: str | None = None


class CustomerTransferBody(msgspec.Struct):
    """`amount` is positive."""

    from_customer_id: str
    to_customer_id: str
    amount: Amount
    credit_system: str | None = None
    description: str | None = None


async def refund(call: Call) -> object:
    body: RefundBody = call.body or RefundBody()
    entry_id = from_text("txn", call.path["txn_id"], what="transaction")
    customer = await get_customer(call.tx, call.org_id, call.path["id"])
    entry, balance = await refund_deduction(
        call.tx,
        call.services.seams.change_bus,
        org_id=call.org_id,
        customer_id=customer.id,
        entry_id=entry_id,
        amount=None if body.amount is None else _positive(body.amount),
        description=parse_text(body.description, "description"),
        now=call.now,
    )
    return await _told(call, entry, balance)


async def correct(call: Call) -> object:
    body: CorrectionBody = call.body
    amount = parse_amount(Decimal(body.amount), "amount")
    if not amount:
        raise InvalidInput("amount must not be 0", details={"amount": ["value_is_out_of_range"]})
    description = parse_text(body.description, "description")
    if description is None or not description.strip():
        raise InvalidInput("description is required", details={"description": ["value_is_mandatory"]})
    customer = await get_customer(call.tx, call.org_id, call.path["id"])
    entry, balance = await correct_balance(
        call.tx,
        call.services.seams.change_bus,
        org_id=call.org_id,
        customer_id=customer.id,
        credit_system=await read_system(call, body.credit_system),
        amount=amount,
        description=description,
        now=call.now,
    )
    return await _told(call, entry, balance)


async def transfer(call: Call) -> object:
    body: CustomerTransferBody = call.body
    amount = _positive(body.amount)
    source_id = parse_id(body.from_customer_id, "from_customer_id")
    target_id = parse_id(body.to_customer_id, "to_customer_id")
    if source_id == target_id:
        raise RuleBroken("both are the same customer", code="same_customer")
    source = await get_customer(call.tx, call.org_id, source_id)
    target = await get_customer(call.tx, call.org_id, target_id)
    system = await read_system(call, body.credit_system)
    taken, given = await transfer_between_customers(
        call.tx,
        call.services.seams.change_bus,
        org_id=call.org_id,
        from_customer_id=source.id,
        to_customer_id=target.id,
        credit_system=system,
        amount=amount,
        description=parse_text(body.description, "description"),
        now=call.now,
    )
    return {
        "transferred": True,
        "amount": amount,
        "credit_system": system,
        "from": {"customer_id": source.external_id, **await _told(call, *taken)},
        "to": {"customer_id": target.external_id, **await _told(call, *given)},
    }


async def _told(call: Call, entry: Entry, balance: Decimal) -> dict[str, object]:
    shown = transaction_json(await show_entry(call.tx, call.org_id, entry), draws=True)
    return {**shown, "balance": balance}


def _positive(amount: Amount) -> Decimal:
    return parse_amount(Decimal(amount), "amount", minimum=ZERO, exclusive=True)


_SIDE = shape(customer_id=STRING, id=STRING, amount=NUMBER, balance_after=NUMBER, balance=NUMBER)

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/credits/{id}/transactions/{txn_id}/refund",
        handler=refund,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Give a deduction back",
        description=(
            "All of it that was not given back before, or `amount` of that: refunds of one deduction never come to more than"
            " it took (422 `refund_too_large`, then `already_refunded`). It goes back to the grants that it was taken of,"
            " what was taken last first; where a grant has expired since, it is written off again at once, and `balance`"
            " says what came of it. Only a transaction of type `deduct` is refunded, else it is a 422 `not_refundable`."
            " Budgets are not given back."
        ),
        tag="Credits",
        body=RefundBody,
        body_optional=True,
        reply_schema=TRANSACTION,
        errors=(404, 422),
        idempotent=True,
        ledger=True,
        one_at_a_time=(("path", "id"),),
        example=Example(
            request={"amount": 5, "description": "The model failed"},
            response=example_transaction(
                "refund",
                5,
                100,
                feature="chat",
                description="The model failed",
                refunds_transaction_id="txn_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
            ),
        ),
    ),
    Endpoint(
        method="POST",
        path="/credits/{id}/corrections",
        handler=correct,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Correct a customer's credits",
        description=(
            "A positive `amount` is added as a grant that never expires, a negative one taken of the customer's own grants in"
            " the order of spending: more than they hold is a 422 `insufficient_credits`. `description` says why."
        ),
        tag="Credits",
        body=CorrectionBody,
        reply_schema=TRANSACTION,
        errors=(404, 422),
        idempotent=True,
        ledger=True,
        one_at_a_time=(("path", "id"),),
        example=Example(
            request={"amount": -10, "description": "Granted twice by mistake"},
            response=example_transaction("adjustment", -10, 90, description="Granted twice by mistake"),
        ),
    ),
    Endpoint(
        method="POST",
        path="/credits/transfers",
        handler=transfer,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Transfer credits to another customer",
        description=(
            "Of the customer's own grants, in the order of spending; they keep their priorities and expiries. All of"
            " `amount` or nothing: less is a 422 `insufficient_credits`."
        ),
        tag="Credits",
        body=CustomerTransferBody,
        reply_schema=shape(
            transferred=BOOLEAN, amount=NUMBER, credit_system=STRING, **{"from": _SIDE, "to": _SIDE}
        ),
        errors=(404, 422),
        idempotent=True,
        key_required=True,
        ledger=True,
        one_at_a_time=(("body", "from_customer_id"), ("body", "to_customer_id")),
        example=Example(
            request={"from_customer_id": "cust_123", "to_customer_id": "cust_456", "amount": 25},
            response={
                "transferred": True,
                "amount": 25,
                "credit_system": "credits",
                "from": {"customer_id": "cust_123", **example_transaction("transfer", -25, 75)},
                "to": {"customer_id": "cust_456", **example_transaction("transfer", 25, 25)},
            },
        ),
    ),
)
