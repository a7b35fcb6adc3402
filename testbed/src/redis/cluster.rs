//! A cluster of three masters with a replica each, all on loopback.

use std::path::PathBuf;
use std::time::Duration;

use super::{Builder, Server};
use crate::{Error, wait_until};

const MASTERS: usize = 3;

/// How long the servers may take to agree on something.
const AGREE: Duration = Duration::from_secs(60);

/// The hash slots that the masters divide among themselves.
pub(super) const SLOTS: u32 = 16_384;

/// Six servers that are one store. They are gone when this is dropped, or when this process ends in whichever way.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
}

impl Cluster {
    /// A cluster that is ready, with durable settings. A server that is silent for two seconds counts as gone.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](super::Builder::start); or they don't agree, and then each one's log is in the error.
    pub fn start() -> Result<Self, Error> {
        let builder = Server::builder().in_cluster().setting("cluster-node-timeout", "2000");
        let servers: Result<Vec<_>, _> = (0..2 * MASTERS).map(|_| builder.clone().start()).collect();
        let cluster = Self { servers: servers? };
        let mut command = vec!["--cluster".to_owned(), "create".to_owned()];
        command.extend(cluster.addresses());
        command.extend(["--cluster-replicas", "1", "--cluster-yes"].map(str::to_owned));
        cluster.servers[0].cli(command.iter().map(String::as_str))?;
        cluster.agrees()?;
        Ok(cluster)
    }

    /// A cluster of one, which has met nobody: it doesn't know its own address, and says "" of it.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn alone() -> Result<Self, Error> {
        Self::of_one(Server::builder().in_cluster())
    }

    /// The same, at a port of 127.0.0.1 that somebody else had.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn alone_at(port: u16) -> Result<Self, Error> {
        Self::of_one(Server::builder().in_cluster().setting("port", &port.to_string()))
    }

    /// The same, by TLS alone, with a certificate, its key, and whom it is signed by.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn alone_by_tls(files: &[PathBuf; 3]) -> Result<Self, Error> {
        Self::of_one(Server::builder().in_cluster().all_by_tls(files))
    }

    /// A server that may become one of a cluster's, and is in none.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn nobody() -> Result<Server, Error> {
        Server::builder().in_cluster().start()
    }

    fn of_one(builder: Builder) -> Result<Self, Error> {
        let server = builder.start()?;
        server.cli(["cluster", "addslotsrange", "0", &(SLOTS - 1).to_string()])?;
        let cluster = Self { servers: vec![server] };
        cluster.agrees()?;
        Ok(cluster)
    }

    fn addresses(&self) -> impl Iterator<Item = String> {
        self.servers.iter().filter_map(Server::tcp_address).map(|address| address.to_string())
    }

    /// The URL of them all.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+cluster://{}", self.addresses().collect::<Vec<_>>().join(","))
    }

    /// All of them, masters and replicas in no order.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Those that are masters now, as they say themselves, and run.
    #[must_use]
    pub fn masters(&self) -> Vec<&Server> {
        let is_master = |server: &&Server| server.cli(["role"]).is_ok_and(|role| role.starts_with("master"));
        self.servers.iter().filter(is_master).collect()
    }

    /// Moves so many hash slots from one master to another, with the keys that are in them.
    ///
    /// # Errors
    ///
    /// They don't let it.
    pub fn move_slots(&self, count: u32, from: &Server, to: &Server) -> Result<(), Error> {
        let (source, target) = (from.cli(["cluster", "myid"])?, to.cli(["cluster", "myid"])?);
        let at =
            from.tcp_address().ok_or_else(|| Error::new("a cluster's server has an address"))?.to_string();
        let count = count.to_string();
        // They tell each other who has what, which takes a moment.
        let check = || match from.cli(["--cluster", "check", &at]) {
            Ok(said)
                if said.contains("[OK] All nodes agree") && said.contains("[OK] All 16384 slots covered") =>
            {
                Ok(())
            }
            Ok(said) => Err(said),
            Err(error) => Err(error.to_string()),
        };
        wait_until("the cluster's servers to agree about their slots", AGREE, check)?;
        from.cli([
            "--cluster",
            "reshard",
            &at,
            "--cluster-from",
            &source,
            "--cluster-to",
            &target,
            "--cluster-slots",
            &count,
            "--cluster-yes",
        ])
        .map(drop)
    }

    /// Waits until all that run say that the cluster is well, with all of its slots, and each replica has its master's
    /// data.
    ///
    /// # Errors
    ///
    /// They don't come to that.
    pub fn agrees(&self) -> Result<(), Error> {
        wait_until("the cluster's servers to agree", AGREE, || {
            for server in self.servers.iter().filter(|server| server.is_running()) {
                let info = server.cli(["cluster", "info"]).map_err(|error| error.to_string())?;
                let assigned = format!("cluster_slots_ok:{SLOTS}");
                if !info.contains("cluster_state:ok") || !info.contains(&assigned) {
                    return Err(info);
                }
                let known = format!("cluster_known_nodes:{}", self.servers.len());
                if !info.contains(&known) {
                    return Err(info);
                }
                let replication = server.cli(["info", "replication"]).map_err(|error| error.to_string())?;
                if replication.contains("role:slave") && !replication.contains("master_link_status:up") {
                    return Err(replication);
                }
            }
            Ok(())
        })
        .map_err(|error| self.servers.iter().fold(error, |error, server| error.with(&server.log())))
    }
}
