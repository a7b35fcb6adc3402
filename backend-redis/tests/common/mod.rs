//! What the tests of this store share: namespaces of a deployment for the suite.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its part")]

pub mod suite;

use oncekey_redis::{RedisStore, RedisStoreBuilder};

/// With the scripts of which `cargo xtask guards` takes clauses out, where it does.
pub fn builder() -> RedisStoreBuilder {
    match std::env::var_os("ONCEKEY_LUA") {
        Some(folder) => RedisStore::builder().script_folder(folder),
        None => RedisStore::builder(),
    }
}
