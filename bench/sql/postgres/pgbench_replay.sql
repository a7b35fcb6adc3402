\set n random(1, {records})
\set shop :n % 100
SELECT state, fingerprint, fence, attempt, created_at, completed_at, expires_at, status, body FROM slots WHERE principal = 'shop-' || :shop AND key = md5(:n);
