-- Q2: tells whoever listens that slots were settled. Says nothing, and writes nothing, where nobody does: each
-- listener holds a shared lock of the channel's name.
-- A hint has nothing to keep: its commit waits for no flush.
-- $1 channel, $2 the slots' prefixes.
SELECT pg_notify($1::text, $2::text)
FROM (SELECT set_config('synchronous_commit', 'off', true) AS setting) AS s
WHERE s.setting IS NOT NULL AND NOT pg_try_advisory_xact_lock(hashtextextended($1::text, 0))
