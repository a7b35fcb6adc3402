-- R1 over a row that lies there and is Absent all the same: expired, or Released by another token.
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
        t.expires_at <= t.now
            -- R11: the token that was released is spent.
            OR (t.state = 'released' AND t.token <> t.new_token) AS applies
    FROM timed AS t
),
written AS (
    UPDATE {slots} AS s SET
        state = 'pending',
        fingerprint = d.new_fingerprint,
        token = d.new_token,
        -- S4: above the last fence, also when the clock stands still or steps back.
        fence = greatest(d.fence + 1, (extract(epoch FROM d.now) * 1000000)::bigint),
        attempt = 1,
        policy = d.new_policy,
        begun = false,
        retention = d.new_retention * interval '1 microsecond',
        created_at = d.now,
        lease_expires_at = d.now + d.new_lease * interval '1 microsecond',
        completed_at = NULL,
        expires_at = d.now + (d.new_lease + d.new_retention) * interval '1 microsecond',
        checkpoint_sequence = 0,
        checkpoint = NULL,
        status = NULL,
        headers = NULL,
        body_length = NULL,
        body = NULL
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
