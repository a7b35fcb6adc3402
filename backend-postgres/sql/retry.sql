-- R3: a reserve that is its own retry, whether or not the first one's answer arrived.
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
    -- A late retry never shortens a lease that was acknowledged.
    lease_expires_at = greatest(t.lease_expires_at, t.now + t.new_lease * interval '1 microsecond'),
    expires_at = greatest(
        t.expires_at,
        greatest(t.lease_expires_at, t.now + t.new_lease * interval '1 microsecond') + t.retention
    )
FROM (
    -- The clock is read once a row is locked: a lease counts from its write, however long it waited (R10).
    SELECT l.*, clock_timestamp() + $8::bigint * interval '1 microsecond' AS now FROM locked AS l
) AS t
WHERE s.principal = t.of_principal AND s.key = t.of_key
    AND t.state = 'pending'
    -- R2 before R3: a fingerprint is compared before a token.
    AND t.fingerprint = t.new_fingerprint
    AND t.token = t.new_token
    -- R1: an expired record is Absent.
    AND t.expires_at > t.now
RETURNING t.n, s.fence, s.attempt, s.policy, s.checkpoint_sequence, s.checkpoint
