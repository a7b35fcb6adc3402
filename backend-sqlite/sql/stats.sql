-- How many records of each kind. Reads them all.
-- ?1 now
SELECT
    CASE
        WHEN expires_at <= ?1 THEN 'expired'
        WHEN state = 'pending' AND lease_expires_at <= ?1 THEN 'lapsed'
        WHEN state = 'pending' THEN 'live'
        ELSE state
    END AS kind,
    count(*)
FROM oncekey_slots GROUP BY kind
