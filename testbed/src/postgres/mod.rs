//! PostgreSQL: a server of its own for a test, or one for all tests of a binary.

pub(crate) mod access;
mod builder;
mod replica;
mod server;
mod shared;

pub use builder::Builder;
pub use server::Server;
pub use shared::{Shared, shared};
