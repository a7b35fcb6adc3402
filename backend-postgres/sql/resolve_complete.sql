-- O1, as C2: an operator's answer for a holder that fell silent. The record keeps the holder's token, so
-- that its own late complete hears AlreadyStored.
-- $1 principal, $2 key, $3 fence seen, $4 lease's end seen, $5 retention of the completion in us or null,
-- $6 status, $7 headers, $8 length of a body that is not kept, $9 body, $10 the clock's offset in us, $11 lock
-- timeout.
WITH locked AS MATERIALIZED (
    SELECT s.*
    FROM {slots} AS s
    WHERE (SELECT set_config('lock_timeout', $11::text, true)) IS NOT NULL
        AND s.principal = $1::text AND s.key = $2::text
    FOR NO KEY UPDATE OF s
),
timed AS MATERIALIZED (
    SELECT l.*, clock_timestamp() + $10::bigint * interval '1 microsecond' AS now FROM locked AS l
),
decided AS MATERIALIZED (
    SELECT
        t.*,
        t.state = 'pending'
            AND t.fence = $3::bigint
            AND t.lease_expires_at = $4::timestamptz
            AND t.lease_expires_at <= t.now
            AND t.expires_at > t.now AS applies
    FROM timed AS t
),
written AS (
    UPDATE {slots} AS s SET
        state = 'completed',
        completed_at = d.now,
        expires_at = CASE
            WHEN $5::bigint IS NOT NULL THEN d.now + $5::bigint * interval '1 microsecond'
            WHEN d.expires_at = 'infinity' THEN d.now + d.retention
            ELSE greatest(d.expires_at, d.now + d.retention)
        END,
        checkpoint_sequence = 0,
        checkpoint = NULL,
        status = $6::integer,
        headers = $7::bytea,
        body_length = $8::bigint,
        body = $9::bytea
    FROM decided AS d
    WHERE s.principal = d.principal AND s.key = d.key AND d.applies
    RETURNING d.now
)
SELECT
    1::bigint AS n, true AS written, w.now,
    NULL::text, NULL::bytea, NULL::bytea, NULL::bigint, NULL::bigint, NULL::text, NULL::boolean, NULL::interval,
    NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::bigint, NULL::bytea,
    NULL::integer, NULL::bytea, NULL::bigint, NULL::bytea
FROM written AS w
UNION ALL
SELECT 1, false, d.now, {record of d}
FROM decided AS d
WHERE NOT d.applies
