//! How one gets at a server: URLs of its databases, and the client programs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, run};

/// A URL around the database's name, and the `psql` that speaks to it.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// Up to the slash before the database's name.
    before: String,
    /// The query, with its question mark.
    after: String,
    /// A database that is there.
    database: String,
    psql: PathBuf,
}

impl Access {
    /// By the socket in `folder`, as the superuser. It is all in the query: a URL's host can't be a path,
    /// and a URL with a user must have a host.
    pub(crate) fn by_socket(folder: &Path, port: u16, psql: PathBuf) -> Self {
        Self {
            before: "postgres://".to_owned(),
            after: format!("?host={}&port={port}&user=postgres", encoded(&folder.to_string_lossy())),
            database: "postgres".to_owned(),
            psql,
        }
    }

    /// By this address, as the superuser.
    pub(crate) fn by_tcp(address: SocketAddr, psql: PathBuf) -> Self {
        let before = format!("postgres://postgres@{address}");
        Self { before, after: String::new(), database: "postgres".to_owned(), psql }
    }

    /// By somebody's URL, with whatever it says, but for the database.
    pub(crate) fn by_url(url: &str, psql: PathBuf) -> Result<Self, Error> {
        let wrong = || Error::new("the URL isn't of the form postgres://user@host/database?options");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(wrong());
        }
        let (place, after) = rest.find('?').map_or((rest, ""), |at| rest.split_at(at));
        let (host, database) = place.split_once('/').unwrap_or((place, ""));
        Ok(Self {
            before: format!("{scheme}://{host}"),
            after: after.to_owned(),
            database: database.to_owned(),
            psql,
        })
    }

    /// The URL of this database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("{}/{}{}", self.before, encoded(database), self.after)
    }

    /// The URL of a database that is there.
    pub(crate) fn usual_url(&self) -> String {
        format!("{}/{}{}", self.before, self.database, self.after)
    }

    /// What `psql -XAtq` says when it runs `sql` in the database of `url`.
    pub(crate) fn psql_at(&self, url: &str, sql: &str) -> Result<String, Error> {
        let mut psql = run::postgres_program(&self.psql);
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, "-d", url]);
        run::output(&mut psql)
    }

    /// The same in the database that is there.
    pub(crate) fn psql(&self, sql: &str) -> Result<String, Error> {
        self.psql_at(&self.usual_url(), sql)
    }

    /// Creates an empty database; its URL.
    pub(crate) fn create_database(&self, name: &str) -> Result<String, Error> {
        self.psql(&format!("create database \"{}\"", name.replace('"', "\"\"")))?;
        Ok(self.url(name))
    }

    /// Another program that comes with `psql`: `pgbench`, say.
    pub(crate) fn program(&self, name: &str) -> Command {
        run::postgres_program(&self.psql.with_file_name(name))
    }
}

/// Percent-encoded, but for what may stand in a URL's path and query alike.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_keeps_the_rest_of_the_url() {
        let at = |url| Access::by_url(url, PathBuf::new()).unwrap();
        let whole = at("postgres://me:secret@db:5433/app?sslmode=disable");
        assert_eq!(whole.url("test 1"), "postgres://me:secret@db:5433/test%201?sslmode=disable");
        assert_eq!(whole.usual_url(), "postgres://me:secret@db:5433/app?sslmode=disable");
        assert_eq!(at("postgresql://db").url("x"), "postgresql://db/x");
        assert_eq!(at("postgres:///app?host=/run/pg").url("x"), "postgres:///x?host=/run/pg");
        assert!(Access::by_url("mysql://db/x", PathBuf::new()).is_err());
        assert!(Access::by_url("host=db", PathBuf::new()).is_err());
    }
}
