-- Q1: what is there. Nothing is locked or written.
--
-- now() and not statement_timestamp(): a plain SELECT takes its snapshot when it is bound, and the latter is
-- stamped anew when it is executed. The transaction's own clock was read before both (S9).
-- On a standby it would be an answer from the past: it says where it is, and is refused.
-- $1 principals, $2 keys, $3 the clock's offset in us.
SELECT
    i.n, pg_is_in_recovery() AS standby, now() + $3::bigint * interval '1 microsecond',
    {record of s}
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS i (of_principal, of_key, n)
LEFT JOIN {slots} AS s ON s.principal = i.of_principal AND s.key = i.of_key
