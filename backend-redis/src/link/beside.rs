//! Connections to other servers than those that calls go to: to see what is wrong with them.

use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr};
use tokio::time::{Instant, timeout_at};

use super::{Link, Terms};
use crate::address::Address;
use crate::error::Failure;
use crate::source::info;

impl Link {
    /// To look at the servers themselves: none is refused for what it is.
    pub(crate) fn to_look(&self) -> Result<Self, Failure> {
        Self::new(self.0.address.clone(), Terms { may_evict: true, looks: true, ..Terms::default() })
    }

    /// As the same user, and by TLS where they are reached by it.
    pub(crate) async fn beside(
        &self,
        host: &str,
        port: u16,
        until: Instant,
    ) -> Result<MultiplexedConnection, Failure> {
        let info = match &self.0.address {
            Address::Single(client) => {
                let info = client.get_connection_info().clone();
                let (host, mut addr) = (host.to_owned(), info.addr().clone());
                match &mut addr {
                    ConnectionAddr::TcpTls { host: its, port: its_port, .. } => {
                        (*its, *its_port) = (host, port);
                    }
                    _ => addr = ConnectionAddr::Tcp(host, port),
                }
                info.set_addr(addr)
            }
            Address::Sentinel { login, .. } | Address::Cluster { login, .. } => info(login, host, port),
        };
        let client = Client::open(info).map_err(Failure::no_connection)?;
        match timeout_at(until, client.get_multiplexed_async_connection()).await {
            Ok(connected) => connected.map_err(Failure::no_connection),
            Err(_) => Err(Failure::no_connection_yet()),
        }
    }
}
