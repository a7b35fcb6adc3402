//! Free TCP ports on loopback, for servers that can't choose one themselves.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Error;

/// Below what systems hand out for outgoing connections: a server that is down for a moment finds its port
/// free again.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

/// How often a server is started with another port, when somebody else took the one that was free.
pub(crate) const TRIES: u32 = 10;

/// A port that nobody listens on now, and a different one each time. Somebody else may take it before the
/// server does, so the caller tries again.
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
