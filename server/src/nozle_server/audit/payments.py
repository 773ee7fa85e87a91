"""Payments: each counts for its invoice, once."""

from nozle_server.audit.model import Check

CHECKS = (
    Check(
        "paid_is_the_sum_of_payments",
        "what is paid of an invoice is the sum of its payments that succeeded",
        """
        select i.org_id, jsonb_build_object('invoice_id', i.id, 'number', i.number) as ids,
            coalesce(p.total, 0)::text as expected, i.total_paid_amount_cents::text as found
        from invoices i left join (
            select org_id, invoice_id, sum(amount_cents) as total from payments p
            where $org(p) and payment_status = 'succeeded' group by 1, 2
        ) p on p.org_id = i.org_id and p.invoice_id = i.id
        where $org(i) and i.total_paid_amount_cents <> coalesce(p.total, 0)""",
    ),
    Check(
        "payment_is_of_its_invoice",
        "a payment is by the customer, and in the currency, of the invoice it pays",
        """
        select p.org_id, jsonb_build_object('payment_id', p.id, 'invoice_id', p.invoice_id) as ids,
            coalesce(i.customer_id || ' ' || i.currency, 'an invoice') as expected, p.customer_id || ' ' || p.currency as found
        from payments p left join invoices i on i.org_id = p.org_id and i.id = p.invoice_id
        where $org(p) and (i.customer_id, i.currency) is distinct from (p.customer_id, p.currency)""",
    ),
    Check(
        "provider_payment_counts_once",
        "a payment that a provider took is recorded once",
        """
        select org_id, jsonb_build_object('provider_payment_id', provider_payment_id) as ids, '1 payment' as expected,
            count(*) || ' payments' as found
        from payments p where $org(p) and provider_payment_id is not null
        group by org_id, provider_payment_id having count(*) > 1""",
    ),
)
