-- What the last scheduled audit found, check by check, for the metrics of every process. A table of the server's: findings of
-- all organizations together.
create table audit_results (
    check_name text primary key,
    findings_count bigint not null check (findings_count >= 0),
    audited_at timestamptz not null
);
