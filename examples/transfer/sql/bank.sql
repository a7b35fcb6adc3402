-- The bank's own tables, in the file that oncekey's are in too.
CREATE TABLE IF NOT EXISTS accounts (
    name  TEXT PRIMARY KEY,
    cents INTEGER NOT NULL CHECK (cents >= 0)
) STRICT;

-- One row for each transfer that was made. Nothing here forbids a key's second row: that there is none is
-- what `once` is for, and what the tests count.
CREATE TABLE IF NOT EXISTS transfers (
    number   INTEGER PRIMARY KEY,
    key      TEXT NOT NULL,
    debtor   TEXT NOT NULL REFERENCES accounts,
    creditor TEXT NOT NULL REFERENCES accounts,
    cents    INTEGER NOT NULL CHECK (cents > 0)
) STRICT;
