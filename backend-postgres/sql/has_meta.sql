-- Whether the schema's version is kept anywhere.
SELECT to_regclass({meta_literal}) IS NOT NULL
