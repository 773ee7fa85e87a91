"""PDFs through the API: by key, and by links that open without one."""

from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest

from documents.builders import text_of
from nozle_server.api.links import file_path
from nozle_server.identity.operations import revoke_key
from nozle_server.identity.signed_links import LIFETIME, LinkSigner, find_signer
from nozle_server.invoicing.credit_notes.model import Reason
from nozle_server.invoicing.credit_notes.operations import CreditNoteDraft, create_credit_note
from world import Answer, World, instant

pytestmark = pytest.mark.database

HOST = "billing.example:8443"


async def _an_invoice(world: World, customer: str = "acme") -> dict[str, Any]:
    """A finalized invoice of tokens and a fixed fee."""
    await world.turn("2026-01-01")
    await world.a_metric()
    charge = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.01"}}
    await world.a_plan(amount_cents=9900, charges=[charge], name="Pro")
    await world.a_customer(customer, name="Acme «Ω» Ltd", legal_name="Acme Limited")
    await world.subscribe(customer, "pro")
    await world.use(customer, 1234567)
    await world.turn("2026-02-01")
    return await world.last_invoice(customer)


async def _download(world: World, invoice_id: str, **more: Any) -> Answer:
    return await world.call(
        "POST", f"/core/api/v1/invoices/{invoice_id}/download", headers={"host": HOST}, **more
    )


async def _open(world: World, url: str) -> Answer:
    """As a browser does: no key."""
    parts = urlsplit(url)
    return await world.client.send("GET", f"{parts.path}?{parts.query}", key=None)


async def _a_link(world: World) -> str:
    invoice = await _an_invoice(world)
    url = (await _download(world, invoice["lago_id"])).json["invoice"]["file_url"]
    assert isinstance(url, str)
    return url


async def test_the_file_url_opens_without_a_key_and_shows_the_invoice(world: World) -> None:
    invoice = await _an_invoice(world)
    answer = await _download(world, invoice["lago_id"])
    assert answer.status == 200
    found = answer.json["invoice"]
    assert (found["lago_id"], found["number"]) == (invoice["lago_id"], invoice["number"])
    assert found["file_url"].startswith(f"http://{HOST}/files/")
    file = await _open(world, found["file_url"])
    assert file.status == 200
    assert file.headers["content-type"] == "application/pdf"
    assert file.headers["content-disposition"] == f'inline; filename="{invoice["number"]}.pdf"'
    assert file.headers["cache-control"] == "private, no-store"
    text = text_of(file.body)
    for part in (invoice["number"], "Acme Limited", "1,234,567 0.01 12,345.67", "Pro", "$12,444.67"):
        assert part in text, part


async def test_the_same_link_gives_the_same_bytes(world: World) -> None:
    url = await _a_link(world)
    assert (await _open(world, url)).body == (await _open(world, url)).body


async def test_lists_link_to_the_same_file(world: World) -> None:
    invoice = await _an_invoice(world)
    (listed,) = (await world.get("/core/api/v1/invoices", external_customer_id="acme"))["invoices"][:1]
    (portal,) = (await world.get("/api/v1/invoices", customer_id="acme"))["invoices"][:1]
    shown = (await world.get(f"/core/api/v1/invoices/{invoice['lago_id']}"))["invoice"]
    bodies = {
        (await _open(world, url)).body
        for url in (portal["pdf_url"], portal["file_url"], listed["file_url"], shown["file_url"])
    }
    assert len(bodies) == 1
    assert next(iter(bodies)).startswith(b"%PDF-")


@pytest.mark.parametrize("part", ["workspace", "invoice", "expires", "key", "signature"])
async def test_a_link_opens_nothing_but_what_was_signed(world: World, part: str) -> None:
    url = await _a_link(world)
    parts = urlsplit(url)
    _, _, workspace, _, file = parts.path.split("/")
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    other = uuid4().hex
    if part == "workspace":
        workspace = other
    elif part == "invoice":
        file = f"{other}.pdf"
    elif part == "key":
        query["key"] = other
    elif part == "expires":
        query["expires"] = str(int(query["expires"]) + 1)
    else:
        query["signature"] = query["signature"][:-1] + ("0" if query["signature"][-1] != "0" else "1")
    pairs = "&".join(f"{name}={value}" for name, value in query.items())
    answer = await world.client.send("GET", f"/files/{workspace}/invoices/{file}?{pairs}", key=None)
    assert (answer.status, answer.code) == (403, "link_invalid")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/files/x/invoices/y.pdf?expires=1&key=z&signature=0", 403),
        ("/files/x/invoices/y.pdf", 400),
        ("/files/x/invoices/y.pdf?expires=soon&key=z&signature=0", 400),
        (
            f"/files/{'0' * 32}/invoices/{'0' * 32}.pdf?expires={'9' * 40}&key={'0' * 32}&signature=%C3%A9",
            403,
        ),
    ],
)
async def test_what_is_no_link_is_refused(world: World, target: str, status: int) -> None:
    answer = await world.client.send("GET", target, key=None)
    assert answer.status == status


async def test_a_link_ends(world: World) -> None:
    """On real time: turning the organization's test clock neither ends it nor keeps it open."""
    url = await _a_link(world)
    path = urlsplit(url).path
    await world.turn("2027-01-01")
    assert (await _open(world, url)).status == 200
    ((key_id, key_hash),) = await world.fetch(
        "select id, key_hash from api_keys where org_id = $1 and kind = 'secret'"
    )
    signer = LinkSigner(world.org_id, key_id, bytes(key_hash))
    now = world.services.clock.now()
    over = await _open(world, f"{path}?{signer.query(path, now - LIFETIME)}")
    assert (over.status, over.code) == (403, "link_expired")


