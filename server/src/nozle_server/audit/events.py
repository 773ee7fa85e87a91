"""Meter events: each stored once under its id, and counted once."""

from nozle_server.audit.model import Check

# Counters and counted events of what is not carried over, each event in the counter that begins last before it: one sorted
# pass, in which the nth counter of a subscription and metric opens its period n.
_BY_PERIOD = """
        select org_id, subscription_id, metric_id, max(period_start) as period_start,
            coalesce(sum(events_count) filter (where period_start is not null), 0) as counted, count(quantity) as events,
            sum(units) as units, sum(quantity) as total, max(quantity) as highest,
            (array_agg(quantity order by at desc, transaction_id collate "C" desc) filter (where quantity is not null))[1]
                as latest
        from (
            select *, count(period_start) over (partition by org_id, subscription_id, metric_id
                order by at, period_start nulls last rows unbounded preceding) as period
            from (
                select org_id, subscription_id, metric_id, period_start as at, period_start, events_count, units,
                    null::numeric as quantity, null as transaction_id
                from usage_counters u where $org(u)
                union all
                select org_id, subscription_id, metric_id, occurred_at, null, null, null, coalesce(quantity, 0), transaction_id
                from events e where $org(e) and status = 'counted'
            ) moves
            where not exists (
                select from billable_metrics m where m.org_id = moves.org_id and m.id = moves.metric_id and m.recurring)
        ) placed group by org_id, subscription_id, metric_id, period"""

CHECKS = (
    Check(
        "event_is_stored_once",
        "an event is stored once, and its id is claimed by it",
        """
        select e.org_id, jsonb_build_object('transaction_id', e.transaction_id) as ids, '1 event, claimed' as expected,
            count(*) || ' stored, ' || count(i.event_id) || ' claimed' as found
        from events e left join event_ids i on i.org_id = e.org_id and i.transaction_id = e.transaction_id
            and i.event_id = e.id and i.occurred_at = e.occurred_at
        where $org(e) group by e.org_id, e.transaction_id having count(*) <> 1 or count(i.event_id) <> 1""",
    ),
    Check(
        "claimed_id_has_its_event",
        "an event's id that is claimed has its event",
        """
        select i.org_id, jsonb_build_object('transaction_id', i.transaction_id) as ids, 'an event' as expected,
            'none' as found
        from event_ids i left join events e on e.org_id = i.org_id and e.occurred_at = i.occurred_at and e.id = i.event_id
        where $org(i) and e.id is null""",
    ),
    Check(
        "counter_counts_its_events",
        "a usage counter counts the events of its period, each once",
        f"""
        select org_id, jsonb_build_object('subscription_id', subscription_id, 'metric_id', metric_id,
                'period_start', period_start) as ids, events::text as expected, counted::text as found
        from ({_BY_PERIOD}
        ) c where events <> counted""",
    ),
    Check(
        "counter_adds_up",
        "a usage counter's units are what the events of its period come to (sums, counts, highest and latest values)",
        f"""
        select c.org_id, jsonb_build_object('subscription_id', c.subscription_id, 'metric_id', c.metric_id,
                'period_start', c.period_start) as ids, expected::text, c.units::text as found
        from ({_BY_PERIOD}
        ) c join billable_metrics m on m.org_id = c.org_id and m.id = c.metric_id
        cross join lateral (select case m.aggregation_type when 'max_agg' then c.highest when 'latest_agg' then c.latest
            else c.total end as expected) e
        where m.aggregation_type <> 'unique_count_agg' and c.events = c.counted and c.units <> expected""",
    ),
    Check(
        "counter_of_unique_values_adds_up",
        "a counter of a unique count holds as many units as values are there",
        """
        select coalesce(c.org_id, v.org_id) as org_id, jsonb_build_object('subscription_id',
                coalesce(c.subscription_id, v.subscription_id), 'metric_id', coalesce(c.metric_id, v.metric_id),
                'period_start', coalesce(c.period_start, v.period_start)) as ids,
            coalesce(v.n, 0)::text as expected, coalesce(c.units, 0)::text as found
        from (
            select u.* from usage_counters u join billable_metrics m on m.org_id = u.org_id and m.id = u.metric_id
            where $org(u) and m.aggregation_type = 'unique_count_agg'
        ) c full join (
            select org_id, subscription_id, metric_id, period_start, count(*) filter (where present) as n
            from usage_unique_values v where $org(v) group by 1, 2, 3, 4
        ) v on v.org_id = c.org_id and v.subscription_id = c.subscription_id and v.metric_id = c.metric_id
            and v.period_start = c.period_start
        where coalesce(c.units, 0) <> coalesce(v.n, 0)""",
    ),
    Check(
        "carried_counters_hold_all_events",
        "the counters of a metric that carries over count all of its events, late ones too, and add up what they add",
        """
        select m.org_id, jsonb_build_object('metric_id', m.id) as ids,
            coalesce(e.n, 0) || ' of ' || coalesce(e.total, 0) as expected,
            coalesce(u.n, 0) || ' of ' || coalesce(u.units, 0) as found
        from billable_metrics m left join (
            select org_id, metric_id, sum(events_count) as n, sum(units) as units from usage_counters u where $org(u)
            group by 1, 2
        ) u on u.org_id = m.org_id and u.metric_id = m.id left join (
            select org_id, metric_id, count(*) as n, sum(quantity) as total from events e
            where $org(e) and status in ('counted', 'late') group by 1, 2
        ) e on e.org_id = m.org_id and e.metric_id = m.id
        where $org(m) and m.recurring and (coalesce(u.n, 0) <> coalesce(e.n, 0)
            or m.aggregation_type <> 'unique_count_agg' and coalesce(u.units, 0) <> coalesce(e.total, 0))""",
    ),
)
