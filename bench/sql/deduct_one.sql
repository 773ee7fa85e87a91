-- The same as deduct.sql in one statement, for a customer ($2) of the organization $1, who pays $5 credits for $4.
with account as (
    select a.id, a.balance, a.last_sequence, a.customer_id from credit_accounts a
    join customers c on c.org_id = a.org_id and c.id = a.customer_id
    where a.org_id = $1 and c.external_id = $2 and a.credit_system = 'credits' for no key update of a
), chosen as (
    select g.id from credit_grants g join account on g.account_id = account.id
    where g.org_id = $1 and g.remaining >= $5::numeric order by g.priority, g.expires_at, g.created_at, g.id limit 1
), entry as (
    insert into ledger_entries (org_id, account_id, id, sequence, type, amount, balance_after, feature, occurred_at)
    select $1, account.id, $3, last_sequence + 1, 'deduct', -$5::numeric, balance - $5::numeric, $4, now()
    from account, chosen where balance >= $5::numeric
    returning id, account_id, sequence, amount, balance_after
), drawn as (
    update credit_grants set remaining = remaining - $5::numeric from chosen
    where org_id = $1 and credit_grants.id = chosen.id
), moved as (
    insert into ledger_allocations (org_id, entry_id, grant_id, amount)
    select $1, entry.id, chosen.id, -$5::numeric from entry, chosen
), told as (
    insert into outbox (org_id, id, kind, subject, payload, created_at)
    select $1, entry.id, 'credits.deducted', account.customer_id::text, jsonb_build_object(
        'entry_id', entry.id, 'amount', entry.amount, 'balance_after', entry.balance_after), now()
    from entry, account
)
update credit_accounts a set balance = entry.balance_after, last_sequence = entry.sequence,
    consumed = consumed + $5::numeric, version = version + 1
from entry where a.org_id = $1 and a.id = entry.account_id returning a.balance
