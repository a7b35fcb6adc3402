-- W1: the holder is alive, and has begun.
-- What is not the holder's isn't written, and isn't said: lookup.sql tells what is there instead.
-- $1 principals, $2 keys, $3 tokens, $4 fences, $5 leases in us, $6 checkpoints' sequences or 0,
-- $7 checkpoints, $8 the clock's offset in us, $9 lock timeout. The rows in the order of their slots, no slot
-- twice.
WITH locked AS MATERIALIZED (
    SELECT i.*, s.state, s.token, s.fence, s.lease_expires_at, s.expires_at, s.retention, s.policy,
        s.checkpoint_sequence, s.checkpoint
    FROM unnest(
            $1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[])
            WITH ORDINALITY AS i (
                of_principal, of_key, own_token, own_fence, new_lease, new_sequence, new_checkpoint, n
            )
        JOIN {slots} AS s ON s.principal = i.of_principal AND s.key = i.of_key
    WHERE (SELECT set_config('lock_timeout', $9::text, true)) IS NOT NULL
    -- Every statement locks its rows in one order, so that two batches can't deadlock.
    ORDER BY i.n
    FOR NO KEY UPDATE OF s
)
UPDATE {slots} AS s SET
    begun = true,
    -- A late renewal never shortens a lease that was acknowledged.
    lease_expires_at = greatest(t.lease_expires_at, t.now + t.new_lease * interval '1 microsecond'),
    expires_at = CASE t.policy
        -- At most once: from here on only the holder or an operator ends it.
        WHEN 'refuse' THEN 'infinity'
        ELSE greatest(
            t.expires_at,
            greatest(t.lease_expires_at, t.now + t.new_lease * interval '1 microsecond') + t.retention
        )
    END,
    -- An older checkpoint, delayed, changes nothing.
    checkpoint = CASE WHEN t.new_sequence > t.checkpoint_sequence THEN t.new_checkpoint ELSE t.checkpoint END,
    checkpoint_sequence = greatest(t.checkpoint_sequence, t.new_sequence)
FROM (
    -- The clock is read once a row is locked: a lease counts from its write, however long it waited (R10).
    SELECT l.*, clock_timestamp() + $8::bigint * interval '1 microsecond' AS now FROM locked AS l
) AS t
WHERE s.principal = t.of_principal AND s.key = t.of_key
    AND t.state = 'pending'
    -- Own is token and fence: the same token with another fence is somebody else's grant (S2).
    AND t.token = t.own_token
    AND t.fence = t.own_fence
    -- An expired record is Absent, deleted or not.
    AND t.expires_at > t.now
RETURNING t.n, t.now, s.lease_expires_at, s.checkpoint_sequence
