-- S11: the settings that decide what survives a crash, and whether this is a standby.
SELECT s.name, current_setting(s.name, true)
FROM unnest(ARRAY[
    'fsync', 'full_page_writes', 'synchronous_commit', 'default_transaction_isolation', 'autovacuum'
]) AS s (name)
UNION ALL
SELECT 'standby', pg_is_in_recovery()::text
