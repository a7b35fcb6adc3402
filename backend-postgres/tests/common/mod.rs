//! What the tests of this store share: a server, and namespaces of it for the suite.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "for tests: their failure is a panic"
)]

pub mod suite;
