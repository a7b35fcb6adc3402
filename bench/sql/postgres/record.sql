-- What a replay needs, by the key. $1 principal, $2 key
SELECT state, fingerprint, fence, attempt, created_at, completed_at, expires_at, status, headers, body
FROM oncekey_slots WHERE principal = $1 AND key = $2
