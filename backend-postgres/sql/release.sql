-- L1: given back; the row remembers its fence and token. L2: a later attempt under take-over leaves the
-- doubt about its predecessor, as a record that has lapsed at once.
-- What is not the holder's isn't written, and isn't said: lookup.sql tells what is there instead.
-- $1 principals, $2 keys, $3 tokens, $4 fences, $5 the clock's offset in us, $6 lock timeout. The rows in the
-- order of their slots, no slot twice.
WITH locked AS MATERIALIZED (
    SELECT i.*, s.state, s.token, s.fence, s.lease_expires_at, s.expires_at, s.retention, s.policy,
        s.attempt
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[])
            WITH ORDINALITY AS i (of_principal, of_key, own_token, own_fence, n)
        JOIN {slots} AS s ON s.principal = i.of_principal AND s.key = i.of_key
    WHERE (SELECT set_config('lock_timeout', $6::text, true)) IS NOT NULL
    -- Every statement locks its rows in one order, so that two batches can't deadlock.
    ORDER BY i.n
    FOR NO KEY UPDATE OF s
)
UPDATE {slots} AS s SET
    state = CASE WHEN t.attempt = 1 OR t.policy = 'refuse' THEN 'released' ELSE t.state END,
    -- Leaving Pending, "never" ends.
    expires_at = CASE t.expires_at
        WHEN 'infinity' THEN greatest(t.now, t.lease_expires_at) + t.retention
        ELSE t.expires_at
    END,
    lease_expires_at = '-infinity'
FROM (
    -- The clock is read once a row is locked: a lease counts from its write, however long it waited (R10).
    SELECT l.*, clock_timestamp() + $5::bigint * interval '1 microsecond' AS now FROM locked AS l
) AS t
WHERE s.principal = t.of_principal AND s.key = t.of_key
    AND t.state = 'pending'
    -- Own is token and fence: the same token with another fence is somebody else's grant (S2).
    AND t.token = t.own_token
    AND t.fence = t.own_fence
    -- An expired record is Absent, deleted or not.
    AND t.expires_at > t.now
RETURNING t.n
