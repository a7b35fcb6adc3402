-- The schema's version.
CREATE TABLE {meta} (
    name  text   PRIMARY KEY,
    value bigint NOT NULL
);
INSERT INTO {meta} (name, value) VALUES ('schema_version', {version});
