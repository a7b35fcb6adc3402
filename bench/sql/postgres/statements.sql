-- Which statements ran, the longest first, as cells of a table: name, calls, microseconds a call, microseconds and
-- bytes of WAL an operation. Starting a statement's plan and ending it is not in the time.
SELECT format(
    '%s | %s | %s | %s | %s',
    CASE
        WHEN query LIKE '%INSERT INTO%' THEN 'reserve'
        WHEN query LIKE '%completed_at = %' THEN 'complete'
        ELSE left(query, 20)
    END || CASE WHEN query LIKE '%ORDINALITY%' THEN ', gathered' ELSE ', alone' END,
    calls, round((total_exec_time / calls * 1000)::numeric, 1),
    round((total_exec_time * 1000 / {operations})::numeric, 1), round(wal_bytes / {operations}, 0)
)
FROM pg_stat_statements
WHERE toplevel AND total_exec_time > 1 AND query NOT LIKE '%pg_stat_%'
ORDER BY total_exec_time DESC
LIMIT 4
