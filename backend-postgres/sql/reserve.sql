-- R1 where the slot has no row, in one round trip; and what is there where it has one, without locking it:
-- a replay, an InFlight and a Conflict write nothing and wait for nobody's row lock.
--
-- The new rows are said by one row, how many and their fence: usually all that were absent. A slot of which
-- nothing is known after that was reserved by somebody after this statement's snapshot: ask again (R8). There is
-- no fence where the new rows' leases have a wait behind them: asked again, each counts from then (R3, R10).
-- $1 principals, $2 keys, $3 fingerprints, $4 tokens, $5 policies, $6 leases in us, $7 retentions in us,
-- $8 the clock's offset in us, $9 lock timeout. The rows in the order of their slots, no slot twice.
WITH looked AS MATERIALIZED (
    SELECT i.*, s.*
    FROM unnest(
            $1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[]
        )
            WITH ORDINALITY AS i (
                of_principal, of_key, new_fingerprint, new_token, new_policy, new_lease, new_retention, n
            )
        LEFT JOIN {slots} AS s ON s.principal = i.of_principal AND s.key = i.of_key
    WHERE (SELECT set_config('lock_timeout', $9::text, true)) IS NOT NULL
),
-- One reading, whatever the plan: as a subquery beside another it may be read again for each row, and then the fence
-- that is told would be that of one row alone.
clock AS MATERIALIZED (
    SELECT clock_timestamp() + $8::bigint * interval '1 microsecond' AS now
),
fresh AS (
    INSERT INTO {slots} (
        principal, key, state, fingerprint, token, fence, attempt, policy, begun, retention,
        created_at, lease_expires_at, expires_at, checkpoint_sequence
    )
    SELECT
        l.of_principal, l.of_key, 'pending', l.new_fingerprint, l.new_token,
        -- S4: the clock's microseconds.
        (extract(epoch FROM c.now) * 1000000)::bigint, 1, l.new_policy, false,
        l.new_retention * interval '1 microsecond',
        c.now, c.now + l.new_lease * interval '1 microsecond',
        c.now + (l.new_lease + l.new_retention) * interval '1 microsecond', 0
    FROM clock AS c, looked AS l
    WHERE l.state IS NULL
    -- Two batches that meet wait for each other in this order alone, and can't deadlock.
    ORDER BY l.n
    -- R7: somebody else's row, committed or not yet. Nothing is written, and no transaction of the caller's
    -- is aborted (T4).
    ON CONFLICT (principal, key) DO NOTHING
    -- R10: whoever had to wait for another's row, and found it rolled back, wrote a clock from before the wait.
    RETURNING
        fence,
        created_at > clock_timestamp() + $8::bigint * interval '1 microsecond' - interval '50 ms' AS in_time
)
SELECT
    count(*) AS n, true AS fresh, NULL::timestamptz AS now,
    NULL::text, NULL::bytea, NULL::bytea, CASE WHEN bool_and(f.in_time) THEN max(f.fence) END, NULL::bigint,
    NULL::text, NULL::boolean, NULL::interval,
    NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::bigint, NULL::bytea,
    NULL::integer, NULL::bytea, NULL::bigint, NULL::bytea
FROM fresh AS f
UNION ALL
SELECT
    l.n, false,
    -- S9: stamped when the command arrived, before its snapshot was taken: a holder that renewed in between
    -- must not look lapsed.
    statement_timestamp() + $8::bigint * interval '1 microsecond',
    {record of l}
FROM looked AS l
WHERE l.state IS NOT NULL
