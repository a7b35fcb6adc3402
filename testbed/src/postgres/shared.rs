//! One server for all tests of a binary, for those that neither break nor configure it.

use std::env;
use std::sync::OnceLock;

use super::Server;
use super::access::Access;
use crate::{Binaries, Error};

/// A server that others use at the same time: take a database of your own.
#[derive(Debug)]
pub struct Shared {
    access: Access,
    /// None where it is somebody else's.
    _own: Option<Server>,
}

/// The server that `DATABASE_URL` names; where that isn't set, one that is started with the first call and
/// ends with the process.
///
/// # Errors
///
/// As [`Builder::start`](super::Builder::start); or `DATABASE_URL` is no URL of PostgreSQL.
pub fn shared() -> Result<&'static Shared, Error> {
    static SHARED: OnceLock<Result<Shared, Error>> = OnceLock::new();
    SHARED.get_or_init(Shared::find).as_ref().map_err(Clone::clone)
}

impl Shared {
    fn find() -> Result<Self, Error> {
        if let Some(url) = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            let psql = Binaries::of_postgres().find("psql")?;
            let access = Access::by_url(&url, psql).map_err(Error::when("DATABASE_URL"))?;
            return Ok(Self { access, _own: None });
        }
        let own = Server::start()?;
        Ok(Self { access: own.access().clone(), _own: Some(own) })
    }

    /// The URL of this database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.access.url(database)
    }

    /// Creates an empty database, and returns its URL.
    ///
    /// # Errors
    ///
    /// What `psql` says.
    pub fn create_database(&self, name: &str) -> Result<String, Error> {
        self.access.create_database(name)
    }

    /// What `psql` prints for `sql` in the database of `DATABASE_URL`, or else `postgres`; as
    /// [`Server::psql`].
    ///
    /// # Errors
    ///
    /// What `psql` says.
    pub fn psql(&self, sql: &str) -> Result<String, Error> {
        self.access.psql(sql)
    }

    /// The same in another database.
    ///
    /// # Errors
    ///
    /// As [`Shared::psql`].
    pub fn psql_in(&self, database: &str, sql: &str) -> Result<String, Error> {
        self.access.psql_at(&self.url(database), sql)
    }
}
