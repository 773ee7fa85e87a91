-- Subscriptions: `subscription_at` is what periods are counted from; a change of plan makes a new row under the same
-- external id, chained by `previous_subscription_id`.
alter table subscriptions
    add column subscription_at timestamptz,
    add column initial_started_at timestamptz,
    add column previous_subscription_id uuid,
    add column trial_ends_at timestamptz,
    add column trial_ended_at timestamptz,
    add column cancel_at_period_end boolean not null default false,
    add column cancellation_reason text,
    add column on_termination_credit_note text check (on_termination_credit_note in ('credit', 'refund', 'offset', 'skip')),
    add column on_termination_invoice text not null default 'generate' check (on_termination_invoice in ('generate', 'skip')),
    add foreign key (org_id, previous_subscription_id) references subscriptions (org_id, id),
    drop constraint subscriptions_org_id_external_id_key;
update subscriptions set subscription_at = started_at, initial_started_at = started_at;
alter table subscriptions
    alter column subscription_at set not null,
    alter column initial_started_at set not null,
    add check (subscription_at <= started_at),
    add check (initial_started_at <= started_at);
create unique index subscriptions_active on subscriptions (org_id, external_id) where status = 'active';
create unique index subscriptions_pending on subscriptions (org_id, external_id) where status = 'pending';
create index subscriptions_by_external_id on subscriptions (org_id, external_id, started_at);

-- Which periods of which subscriptions an invoice is about: more than one where a customer's subscriptions are billed at
-- one instant. [period_start, period_end) is the fixed fee's, [charges_start, charges_end) the usage's.
create table invoice_subscriptions (
    org_id uuid not null,
    invoice_id uuid not null,
    subscription_id uuid not null,
    reason text not null check (reason in ('subscription_starting', 'subscription_periodic', 'subscription_terminating',
        'subscription_trial_ended', 'in_advance_charge', 'progressive_billing', 'late_usage')),
    period_start timestamptz not null,
    period_end timestamptz not null check (period_end > period_start),
    charges_start timestamptz,
    charges_end timestamptz check (charges_end > charges_start),
    voided boolean not null default false,
    primary key (org_id, invoice_id, subscription_id),
    foreign key (org_id, invoice_id) references invoices (org_id, id),
    foreign key (org_id, subscription_id) references subscriptions (org_id, id)
);
insert into invoice_subscriptions (org_id, invoice_id, subscription_id, reason, period_start, period_end, charges_start, charges_end)
select org_id, id, subscription_id, billing_reason, period_start, period_end,
    case when billing_reason <> 'subscription_starting' then period_start end,
    case when billing_reason <> 'subscription_starting' then period_end end
from invoices where subscription_id is not null;
-- One invoice a period, whoever asks for it and however often.
create unique index invoice_subscriptions_once on invoice_subscriptions
    (org_id, subscription_id, reason, (coalesce(charges_start, period_start)))
    where reason not in ('in_advance_charge', 'progressive_billing', 'late_usage') and not voided;
create index invoice_subscriptions_of on invoice_subscriptions (org_id, subscription_id, charges_start);

drop trigger total_is_sum_of_lines on invoices;
drop trigger total_is_sum_of_lines on invoice_lines;
drop trigger never_rewritten on invoices;
drop trigger append_only on invoice_lines;

alter table invoices
    drop constraint invoices_invoice_type_check,
    add check (invoice_type in ('subscription', 'add_on', 'credit', 'one_off', 'progressive_billing', 'advance_charges')),
    drop constraint invoices_status_check,
    add check (status in ('draft', 'finalized', 'voided', 'failed', 'closed')),
    drop column subscription_id,
    drop column billing_reason,
    drop column period_start,
    drop column period_end,
    -- A number is given when an invoice is finalized, so that numbers have no gaps.
    alter column sequential_id drop not null,
    add check ((sequential_id is null) = (status in ('draft', 'failed', 'closed'))),
    add column timezone text not null default 'UTC',
    add column progressive_billing_credit_amount_cents numeric(60, 0) not null default 0,
    add column coupons_amount_cents numeric(60, 0) not null default 0,
    add column sub_total_excluding_taxes_amount_cents numeric(60, 0) not null default 0,
    add column taxes_amount_cents numeric(60, 0) not null default 0,
    add column taxes_rate numeric not null default 0,
    add column sub_total_including_taxes_amount_cents numeric(60, 0) not null default 0,
    add column credit_notes_amount_cents numeric(60, 0) not null default 0,
    add column prepaid_credit_amount_cents numeric(60, 0) not null default 0,
    add column total_paid_amount_cents numeric(60, 0) not null default 0,
    add column net_payment_term integer not null default 0 check (net_payment_term >= 0),
    add column finalize_at timestamptz,
    add column applied_taxes jsonb not null default '[]',
    add column metadata jsonb not null default '[]',
    add column error_details jsonb not null default '[]',
    add column voided_at timestamptz,
    add column payment_dispute_lost_at timestamptz,
    add column updated_at timestamptz;
