//! Free TCP ports on loopback, for servers that can't choose one themselves.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Error;

/// Below what systems hand out for outgoing connections: a server that is down for a moment finds its port
/// free again.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

/// How often a server is started with another port.
const TRIES: u32 = 10;

/// Starts a server with a free port if it `wants` one, and with another one where somebody else took that
/// before the server did.
pub(crate) fn with_free(
    wants: bool,
    mut start: impl FnMut(Option<u16>) -> Result<(), Error>,
) -> Result<(), Error> {
    if !wants {
        return start(None);
    }
    let mut tries = 1;
    loop {
        match start(Some(free()?)) {
            // All of them say it in the system's words; the server's log is in the error.
            Err(error) if tries < TRIES && error.to_string().contains("ddress already in use") => tries += 1,
            result => return result,
        }
    }
}

/// A port that nobody listens on now, and a different one each time.
pub(crate) fn free() -> Result<u16, Error> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.len() as u32;
    // Test binaries run at once: each begins somewhere else.
    let begin = std::process::id().wrapping_mul(7919);
    for _ in 0..count {
        let nth = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = (PORTS.start + nth) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::new(format!("no port of {PORTS:?} is free on 127.0.0.1")))
}
