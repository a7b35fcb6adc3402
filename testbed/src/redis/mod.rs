//! Redis: a server of its own for a test, or one for all tests of a binary; a pair that sentinels watch; a cluster.

mod builder;
mod cluster;
mod sentinel;
mod server;
mod shared;

pub use builder::Builder;
pub use cluster::Cluster;
pub use sentinel::Watched;
pub use server::Server;
pub use shared::{Shared, shared};
