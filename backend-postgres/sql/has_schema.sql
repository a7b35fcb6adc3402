-- CREATE SCHEMA IF NOT EXISTS asks for the right to create even where it has nothing to do: so look first.
SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {schema_literal}
