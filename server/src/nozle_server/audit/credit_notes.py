"""Credit notes: nothing is taken back that was not charged, nothing is given back twice."""

from nozle_server.audit.model import Check

CHECKS = (
    Check(
        "credit_notes_stay_within_their_invoice",
        "the credit notes of an invoice take back no more than it came to, was paid of it, or is open",
        """
        select i.org_id, jsonb_build_object('invoice_id', i.id, 'number', i.number) as ids,
            concat_ws(' ', 'up to', i.sub_total_including_taxes_amount_cents, i.taxes_amount_cents, i.total_paid_amount_cents,
                i.total_amount_cents - i.total_paid_amount_cents) as expected,
            concat_ws(' ', n.total, n.taxes, n.refunded, n.settled) as found
        from invoices i join (
            select org_id, invoice_id, sum(total_amount_cents) as total, sum(taxes_amount_cents) as taxes,
                sum(refund_amount_cents) as refunded, sum(offset_amount_cents) as settled
            from credit_notes n where $org(n) group by 1, 2
        ) n on n.org_id = i.org_id and n.invoice_id = i.id
        where n.total > i.sub_total_including_taxes_amount_cents or n.taxes > i.taxes_amount_cents
            or n.refunded > i.total_paid_amount_cents or n.settled > i.total_amount_cents - i.total_paid_amount_cents""",
    ),
    Check(
        "credit_note_is_the_sum_of_its_items",
        "a credit note is the sum of its items, less their coupons, with taxes",
        """
        select n.org_id, jsonb_build_object('credit_note_id', n.id, 'number', n.number) as ids,
            (coalesce(x.total, 0) - n.coupons_adjustment_amount_cents + n.taxes_amount_cents)::text as expected,
            n.total_amount_cents::text as found
        from credit_notes n left join (
            select org_id, credit_note_id, sum(amount_cents) as total from credit_note_items x where $org(x) group by 1, 2
        ) x on x.org_id = n.org_id and x.credit_note_id = n.id
        where $org(n) and n.total_amount_cents
            <> coalesce(x.total, 0) - n.coupons_adjustment_amount_cents + n.taxes_amount_cents""",
    ),
    Check(
        "fee_is_taken_back_once",
        "no more is taken back of a fee than it came to",
        """
        select l.org_id, jsonb_build_object('line_id', l.id, 'invoice_id', l.invoice_id) as ids,
            'up to ' || l.amount_cents as expected, x.total::text as found
        from invoice_lines l join (
            select org_id, line_id, sum(amount_cents) as total from credit_note_items x where $org(x) group by 1, 2
        ) x on x.org_id = l.org_id and x.line_id = l.id
        where x.total > l.amount_cents""",
    ),
    Check(
        "credit_note_balance_is_what_invoices_left",
        "what is left of a credit note is its credit less what invoices used of it",
        """
        select n.org_id, jsonb_build_object('credit_note_id', n.id, 'number', n.number) as ids,
            (n.credit_amount_cents - coalesce(c.used, 0))::text as expected, n.balance_amount_cents::text as found
        from credit_notes n left join (
            -- A voided invoice gives back what it used, unless the void itself wrote a credit note for it.
            select c.org_id, c.source_id, sum(c.amount_cents) as used from invoice_credits c
            join invoices i on i.org_id = c.org_id and i.id = c.invoice_id
            left join (
                select distinct org_id, invoice_id from credit_notes v where $org(v)
                    and (v.credit_status is distinct from 'voided'
                        or v.description like 'Credit note created due to voided invoice %')
            ) v on v.org_id = i.org_id and v.invoice_id = i.id
            where $org(c) and c.kind = 'credit_note' and (i.status <> 'voided' or v.invoice_id is not null)
            group by 1, 2
        ) c on c.org_id = n.org_id and c.source_id = n.id
        where $org(n) and n.credit_status is distinct from 'voided'
            and n.balance_amount_cents <> n.credit_amount_cents - coalesce(c.used, 0)""",
    ),
    Check(
        "credit_note_numbers_have_no_gap",
        "the credit notes of an invoice are numbered 1, 2, 3 ...",
        """
        select org_id, jsonb_build_object('credit_note_id', id, 'invoice_id', invoice_id) as ids, place::text as expected,
            sequential_id::text as found
        from (
            select org_id, id, invoice_id, sequential_id,
                row_number() over (partition by org_id, invoice_id order by sequential_id) as place
            from credit_notes n where $org(n)
        ) n where sequential_id <> place""",
    ),
)
