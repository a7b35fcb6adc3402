-- What the replays of pgbench find: $records completed slots.
INSERT INTO slots (
    principal, key, state, fingerprint, token, fence, attempt, created_at, lease_expires_at, expires_at,
    completed_at, status, body
)
SELECT
    'shop-' || n % 100, md5(n::text), 'completed', sha256(n::text::bytea), md5((n + 1)::text)::uuid, n, 1,
    now(), now() + interval '30 seconds', now() + interval '1 day', now(), 200, '\x{body}'::bytea
FROM generate_series(1, {records}) AS n
