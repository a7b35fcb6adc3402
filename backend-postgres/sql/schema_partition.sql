CREATE TABLE {part} PARTITION OF {slots} FOR VALUES WITH (MODULUS {of}, REMAINDER {place}) {storage};
