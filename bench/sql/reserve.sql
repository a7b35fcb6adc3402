-- ?1 principal, ?2 key, ?3 fingerprint, ?4 token, ?5 now, ?6 lease's end, ?7 expires_at
INSERT INTO slots (
    principal, key, state, fingerprint, token, fence, attempt, created_at, lease_expires_at, expires_at
) VALUES (?1, ?2, 0, ?3, ?4, ?5, 1, ?5, ?6, ?7)
ON CONFLICT (principal, key) DO UPDATE SET
    state = 0,
    fingerprint = excluded.fingerprint,
    token = excluded.token,
    fence = max(slots.fence + 1, excluded.fence),
    attempt = slots.attempt + 1,
    lease_expires_at = excluded.lease_expires_at,
    expires_at = excluded.expires_at
WHERE slots.expires_at <= excluded.created_at
   OR (slots.state = 0 AND slots.lease_expires_at <= excluded.created_at
       AND slots.fingerprint = excluded.fingerprint)
RETURNING fence
