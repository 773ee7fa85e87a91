-- What the server's transaction of one event does, for one of :customers customers of the organization :org.
\set customer random(0, :customers - 1)
begin;
select s.id as subscription, s.customer_id, c.external_id, s.current_period_start as period
    from subscriptions s
    join customers c on c.org_id = s.org_id and c.id = s.customer_id
    join plan_versions v on v.org_id = s.org_id and v.id = s.plan_version_id
    where s.org_id = :org and c.external_id = 'customer-' || lpad(:customer::text, 4, '0')
    order by s.id for key share of s \gset
with claimed as (
    insert into event_ids (org_id, transaction_id, event_id, occurred_at, payload_hash)
    values (:org, 'req_' || gen_random_uuid(), uuidv7(), now(), decode(repeat('00', 32), 'hex'))
    on conflict (org_id, transaction_id) do nothing
    returning transaction_id, event_id
)
insert into events (org_id, transaction_id, id, occurred_at, received_at, code, external_customer_id, customer_id,
    subscription_id, metric_id, status, quantity, model, cost_cents, cost_model_id, properties)
select :org, transaction_id, event_id, now(), now(), 'llm_tokens', :external_id, :customer_id, :subscription,
    :metric, 'counted', 418, 'gpt-4o', 0.1375, :cost_model,
    jsonb_build_object('model', 'gpt-4o', 'input_tokens', 374, 'output_tokens', 44)
from claimed;
insert into usage_counters (org_id, subscription_id, metric_id, period_start, units, events_count)
    values (:org, :subscription, :metric, :period, 418, 1)
    on conflict (org_id, subscription_id, metric_id, period_start) do update set
        units = usage_counters.units + excluded.units,
        events_count = usage_counters.events_count + excluded.events_count;
commit;
