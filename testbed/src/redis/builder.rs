//! What a server is to be like, and its first start.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Server;
use crate::leash::Leash;
use crate::user::User;
use crate::{Binaries, Error, folder, port};

/// What is set unless the caller sets it otherwise. Redis's own default keeps nothing but a snapshot now and
/// then: a test of durability needs each write on disk before its answer.
const SETTINGS: &[(&str, &str)] = &[("appendonly", "yes"), ("appendfsync", "always"), ("save", "\"\"")];

/// A server that is to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    settings: Vec<(String, String)>,
    tcp: bool,
    cluster: bool,
    tls: Option<[PathBuf; 3]>,
    primary: Option<Option<SocketAddr>>,
    inside: Option<PathBuf>,
    binaries: Binaries,
}

impl Builder {
    pub(super) fn new() -> Self {
        let binaries = Binaries::of("redis-server");
        Self {
            settings: Vec::new(),
            tcp: false,
            cluster: false,
            tls: None,
            primary: None,
            inside: None,
            binaries,
        }
    }

    /// Adds a line to redis.conf, in its own notation. The last one of a name wins, also over the durable
    /// defaults.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Listens on a free port of 127.0.0.1 too, besides its socket.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Listens on a free port of 127.0.0.1 by TLS alone, besides its socket, with this certificate, its key, and whom
    /// it is signed by: PEM files that the server's user may read.
    #[must_use]
    pub fn tls(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        by: impl Into<PathBuf>,
    ) -> Self {
        self.tcp = true;
        self.tls = Some([certificate.into(), key.into(), by.into()]);
        self
    }

    /// What its replicas, its cluster or its sentinels say to it goes by TLS too.
    pub(super) fn all_by_tls(mut self, files: &[PathBuf; 3]) -> Self {
        let [certificate, key, by] = files;
        self = self.tls(certificate, key, by).setting("tls-replication", "yes");
        if self.cluster { self.setting("tls-cluster", "yes") } else { self }
    }

    /// To become one of a cluster's. It listens by TCP, on two ports.
    pub(super) fn in_cluster(mut self) -> Self {
        (self.tcp, self.cluster) = (true, true);
        self
    }

    /// Follows this server, which must have been started with [`Builder::tcp`], and refuses writes.
    #[must_use]
    pub fn replica_of(mut self, primary: &Server) -> Self {
        self.primary = Some(primary.tcp_address());
        self
    }

    /// Puts data and socket into a new folder in `parent`: on a certain disk. It has to be a short path, that
    /// the server's user may go through.
    #[must_use]
    pub fn inside(mut self, parent: impl Into<PathBuf>) -> Self {
        self.inside = Some(parent.into());
        self
    }

    /// Takes the binaries from these folders alone: those of another version.
    #[must_use]
    pub fn binaries_in<P: Into<PathBuf>>(mut self, folders: impl IntoIterator<Item = P>) -> Self {
        self.binaries = self.binaries.only_in(folders);
        self
    }

    /// Starts the server; a replica, when it has its primary's data.
    ///
    /// # Errors
    ///
    /// A binary is missing, and then the error says how to install it; or the server didn't become ready, and
    /// then the end of its log is in the error.
    pub fn start(self) -> Result<Server, Error> {
        let program = self.binaries.find("redis-server")?;
        let cli = self.binaries.find("redis-cli")?;
        if self.primary == Some(None) {
            return Err(Error::new("a replica's primary has to be started with tcp()"));
        }
        let user = User::find()?;
        let folder = folder::create("oncekey-redis-", self.inside.as_deref(), user)?;
        // It has nothing that outlives it, and an ordered end may wait for a script.
        let leash = Leash::new(folder, user, "KILL", &program, &["redis.conf"])?;
        let mut server = Server::new(leash, cli);
        port::with_free(self.tcp, |free| {
            let bus = if self.cluster { Some(port::free()?) } else { None };
            folder::write(&server.folder().join("redis.conf"), &self.configuration(free, bus), user)?;
            server.listens_at(free);
            server.start_again()
        })?;
        if self.primary.is_some() {
            server.wait_for_primary()?;
        }
        Ok(server)
    }

    fn configuration(&self, port: Option<u16>, bus: Option<u16>) -> String {
        // No number is no port.
        let port = port.unwrap_or_default().to_string();
        let primary = self.primary.flatten().map(|at| format!("{} {}", at.ip(), at.port()));
        let place = [("bind", "127.0.0.1"), ("port", &port), ("unixsocket", "redis.sock"), ("dir", ".")];
        let primary = primary.iter().map(|primary| ("replicaof", primary.as_str()));
        let bus = bus.map(|bus| bus.to_string());
        let tls = self.tls.iter().flatten().map(|file| file.display().to_string());
        let tls: Vec<_> =
            ["tls-cert-file", "tls-key-file", "tls-ca-cert-file"].into_iter().zip(tls).collect();
        let tls = tls.iter().map(|(name, file)| (*name, file.as_str()));
        let tls = tls.chain(
            self.tls
                .iter()
                .flat_map(|_| [("port", "0"), ("tls-port", port.as_str()), ("tls-auth-clients", "no")]),
        );
        let bus = bus.iter().flat_map(|bus| [("cluster-enabled", "yes"), ("cluster-port", bus.as_str())]);
        let asked = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut text = String::new();
        for (name, value) in place
            .into_iter()
            .chain(SETTINGS.iter().copied())
            .chain(primary)
            .chain(bus)
            .chain(tls)
            .chain(asked)
        {
            let _ = writeln!(text, "{name} {value}");
        }
        text
    }
}
