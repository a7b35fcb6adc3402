-- O2: one page of the live records after (?1, ?2), in the order of the slot's index, without bodies.
-- ?1 principal, ?2 key, ?3 now, ?4 filter: all, pending, lapsed, ?5 limit
SELECT
    principal, key, state, fingerprint, fence, attempt, policy, begun, created_at, lease_expires_at,
    completed_at, expires_at, status
FROM oncekey_slots
WHERE (principal, key) > (?1, ?2)
  AND expires_at > ?3
  AND CASE ?4
      WHEN 'pending' THEN state = 'pending'
      WHEN 'lapsed' THEN state = 'pending' AND lease_expires_at <= ?3
      ELSE state <> 'released'
  END
ORDER BY principal, key
LIMIT ?5
