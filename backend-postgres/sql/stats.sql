-- How many records of each kind. Reads them all.
-- $1 the clock's offset in us.
SELECT
    pg_is_in_recovery() AS standby,
    count(*) FILTER (WHERE s.expires_at <= c.now) AS expired,
    count(*) FILTER (WHERE s.expires_at > c.now AND s.state = 'pending' AND s.lease_expires_at > c.now) AS live,
    count(*) FILTER (WHERE s.expires_at > c.now AND s.state = 'pending' AND s.lease_expires_at <= c.now) AS lapsed,
    count(*) FILTER (WHERE s.expires_at > c.now AND s.state = 'completed') AS completed,
    count(*) FILTER (WHERE s.expires_at > c.now AND s.state = 'released') AS released
FROM (SELECT now() + $1::bigint * interval '1 microsecond' AS now) AS c
LEFT JOIN {slots} AS s ON true