async def test_revoking_the_key_that_signed_ends_its_links(world: World) -> None:
    url = await _a_link(world)
    ((key_id,),) = await world.fetch("select id from api_keys where org_id = $1 and kind = 'secret'")
    async with world.database.transaction() as tx:
        await revoke_key(tx, org_id=world.org_id, key_id=key_id, now=world.services.clock.now())
    answer = await _open(world, url)
    assert (answer.status, answer.code) == (403, "link_invalid")


async def test_a_publishable_key_cannot_sign(world: World) -> None:
    """Its text is known to every visitor, so a link signed with its hash would be anybody's."""
    url = await _a_link(world)
    path = urlsplit(url).path
    ((key_id, key_hash),) = await world.fetch(
        "select id, key_hash from api_keys where org_id = $1 and kind = 'publishable'"
    )
    signer = LinkSigner(world.org_id, key_id, bytes(key_hash))
    answer = await _open(world, f"{path}?{signer.query(path, world.services.clock.now())}")
    assert (answer.status, answer.code) == (403, "link_invalid")


async def test_download_knows_only_the_organizations_own_invoices(world: World, other_world: World) -> None:
    invoice = await _an_invoice(world)
    answer = await _download(world, invoice["lago_id"], key=other_world.secret)
    assert (answer.status, answer.json["code"]) == (404, "invoice_not_found")
    assert (await _download(world, str(uuid4()))).json["code"] == "invoice_not_found"
    assert (await _download(world, "x")).json["code"] == "invoice_not_found"
    assert (await _download(world, invoice["lago_id"], key=world.publishable)).status == 403


async def test_the_pdf_by_key(world: World, other_world: World) -> None:
    invoice = await _an_invoice(world)
    for key in (world.secret, world.publishable):
        answer = await world.call("GET", f"/api/v1/invoices/{invoice['id']}/pdf", key=key)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.body.startswith(b"%PDF-")
    strange = await world.call("GET", f"/api/v1/invoices/{invoice['id']}/pdf", key=other_world.secret)
    assert (strange.status, strange.code) == (404, "invoice_not_found")


async def test_the_pdf_by_a_customer_session_is_that_customers(world: World) -> None:
    invoice = await _an_invoice(world)
    await world.a_customer("other")
    await world.settings(publishable_key_access="customer_session")
    target = f"/api/v1/invoices/{invoice['id']}/pdf"

    async def get(customer: str) -> int:
        session = await world.post("/api/v1/customer-sessions", {"customer_id": customer})
        token = session["customer_session"]["token"]
        headers = {"x-nozle-customer-session": token}
        return (await world.call("GET", target, key=world.publishable, headers=headers)).status

    assert await get("acme") == 200
    assert await get("other") == 403
    assert (await world.call("GET", target, key=world.publishable)).status == 403


async def test_a_draft_has_a_marked_pdf_and_no_link(world: World) -> None:
    await world.fetch("update organizations set invoice_grace_period = 5 where id = $1 returning id")
    invoice = await _an_invoice(world)
    assert invoice["status"] == "draft"
    (portal,) = (await world.get("/api/v1/invoices", customer_id="acme"))["invoices"][:1]
    assert portal["pdf_url"] is None
    assert (await _download(world, invoice["lago_id"])).json["code"] == "invoice_not_found"
    pdf = await world.call("GET", f"/api/v1/invoices/{invoice['id']}/pdf")
    text = text_of(pdf.body)
    assert "Draft invoice" in text
    assert "DRAFT" in text


async def test_a_credit_note_opens_by_its_link_and_not_by_another_kinds(world: World) -> None:
    invoice = await _an_invoice(world)
    shown = (await world.get(f"/core/api/v1/invoices/{invoice['lago_id']}"))["invoice"]
    fee = next(one for one in shown["fees"] if one["amount_cents"] == 9900)
    now = instant("2026-02-02")
    draft = CreditNoteDraft(
        reason=Reason.ORDER_CHANGE,
        items=[(UUID(fee["lago_id"]), Decimal(900))],
        offset_amount_cents=900,
        description="Was ∂own.",
    )
    async with world.database.transaction() as tx:
        note = await create_credit_note(
            tx,
            world.services.seams,
            org_id=world.org_id,
            invoice_id=UUID(shown["lago_id"]),
            draft=draft,
            now=now,
        )
        signer = await find_signer(tx, world.org_id)
    assert signer is not None
    path = file_path(world.org_id, "credit_notes", note.id)
    query = signer.query(path, world.services.clock.now())
    answer = await _open(world, f"{path}?{query}")
    assert answer.status == 200
    assert answer.headers["content-disposition"] == f'inline; filename="{note.number}.pdf"'
    text = text_of(answer.body)
    for part in (
        f"Credit note {note.number}",
        f"Credits invoice {invoice['number']}",
        "$9.00 credited",
        "Was ∂own.",
    ):
        assert part in text, part
    assert "Offset against the invoice $9.00" in text
    other_kind = await _open(world, f"{path.replace('credit_notes', 'invoices')}?{query}")
    assert (other_kind.status, other_kind.code) == (403, "link_invalid")
    missing = file_path(world.org_id, "credit_notes", uuid4())
    answer = await _open(world, f"{missing}?{signer.query(missing, world.services.clock.now())}")
    assert (answer.status, answer.code) == (404, "credit_note_not_found")
