-- R5: the next holder of a lapsed record.
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
    token = t.new_token,
    -- S4
    fence = greatest(t.fence + 1, (extract(epoch FROM t.now) * 1000000)::bigint),
    attempt = least(t.attempt + 1, 4294967295),
    begun = false,
    retention = t.kept_for,
    lease_expires_at = t.now + t.new_lease * interval '1 microsecond',
    -- Never earlier than it was.
    expires_at = greatest(t.expires_at, t.now + t.new_lease * interval '1 microsecond' + t.kept_for)
FROM (
    SELECT
        l.*,
        -- The clock is read once a row is locked: a lease counts from its write, however long it waited (R10).
        clock_timestamp() + $8::bigint * interval '1 microsecond' AS now,
        CASE l.policy
            WHEN 'refuse' THEN greatest(l.retention, l.new_retention * interval '1 microsecond')
            ELSE l.new_retention * interval '1 microsecond'
        END AS kept_for
    FROM locked AS l
) AS t
WHERE s.principal = t.of_principal AND s.key = t.of_key
    AND t.state = 'pending'
    -- R2: another fingerprint is a conflict, lapsed or not.
    AND t.fingerprint = t.new_fingerprint
    -- R3: the holder's own retry is no takeover.
    AND t.token <> t.new_token
    -- R4, R8: a lease that is live, renewed a moment ago, stays.
    AND t.lease_expires_at <= t.now
    -- R5, R6: record and caller both take over; or at most once, and nothing was begun.
    AND CASE t.policy WHEN 'take_over' THEN t.new_policy = 'take_over' ELSE NOT t.begun END
    -- R1: an expired record is Absent.
    AND t.expires_at > t.now
RETURNING t.n, s.fence, s.attempt, s.policy, s.checkpoint_sequence, s.checkpoint
