-- The select list that makes another record of the template t, whatever columns there are.
SELECT string_agg(
    CASE
        WHEN attname = 'principal' THEN '''shop-'' || n % 100'
        WHEN attname = 'key' THEN 'k.key'
        WHEN attname = 'fingerprint' THEN 'convert_to(left(k.key, 32), ''UTF8'')'
        WHEN attname = 'token' THEN 'decode(md5(k.key), ''hex'')'
        WHEN attname = 'fence' THEN 't.fence + n'
        WHEN atttypid = 'timestamptz'::regtype
            THEN format('t.%I + (n - {first}) * interval ''100 microseconds'' + {later}', attname)
        ELSE format('t.%I', attname)
    END,
    ', ' ORDER BY attnum
)
FROM pg_attribute
WHERE attrelid = '{slots}'::regclass AND attnum > 0 AND NOT attisdropped
