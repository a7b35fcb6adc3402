//! What the tests of this store share: namespaces of a deployment for the suite.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its part")]

pub mod suite;
