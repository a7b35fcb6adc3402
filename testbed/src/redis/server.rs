//! A server that runs, or did.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::Builder;
use crate::controls::controls;
use crate::leash::Leash;
use crate::{Error, run, wait_until};

/// How long a start may take: reading the log of its writes is in it.
const START: Duration = Duration::from_secs(60);

/// A Redis server in a folder of its own. It is gone when this is dropped, or when this process ends in
/// whichever way.
///
/// Each write is on disk before it is answered, unless it was started otherwise. Methods take `&self`: one
/// thread kills the server while others use it.
#[derive(Debug)]
pub struct Server {
    leash: Leash,
    tcp: Option<SocketAddr>,
    cli: PathBuf,
}

controls!(Server);

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

    pub(super) fn new(leash: Leash, cli: PathBuf) -> Self {
        Self { leash, tcp: None, cli }
    }

    /// Where it will listen.
    pub(super) fn listens_at(&mut self, port: Option<u16>) {
        self.tcp = port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }

    /// The URL of the database of this number, by the server's socket; the same after each start.
    #[must_use]
    pub fn url(&self, database: u32) -> String {
        format!("redis+unix://{}?db={database}", self.socket().display())
    }

    /// The URL of this database, by a TCP address: the server's own, or that of a proxy before it.
    #[must_use]
    pub fn url_by(&self, address: SocketAddr, database: u32) -> String {
        format!("redis://{address}/{database}")
    }

    /// The server's socket, for a [`Proxy`](crate::proxy::Proxy) before it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder().join("redis.sock")
    }

    /// Where it listens besides its socket; none unless it was started with [`Builder::tcp`].
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// What `redis-cli` prints for this command, without quotes or types.
    ///
    /// # Errors
    ///
    /// The server's answer is an error, or it doesn't answer.
    pub fn cli<'a>(&self, command: impl IntoIterator<Item = &'a str>) -> Result<String, Error> {
        let mut cli = Command::new(&self.cli);
        // -e: an error that is answered is a failure. Nothing of the environment's.
        cli.env_remove("REDISCLI_AUTH").arg("-s").arg(self.socket()).args(["-e", "--raw"]).args(command);
        run::output(&mut cli)
    }

    /// Ends the server in order (SIGTERM). Returns when it has ended.
    ///
    /// # Errors
    ///
    /// It doesn't end.
    pub fn shut_down(&self) -> Result<(), Error> {
        self.leash.end_by(Signal::TERM)
    }

    /// Starts the server again after [`Server::kill`] or [`Server::shut_down`], on its data, at the same
    /// socket and port. Returns when it has read its data.
    ///
    /// # Errors
    ///
    /// It runs already, or doesn't become ready: then the end of its log is in the error.
    pub fn start_again(&self) -> Result<(), Error> {
        self.begin_start()?;
        self.wait_ready()
    }

    /// The same, but it returns while the server still reads its data, which is when it answers LOADING.
    ///
    /// # Errors
    ///
    /// It runs already.
    pub fn begin_start(&self) -> Result<(), Error> {
        self.leash.start()
    }

    /// Waits until the server has read its data.
    ///
    /// # Errors
    ///
    /// As [`Server::start_again`].
    pub fn wait_ready(&self) -> Result<(), Error> {
        let answers = || match (self.leash.runs(), self.cli(["ping"])) {
            (false, _) => Ok(Err(Error::new("the server ended while it started"))),
            (true, Ok(pong)) if pong == "PONG" => Ok(Ok(())),
            (true, Ok(other)) => Err(format!("`{other}`")),
            (true, Err(error)) => Err(error.to_string()),
        };
        wait_until("the server's start", START, answers).flatten().map_err(|e| e.with(&self.log()))
    }

    /// [`Server::shut_down`], then [`Server::start_again`].
    ///
    /// # Errors
    ///
    /// As they.
    pub fn restart(&self) -> Result<(), Error> {
        self.shut_down()?;
        self.start_again()
    }

    /// Waits until a replica has its primary's data.
    pub(super) fn wait_for_primary(&self) -> Result<(), Error> {
        wait_until("the replica to follow", START, || match self.cli(["info", "replication"]) {
            Ok(info) if info.contains("master_link_status:up") => Ok(()),
            Ok(info) => Err(info),
            Err(error) => Err(error.to_string()),
        })
        .map_err(|error| error.with(&self.log()))
    }

    /// Sends its replicas away and takes them back no more, until it is started again: what is written from here on,
    /// nobody else has.
    ///
    /// # Errors
    ///
    /// It doesn't answer.
    pub fn forget_replicas(&self) -> Result<(), Error> {
        self.cli(["acl", "setuser", "default", "-psync", "-sync"])?;
        self.cli(["client", "kill", "type", "replica"]).map(drop)
    }

    /// Makes a replica a primary of its own.
    ///
    /// # Errors
    ///
    /// It doesn't answer.
    pub fn promote(&self) -> Result<(), Error> {
        self.cli(["replicaof", "no", "one"]).map(drop)
    }
}
