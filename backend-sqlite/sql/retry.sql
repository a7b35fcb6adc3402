-- R3: a reserve that is its own retry, whether or not the first one's answer arrived.
-- ?1 principal, ?2 key, ?3 now, ?4 fingerprint, ?5 token, ?6 lease
UPDATE oncekey_slots SET
    -- A late retry never shortens a lease that was acknowledged.
    lease_expires_at = max(lease_expires_at, ?3 + ?6),
    expires_at = max(expires_at, max(lease_expires_at, ?3 + ?6) + retention)
WHERE principal = ?1 AND key = ?2 AND state = 'pending'
  -- R2 before R3: a fingerprint is compared before a token.
  AND fingerprint = ?4
  AND token = ?5
RETURNING fence, attempt, policy, checkpoint_sequence, checkpoint
