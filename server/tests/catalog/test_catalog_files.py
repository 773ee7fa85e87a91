"""Catalog files: what is read, what is refused, and that applying is all or nothing and twice a no-op."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nozle_server.core.errors import InvalidInput, NozleError
from nozle_server.infra.yaml_file import read_yaml
from nozle_server.workflows.apply_catalog import apply_catalog, read_catalog
from nozle_server.workflows.catalog_difference import Difference
from world import World

EXAMPLE = Path(__file__).parents[3] / "examples" / "ai-saas.yaml"
PLAN = "plans: [{code: pro, interval: monthly, amount_cents: 100"

HOSTILE = {
    "a NUL in a code": 'features: [{code: "a\\0b"}]',
    "a NUL in the file": "features: [{code: a\0b}]",
    "two thousand brackets": "metrics: " + "[" * 2_000 + "]" * 2_000,
    "two thousand braces": "metrics: " + "{a: " * 2_000 + "}" * 2_000,
    "a key twice": PLAN + ", amount_cents: 200}]",
    "a section twice": "features: []\nfeatures: []",
    "an unknown section": "feature: [{code: chat}]",
    "an unknown field": "features: [{code: chat, metrik: tokens}]",
    "an unknown field of a charge": PLAN
    + ", charges: [{metric: m, charge_model: standard, propertis: {}}]}]",
    "a number in base 60": "plans: [{code: pro, interval: monthly, amount_cents: 1:30}]",
    "a fraction in base 60": "cost_models: [{name: a, metric: m, cost_per_unit_cents: 1:30.5}]",
    "two currencies": PLAN + ", currency: EUR, amount_currency: USD}]",
    "a float that is none": "cost_models: [{name: a, metric: m, cost_per_unit_cents: .nan}]",
    "infinity": "cost_models: [{name: a, metric: m, cost_per_unit_cents: .inf}]",
    "an alias": "features: [&a {code: chat}, *a]",
    "a bomb of aliases": "a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d [*c,*c]\nfeatures: [*d,*d]",
    "an alias of itself": "features: &a [*a]",
    "a merge key": "features: [{<<: {code: chat}}]",
    "a list": "- features",
    "a word": "features",
    "nothing": "",
    "null": "null",
    "a section that is no list": "features: {code: chat}",
    "an entry that is no mapping": "features: [chat]",
    "a code twice": "features: [{code: chat}, {code: chat}]",
    "a code that is a number": "features: [{code: 7}]",
    "a code too long": f"features: [{{code: {'x' * 256}}}]",
    "a Python object": "features: !!python/object/apply:os.system [id]",
    "an unknown tag": "features: !thing [a]",
    "two documents": "features: []\n---\nplans: []",
    "a tab": "features:\n\t- code: chat",
    "an open quote": 'features: [{code: "chat}]',
    "no integer behind its tag": "features: [{code: !!int chat}]",
    "an empty integer behind its tag": 'features: [{code: !!int ""}]',
    "no float behind its tag": "features: [{code: !!float chat}]",
    "no truth behind its tag": "features: [{code: !!bool maybe}]",
    "no date behind its tag": "features: [{code: !!timestamp chat}]",
    "no bytes behind their tag": "features: [{code: !!binary ä}]",
    "a set": "features: !!set {code, chat}",
    "pairs": "features: !!pairs [a, b]",
    "a key that is a list": "features: [{[a]: b}]",
    "a number without end": "plans: [{code: pro, interval: monthly, amount_cents: " + "9" * 5_000 + "}]",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.yaml"


def read_text(path: Path, text: str) -> object:
    path.write_bytes(text.encode())
    return read_yaml(path)


def one_sentence(error: InvalidInput) -> None:
    """What an operator sees: one line of bounded length that is not a Python error's text."""
    assert error.message
    assert "\n" not in error.message
    assert len(error.message) < 500
    assert "Traceback" not in error.message
    assert "object at 0x" not in error.message


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.database
async def test_a_hostile_file_is_refused_in_one_sentence(world: World, path: Path, text: str) -> None:
    """B05 for files: InvalidInput from reading or applying, never another exception, and nothing is applied."""
    with pytest.raises(InvalidInput) as caught:
        await apply(world, read_text(path, text))
    one_sentence(caught.value)
    assert (await world.get("/core/api/v1/features"))["features"] == []


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"features: [{code: \xc3\x28}]", b"\x80"])
def test_what_is_not_utf_8_is_refused(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    with pytest.raises(InvalidInput) as caught:
        read_catalog(read_yaml(path))
    one_sentence(caught.value)


def test_a_file_too_large_is_refused_before_it_is_read_as_yaml(path: Path) -> None:
    path.write_bytes(b"# " + b"x" * (5 * 1024 * 1024))
    with pytest.raises(InvalidInput):
        read_yaml(path)


def test_numbers_come_exact(path: Path) -> None:
    """M14: no float, so 0.1 in a file is 0.1 in the ledger."""
    path.write_text("cost_models: [{name: a, metric: m, cost_per_unit_cents: 0.100000000001}]")
    [draft] = read_catalog(read_yaml(path)).cost_models
    assert str(draft.cost_per_unit_cents) == "0.100000000001"


async def apply(world: World, document: object) -> list[Difference]:
    """Apply a document to the world's organization."""
    catalog = read_catalog(document)

    async def work(tx: Any) -> list[Difference]:
        return await apply_catalog(tx, org_id=world.org_id, catalog=catalog, now=world.services.clock.now())

    return await world.database.run(work)


async def everything(world: World) -> Mapping[str, Any]:
    """The whole catalog as Core shows it."""
    plurals = ("billable_metrics", "features", "plans")
    shown = {plural: (await world.get(f"/core/api/v1/{plural}"))[plural] for plural in plurals}
    return {**shown, "cost_models": await world.get("/api/v1/cost-models")}


@pytest.mark.database
async def test_the_example_twice_is_a_no_op(world: World) -> None:
    """Issue 2: the second time finds no difference and writes no row."""
    first = await apply(world, read_yaml(EXAMPLE))
    assert [(one.sign, one.kind, one.code) for one in first if one.kind in ("plan", "cost model")] == [
        ("+", "plan", "free"),
        ("+", "plan", "pro"),
        ("+", "plan", "scale"),
        ("+", "cost model", "LLM providers"),
    ]
    before = await everything(world)
    assert await apply(world, read_yaml(EXAMPLE)) == []
    assert await everything(world) == before


@pytest.mark.database
async def test_each_difference_is_told_and_what_is_not_named_stays(world: World) -> None:
    """A file may hold a part of the catalog; a changed price tells from what to what."""
    document = {
        "metrics": [{"code": "tokens", "name": "Tokens", "aggregation_type": "sum_agg", "field_name": "n"}],
        "features": [{"code": "chat", "metric": "tokens"}, {"code": "sso"}],
        "plans": [
            {
                "code": "pro",
                "interval": "monthly",
                "amount_cents": 100,
                "entitlements": {"chat": {"limit": 5}},
                "charges": [{"metric": "tokens", "charge_model": "standard", "properties": {"amount": "1"}}],
            }
        ],
        "cost_models": [{"name": "cost", "metric": "tokens", "cost_per_unit_cents": 1}],
    }
    assert len(await apply(world, document)) == 5
    [plan] = document["plans"]
    changes = {
        "amount_cents": ({**plan, "amount_cents": 200}, "amount_cents: 100 -> 200"),
        "name": ({**plan, "name": "Pro"}, 'name: "pro" -> "Pro"'),
        "credits": ({**plan, "credits": 7}, 'credits: "0" -> "7"'),
    }
    for changed, line in changes.values():
        [difference] = await apply(world, {"plans": [changed]})
        assert (difference.sign, difference.kind, difference.code) == ("~", "plan", "pro")
        assert line in difference.changes
        assert await apply(world, {"plans": [changed]}) == []
        assert await apply(world, {"plans": [plan]}) != []
    [difference] = await apply(
        world, {"plans": [{**plan, "entitlements": {"chat": {"limit": 9}, "sso": True}}]}
    )
    assert len(difference.changes) == 2
    [difference] = await apply(world, {"features": [{"code": "sso", "description": "Single sign-on"}]})
    assert (difference.sign, difference.kind, difference.code) == ("~", "feature", "sso")
    dearer = {"cost_models": [{"name": "cost", "metric": "tokens", "cost_per_unit_cents": "1.5"}]}
    [difference] = await apply(world, dearer)
    assert difference.changes == ("amount_cents: 1 -> 1.5",)
    assert len((await everything(world))["cost_models"]) == 1
    assert await apply(world, {}) == []
    assert len((await everything(world))["features"]) == 2


@pytest.mark.database
@pytest.mark.parametrize(
    "fault",
    [
        {"plans": [{"code": "bad", "interval": "monthly", "amount_cents": -1}]},
        {"plans": [{"code": "bad", "interval": "monthly", "amount_cents": 1, "trial_period": -1}]},
        {"plans": [{"code": "bad", "interval": "monthly", "amount_cents": 1, "tax_codes": ["none"]}]},
        {
            "plans": [
                {"code": "bad", "interval": "monthly", "amount_cents": 1, "entitlements": {"nothing": True}}
            ]
        },
        {"cost_models": [{"name": "bad", "metric": "m"}]},
    ],
)
async def test_a_file_is_applied_whole_or_not_at_all(world: World, fault: dict[str, Any]) -> None:
    """What stands before the fault in the file is not applied either."""
    before = await everything(world)
    with pytest.raises(NozleError):
        await apply(world, {"features": [{"code": "first"}], **fault})
    assert await everything(world) == before


@pytest.mark.database
async def test_organizations_do_not_share_a_catalog(world: World, other_world: World) -> None:
    await apply(world, read_yaml(EXAMPLE))
    assert (await everything(other_world))["plans"] == []


@pytest.mark.database
async def test_a_plan_in_full_is_applied_once_and_compared_field_by_field(world: World) -> None:
    """Every term of a plan has its line in the difference, and none when it is the same; a term left out is gone."""
    await world.a_metric()
    await world.post("/core/api/v1/taxes", {"tax": {"code": "vat", "name": "VAT", "rate": "20"}})
    add_on = {"code": "seat", "name": "Seat", "amount_cents": 1000, "amount_currency": "USD"}
    await world.post("/core/api/v1/add_ons", {"add_on": add_on})
    charge = {"metric": "tokens", "charge_model": "standard", "properties": {"amount": "1"}}
    plain: dict[str, Any] = {"code": "pro", "interval": "yearly", "amount_cents": 100, "charges": [charge]}
    terms: dict[str, Any] = {
        "trial_period": 14,
        "invoice_display_name": "Professional",
        "bill_charges_monthly": True,
        "bill_fixed_charges_monthly": True,
        "tax_codes": ["vat"],
        "minimum_commitment": {"amount_cents": 500, "tax_codes": ["vat"]},
        "usage_thresholds": [{"amount_cents": 1000}, {"amount_cents": 500, "recurring": True}],
        "charges": [{**charge, "min_amount_cents": 5, "tax_codes": ["vat"]}],
        "fixed_charges": [
            {"add_on_code": "seat", "charge_model": "standard", "units": 3, "properties": {"amount": "10"}}
        ],
        "credits": 5,
        "credit_grants": [
            {
                "credit_system": "credits",
                "amount": 7,
                "cadence": "month",
                "priority": 3,
                "rollover": {"limit": "2.5"},
            },
            {"credit_system": "credits", "amount": 1, "cadence": "lifetime"},
        ],
    }
    await apply(world, {"plans": [plain]})
    for name, value in terms.items():
        changed = {"plans": [{**plain, name: value}]}
        [difference] = await apply(world, changed)
        assert len(difference.changes) == 1, name
        assert await apply(world, changed) == []
        [back] = await apply(world, {"plans": [plain]})
        assert len(back.changes) == 1, name
    terms["credits_rollover"] = {"limit": 3}
    await apply(world, {"plans": [{**plain, **terms}]})
    [plan] = (await everything(world))["plans"]
    assert (plan["trial_period"], plan["fixed_charges"][0]["units"]) == (14, 3)
    assert await apply(world, {"plans": [{**plain, **terms}]}) == []
    for part in ("minimum_commitment", "fixed_charges", "usage_thresholds"):
        misspelt = {"amount_cent": 5}
        wrong = misspelt if part == "minimum_commitment" else [misspelt]
        with pytest.raises(InvalidInput):
            await apply(world, {"plans": [{**plain, part: wrong}]})


@pytest.mark.database
async def test_credit_systems_and_rates_are_applied_before_the_plans_that_grant_them(world: World) -> None:
    """A file brings its systems along; each difference of them is told, and twice is a no-op."""
    system: dict[str, Any] = {"code": "gpu", "name": "GPU", "unit_name": "seconds", "features": ["render"]}
    rate = {"metric": "tokens", "metric_amount": 1000, "credit_amount": 2}
    plan = {"code": "pro", "interval": "monthly", "amount_cents": 1}
    document: dict[str, Any] = {
        "metrics": [{"code": "tokens", "name": "T", "aggregation_type": "sum_agg", "field_name": "n"}],
        "credit_systems": [{**system, "rates": [rate]}],
        "plans": [{**plan, "credit_grants": [{"credit_system": "gpu", "amount": "3600"}]}],
    }
    assert [(one.sign, one.kind) for one in await apply(world, document)] == [
        ("+", "metric"),
        ("+", "credit system"),
        ("+", "plan"),
    ]
    assert await apply(world, document) == []
    changes: dict[str, dict[str, Any]] = {
        'features: ["render"] -> ["render","train"]': {"features": ["render", "train"]},
        'description: null -> "Cards"': {"description": "Cards"},
        'rate of tokens: {"metric_amount":"1000","credit_amount":"2"} -> null': {"rates": []},
        'rate of tokens: {"metric_amount":"1000","credit_amount":"2"} -> {"metric_amount":"1000","credit_amount":"3"}': {
            "rates": [{**rate, "credit_amount": 3}]
        },
    }
    for line, change in changes.items():
        changed = {"credit_systems": [{**system, "rates": [rate], **change}]}
        [difference] = await apply(world, changed)
        assert (difference.sign, difference.code, difference.changes) == ("~", "gpu", (line,))
        assert await apply(world, changed) == []
        await apply(world, document)
    # Rates that are not said stay.
    assert await apply(world, {"credit_systems": [system]}) == []
    for wrong in (
        {"credit_systems": [{**system, "rates": [rate, rate]}]},
        {"credit_systems": [{**system, "unit": "s"}]},
        {"credit_systems": [{**system, "rates": [{**rate, "credits": 1}]}]},
        {"plans": [{**plan, "credit_grants": [{"credit_system": "gpu", "amonut": 1}]}]},
        {"plans": [{**plan, "credits": 1, "credits_rollover": {"limits": 1}}]},
    ):
        with pytest.raises(InvalidInput):
            await apply(world, wrong)