update invoices set sub_total_excluding_taxes_amount_cents = fees_amount_cents,
    sub_total_including_taxes_amount_cents = fees_amount_cents, updated_at = created_at;
alter table invoices
    alter column updated_at set not null,
    alter column issuing_date drop not null,
    alter column payment_due_date drop not null,
    add check (fees_amount_cents >= 0 and taxes_amount_cents >= 0 and total_amount_cents >= 0),
    add check (coupons_amount_cents >= 0 and progressive_billing_credit_amount_cents >= 0),
    add check (credit_notes_amount_cents >= 0 and prepaid_credit_amount_cents >= 0),
    add check (total_paid_amount_cents >= 0 and total_paid_amount_cents <= total_amount_cents),
    add check (sub_total_excluding_taxes_amount_cents
        = fees_amount_cents - progressive_billing_credit_amount_cents - coupons_amount_cents),
    add check (sub_total_including_taxes_amount_cents = sub_total_excluding_taxes_amount_cents + taxes_amount_cents),
    add check (total_amount_cents
        = sub_total_including_taxes_amount_cents - credit_notes_amount_cents - prepaid_credit_amount_cents),
    add check ((status = 'voided') = (voided_at is not null));
create index invoices_by_date on invoices (org_id, issuing_date);

alter table invoice_lines
    alter column invoice_id drop not null,
    alter column subscription_id drop not null,
    alter column plan_id drop not null,
    alter column plan_version_id drop not null,
    alter column period_start drop not null,
    alter column period_end drop not null,
    drop constraint invoice_lines_kind_check,
    add check (kind in ('subscription', 'charge', 'fixed_charge', 'add_on', 'commitment', 'credit')),
    add column customer_id uuid,
    add column currency text,
    add column add_on_id uuid,
    add column item_code text,
    add column item_name text,
    add column fixed_charge_id uuid,
    add column grouped_by jsonb not null default '{}',
    -- A charge priced at the event: which one. Without an invoice until one follows (or never, when not invoiceable).
    add column pay_in_advance boolean not null default false,
    add column event_transaction_id text,
    -- What a minimum adds to this line.
    add column true_up_of uuid,
    -- A correction of a closed period: the invoice that was made for it.
    add column adjusts_invoice_id uuid,
    add column wallet_transaction_id uuid,
    add column coupons_exact_amount_cents numeric not null default 0,
    add column taxes_rate numeric not null default 0,
    add column taxes_amount_cents numeric(60, 0) not null default 0,
    add column applied_taxes jsonb not null default '[]',
    add column payment_status text not null default 'pending'
        check (payment_status in ('pending', 'succeeded', 'failed', 'refunded')),
    add column created_at timestamptz;
update invoice_lines l set customer_id = i.customer_id, currency = i.currency, created_at = i.created_at
from invoices i where i.org_id = l.org_id and i.id = l.invoice_id;
alter table invoice_lines
    alter column customer_id set not null,
    alter column currency set not null,
    alter column created_at set not null,
    add foreign key (org_id, customer_id) references customers (org_id, id);
create index invoice_lines_of_subscription on invoice_lines (org_id, subscription_id, period_start);
create unique index invoice_lines_in_advance on invoice_lines (org_id, subscription_id, charge_id, event_transaction_id,
    (coalesce(charge_filter_id, '00000000-0000-0000-0000-000000000000'))) where event_transaction_id is not null;

-- What an invoice's amount was reduced by: earlier progressive invoices, coupons, credit notes, wallets.
create table invoice_credits (
    org_id uuid not null,
    id uuid not null,
    invoice_id uuid not null,
    kind text not null check (kind in ('progressive_billing', 'coupon', 'credit_note', 'wallet')),
    -- The invoice credited, the applied coupon, the credit note or the wallet transaction.
    source_id uuid not null,
    label text not null,
    code text,
    amount_cents numeric(60, 0) not null check (amount_cents > 0),
    created_at timestamptz not null,
    primary key (org_id, id),
    foreign key (org_id, invoice_id) references invoices (org_id, id)
);
create index invoice_credits_of on invoice_credits (org_id, invoice_id);
create index invoice_credits_from on invoice_credits (org_id, source_id);

