"""Wallets: their money is in the ledger, and every transaction is an entry there."""

from nozle_server.audit.model import Check

CHECKS = (
    Check(
        "wallet_has_its_account",
        "every wallet has an account of money, of its own customer, and every account of money a wallet",
        """
        select coalesce(w.org_id, a.org_id) as org_id,
            jsonb_build_object('wallet_id', w.id, 'account_id', coalesce(a.id, w.account_id)) as ids,
            'a wallet and its account' as expected,
            case when w.id is null then 'no wallet' else 'no account of money' end as found
        from wallets w full join (select * from credit_accounts where kind = 'money') a
            on a.org_id = w.org_id and a.id = w.account_id and a.customer_id = w.customer_id
        where (w.id is null and $org(a)) or (a.id is null and $org(w))""",
    ),
    Check(
        "wallet_transactions_are_entries",
        "a settled transaction of a wallet is one entry of its account, and every entry but an expiry one transaction",
        """
        select coalesce(e.org_id, t.org_id) as org_id,
            jsonb_build_object('entry_id', e.id, 'wallet_transaction_id', t.id,
                'wallet_id', coalesce(e.wallet_id, t.wallet_id)) as ids,
            t.moved::text as expected, e.amount::text as found
        from (
            select e.org_id, e.id, w.id as wallet_id, e.type, e.amount from wallets w
            join ledger_entries e on e.org_id = w.org_id and e.account_id = w.account_id where $org(w)
        ) e full join (
            select t.org_id, t.id, t.wallet_id, t.entry_id,
                t.amount * case t.transaction_type when 'inbound' then 1 else -1 end as moved
            from wallet_transactions t where $org(t) and t.status = 'settled'
        ) t on t.org_id = e.org_id and t.entry_id = e.id and t.wallet_id = e.wallet_id
        where e.id is null or (t.id is null and e.type <> 'expire') or t.moved <> e.amount""",
    ),
    Check(
        "wallet_consumed_what_it_paid",
        "what a wallet has consumed is what its transactions took, less what voided invoices gave back",
        """
        select w.org_id, jsonb_build_object('wallet_id', w.id) as ids, coalesce(t.total, 0)::text as expected,
            w.consumed_amount::text as found
        from wallets w left join (
            select org_id, wallet_id, coalesce(sum(amount) filter (where transaction_type = 'outbound'), 0)
                - coalesce(sum(amount) filter (where voided_invoice_id is not null), 0) as total
            from wallet_transactions t where $org(t) and status = 'settled' group by 1, 2
        ) t on t.org_id = w.org_id and t.wallet_id = w.id
        where $org(w) and w.consumed_amount <> coalesce(t.total, 0)""",
    ),
    Check(
        "bought_credits_follow_their_payment",
        "credits that were bought are in the wallet once their invoice is paid, and not before",
        """
        select t.org_id, jsonb_build_object('wallet_transaction_id', t.id, 'invoice_id', i.id) as ids,
            case when i.payment_status = 'succeeded' then 'settled' else 'not settled' end as expected, t.status as found
        from wallet_transactions t
        join invoices i on i.org_id = t.org_id and i.id = t.invoice_id and i.status in ('finalized', 'voided')
        where $org(t) and t.transaction_status = 'purchased'
            and (t.status = 'settled') <> (i.payment_status = 'succeeded') and t.status <> 'failed'""",
    ),
)
