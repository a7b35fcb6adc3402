-- ?1 principal, ?2 key
SELECT state, fingerprint, fence, attempt, created_at, completed_at, expires_at, status, body
FROM slots WHERE principal = ?1 AND key = ?2
