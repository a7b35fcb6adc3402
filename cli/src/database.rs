//! A PostgreSQL database and a table there, as a URL names them.

use std::fmt;
use std::str::FromStr;

use oncekey_postgres::sqlx::postgres::PgConnectOptions;
use oncekey_postgres::{PostgresStore, PostgresStoreBuilder};
use url::form_urlencoded;

use crate::exit::Trouble;

/// The URL's parameters that the driver reads. It passes over others in silence: a misspelt `sslmode` would be
/// a connection in clear.
const DRIVERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];
/// Settings of the session: `options=..`, `options[name]=..`.
const OPTIONS: &str = "options";
/// Ours.
const SCHEMA: &str = "oncekey_schema";
const TABLE: &str = "oncekey_table";
const POOLER: &str = "oncekey_pooler";
/// What [`POOLER`] may be. In its other modes a pooler needs nothing said.
const TRANSACTION: &str = "transaction";

/// A database, and the table there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Database {
    /// For the driver: without our parameters. It may hold a password.
    url: String,
    schema: Option<String>,
    table: Option<String>,
    /// Whether a pooler in transaction mode is before the server.
    pooler: bool,
}

impl Database {
    /// What a URL says that begins with `postgres:` or `postgresql:`.
    pub(crate) fn parse(url: &str) -> Result<Self, Trouble> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        // Looked at first: a `?` in a password that isn't escaped must not be taken for a parameter's.
        let begins = place.starts_with("postgres://") || place.starts_with("postgresql://");
        // The driver passes over what is behind a `#`.
        if !begins || url.contains('#') {
            return Err(not_one());
        }
        PgConnectOptions::from_str(place).map_err(|_| not_one())?;
        let mut database = Self { url: place.to_owned(), schema: None, table: None, pooler: false };
        let mut theirs = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let Some((name, value)) = form_urlencoded::parse(part.as_bytes()).next() else { continue };
            match &*name {
                SCHEMA => database.schema = Some(value.into_owned()),
                TABLE => database.table = Some(value.into_owned()),
                POOLER if value == TRANSACTION => database.pooler = true,
                POOLER => {
                    let message = format!("the store's URL: {POOLER} may be {TRANSACTION}, or not be there");
                    return Err(Trouble::usage(message));
                }
                name if DRIVERS.contains(&name) || is_option(name) => theirs.push(part),
                // What isn't escaped may be part of a password.
                _ if query.contains('@') => return Err(not_one()),
                name => {
                    return Err(Trouble::usage(format!(
                        "the store's URL: there is no parameter {name}; there are {SCHEMA}, {TABLE}, \
                         {POOLER}, {}, {OPTIONS}",
                        DRIVERS.join(", ")
                    )));
                }
            }
        }
        if !theirs.is_empty() {
            database.url = format!("{place}?{}", theirs.join("&"));
        }
        PgConnectOptions::from_str(&database.url).map_err(|_| not_one())?;
        // Says whether the names can be meant.
        database.builder().schema_sql()?;
        Ok(database)
    }

    /// For the driver alone: it may hold a password.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How the driver gets there: by the URL, and where it says nothing by libpq's variables and `~/.pgpass`.
    pub(crate) fn options(&self) -> Result<PgConnectOptions, Trouble> {
        let options = PgConnectOptions::from_str(&self.url).map_err(|_| not_one())?;
        // The driver asks for it at the start of a session, where a pooler refuses it.
        Ok(options.extra_float_digits(None))
    }

    /// Whether those who wait hear of the end of somebody's run: not through such a pooler.
    pub(crate) fn wakes(&self) -> bool {
        !self.pooler
    }

    /// A store in that table.
    pub(crate) fn builder(&self) -> PostgresStoreBuilder {
        let mut builder = PostgresStore::builder();
        if let Some(schema) = &self.schema {
            builder = builder.schema(schema);
        }
        if let Some(table) = &self.table {
            builder = builder.table(table);
        }
        if self.pooler { builder.transaction_pooler() } else { builder }
    }
}

fn is_option(name: &str) -> bool {
    name.strip_prefix(OPTIONS).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
}

/// What the driver says may repeat the URL, and with it a password.
fn not_one() -> Trouble {
    Trouble::usage(
        "the store's URL is none of PostgreSQL's: postgres://USER@HOST:5432/DATABASE, or by a socket \
         postgres:///DATABASE?host=/run/postgresql&user=USER; in a user or password, each of : / ? # @ % is \
         written as %3A %2F %3F %23 %40 %25",
    )
}

/// For people: where it is.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(options) = self.options() else { return f.write_str("PostgreSQL") };
        let database = options.get_database().unwrap_or(options.get_username());
        let port = options.get_port();
        match options.get_socket() {
            Some(socket) => write!(f, "{database} at {}/.s.PGSQL.{port}", socket.display()),
            None => write!(f, "{database} at {}:{port}", options.get_host()),
        }
    }
}

/// As it is displayed: a password is in no message.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}, {:?}.{:?}", self.schema, self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_taken_out_and_the_rest_reaches_the_driver_as_it_was() {
        let database = |url: &str| Database::parse(url).unwrap();
        let whole = database("postgres://u:p%40w@h:1/d?sslmode=require&oncekey_schema=a%20b&oncekey_table=t");
        assert_eq!(whole.url, "postgres://u:p%40w@h:1/d?sslmode=require");
        assert!(whole.builder().schema_sql().unwrap().contains(r#"CREATE TABLE "a b"."t" "#));
        assert_eq!(database("postgresql://h/d?oncekey_table=t").url, "postgresql://h/d");
        let socket = database("postgres:///d?host=/run/pg&user=u&options[jit]=off");
        assert_eq!(socket.url, "postgres:///d?host=/run/pg&user=u&options[jit]=off");
        assert_eq!(socket.to_string(), "d at /run/pg/.s.PGSQL.5432");
        assert!(socket.builder().schema_sql().unwrap().contains(r#""public"."oncekey_slots""#));
    }

    #[test]
    fn neither_an_error_nor_the_debug_text_has_the_password() {
        for url in [
            "postgres://user:secret",
            "postgres://user:se#secret@h/d",
            "postgres://user:se/secret@h/d",
            "postgres://user:se?secret@h/d",
            "postgres://user:12?secret@h/d",
            "postgres://user:12#secret@h/d",
            "postgres://user:12?secret&x@h/d",
            "postgres://user:secret@:1/d",
            "postgres://user:secret@h/d?sslmod=require",
            "postgres://user:secret@h/d?sslmode=secret",
            "postgres://user:secret@h:port/d",
            "postgres://user:secret@h/d?oncekey_table=",
            "postgres:user:secret@h/d",
        ] {
            let said = Database::parse(url).unwrap_err().to_string();
            assert!(!said.contains("secret"), "{url}: {said}");
        }
        let debug = format!("{:?}", Database::parse("postgres://user:secret@h/d").unwrap());
        assert_eq!(debug, "d at h:5432, None.None");
    }

    #[test]
    fn a_parameter_that_the_driver_would_pass_over_is_named() {
        let said = Database::parse("postgres://h/d?sslmod=require").unwrap_err().to_string();
        assert!(said.contains("no parameter sslmod; there are oncekey_schema"), "{said}");
    }
}
