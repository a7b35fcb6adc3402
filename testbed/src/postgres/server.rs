//! A server that runs, or did.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::Builder;
use super::access::Access;
use crate::controls::controls;
use crate::leash::Leash;
use crate::{Binaries, Error, run, wait_until};

/// How long a start may take: recovery after a kill is in it, on a machine that does other things besides.
const START: Duration = Duration::from_secs(120);

/// A PostgreSQL server in a folder of its own. It is gone when this is dropped, or when this process ends in
/// whichever way.
///
/// The superuser is `postgres`, without a password; the encoding is UTF-8 and the locale is C. Methods take
/// `&self`: one thread kills the server while others use it.
#[derive(Debug)]
pub struct Server {
    leash: Leash,
    access: Access,
    port: u16,
    tcp: Option<SocketAddr>,
    psql: PathBuf,
    pub(super) binaries: Binaries,
}

impl Server {
    /// A server with durable settings and a socket.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// A server that is to be started otherwise.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(super) fn new(leash: Leash, binaries: Binaries, psql: PathBuf) -> Self {
        let access = Access::by_socket(leash.folder(), 0, psql.clone());
        Self { leash, access, port: 0, tcp: None, psql, binaries }
    }

    /// Where it will listen.
    pub(super) fn listens_at(&mut self, port: u16, tcp: bool) {
        self.access = Access::by_socket(self.leash.folder(), port, self.psql.clone());
        self.port = port;
        self.tcp = tcp.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn psql_path(&self) -> &Path {
        &self.psql
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// The URL of this database, by the server's socket; the same after each start. sqlx and libpq read it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.access.url(database)
    }

    /// The URL of this database, by a TCP address: the server's own, or that of a proxy before it.
    #[must_use]
    pub fn url_by(&self, address: SocketAddr, database: &str) -> String {
        Access::by_tcp(address, self.psql.clone()).url(database)
    }

    /// The server's socket, for a [`Proxy`](crate::proxy::Proxy) before it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder().join(format!(".s.PGSQL.{}", self.port))
    }

    /// Where it listens besides its socket; none unless it was started with [`Builder::tcp`].
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Creates an empty database, and returns its URL.
    ///
    /// # Errors
    ///
    /// What `psql` says.
    pub fn create_database(&self, name: &str) -> Result<String, Error> {
        self.access.create_database(name)
    }

    /// What `psql` prints for `sql` in the database `postgres`: rows as lines, columns parted by `|`, without
    /// a heading.
    ///
    /// # Errors
    ///
    /// What `psql` says; also where the connection ended.
    pub fn psql(&self, sql: &str) -> Result<String, Error> {
        self.access.psql(sql)
    }

    /// The same in another database.
    ///
    /// # Errors
    ///
    /// As [`Server::psql`].
    pub fn psql_in(&self, database: &str, sql: &str) -> Result<String, Error> {
        self.access.psql_at(&self.url(database), sql)
    }

    /// A program of the server's version, such as `pgbench`; give it [`Server::url`], as `-d` where it takes
    /// that.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        self.access.program(name)
    }

    /// Ends the server in order, and its clients' sessions with it (a fast shutdown). Returns when it has
    /// ended.
    ///
    /// # Errors
    ///
    /// It doesn't end.
    pub fn shut_down_fast(&self) -> Result<(), Error> {
        self.leash.end_by(Signal::INT)
    }

    /// Starts the server again after [`Server::kill`] or [`Server::shut_down_fast`], on its data, at the same
    /// socket and port. Returns when it takes connections.
    ///
    /// # Errors
    ///
    /// It runs already, or doesn't become ready: then the end of its log is in the error.
    pub fn start_again(&self) -> Result<(), Error> {
        self.leash.start()?;
        wait_until("the server's start", START, || self.state()).flatten().map_err(|e| e.with(&self.log()))
    }

    /// [`Server::shut_down_fast`], then [`Server::start_again`].
    ///
    /// # Errors
    ///
    /// As they.
    pub fn restart(&self) -> Result<(), Error> {
        self.shut_down_fast()?;
        self.start_again()
    }

    /// Whether it takes connections, by what it says to `pg_ctl`; an error of its own where it never will.
    fn state(&self) -> Result<Result<(), Error>, String> {
        // Asked first: it may say that it is ready after this.
        let runs = self.leash.runs();
        let said = fs::read_to_string(self.folder().join("data/postmaster.pid")).unwrap_or_default();
        let mut lines = said.lines();
        let ours = lines.next().is_some_and(|pid| pid.trim() == self.pid().to_string());
        // The eighth line: starting, ready, standby, stopping.
        let state = lines.nth(6).unwrap_or_default().trim();
        match (runs, ours, state) {
            (true, true, "ready") => Ok(Ok(())),
            (true, ..) => Err(format!("it runs, and says `{state}`")),
            (false, ..) => Ok(Err(Error::new("the server ended while it started"))),
        }
    }
}

controls!(Server);

impl Drop for Server {
    fn drop(&mut self) {
        // After a kill nobody gives the System V segment back that marks the data as in use, and there are
        // not that many of them.
        if self.leash.runs() {
            return;
        }
        let said = fs::read_to_string(self.folder().join("data/postmaster.pid")).unwrap_or_default();
        if let Some(id) = said.lines().nth(6).and_then(|key| key.split_whitespace().nth(1)) {
            let _ = run::output(Command::new("ipcrm").args(["-m", id]));
        }
    }
}
