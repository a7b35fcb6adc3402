-- C1, C2, C5: the holder's answer.
-- What is not the holder's isn't written, and isn't said: lookup.sql tells what is there instead.
-- $1 principals, $2 keys, $3 tokens, $4 fences, $5 retentions of the completions in us or null, $6 statuses,
-- $7 headers, $8 lengths of bodies that are not kept, $9 bodies, $10 the clock's offset in us, $11 lock
-- timeout. The rows in the order of their slots, no slot twice.
WITH locked AS MATERIALIZED (
    SELECT i.*, s.state, s.token, s.fence, s.lease_expires_at, s.expires_at, s.retention
    FROM unnest(
            $1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::integer[],
            $7::bytea[], $8::bigint[], $9::bytea[])
            WITH ORDINALITY AS i (
                of_principal, of_key, own_token, own_fence, new_retention, new_status, new_headers,
                new_body_length, new_body, n
            )
        JOIN {slots} AS s ON s.principal = i.of_principal AND s.key = i.of_key
    WHERE (SELECT set_config('lock_timeout', $11::text, true)) IS NOT NULL
    -- Every statement locks its rows in one order, so that two batches can't deadlock.
    ORDER BY i.n
    FOR NO KEY UPDATE OF s
)
UPDATE {slots} AS s SET
    state = 'completed',
    completed_at = t.now,
    expires_at = CASE
        -- C5
        WHEN t.new_retention IS NOT NULL THEN t.now + t.new_retention * interval '1 microsecond'
        -- Leaving Pending, "never" ends.
        WHEN t.expires_at = 'infinity' THEN greatest(t.now, t.lease_expires_at) + t.retention
        -- C2: lapsed, and not taken over.
        WHEN t.lease_expires_at <= t.now THEN greatest(t.expires_at, t.now + t.retention)
        -- C1
        ELSE t.expires_at
    END,
    checkpoint_sequence = 0,
    checkpoint = NULL,
    status = t.new_status,
    headers = t.new_headers,
    body_length = t.new_body_length,
    body = t.new_body
FROM (
    -- The clock is read once a row is locked: a lease counts from its write, however long it waited (R10).
    SELECT l.*, clock_timestamp() + $10::bigint * interval '1 microsecond' AS now FROM locked AS l
) AS t
WHERE s.principal = t.of_principal AND s.key = t.of_key
    AND t.state = 'pending'
    -- Own is token and fence: the same token with another fence is somebody else's grant (S2).
    AND t.token = t.own_token
    AND t.fence = t.own_fence
    -- An expired record is Absent, deleted or not.
    AND t.expires_at > t.now
RETURNING t.n
