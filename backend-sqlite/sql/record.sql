-- The whole record of a slot.
-- ?1 principal, ?2 key
SELECT
    state, fingerprint, token, fence, attempt, policy, begun, retention, created_at, lease_expires_at,
    completed_at, expires_at, checkpoint_sequence, checkpoint, status, headers, body_length, body
FROM oncekey_slots WHERE principal = ?1 AND key = ?2
