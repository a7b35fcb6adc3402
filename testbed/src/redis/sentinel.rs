//! A master and a replica, and three sentinels that watch them.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::Server;
use crate::leash::Leash;
use crate::user::User;
use crate::{Binaries, Error, folder, port, run, wait_until};

/// What the sentinels call the master.
const NAME: &str = "main";
/// How many watch, and how many have to say that the master is gone.
const SENTINELS: usize = 3;
const QUORUM: usize = 2;

/// How long they may take to find each other, or another master. One that sees that its machine stood still does nothing
/// for 30 s (TILT), and for 30 s more each time.
const AGREE: Duration = Duration::from_secs(180);

/// A pair of servers, of which sentinels make one the master. All are gone when this is dropped, or when this process
/// ends in whichever way.
#[derive(Debug)]
pub struct Watched {
    servers: [Server; 2],
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    leash: Leash,
    at: SocketAddr,
    cli: PathBuf,
    password: Option<String>,
    tls: Option<[PathBuf; 3]>,
}

impl Watched {
    /// A pair with durable settings. A master that is silent for half a second counts as gone.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](super::Builder::start); or the sentinels don't find each other.
    pub fn start() -> Result<Self, Error> {
        Self::with(None, None)
    }

    /// The same, with sentinels that ask for this password. It has neither spaces nor quotes.
    ///
    /// # Errors
    ///
    /// As [`Watched::start`].
    pub fn guarded(password: &str) -> Result<Self, Error> {
        Self::with(Some(password), None)
    }

    /// The same, of which each speaks TLS alone, with a certificate, its key, and whom it is signed by.
    ///
    /// # Errors
    ///
    /// As [`Watched::start`].
    pub fn by_tls(files: &[PathBuf; 3]) -> Result<Self, Error> {
        Self::with(None, Some(files))
    }

    fn with(password: Option<&str>, tls: Option<&[PathBuf; 3]>) -> Result<Self, Error> {
        let server = || match tls {
            Some(files) => Server::builder().tcp().all_by_tls(files),
            None => Server::builder().tcp(),
        };
        let master = server().start()?;
        let replica = server().replica_of(&master).start()?;
        let at = master
            .tcp_address()
            .ok_or_else(|| Error::new("a server that was started by TCP has an address"))?;
        let sentinels: Result<Vec<_>, _> =
            (0..SENTINELS).map(|_| Sentinel::start(at, password, tls)).collect();
        let watched = Self { servers: [master, replica], sentinels: sentinels? };
        watched.agrees()?;
        Ok(watched)
    }

    /// The URL of whichever is the master.
    #[must_use]
    pub fn url(&self) -> String {
        let at: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.at.to_string()).collect();
        format!("redis+sentinel://{}/{NAME}", at.join(","))
    }

    /// Both, in no order.
    #[must_use]
    pub fn servers(&self) -> &[Server; 2] {
        &self.servers
    }

    /// The one that the sentinels call the master.
    ///
    /// # Errors
    ///
    /// They don't answer, or name none of the two.
    pub fn master(&self) -> Result<&Server, Error> {
        let said = self.sentinels[0].cli(&["sentinel", "get-master-addr-by-name", NAME])?;
        let named = |server: &&Server| {
            let port = server.tcp_address().map(|at| at.port().to_string());
            port.is_some_and(|port| said.lines().nth(1) == Some(&port))
        };
        self.servers.iter().find(named).ok_or_else(|| Error::new(format!("a master that is neither: {said}")))
    }

    /// Waits until the sentinels know each other, the master and its replica, and both run and are in touch.
    ///
    /// # Errors
    ///
    /// They don't come to that.
    pub fn agrees(&self) -> Result<(), Error> {
        wait_until("the sentinels to agree", AGREE, || {
            for sentinel in &self.sentinels {
                let ask = |what| sentinel.cli(&["sentinel", what, NAME]).map_err(|error| error.to_string());
                let usable = ask("ckquorum")?;
                if !usable.starts_with(&format!("OK {SENTINELS} usable")) {
                    return Err(usable);
                }
                let replicas = ask("replicas")?;
                let healthy =
                    replicas.contains("master-link-status\nok") && replicas.contains("flags\nslave\n");
                if !healthy {
                    return Err(replicas);
                }
            }
            Ok(())
        })
        .map_err(|error| {
            self.sentinels.iter().fold(error, |error, sentinel| error.with(&sentinel.leash.log()))
        })
    }

    /// Waits until the sentinels have made the other one the master than `before`.
    ///
    /// # Errors
    ///
    /// They don't.
    pub fn has_another_master(&self, before: &Server) -> Result<(), Error> {
        wait_until("another master", AGREE, || match self.master() {
            Ok(now)
                if now.pid() != before.pid() && now.cli(["role"]).is_ok_and(|r| r.starts_with("master")) =>
            {
                Ok(())
            }
            Ok(_) => Err("it is the same".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }
}

impl Sentinel {
    fn start(master: SocketAddr, password: Option<&str>, tls: Option<&[PathBuf; 3]>) -> Result<Self, Error> {
        let binaries = Binaries::of("redis-server");
        let (program, cli) = (binaries.find("redis-server")?, binaries.find("redis-cli")?);
        let user = User::find()?;
        let folder = folder::create("oncekey-sentinel-", None, user)?;
        let leash = Leash::new(folder, user, "KILL", &program, &["sentinel.conf", "--sentinel"])?;
        let (password, tls) = (password.map(str::to_owned), tls.cloned());
        let mut sentinel = Self { leash, at: master, cli, password, tls };
        port::with_free(true, |free| {
            let port = free.unwrap_or_default();
            let listens = sentinel.listens(port);
            let mut text = format!(
                "bind 127.0.0.1\n{listens}dir .\nsentinel monitor {NAME} {} {} {QUORUM}\n\
                 sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 5000\n",
                master.ip(),
                master.port()
            );
            if let Some(password) = &sentinel.password {
                let _ = writeln!(text, "requirepass {password}\nsentinel sentinel-pass {password}");
            }
            folder::write(&sentinel.leash.folder().join("sentinel.conf"), &text, user)?;
            sentinel.at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            sentinel.leash.start()?;
            let answers = || match (sentinel.leash.runs(), sentinel.cli(&["ping"])) {
                (false, _) => Ok(Err(Error::new("the sentinel ended while it started"))),
                (true, Ok(_)) => Ok(Ok(())),
                (true, Err(error)) => Err(error.to_string()),
            };
            wait_until("the sentinel's start", AGREE, answers)
                .flatten()
                .map_err(|e| e.with(&sentinel.leash.log()))
        })?;
        Ok(sentinel)
    }

    fn listens(&self, port: u16) -> String {
        match self.tls.as_ref().map(|files| files.each_ref().map(|file| file.display())) {
            None => format!("port {port}\n"),
            Some([certificate, key, by]) => format!(
                "port 0\ntls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {by}\n\
                 tls-auth-clients no\ntls-replication yes\n"
            ),
        }
    }

    fn cli(&self, command: &[&str]) -> Result<String, Error> {
        let mut cli = Command::new(&self.cli);
        if let Some([.., by]) = &self.tls {
            cli.arg("--tls").arg("--cacert").arg(by);
        }
        let port = self.at.port().to_string();
        match &self.password {
            Some(password) => cli.env("REDISCLI_AUTH", password),
            None => cli.env_remove("REDISCLI_AUTH"),
        };
        cli.args(["-p", &port, "-e", "--raw"]).args(command);
        run::output(&mut cli)
    }
}
