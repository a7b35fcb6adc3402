//! The guards of the statements of PostgreSQL, file by file.
//!
//! Left out is what nobody outside could see: `take_over.sql`'s `t.token <> t.new_token`, `t.state = 'pending'` and
//! `t.expires_at > t.now`, and the like in `retry.sql` (the read before picks these statements for such rows alone, and
//! a row that changes in between is caught by the others); and the order of the locks, whose absence is a deadlock
//! that the server ends and the store makes again. Nor `reserve.sql`'s `l.state IS NULL`, which spares an insert that
//! `ON CONFLICT` would refuse.

use super::{Guard, guard};

pub(super) const GUARDS: &[Guard] = &[
    guard(
        "backend-postgres/sql/reserve_again.sql",
        "t.expires_at <= t.now\n        -- R11: the token that was released is spent.\n        OR",
        "false OR",
    ),
    guard("backend-postgres/sql/reserve_again.sql", " AND t.token <> t.new_token", ""),
    guard(
        "backend-postgres/sql/reserve_again.sql",
        "greatest(t.fence + 1, (extract(epoch FROM t.now) * 1000000)::bigint)",
        "(extract(epoch FROM t.now) * 1000000)::bigint",
    ),
    guard("backend-postgres/sql/reserve_again.sql", "    attempt = 1,\n", ""),
    guard("backend-postgres/sql/reserve_again.sql", "    checkpoint_sequence = 0,\n", ""),
    guard("backend-postgres/sql/reserve_again.sql", "    begun = false,\n", ""),
    guard("backend-postgres/sql/reserve_again.sql", "    policy = t.new_policy,\n", ""),
    guard(
        "backend-postgres/sql/reserve_again.sql",
        "    retention = t.new_retention * interval '1 microsecond',\n",
        "",
    ),
    guard("backend-postgres/sql/reserve_again.sql", "    fingerprint = t.new_fingerprint,\n", ""),
    guard("backend-postgres/sql/reserve_again.sql", "    created_at = t.now,\n", ""),
    guard(
        "backend-postgres/sql/take_over.sql",
        "greatest(t.fence + 1, (extract(epoch FROM t.now) * 1000000)::bigint)",
        "(extract(epoch FROM t.now) * 1000000)::bigint",
    ),
    guard("backend-postgres/sql/take_over.sql", "    begun = false,\n", ""),
    guard("backend-postgres/sql/take_over.sql", "least(t.attempt + 1, 4294967295)", "t.attempt"),
    guard("backend-postgres/sql/take_over.sql", "    AND t.fingerprint = t.new_fingerprint\n", ""),
    guard("backend-postgres/sql/take_over.sql", "    AND t.lease_expires_at <= t.now\n", ""),
    guard("backend-postgres/sql/take_over.sql", "t.new_policy = 'take_over'", "true"),
    guard("backend-postgres/sql/take_over.sql", "ELSE NOT t.begun END\n", "ELSE true END\n"),
    guard(
        "backend-postgres/sql/take_over.sql",
        "greatest(l.retention, l.new_retention * interval '1 microsecond')",
        "l.new_retention * interval '1 microsecond'",
    ),
    guard(
        "backend-postgres/sql/take_over.sql",
        "greatest(t.expires_at, t.now + t.new_lease * interval '1 microsecond' + t.kept_for)",
        "t.now + t.new_lease * interval '1 microsecond' + t.kept_for",
    ),
    guard(
        "backend-postgres/sql/retry.sql",
        "    lease_expires_at = greatest(t.lease_expires_at, t.now + t.new_lease * interval '1 microsecond'),",
        "    lease_expires_at = t.now + t.new_lease * interval '1 microsecond',",
    ),
    guard(
        "backend-postgres/sql/retry.sql",
        "    expires_at = greatest(\n        t.expires_at,\n        greatest(t.lease_expires_at, t.now + t.new_lease * interval '1 microsecond') + t.retention\n    )",
        "    expires_at = t.expires_at",
    ),
    guard("backend-postgres/sql/retry.sql", "    AND t.token = t.new_token\n", ""),
    guard("backend-postgres/sql/complete.sql", "    AND t.token = t.own_token\n", ""),
    guard("backend-postgres/sql/complete.sql", "    AND t.fence = t.own_fence\n", ""),
    guard("backend-postgres/sql/complete.sql", "    AND t.state = 'pending'\n", ""),
    guard("backend-postgres/sql/complete.sql", "    AND t.expires_at > t.now\n", ""),
    guard("backend-postgres/sql/renew.sql", "    AND t.token = t.own_token\n", ""),
    guard("backend-postgres/sql/renew.sql", "    AND t.fence = t.own_fence\n", ""),
    guard("backend-postgres/sql/renew.sql", "    AND t.state = 'pending'\n", ""),
    guard("backend-postgres/sql/renew.sql", "    AND t.expires_at > t.now\n", ""),
    guard("backend-postgres/sql/hand_over.sql", "    AND t.token = t.own_token\n", ""),
    guard("backend-postgres/sql/hand_over.sql", "    AND t.fence = t.own_fence\n", ""),
    guard("backend-postgres/sql/hand_over.sql", "    AND t.state = 'pending'\n", ""),
    guard("backend-postgres/sql/hand_over.sql", "    AND t.expires_at > t.now\n", ""),
    guard("backend-postgres/sql/release.sql", "    AND t.token = t.own_token\n", ""),
    guard("backend-postgres/sql/release.sql", "    AND t.fence = t.own_fence\n", ""),
    guard("backend-postgres/sql/release.sql", "    AND t.state = 'pending'\n", ""),
    guard("backend-postgres/sql/release.sql", "    AND t.expires_at > t.now\n", ""),
    guard(
        "backend-postgres/sql/complete.sql",
        "        WHEN t.new_retention IS NOT NULL THEN t.now + t.new_retention * interval '1 microsecond'\n",
        "",
    ),
    guard(
        "backend-postgres/sql/complete.sql",
        "        WHEN t.expires_at = 'infinity' THEN greatest(t.now, t.lease_expires_at) + t.retention\n",
        "",
    ),
    guard(
        "backend-postgres/sql/complete.sql",
        "        WHEN t.lease_expires_at <= t.now THEN greatest(t.expires_at, t.now + t.retention)\n",
        "",
    ),
    guard("backend-postgres/sql/complete.sql", "    checkpoint_sequence = 0,\n", ""),
    guard("backend-postgres/sql/complete_one.sql", "        AND s.token = $3::bytea\n", ""),
    guard("backend-postgres/sql/complete_one.sql", "        AND s.fence = $4::bigint\n", ""),
    guard("backend-postgres/sql/complete_one.sql", "        AND s.state = 'pending'\n", ""),
    guard("backend-postgres/sql/complete_one.sql", "    AND t.expires_at > t.now\n", ""),
    guard(
        "backend-postgres/sql/complete_one.sql",
        "        WHEN $5::bigint IS NOT NULL THEN t.now + $5::bigint * interval '1 microsecond'\n",
        "",
    ),
    guard(
        "backend-postgres/sql/complete_one.sql",
        "        WHEN t.expires_at = 'infinity' THEN greatest(t.now, t.lease_expires_at) + t.retention\n",
        "",
    ),
    guard(
        "backend-postgres/sql/complete_one.sql",
        "        WHEN t.lease_expires_at <= t.now THEN greatest(t.expires_at, t.now + t.retention)\n",
        "",
    ),
    guard("backend-postgres/sql/renew.sql", "    begun = true,\n", ""),
    guard(
        "backend-postgres/sql/renew.sql",
        "    lease_expires_at = greatest(t.lease_expires_at, t.now + t.new_lease * interval '1 microsecond'),",
        "    lease_expires_at = t.now + t.new_lease * interval '1 microsecond',",
    ),
    guard("backend-postgres/sql/renew.sql", "WHEN 'refuse' THEN 'infinity'", "WHEN 'x' THEN 'infinity'"),
    guard(
        "backend-postgres/sql/renew.sql",
        "        ELSE greatest(\n            t.expires_at,\n            greatest(t.lease_expires_at, t.now + t.new_lease * interval '1 microsecond') + t.retention\n        )",
        "        ELSE t.expires_at",
    ),
    guard(
        "backend-postgres/sql/renew.sql",
        "CASE WHEN t.new_sequence > t.checkpoint_sequence THEN t.new_checkpoint ELSE t.checkpoint END",
        "coalesce(t.new_checkpoint, t.checkpoint)",
    ),
    guard(
        "backend-postgres/sql/hand_over.sql",
        "CASE WHEN t.new_sequence > t.checkpoint_sequence THEN t.new_checkpoint ELSE t.checkpoint END",
        "coalesce(t.new_checkpoint, t.checkpoint)",
    ),
    guard(
        "backend-postgres/sql/renew.sql",
        "greatest(t.checkpoint_sequence, t.new_sequence)",
        "t.new_sequence",
    ),
    guard(
        "backend-postgres/sql/hand_over.sql",
        "CASE WHEN t.policy = 'refuse' AND NOT t.begun THEN 'released' ELSE t.state END",
        "t.state",
    ),
    guard(
        "backend-postgres/sql/hand_over.sql",
        "    lease_expires_at = '-infinity'",
        "    lease_expires_at = t.now",
    ),
    guard(
        "backend-postgres/sql/release.sql",
        "CASE WHEN t.attempt = 1 OR t.policy = 'refuse' THEN 'released' ELSE t.state END",
        "'released'",
    ),
    guard("backend-postgres/sql/release.sql", "t.attempt = 1 OR t.policy = 'refuse'", "t.attempt = 1"),
    guard(
        "backend-postgres/sql/release.sql",
        "WHEN 'infinity' THEN greatest(t.now, t.lease_expires_at) + t.retention",
        "WHEN '-infinity' THEN t.now",
    ),
    guard(
        "backend-postgres/sql/release.sql",
        "    lease_expires_at = '-infinity'",
        "    lease_expires_at = t.now",
    ),
    guard("backend-postgres/sql/resolve_complete.sql", "            AND t.fence = $3::bigint\n", ""),
    guard(
        "backend-postgres/sql/resolve_complete.sql",
        "            AND t.lease_expires_at = $4::timestamptz\n",
        "",
    ),
    guard("backend-postgres/sql/resolve_complete.sql", "            AND t.lease_expires_at <= t.now\n", ""),
    guard(
        "backend-postgres/sql/resolve_complete.sql",
        "        t.state = 'pending'\n            AND",
        "        true AND",
    ),
    guard(
        "backend-postgres/sql/resolve_complete.sql",
        "            AND t.expires_at > t.now AS",
        "            AS",
    ),
    guard("backend-postgres/sql/resolve_release.sql", "            AND t.fence = $3::bigint\n", ""),
    guard(
        "backend-postgres/sql/resolve_release.sql",
        "            AND t.lease_expires_at = $4::timestamptz\n",
        "",
    ),
    guard("backend-postgres/sql/resolve_release.sql", "            AND t.lease_expires_at <= t.now\n", ""),
    guard(
        "backend-postgres/sql/resolve_release.sql",
        "        t.state = 'pending'\n            AND",
        "        true AND",
    ),
    guard(
        "backend-postgres/sql/resolve_release.sql",
        "            AND t.expires_at > t.now AS",
        "            AS",
    ),
    guard(
        "backend-postgres/sql/resolve_complete.sql",
        "            WHEN $5::bigint IS NOT NULL THEN d.now + $5::bigint * interval '1 microsecond'\n",
        "",
    ),
    guard(
        "backend-postgres/sql/resolve_complete.sql",
        "            WHEN d.expires_at = 'infinity' THEN d.now + d.retention\n",
        "",
    ),
    guard(
        "backend-postgres/sql/resolve_complete.sql",
        "ELSE greatest(d.expires_at, d.now + d.retention)",
        "ELSE d.expires_at",
    ),
    guard(
        "backend-postgres/sql/resolve_release.sql",
        "CASE d.expires_at WHEN 'infinity' THEN d.now + d.retention ELSE d.expires_at END",
        "d.expires_at",
    ),
    guard("backend-postgres/sql/purge.sql", " AND s.fence = $3::bigint", " AND $3::bigint IS NOT NULL"),
    guard(
        "backend-postgres/sql/garbage_collect.sql",
        "    LIMIT $1::bigint\n",
        "    LIMIT greatest($1::bigint, 1000000)\n",
    ),
    guard(
        "backend-postgres/sql/garbage_collect.sql",
        "WHERE s.expires_at <= (SELECT c.now FROM clock AS c)",
        "WHERE true",
    ),
    guard("backend-postgres/sql/scan.sql", "(s.principal, s.key) > (", "(s.principal, s.key) >= ("),
    guard(
        "backend-postgres/sql/scan.sql",
        "        AND s.expires_at > now() + $5::bigint * interval '1 microsecond'\n",
        "",
    ),
    guard(
        "backend-postgres/sql/scan.sql",
        "s.state = 'pending' AND s.lease_expires_at <= now() + $5::bigint * interval '1 microsecond'",
        "s.state = 'pending'",
    ),
    guard("backend-postgres/sql/scan.sql", "ELSE s.state <> 'released'", "ELSE true"),
    guard("backend-postgres/sql/reserve.sql", "    ON CONFLICT (principal, key) DO NOTHING\n", ""),
    guard("backend-postgres/sql/reserve_one.sql", "    ON CONFLICT (principal, key) DO NOTHING\n", ""),
    guard("backend-postgres/sql/stats.sql", " AND s.lease_expires_at > c.now", ""),
];
