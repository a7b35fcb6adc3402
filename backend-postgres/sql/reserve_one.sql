-- reserve.sql for a call that goes alone: the same for one slot, without the machinery of a batch.
-- $1 principal, $2 key, $3 fingerprint, $4 token, $5 policy, $6 lease in us, $7 retention in us, $8 the
-- clock's offset in us, $9 lock timeout.
WITH fresh AS (
    INSERT INTO {slots} (
        principal, key, state, fingerprint, token, fence, attempt, policy, begun, retention,
        created_at, lease_expires_at, expires_at, checkpoint_sequence
    )
    SELECT
        $1::text, $2::text, 'pending', $3::bytea, $4::bytea,
        -- S4: the clock's microseconds.
        (extract(epoch FROM c.now) * 1000000)::bigint, 1, $5::text, false,
        $7::bigint * interval '1 microsecond',
        c.now, c.now + $6::bigint * interval '1 microsecond',
        c.now + ($6::bigint + $7::bigint) * interval '1 microsecond', 0
    FROM (SELECT clock_timestamp() + $8::bigint * interval '1 microsecond' AS now OFFSET 0) AS c
    WHERE (SELECT set_config('lock_timeout', $9::text, true)) IS NOT NULL
    -- What is there is read, and not waited for: an insert would wait for whoever is changing it.
    AND NOT EXISTS (SELECT FROM {slots} AS o WHERE o.principal = $1::text AND o.key = $2::text)
    -- R7, T4
    ON CONFLICT (principal, key) DO NOTHING
    -- R10: whoever had to wait for another's row, and found it rolled back, wrote a clock from before the wait.
    RETURNING
        CASE
            WHEN created_at > clock_timestamp() + $8::bigint * interval '1 microsecond' - interval '50 ms' THEN fence
        END AS fence
)
SELECT
    1::bigint AS n, true AS fresh, NULL::timestamptz AS now,
    NULL::text, NULL::bytea, NULL::bytea, f.fence, NULL::bigint, NULL::text, NULL::boolean, NULL::interval,
    NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::bigint, NULL::bytea,
    NULL::integer, NULL::bytea, NULL::bigint, NULL::bytea
FROM fresh AS f
UNION ALL
-- What the statement's snapshot has: not the row that was just written, which counts where both are said. Then
-- the one in the snapshot was deleted meanwhile.
SELECT
    -- S9
    1, false, statement_timestamp() + $8::bigint * interval '1 microsecond', {record of s}
FROM {slots} AS s
WHERE s.principal = $1::text AND s.key = $2::text
