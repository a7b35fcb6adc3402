-- O2: one page of the live records after ($1, $2), in the order of the key, without bodies. Where there is
-- none it has one row without a slot: on a standby an empty page would be an answer from the past too.
-- $1 principal, $2 key, $3 filter: all, pending, lapsed, $4 limit, $5 the clock's offset in us.
SELECT c.standby, c.now, p.*
FROM (SELECT pg_is_in_recovery() AS standby, now() + $5::bigint * interval '1 microsecond' AS now) AS c
LEFT JOIN (
    SELECT
        s.principal, s.key, s.state, s.fingerprint, s.fence, s.attempt, s.policy, s.begun, s.created_at,
        s.lease_expires_at, s.completed_at, s.expires_at, s.status
    FROM {slots} AS s
    WHERE (s.principal, s.key) > ($1::text, $2::text)
        AND s.expires_at > now() + $5::bigint * interval '1 microsecond'
        AND CASE $3::text
            WHEN 'pending' THEN s.state = 'pending'
            WHEN 'lapsed' THEN
                s.state = 'pending' AND s.lease_expires_at <= now() + $5::bigint * interval '1 microsecond'
            ELSE s.state <> 'released'
        END
    ORDER BY s.principal, s.key
    LIMIT $4::bigint
) AS p ON true
ORDER BY p.principal, p.key
