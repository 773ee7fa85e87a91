-- News of usage come with every event and are of no use a minute later. An index of their own finds them; the one by age is
-- of all that stays for days, so that each row is still in one of the two.
create index outbox_of_usage on outbox (created_at) where kind = 'usage.counted';
drop index outbox_by_age;
create index outbox_by_age on outbox (created_at) where kind <> 'usage.counted';
