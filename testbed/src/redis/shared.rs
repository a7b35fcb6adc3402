//! One server for all tests of a binary, for those that neither break nor configure it.

use std::env;
use std::sync::OnceLock;

use super::Server;
use crate::Error;

/// A server that others use at the same time: take a prefix of your own for the keys.
#[derive(Debug)]
pub struct Shared {
    url: String,
    /// None where it is somebody else's.
    _own: Option<Server>,
}

/// The server that `REDIS_URL` names; where that isn't set, one that is started with the first call and ends
/// with the process.
///
/// # Errors
///
/// As [`Builder::start`](super::Builder::start).
pub fn shared() -> Result<&'static Shared, Error> {
    static SHARED: OnceLock<Result<Shared, Error>> = OnceLock::new();
    SHARED.get_or_init(Shared::find).as_ref().map_err(Clone::clone)
}

impl Shared {
    fn find() -> Result<Self, Error> {
        if let Some(url) = env::var("REDIS_URL").ok().filter(|url| !url.is_empty()) {
            return Ok(Self { url, _own: None });
        }
        // By TCP, as somebody else's would be.
        let own = Server::builder().tcp().start()?;
        let url = own.tcp_address().map_or_else(|| own.url(0), |address| own.url_by(address, 0));
        Ok(Self { url, _own: Some(own) })
    }

    /// Its URL, as it was given; the server of our own by TCP.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}
