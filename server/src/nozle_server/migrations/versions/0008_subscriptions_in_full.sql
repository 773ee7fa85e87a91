-- One subscription takes another's place, whoever asks for it and however often at once.
create unique index subscriptions_follow_once on subscriptions (org_id, previous_subscription_id)
    where previous_subscription_id is not null and status <> 'canceled';

-- What a subscription may use otherwise than its plan says: other privileges, or (`removed`) not the feature at all.
-- A change of plan leaves them behind.
create table subscription_entitlements (
    org_id uuid not null,
    subscription_id uuid not null,
    feature_id uuid not null,
    privileges jsonb not null default '{}',
    removed boolean not null default false,
    primary key (org_id, subscription_id, feature_id),
    foreign key (org_id, subscription_id) references subscriptions (org_id, id),
    foreign key (org_id, feature_id) references features (org_id, id)
);
