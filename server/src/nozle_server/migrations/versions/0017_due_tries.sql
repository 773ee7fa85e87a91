-- Counted only after a worker has died (workflows/drain_due.py): an item that kills whoever does it is put aside in the end.
alter table due_items add column tries integer not null default 0 check (tries >= 0);