-- Closed periods that events came for afterwards, until the next invoice has corrected them.
create table late_periods (
    org_id uuid not null,
    subscription_id uuid not null,
    metric_id uuid not null,
    period_start timestamptz not null,
    period_end timestamptz not null,
    events_count bigint not null check (events_count > 0),
    first_received_at timestamptz not null,
    last_received_at timestamptz not null,
    primary key (org_id, subscription_id, metric_id, period_start),
    foreign key (org_id, subscription_id) references subscriptions (org_id, id)
);

create or replace function refuse_rewriting_invoice() returns trigger language plpgsql as $$
declare
    -- What happens to an invoice after it was made, and not what it says.
    moving text[] := array['payment_status', 'status', 'total_paid_amount_cents', 'voided_at', 'payment_dispute_lost_at',
        'metadata', 'updated_at', 'payment_due_date'];
begin
    if tg_op = 'DELETE' then
        raise exception 'invoices are never deleted' using errcode = 'restrict_violation';
    end if;
    if old.status in ('finalized', 'voided') and (to_jsonb(new) - moving) <> (to_jsonb(old) - moving)
        or old.status = 'finalized' and new.status not in ('finalized', 'voided')
        or old.status = 'voided' and new.status <> 'voided' then
        raise exception 'a finalized invoice is never rewritten' using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger never_rewritten before update or delete on invoices for each row execute function refuse_rewriting_invoice();

-- A line belongs to its invoice and changes with it as long as that is a draft; afterwards only its payment moves on.
-- A line without an invoice may be put on one, once.
create function refuse_rewriting_line() returns trigger language plpgsql as $$
declare
    moving text[] := array['payment_status'];
begin
    if old.invoice_id is null then
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
create trigger append_only before update or delete on invoice_lines for each row execute function refuse_rewriting_line();

create or replace function check_invoice_total(of_org uuid, of_invoice uuid) returns void language plpgsql as $$
declare
    invoice invoices;
    lines numeric;
    taxes numeric;
    credits numeric;
begin
    select * into invoice from invoices where org_id = of_org and id = of_invoice;
    if invoice.id is null or invoice.status not in ('finalized', 'draft') then
        return;
    end if;
    select coalesce(sum(amount_cents), 0), coalesce(sum(taxes_amount_cents), 0) into lines, taxes
    from invoice_lines where org_id = of_org and invoice_id = of_invoice;
    select coalesce(sum(amount_cents), 0) into credits
    from invoice_credits where org_id = of_org and invoice_id = of_invoice;
    if lines <> invoice.fees_amount_cents or taxes <> invoice.taxes_amount_cents then
        raise exception 'fees % and taxes % of an invoice differ from the sum of its lines % and %',
            invoice.fees_amount_cents, invoice.taxes_amount_cents, lines, taxes using errcode = 'check_violation';
    end if;
    if credits <> invoice.progressive_billing_credit_amount_cents + invoice.coupons_amount_cents
            + invoice.credit_notes_amount_cents + invoice.prepaid_credit_amount_cents then
        raise exception 'what an invoice was reduced by differs from the sum of its credits %', credits
            using errcode = 'check_violation';
    end if;
end $$;
create or replace function check_total_of_line() returns trigger language plpgsql as $$
begin
    -- An invoice that this transaction writes itself is checked once, by its own trigger, and not for each of its lines.
    if new.invoice_id is not null and not exists (
            select from invoices where org_id = new.org_id and id = new.invoice_id and xmin = pg_current_xact_id()::xid) then
        perform check_invoice_total(new.org_id, new.invoice_id);
    end if;
    return null;
end $$;
create constraint trigger total_is_sum_of_lines after insert or update on invoices
    deferrable initially deferred for each row execute function check_total_of_invoice();
create constraint trigger total_is_sum_of_lines after insert or update on invoice_lines
    deferrable initially deferred for each row execute function check_total_of_line();
create constraint trigger total_is_sum_of_credits after insert on invoice_credits
    deferrable initially deferred for each row execute function check_total_of_line();

-- How an organization bills, and what a customer has otherwise (null: as the organization).
alter table organizations
    add column net_payment_term integer not null default 0 check (net_payment_term >= 0),
    add column invoice_grace_period integer not null default 0 check (invoice_grace_period >= 0),
    add column finalize_zero_invoices boolean not null default true,
    add column document_number_prefix text not null default 'INV',
    add column details jsonb not null default '{}';
alter table customers
    add column net_payment_term integer check (net_payment_term >= 0),
    add column invoice_grace_period integer check (invoice_grace_period >= 0),
    add column finalize_zero_invoices boolean,
    add column deleted_at timestamptz;

create trigger no_truncate before truncate on plan_versions execute function refuse_change();
create trigger no_truncate before truncate on invoices execute function refuse_change();
create trigger no_truncate before truncate on invoice_subscriptions execute function refuse_change();
create trigger no_truncate before truncate on invoice_credits execute function refuse_change();
