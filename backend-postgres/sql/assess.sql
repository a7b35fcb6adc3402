-- S11: the settings that decide what survives a crash, and whether this is a standby.
SELECT s.name, current_setting(s.name, true)
FROM unnest(ARRAY[
    'fsync', 'full_page_writes', 'synchronous_commit', 'default_transaction_isolation', 'autovacuum',
    'statement_timeout'
]) AS s (name)
UNION ALL
SELECT 'standby', pg_is_in_recovery()::text
UNION ALL
-- Of the table, or of any of its partitions.
SELECT
    'table autovacuum',
    CASE WHEN count(*) = 0 THEN 'on' ELSE 'off' END
FROM pg_class AS c, unnest(c.reloptions) AS o (setting)
WHERE (
        c.oid = to_regclass({table_literal})
        OR c.oid IN (SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = to_regclass({table_literal}))
    )
    AND o.setting ~* '^autovacuum_enabled=(f|of|n|0)'
UNION ALL
SELECT
    'table logged',
    CASE WHEN count(*) = 0 THEN 'on' ELSE 'off' END
FROM pg_class AS c
WHERE (
        c.oid = to_regclass({table_literal})
        OR c.oid IN (SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = to_regclass({table_literal}))
    )
    AND c.relpersistence <> 'p'
UNION ALL
-- Of this role, or of all where it may see them.
SELECT 'sessions that wait for a standby', count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'
UNION ALL
SELECT 'clock', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint::text
