-- R5: the next holder of a lapsed record.
-- $1 principals, $2 keys, $3 fingerprints, $4 tokens, $5 policies, $6 leases in us, $7 retentions in us,
-- $8 the clock's offset in us, $9 lock timeout. The rows in the order of their slots, no slot twice.
WITH input AS MATERIALIZED (
    SELECT i.*
    FROM (SELECT set_config('lock_timeout', $9::text, true) AS timeout) AS s,
        unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[])
            WITH ORDINALITY AS i (
                of_principal, of_key, new_fingerprint, new_token, new_policy, new_lease, new_retention, n
            )
    WHERE s.timeout IS NOT NULL
),
-- The rows are locked in one order, by every statement, so that two batches can't deadlock; and the clock is
-- read once a row is locked: a lease counts from its write, however long it waited for the lock (R10).
locked AS MATERIALIZED (
    SELECT i.*, s.*
    FROM input AS i JOIN {slots} AS s ON s.principal = i.of_principal AND s.key = i.of_key
    ORDER BY s.principal, s.key
    FOR NO KEY UPDATE OF s
),
timed AS MATERIALIZED (
    SELECT l.*, clock_timestamp() + $8::bigint * interval '1 microsecond' AS now FROM locked AS l
),
decided AS MATERIALIZED (
    SELECT
        t.*,
        t.state = 'pending'
            -- R2: another fingerprint is a conflict, lapsed or not.
            AND t.fingerprint = t.new_fingerprint
            -- R3: the holder's own retry is no takeover.
            AND t.token <> t.new_token
            -- R4, R8: a lease that is live, renewed a moment ago, stays.
            AND t.lease_expires_at <= t.now
            -- R5, R6: record and caller both take over; or at most once, and nothing was begun.
            AND CASE t.policy WHEN 'take_over' THEN t.new_policy = 'take_over' ELSE NOT t.begun END
            -- R1: an expired record is Absent.
            AND t.expires_at > t.now AS applies,
        CASE t.policy
            WHEN 'refuse' THEN greatest(t.retention, t.new_retention * interval '1 microsecond')
            ELSE t.new_retention * interval '1 microsecond'
        END AS kept_for
    FROM timed AS t
),
written AS (
    UPDATE {slots} AS s SET
        token = d.new_token,
        -- S4
        fence = greatest(d.fence + 1, (extract(epoch FROM d.now) * 1000000)::bigint),
        attempt = least(d.attempt + 1, 4294967295),
        begun = false,
        retention = d.kept_for,
        lease_expires_at = d.now + d.new_lease * interval '1 microsecond',
        -- Never earlier than it was.
        expires_at = greatest(d.expires_at, d.now + d.new_lease * interval '1 microsecond' + d.kept_for)
    FROM decided AS d
    WHERE s.principal = d.of_principal AND s.key = d.of_key AND d.applies
    RETURNING d.n, true AS written, d.now, {record of s}
)
SELECT * FROM written
UNION ALL
-- Not written: what is there, under its lock.
SELECT d.n, false, d.now, {record of d}
FROM decided AS d
WHERE NOT d.applies
