-- The bank's own tables, in the database that oncekey's are in too.
CREATE TABLE IF NOT EXISTS accounts (
    name  text PRIMARY KEY,
    cents bigint NOT NULL CHECK (cents >= 0)
);

-- One row for each transfer that was made. Nothing here forbids a key's second row: that there is none is
-- what `once` and `complete_in` are for, and what the tests count.
CREATE TABLE IF NOT EXISTS transfers (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key      text NOT NULL,
    debtor   text NOT NULL REFERENCES accounts,
    creditor text NOT NULL REFERENCES accounts,
    cents    bigint NOT NULL CHECK (cents > 0)
);
