-- R1 over a row that lies there and is Absent all the same: expired, or Released by another token.
-- What doesn't apply any longer isn't written, and isn't said: reserve.sql looks again (R8).
-- $1 principals, $2 keys, $3 fingerprints, $4 tokens, $5 policies, $6 leases in us, $7 retentions in us,
-- $8 the clock's offset in us, $9 lock timeout. The rows in the order of their slots, no slot twice.
WITH locked AS MATERIALIZED (
    SELECT i.*, s.state, s.fingerprint, s.token, s.fence, s.attempt, s.policy, s.begun, s.retention,
        s.lease_expires_at, s.expires_at
    FROM unnest(
            $1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[]
        )
            WITH ORDINALITY AS i (
                of_principal, of_key, new_fingerprint, new_token, new_policy, new_lease, new_retention, n
            )
        JOIN {slots} AS s ON s.principal = i.of_principal AND s.key = i.of_key
    WHERE (SELECT set_config('lock_timeout', $9::text, true)) IS NOT NULL
    -- Every statement locks its rows in one order, so that two batches can't deadlock.
    ORDER BY i.n
    FOR NO KEY UPDATE OF s
)
UPDATE {slots} AS s SET
    state = 'pending',
    fingerprint = t.new_fingerprint,
    token = t.new_token,
    -- S4: above the last fence, also when the clock stands still or steps back.
    fence = greatest(t.fence + 1, (extract(epoch FROM t.now) * 1000000)::bigint),
    attempt = 1,
    policy = t.new_policy,
    begun = false,
    retention = t.new_retention * interval '1 microsecond',
    created_at = t.now,
    lease_expires_at = t.now + t.new_lease * interval '1 microsecond',
    completed_at = NULL,
    expires_at = t.now + (t.new_lease + t.new_retention) * interval '1 microsecond',
    checkpoint_sequence = 0,
    checkpoint = NULL,
    status = NULL,
    headers = NULL,
    body_length = NULL,
    body = NULL
FROM (
    -- The clock is read once a row is locked: a lease counts from its write, however long it waited (R10).
    SELECT l.*, clock_timestamp() + $8::bigint * interval '1 microsecond' AS now FROM locked AS l
) AS t
WHERE s.principal = t.of_principal AND s.key = t.of_key
    AND (
        t.expires_at <= t.now
        -- R11: the token that was released is spent.
        OR (t.state = 'released' AND t.token <> t.new_token)
    )
RETURNING t.n, s.fence, s.attempt, s.policy, s.checkpoint_sequence, s.checkpoint
