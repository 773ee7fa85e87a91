"""Entities: a tree of live ones for each customer, and one live entity for each id."""

from nozle_server.audit.model import Check

CHECKS = (
    Check(
        "entity_stands_below_a_live_one",
        "what an entity stands below lives, and belongs to the same customer",
        """
        select e.org_id, jsonb_build_object('entity_id', e.id, 'parent_id', e.parent_id) as ids,
            'live, of customer ' || e.customer_id as expected,
            coalesce(p.status || ', of customer ' || p.customer_id, 'none') as found
        from entities e left join entities p on p.org_id = e.org_id and p.id = e.parent_id
        where $org(e) and e.deleted_at is null and e.parent_id is not null
            and (p.deleted_at is null and p.customer_id = e.customer_id) is not true""",
    ),
    Check(
        "entities_are_a_tree",
        "from the top down at most eight levels lead to every entity that lives",
        """
        with recursive placed as (
            select org_id, customer_id, id, 1 as depth from entities e
            where $org(e) and deleted_at is null and parent_id is null
            union all
            select e.org_id, e.customer_id, e.id, p.depth + 1 from placed p join entities e on e.org_id = p.org_id
                and e.customer_id = p.customer_id and e.parent_id = p.id and e.deleted_at is null
            where p.depth < 8
        )
        select e.org_id, jsonb_build_object('entity_id', e.id, 'parent_id', e.parent_id) as ids,
            'at most 8 levels' as expected, 'deeper, or below itself' as found
        from entities e left join placed p on p.org_id = e.org_id and p.id = e.id
        where $org(e) and e.deleted_at is null and p.id is null""",
    ),
    Check(
        "live_entity_is_the_last_of_its_id",
        "of several entities with one id only the last may live",
        """
        select org_id, jsonb_build_object('entity_id', id, 'external_id', external_id) as ids,
            'number ' || last as expected, 'number ' || number as found
        from (
            select org_id, id, external_id, number, deleted_at,
                max(number) over (partition by org_id, customer_id, external_id) as last
            from entities e where $org(e)
        ) e where deleted_at is null and number <> last""",
    ),
    Check(
        "entities_end_with_their_customer",
        "a deleted customer has no entity that lives",
        """
        select e.org_id, jsonb_build_object('entity_id', e.id, 'customer_id', e.customer_id) as ids,
            'deleted' as expected, e.status as found
        from entities e join customers c on c.org_id = e.org_id and c.id = e.customer_id
        where $org(e) and e.deleted_at is null and c.deleted_at is not null""",
    ),
)
