-- Money that came in for an invoice.
create table payments (
    org_id uuid not null,
    id uuid not null,
    invoice_id uuid not null,
    customer_id uuid not null,
    amount_cents numeric(60, 0) not null check (amount_cents > 0),
    currency text not null,
    payment_type text not null check (payment_type in ('manual', 'provider')),
    payment_status text not null check (payment_status in ('pending', 'processing', 'succeeded', 'failed')),
    reference text,
    provider_payment_id text,
    paid_at timestamptz not null,
    created_at timestamptz not null,
    primary key (org_id, id),
    foreign key (org_id, invoice_id) references invoices (org_id, id),
    foreign key (org_id, customer_id) references customers (org_id, id)
);
create index payments_of_invoice on payments (org_id, invoice_id);
create index payments_by_age on payments (org_id, created_at, id);
create index payments_of_customer on payments (org_id, customer_id, created_at);

-- What is taken back of an invoice: credited to the customer for later invoices, refunded, or set off against what is
-- still open of the invoice itself.
create table credit_notes (
    org_id uuid not null,
    id uuid not null,
    invoice_id uuid not null,
    customer_id uuid not null,
    sequential_id bigint not null check (sequential_id > 0),
    number text not null,
    currency text not null,
    reason text not null check (reason in ('duplicated_charge', 'product_unsatisfactory', 'order_change',
        'order_cancellation', 'fraudulent_charge', 'other')),
    description text,
    issuing_date date not null,
    credit_status text check (credit_status in ('available', 'consumed', 'voided')),
    refund_status text check (refund_status in ('pending', 'succeeded', 'failed')),
    coupons_adjustment_amount_cents numeric(60, 0) not null,
    coupons_adjustment_exact_amount_cents numeric not null,
    sub_total_excluding_taxes_amount_cents numeric(60, 0) not null check (sub_total_excluding_taxes_amount_cents >= 0),
    taxes_amount_cents numeric(60, 0) not null check (taxes_amount_cents >= 0),
    taxes_exact_amount_cents numeric not null,
    taxes_rate numeric not null,
    total_amount_cents numeric(60, 0) not null check (total_amount_cents > 0),
    credit_amount_cents numeric(60, 0) not null check (credit_amount_cents >= 0),
    refund_amount_cents numeric(60, 0) not null check (refund_amount_cents >= 0),
    offset_amount_cents numeric(60, 0) not null check (offset_amount_cents >= 0),
    balance_amount_cents numeric(60, 0) not null check (balance_amount_cents >= 0),
    applied_taxes jsonb not null default '[]',
    metadata jsonb not null default '{}',
    refunded_at timestamptz,
    voided_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (org_id, id),
    unique (org_id, invoice_id, sequential_id),
    foreign key (org_id, invoice_id) references invoices (org_id, id),
    foreign key (org_id, customer_id) references customers (org_id, id),
    check (total_amount_cents = sub_total_excluding_taxes_amount_cents + taxes_amount_cents),
    check (total_amount_cents = credit_amount_cents + refund_amount_cents + offset_amount_cents),
    check (balance_amount_cents <= credit_amount_cents),
    check ((credit_status is null) = (credit_amount_cents = 0)),
    check ((refund_status is null) = (refund_amount_cents = 0)),
    check (credit_status is null or (credit_status = 'available') = (balance_amount_cents > 0)),
    check ((credit_status is not distinct from 'voided') = (voided_at is not null))
);
create index credit_notes_by_age on credit_notes (org_id, created_at, id);
create index credit_notes_of_customer on credit_notes (org_id, customer_id, created_at);
create index credit_notes_available on credit_notes (org_id, customer_id, created_at, id) where credit_status = 'available';

