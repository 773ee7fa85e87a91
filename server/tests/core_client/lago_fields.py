"""What Lago's public API reference says of its objects: every field it promises, with its JSON type; `?` may be null.

Facts from https://github.com/getlago/lago-openapi (schemas `*Object`), for the objects that we show. Types: `id` is a
UUID, `instant` an RFC 3339 text, `date` a day, `decimal` a number as text with a digit after the point.
"""


def fields(**by_type: str) -> dict[str, str]:
    """Field names by type, as a type by field name; a type's trailing underscore is the `?` of null."""
    named: dict[str, str] = {}
    for kind, names in by_type.items():
        shown = kind[:-1] + "?" if kind.endswith("_") else kind
        named |= dict.fromkeys(names.split(), shown)
    return named


TAX = fields(
    id="lago_id",
    text="name code",
    number="rate",
    bool="applied_to_organization",
    instant="created_at",
    text_="description",
)
ADD_ON = fields(
    id="lago_id",
    text="name code amount_currency",
    int="amount_cents",
    instant="created_at",
    text_="description invoice_display_name",
    list="taxes",
)
COUPON = fields(
    id="lago_id",
    text="name code coupon_type frequency expiration",
    text_="description amount_currency",
    int_="amount_cents frequency_duration",
    decimal_="percentage_rate",
    bool="reusable limited_plans limited_billable_metrics",
    list="plan_codes billable_metric_codes",
    instant="created_at",
    instant_="expiration_at terminated_at",
)
APPLIED_COUPON = fields(
    id="lago_id lago_coupon_id lago_customer_id",
    text="coupon_code coupon_name external_customer_id status frequency",
    int_="amount_cents amount_cents_remaining frequency_duration frequency_duration_remaining",
    text_="amount_currency",
    decimal_="percentage_rate",
    instant="created_at",
    instant_="expiration_at terminated_at",
    list="credits",
)
METRIC = fields(
    id="lago_id",
    text="name code aggregation_type",
    text_="description field_name expression weighted_interval rounding_function",
    bool="recurring",
    instant="created_at",
    list="filters",
    int_="rounding_precision",
)
FILTER = fields(id="lago_id", object="values properties", text_="invoice_display_name")
CHARGE = fields(
    id="lago_id lago_billable_metric_id",
    text="billable_metric_code charge_model code",
    instant="created_at",
    bool="pay_in_advance invoiceable prorated",
    int="min_amount_cents",
    object="properties",
    list="filters taxes",
    text_="invoice_display_name regroup_paid_fees",
)
FIXED_CHARGE = fields(
    id="lago_id lago_add_on_id",
    text="code invoice_display_name add_on_code charge_model",
    instant="created_at",
    bool="pay_in_advance prorated",
    object="properties",
    number="units",
    id_="lago_parent_id",
    list="taxes",
)
PLAN = fields(
    id="lago_id",
    text="name code interval amount_currency",
    int="amount_cents",
    instant="created_at",
    bool="pay_in_advance",
    text_="invoice_display_name description",
    number_="trial_period",
    bool_="bill_charges_monthly bill_fixed_charges_monthly",
    list="charges fixed_charges usage_thresholds taxes entitlements",
    object_="minimum_commitment metadata",
)
FEATURE = fields(text="code", text_="name description", list="privileges", instant="created_at")
CUSTOMER = fields(
    id="lago_id",
    int="sequential_id",
    text="slug external_id applicable_timezone",
    instant="created_at updated_at",
    text_="name firstname lastname email currency country timezone legal_name legal_number tax_identification_number "
    "account_type customer_type address_line1 address_line2 city state zipcode phone url logo_url "
    "billing_entity_code external_salesforce_id finalize_zero_amount_invoice",
    int_="net_payment_term",
    object="billing_configuration shipping_address",
    list="metadata taxes",
)
SUBSCRIPTION = fields(
    id="lago_id lago_customer_id",
    instant="created_at subscription_at",
    text="external_id external_customer_id plan_code status billing_time plan_amount_currency",
    int="plan_amount_cents",
    text_="name previous_plan_code next_plan_code on_termination_credit_note on_termination_invoice",
    date_="downgrade_plan_date",
    instant_="started_at ending_at terminated_at canceled_at trial_ended_at current_billing_period_started_at "
    "current_billing_period_ending_at",
)
EVENT = fields(
    id="lago_id",
    text="transaction_id code external_subscription_id",
    instant="timestamp created_at",
    id_="lago_customer_id lago_subscription_id",
    object="properties",
    text_="precise_total_amount_cents",
)
APPLIED_TAX = fields(
    id="lago_tax_id",
    text="tax_name tax_code amount_currency",
    number="tax_rate",
    int="amount_cents",
    text_="tax_description",
)
FEE = fields(
    id="lago_id",
    text="amount_currency total_amount_currency payment_status",
    int="amount_cents taxes_amount_cents total_amount_cents",
    number="taxes_rate",
    decimal="units precise_unit_amount precise_amount precise_total_amount taxes_precise_amount "
    "precise_coupons_amount_cents",
    decimal_="total_aggregated_units",
    bool="pay_in_advance invoiceable self_billed",
    object="item amount_details",
    list="applied_taxes",
    int_="events_count",
    instant_="created_at succeeded_at failed_at refunded_at from_date to_date",
    id_="lago_charge_id lago_charge_filter_id lago_fixed_charge_id lago_invoice_id lago_true_up_fee_id "
    "lago_true_up_parent_fee_id lago_subscription_id lago_customer_id",
    text_="external_customer_id external_subscription_id description event_transaction_id",
)
FEE_ITEM = fields(
    id="lago_item_id",
    text="type code name item_type",
    text_="invoice_display_name filter_invoice_display_name",
    object_="filters grouped_by",
)
INVOICE = fields(
    id="lago_id",
    text="number invoice_type status payment_status currency billing_entity_code",
    int="sequential_id net_payment_term fees_amount_cents coupons_amount_cents credit_notes_amount_cents "
    "sub_total_excluding_taxes_amount_cents taxes_amount_cents sub_total_including_taxes_amount_cents "
    "prepaid_credit_amount_cents progressive_billing_credit_amount_cents total_amount_cents total_due_amount_cents "
    "total_paid_amount_cents version_number",
    date="issuing_date payment_due_date",
    bool="payment_overdue self_billed",
    instant="created_at updated_at",
    instant_="payment_dispute_lost_at voided_at",
    text_="file_url",
    int_="prepaid_granted_credit_amount_cents prepaid_purchased_credit_amount_cents",
    object="customer",
    list="metadata applied_taxes fees credits subscriptions billing_periods error_details applied_usage_thresholds",
)
BILLING_PERIOD = fields(
    id="lago_subscription_id lago_plan_id",
    text="external_subscription_id invoicing_reason",
    instant="subscription_from_datetime subscription_to_datetime charges_from_datetime charges_to_datetime",
)
CREDIT_NOTE = fields(
    id="lago_id lago_invoice_id",
    int="sequential_id total_amount_cents credit_amount_cents refund_amount_cents "
    "offset_amount_cents balance_amount_cents taxes_amount_cents sub_total_excluding_taxes_amount_cents "
    "coupons_adjustment_amount_cents",
    text="billing_entity_code number invoice_number reason currency",
    date="issuing_date",
    number="taxes_rate",
    instant="created_at updated_at",
    text_="credit_status refund_status description file_url",
    list="items applied_taxes",
    object_="metadata",
    bool="self_billed",
)
WALLET = fields(
    id="lago_id lago_customer_id",
    text="external_customer_id status currency",
    text_="name code",
    decimal="rate_amount credits_balance consumed_credits credits_ongoing_balance credits_ongoing_usage_balance",
    int="balance_cents ongoing_balance_cents ongoing_usage_balance_cents priority",
    instant="created_at",
    instant_="expiration_at last_balance_sync_at last_consumed_credit_at terminated_at",
    bool="invoice_requires_successful_payment",
    object="applies_to",
    list="recurring_transaction_rules",
    int_="paid_top_up_min_amount_cents paid_top_up_max_amount_cents",
    object_="metadata",
)
WALLET_TRANSACTION = fields(
    id="lago_id lago_wallet_id",
    text="status source transaction_status transaction_type",
    decimal="amount credit_amount",
    instant="created_at",
    instant_="settled_at failed_at",
    bool="invoice_requires_successful_payment",
    list="metadata",
    text_="name",
    int_="remaining_amount_cents priority",
    decimal_="remaining_credit_amount",
    id_="lago_invoice_id lago_credit_note_id lago_voided_invoice_id",
)
PAYMENT = fields(
    id="lago_id",
    list="invoice_ids",
    int="amount_cents",
    text="amount_currency payment_status type",
    text_="reference external_payment_id",
    instant="created_at",
)
ORGANIZATION = fields(
    id="lago_id",
    text="name timezone default_currency document_numbering document_number_prefix",
    instant="created_at",
    text_="country address_line1 address_line2 state zipcode email city legal_name legal_number "
    "tax_identification_number webhook_url",
    int="net_payment_term",
    bool="finalize_zero_amount_invoice",
    list="email_settings taxes webhook_urls",
    object="billing_configuration",
)
USAGE = fields(
    instant="from_datetime to_datetime",
    date="issuing_date",
    text="currency",
    id_="lago_invoice_id",
    int="amount_cents taxes_amount_cents total_amount_cents",
    list="charges_usage",
)
CHARGE_USAGE = fields(
    decimal="units total_aggregated_units",
    int="events_count amount_cents",
    text="amount_currency",
    object="charge billable_metric",
    list="filters grouped_usage",
)
LIFETIME_USAGE = fields(
    id="lago_id lago_subscription_id",
    text="external_subscription_id",
    instant="from_datetime to_datetime",
    int="external_historical_usage_amount_cents invoiced_usage_amount_cents current_usage_amount_cents",
)
ALERT = fields(
    id="lago_id lago_organization_id",
    text="alert_type code direction",
    decimal="previous_value",
    list="thresholds",
    text_="name external_subscription_id wallet_code",
    id_="lago_wallet_id",
    instant="created_at",
    instant_="last_processed_at",
    object_="billable_metric",
)
