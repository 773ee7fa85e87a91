-- A deleted customer's external id may be another customer's.
alter table customers drop constraint customers_org_id_external_id_key;
create unique index customers_external_id on customers (org_id, external_id) where deleted_at is null;
create index customers_by_age on customers (org_id, created_at, id);