create table credit_note_items (
    org_id uuid not null,
    id uuid not null,
    credit_note_id uuid not null,
    line_id uuid not null,
    position integer not null,
    amount_cents numeric(60, 0) not null check (amount_cents >= 0),
    exact_amount_cents numeric not null check (exact_amount_cents >= 0),
    created_at timestamptz not null,
    primary key (org_id, id),
    foreign key (org_id, credit_note_id) references credit_notes (org_id, id),
    foreign key (org_id, line_id) references invoice_lines (org_id, id)
);
create index credit_note_items_of on credit_note_items (org_id, credit_note_id);
create index credit_note_items_of_line on credit_note_items (org_id, line_id);

create function refuse_rewriting_credit_note() returns trigger language plpgsql as $$
declare
    -- What happens to a credit note after it was issued, and not what it says.
    moving text[] := array['balance_amount_cents', 'credit_status', 'refund_status', 'refunded_at', 'voided_at', 'metadata',
        'updated_at'];
begin
    if tg_op = 'DELETE' or (to_jsonb(new) - moving) <> (to_jsonb(old) - moving) then
        raise exception 'an issued credit note is never rewritten' using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger never_rewritten before update or delete on credit_notes
    for each row execute function refuse_rewriting_credit_note();
create trigger append_only before update or delete on credit_note_items for each row execute function refuse_change();
create trigger append_only before delete on payments for each row execute function refuse_change();

-- Nothing is taken back that was not charged, and nothing refunded that was not paid.
create function check_credit_notes() returns trigger language plpgsql as $$
declare
    invoice invoices;
    notes record;
    too_much uuid;
begin
    select * into invoice from invoices where org_id = new.org_id and id = new.invoice_id;
    select sum(total_amount_cents) as total, sum(taxes_amount_cents) as taxes, sum(refund_amount_cents) as refunded,
        sum(offset_amount_cents) as settled
    into notes from credit_notes where org_id = new.org_id and invoice_id = new.invoice_id;
    if notes.total > invoice.sub_total_including_taxes_amount_cents or notes.taxes > invoice.taxes_amount_cents
            or notes.refunded > invoice.total_paid_amount_cents
            or notes.settled > invoice.total_amount_cents - invoice.total_paid_amount_cents then
        raise exception 'credit notes take back more than the invoice allows' using errcode = 'check_violation';
    end if;
    select l.id into too_much
    from credit_note_items i join invoice_lines l on l.org_id = i.org_id and l.id = i.line_id
    where i.org_id = new.org_id and l.invoice_id = new.invoice_id
    group by l.id, l.amount_cents having sum(i.amount_cents) > greatest(l.amount_cents, 0);
    if too_much is not null then
        raise exception 'credit notes take back more than a fee came to' using errcode = 'check_violation';
    end if;
    return null;
end $$;
create constraint trigger within_the_invoice after insert on credit_notes
    deferrable initially deferred for each row execute function check_credit_notes();

create trigger no_truncate before truncate on credit_notes execute function refuse_change();
create trigger no_truncate before truncate on credit_note_items execute function refuse_change();
create trigger no_truncate before truncate on payments execute function refuse_change();

-- When the payment of a line's invoice, or of a line that has none, came to its end.
alter table invoice_lines
    add column succeeded_at timestamptz,
    add column failed_at timestamptz,
    add column refunded_at timestamptz;

-- As before, with those; and a line that is on no invoice may be taken away.
create or replace function refuse_rewriting_line() returns trigger language plpgsql as $$
declare
    moving text[] := array['payment_status', 'succeeded_at', 'failed_at', 'refunded_at'];
begin
    if old.invoice_id is null then
        if tg_op = 'DELETE' then
            return old;
        end if;
        moving := moving || array['invoice_id', 'position', 'coupons_exact_amount_cents', 'taxes_rate', 'taxes_amount_cents',
            'applied_taxes'];
    elsif exists (select 1 from invoices where org_id = old.org_id and id = old.invoice_id and status in ('draft', 'failed')) then
        return case when tg_op = 'DELETE' then old else new end;
    end if;
    if tg_op = 'DELETE' or (to_jsonb(new) - moving) <> (to_jsonb(old) - moving) then
        raise exception 'invoice_lines is append-only' using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
