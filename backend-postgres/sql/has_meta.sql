-- Whether the schema's version is kept anywhere. From the catalog's rows: to_regclass answers from a cache, which a
-- session that has just waited for another one to make the tables has not yet thrown away.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = {schema_literal} AND c.relname = {meta_name_literal}
)
