//! PgBouncer: what stands before PostgreSQL in many a production, and gives each transaction whichever
//! session is free. What a session remembers is another's there: settings, prepared statements, locks.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::controls::controls;
use crate::leash::Leash;
use crate::postgres::Server;
use crate::postgres::access::Access;
use crate::user::User;
use crate::{Binaries, Error, folder, port, wait_until};

/// How long a client keeps the session that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// As long as it is connected.
    Session,
    /// For one transaction.
    Transaction,
    /// For one statement; transactions are refused.
    Statement,
}

/// The port where only the socket's name has one.
const SOCKET_PORT: u16 = 6432;

/// How long a start may take.
const START: Duration = Duration::from_secs(60);

/// A pooler that is to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    settings: BTreeMap<String, String>,
    tcp: bool,
    server: PathBuf,
    server_port: u16,
    psql: PathBuf,
    binaries: Binaries,
}

impl Builder {
    /// Sets a parameter of the section `[pgbouncer]`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Listens on a free port of 127.0.0.1 too, besides its socket.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Takes the binary from these folders alone: that of another version.
    #[must_use]
    pub fn binaries_in<P: Into<PathBuf>>(mut self, folders: impl IntoIterator<Item = P>) -> Self {
        self.binaries = self.binaries.only_in(folders);
        self
    }

    /// Starts the pooler.
    ///
    /// # Errors
    ///
    /// The binary is missing, and then the error says how to install it; or it didn't become ready, and then
    /// the end of its log is in the error.
    pub fn start(self) -> Result<Bouncer, Error> {
        let program = self.binaries.find("pgbouncer")?;
        let user = User::find()?;
        let folder = folder::create("oncekey-bouncer-", None, user)?;
        let leash = Leash::new(folder, user, "KILL", &program, &["pgbouncer.ini"])?;
        let access = Access::by_socket(leash.folder(), SOCKET_PORT, self.psql.clone());
        let mut bouncer = Bouncer { leash, access, tcp: None, psql: self.psql.clone() };
        port::with_free(self.tcp, |free| {
            self.configure(bouncer.folder(), user, free)?;
            bouncer.listens_at(free);
            bouncer.start_again()
        })?;
        Ok(bouncer)
    }

    fn configure(&self, at: &Path, user: User, free: Option<u16>) -> Result<(), Error> {
        let place = [
            ("listen_port", free.unwrap_or(SOCKET_PORT).to_string()),
            ("listen_addr", if free.is_some() { "127.0.0.1" } else { "" }.to_owned()),
            ("unix_socket_dir", at.display().to_string()),
            ("auth_file", at.join("users").display().to_string()),
        ];
        let place = place.iter().map(|(name, value)| (*name, value.as_str()));
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let lines: String =
            place.chain(settings).map(|(name, value)| format!("{name} = {value}\n")).collect();
        let server = format!("* = host={} port={} user=postgres", self.server.display(), self.server_port);
        folder::write(&at.join("users"), "\"postgres\" \"\"\n", user)?;
        let text = format!("[databases]\n{server}\n[pgbouncer]\n{lines}");
        folder::write(&at.join("pgbouncer.ini"), &text, user)
    }
}

/// A PgBouncer before a server of ours, for all its databases. It is gone when this is dropped, or when this
/// process ends in whichever way.
#[derive(Debug)]
pub struct Bouncer {
    leash: Leash,
    access: Access,
    tcp: Option<SocketAddr>,
    psql: PathBuf,
}

controls!(Bouncer);

impl Bouncer {
    /// To be started before this server. Anybody is let in as `postgres`.
    #[must_use]
    pub fn before(server: &Server, mode: PoolMode) -> Builder {
        let mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
            PoolMode::Statement => "statement",
        };
        let settings = [
            ("auth_type", "trust"),
            ("admin_users", "postgres"),
            // sqlx and others set it at the start of each session.
            ("ignore_startup_parameters", "extra_float_digits"),
            ("pool_mode", mode),
        ];
        Builder {
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            tcp: false,
            server: server.folder().to_owned(),
            server_port: server.port(),
            psql: server.psql_path().to_owned(),
            binaries: Binaries::of("pgbouncer"),
        }
    }

    fn listens_at(&mut self, free: Option<u16>) {
        let port = free.unwrap_or(SOCKET_PORT);
        self.access = Access::by_socket(self.folder(), port, self.psql.clone());
        self.tcp = free.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }

    /// The URL of this database of the server, by the pooler's socket; the same after each start. Its own
    /// console is the database `pgbouncer`.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.access.url(database)
    }

    /// The URL of this database, by a TCP address: the pooler's own, or that of a proxy before it.
    #[must_use]
    pub fn url_by(&self, address: SocketAddr, database: &str) -> String {
        Access::by_tcp(address, self.psql.clone()).url(database)
    }

    /// Where it listens besides its socket; none unless it was started with [`Builder::tcp`].
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// What `psql` prints for `sql` in the database of this name; as [`Server::psql`].
    ///
    /// # Errors
    ///
    /// What `psql` says.
    pub fn psql_in(&self, database: &str, sql: &str) -> Result<String, Error> {
        self.access.psql_at(&self.url(database), sql)
    }

    /// Starts it again after [`Bouncer::kill`], at the same socket and port. Returns when it takes
    /// connections.
    ///
    /// # Errors
    ///
    /// It runs already, or doesn't become ready: then the end of its log is in the error.
    pub fn start_again(&self) -> Result<(), Error> {
        self.leash.start()?;
        let answers = || match (self.leash.runs(), self.psql_in("pgbouncer", "show version")) {
            (false, _) => Ok(Err(Error::new("PgBouncer ended while it started"))),
            (true, Ok(_)) => Ok(Ok(())),
            (true, Err(error)) => Err(error.to_string()),
        };
        wait_until("PgBouncer's start", START, answers).flatten().map_err(|e| e.with(&self.log()))
    }
}
