-- What the server's transaction of check-and-deduct does, for one of :customers customers of the organization :org.
\set customer random(0, :customers - 1)
begin;
select id as account, balance, last_sequence from credit_accounts
    where org_id = :org and credit_system = 'credits' and customer_id = (
        select id from customers where org_id = :org and external_id = 'customer-' || lpad(:customer::text, 4, '0'))
    for no key update \gset
select id as grant_id from credit_grants where org_id = :org and account_id = :account and remaining > 0
    order by priority, expires_at, created_at, id limit 1 \gset
with entry as (
    insert into ledger_entries (org_id, account_id, id, sequence, type, amount, balance_after, feature, occurred_at)
    values (:org, :account, uuidv7(), :last_sequence::bigint + 1, 'deduct', -1, :balance::numeric - 1, 'chat', now())
    returning id, sequence, balance_after
), drawn as (
    update credit_grants set remaining = remaining - 1 where org_id = :org and id = :grant_id
), moved as (
    insert into ledger_allocations (org_id, entry_id, grant_id, amount) select :org, id, :grant_id, -1 from entry
)
update credit_accounts set balance = entry.balance_after, last_sequence = entry.sequence, consumed = consumed + 1,
    version = version + 1 from entry
    where credit_accounts.org_id = :org and credit_accounts.id = :account;
insert into outbox (org_id, id, kind, subject, payload, created_at)
    values (:org, uuidv7(), 'credits.deducted', :account, jsonb_build_object('amount', -1), now());
commit;
