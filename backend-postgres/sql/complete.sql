-- C1, C2, C5: the holder's answer.
-- $1 principals, $2 keys, $3 tokens, $4 fences, $5 retentions of the completions in us or null, $6 statuses,
-- $7 headers, $8 lengths of bodies that are not kept, $9 bodies, $10 the clock's offset in us, $11 lock
-- timeout. The rows in the order of their slots, no slot twice.
WITH input AS MATERIALIZED (
    SELECT i.*
    FROM (SELECT set_config('lock_timeout', $11::text, true) AS timeout) AS s,
        unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::integer[], $7::bytea[], $8::bigint[],
            $9::bytea[])
            WITH ORDINALITY AS i (
                of_principal, of_key, own_token, own_fence, new_retention, new_status, new_headers,
                new_body_length, new_body, n
            )
    WHERE s.timeout IS NOT NULL
),
-- The rows are locked in one order, by every statement, so that two batches can't deadlock; and the clock is
-- read once a row is locked: a lease counts from its write, however long it waited for the lock (R10).
locked AS MATERIALIZED (
    SELECT i.n, i.of_principal, i.of_key, i.own_token, i.own_fence, s.*
    FROM input AS i JOIN {slots} AS s ON s.principal = i.of_principal AND s.key = i.of_key
    ORDER BY s.principal, s.key
    FOR NO KEY UPDATE OF s
),
timed AS MATERIALIZED (
    SELECT l.*, clock_timestamp() + $10::bigint * interval '1 microsecond' AS now FROM locked AS l
),
decided AS MATERIALIZED (
    SELECT
        t.*,
        t.state = 'pending'
            -- Own is token and fence: the same token with another fence is somebody else's grant (S2).
            AND t.token = t.own_token
            AND t.fence = t.own_fence
            -- An expired record is Absent, deleted or not.
            AND t.expires_at > t.now AS applies
    FROM timed AS t
),
written AS (
    UPDATE {slots} AS s SET
        state = 'completed',
        completed_at = d.now,
        expires_at = CASE
            -- C5
            WHEN i.new_retention IS NOT NULL THEN d.now + i.new_retention * interval '1 microsecond'
            -- Leaving Pending, "never" ends.
            WHEN d.expires_at = 'infinity' THEN greatest(d.now, d.lease_expires_at) + d.retention
            -- C2: lapsed, and not taken over.
            WHEN d.lease_expires_at <= d.now THEN greatest(d.expires_at, d.now + d.retention)
            -- C1
            ELSE d.expires_at
        END,
        checkpoint_sequence = 0,
        checkpoint = NULL,
        status = i.new_status,
        headers = i.new_headers,
        body_length = i.new_body_length,
        body = i.new_body
    FROM decided AS d JOIN input AS i ON i.n = d.n
    WHERE s.principal = d.of_principal AND s.key = d.of_key AND d.applies
    RETURNING d.n, true AS written, d.now
)
SELECT
    w.n, w.written, w.now,
    NULL::text, NULL::bytea, NULL::bytea, NULL::bigint, NULL::bigint, NULL::text, NULL::boolean, NULL::interval,
    NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::bigint, NULL::bytea,
    NULL::integer, NULL::bytea, NULL::bigint, NULL::bytea
FROM written AS w
UNION ALL
-- Not written: what is there, under its lock.
SELECT d.n, false, d.now, {record of d}
FROM decided AS d
WHERE NOT d.applies
