-- O1: an operator found out that the work was not done. Released whatever the attempt.
-- $1 principal, $2 key, $3 fence seen, $4 lease's end seen, $5 the clock's offset in us, $6 lock timeout.
WITH locked AS MATERIALIZED (
    SELECT s.*
    FROM {slots} AS s
    WHERE (SELECT set_config('lock_timeout', $6::text, true)) IS NOT NULL
        AND s.principal = $1::text AND s.key = $2::text
    FOR NO KEY UPDATE OF s
),
timed AS MATERIALIZED (
    SELECT l.*, clock_timestamp() + $5::bigint * interval '1 microsecond' AS now FROM locked AS l
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
        state = 'released',
        expires_at = CASE d.expires_at WHEN 'infinity' THEN d.now + d.retention ELSE d.expires_at END,
        lease_expires_at = '-infinity'
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
