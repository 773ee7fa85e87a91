-- Who may change the ledger: nobody its history. The rights of the application's role are not here but in
-- infra/privileges.py, which sees to them after the migrations of every start: a role belongs to the cluster, and may be made,
-- lost in a restore, or given by an administrator later than the tables.

-- What the last scheduled audit found, check by check, for the metrics of every process. A table of the server's: findings of
-- all organizations together.
create table audit_results (
    check_name text primary key,
    findings_count bigint not null check (findings_count >= 0),
    audited_at timestamptz not null
);
