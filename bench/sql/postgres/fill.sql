-- Copies of a record that the store wrote, ten thousand a second by their times, each under a key of its own
-- that looks like a UUID and comes in no order: two rounds of a mixer of 32 bits, as growth's `key` has them.
INSERT INTO {slots}
SELECT {columns}
FROM
    {slots} AS t,
    generate_series({first}, {last}) AS n,
    LATERAL (SELECT n & 4294967295 AS a) AS a,
    LATERAL (SELECT ((a # (a >> 16)) * 73244475) & 4294967295 AS b) AS b,
    LATERAL (SELECT ((b # (b >> 16)) * 73244475) & 4294967295 AS c) AS c,
    LATERAL (
        SELECT lpad(to_hex(c # (c >> 16)), 8, '0') || '-0000-4000-8000-' || lpad(to_hex(n), 12, '0') AS key
    ) AS k
WHERE t.principal = '{principal}' AND t.key = '{key}'
