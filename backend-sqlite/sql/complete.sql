-- C1, C2, C5: the holder's answer.
-- ?1 principal, ?2 key, ?3 now, ?4 token, ?5 fence, ?6 retention of the completion or null,
-- ?7 status, ?8 headers, ?9 length of a body that is not kept, ?10 body
UPDATE oncekey_slots SET
    state = 'completed',
    completed_at = ?3,
    expires_at = CASE
        -- C5
        WHEN ?6 IS NOT NULL THEN ?3 + ?6
        -- Leaving Pending, "never" ends.
        WHEN expires_at = 9223372036854775807 THEN max(?3, lease_expires_at) + retention
        -- C2: lapsed, and not taken over.
        WHEN lease_expires_at <= ?3 THEN max(expires_at, ?3 + retention)
        -- C1
        ELSE expires_at
    END,
    checkpoint_sequence = 0,
    checkpoint = NULL,
    status = ?7,
    headers = ?8,
    body_length = ?9,
    body = ?10
WHERE principal = ?1 AND key = ?2 AND state = 'pending'
  -- Own is token and fence: the same token with another fence is somebody else's grant.
  AND token = ?4 AND fence = ?5
  -- C4: an expired record is Absent, deleted or not.
  AND expires_at > ?3
