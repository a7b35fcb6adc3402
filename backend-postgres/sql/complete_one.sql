-- complete.sql for a call that goes alone: the same for one slot, without the machinery of a batch.
-- $1 principal, $2 key, $3 token, $4 fence, $5 retention of the completion in us or null, $6 status,
-- $7 headers, $8 length of a body that is not kept, $9 body, $10 the clock's offset in us, $11 lock timeout.
WITH locked AS MATERIALIZED (
    SELECT s.expires_at, s.lease_expires_at, s.retention
    FROM {slots} AS s
    WHERE (SELECT set_config('lock_timeout', $11::text, true)) IS NOT NULL
        AND s.principal = $1::text AND s.key = $2::text
        AND s.state = 'pending'
        -- Own is token and fence (S2).
        AND s.token = $3::bytea
        AND s.fence = $4::bigint
    FOR NO KEY UPDATE OF s
)
UPDATE {slots} AS s SET
    state = 'completed',
    completed_at = t.now,
    expires_at = CASE
        -- C5
        WHEN $5::bigint IS NOT NULL THEN t.now + $5::bigint * interval '1 microsecond'
        -- Leaving Pending, "never" ends.
        WHEN t.expires_at = 'infinity' THEN greatest(t.now, t.lease_expires_at) + t.retention
        -- C2: lapsed, and not taken over.
        WHEN t.lease_expires_at <= t.now THEN greatest(t.expires_at, t.now + t.retention)
        -- C1
        ELSE t.expires_at
    END,
    checkpoint_sequence = 0,
    checkpoint = NULL,
    status = $6::integer,
    headers = $7::bytea,
    body_length = $8::bigint,
    body = $9::bytea
FROM (
    -- Read once the row is locked.
    SELECT l.*, clock_timestamp() + $10::bigint * interval '1 microsecond' AS now FROM locked AS l
) AS t
WHERE s.principal = $1::text AND s.key = $2::text
    -- C4: an expired record is Absent, deleted or not.
    AND t.expires_at > t.now
RETURNING 1::bigint
