//! Throwaway servers for tests, and a proxy that breaks connections on purpose.
//!
//! A test that needs PostgreSQL or Redis starts a real one, from the binaries that are installed, in a folder
//! of its own, with durable settings; it is gone when its owner is dropped, and also when the owner's process
//! dies in whichever way. Where a binary is missing, the error says which command installs it: a test is
//! never skipped.
//!
//! ```
//! use oncekey_testbed::postgres;
//!
//! let server = postgres::Server::start()?;
//! assert_eq!(server.psql("select 1 + 1")?, "2");
//! let url = server.url("postgres"); // for sqlx, psql and the rest
//! # assert!(url.starts_with("postgres:///postgres?host=/"));
//! # Ok::<(), oncekey_testbed::Error>(())
//! ```
//!
//! Everything blocks: it works below any runtime, and below none.

mod binaries;
mod controls;
mod error;
mod folder;
mod leash;
pub mod pgbouncer;
mod port;
pub mod postgres;
mod process;
pub mod proxy;
pub mod redis;
mod run;
mod user;
mod wait;

use binaries::Binaries;
pub use error::Error;
pub use wait::wait_until;
