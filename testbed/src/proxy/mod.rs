//! A proxy that breaks connections on purpose, at a byte and not at a time.
//!
//! What a client may know after its connection broke depends on *where* it broke: before the request arrived,
//! or after the server acted and before the answer came. A test measures an exchange with [`Proxy::seen`],
//! and then cuts it behind each of its bytes with [`Proxy::cut_after`].
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{TcpListener, TcpStream};
//! use oncekey_testbed::proxy::{Direction, Ending, Proxy};
//!
//! // A server that answers `pong`.
//! let server = TcpListener::bind("127.0.0.1:0")?;
//! let proxy = Proxy::before(server.local_addr()?)?;
//! std::thread::spawn(move || {
//!     for mut client in server.incoming().flatten() {
//!         let mut request = [0; 4];
//!         let _ = client.read_exact(&mut request).and_then(|()| client.write_all(b"pong"));
//!     }
//! });
//!
//! proxy.cut_after(Direction::ToClient, 2, Ending::Close);
//! let mut client = TcpStream::connect(proxy.address())?;
//! client.write_all(b"ping")?;
//! let mut answer = Vec::new();
//! client.read_to_end(&mut answer)?;
//! assert_eq!(answer, b"po");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod link;
mod listener;
mod plan;
mod shared;
mod stream;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::Socket;

pub use plan::Direction;
pub use stream::{Ending, Target};

use crate::Error;
use plan::{Cut, Stranded};
use shared::Shared;

/// Stands between clients and a server, on a port of 127.0.0.1. At first everything passes.
///
/// The server is connected to anew for each client. What is read counts as seen, and waits here until it may
/// be written. When this is dropped, all its connections are reset.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepts: Option<JoinHandle<()>>,
    _port: Socket,
}

impl Proxy {
    /// Before a server at a TCP address, or at the path of a Unix socket.
    ///
    /// # Errors
    ///
    /// There is no port to listen on. A server that isn't there is no error: its clients are reset.
    pub fn before(target: impl Into<Target>) -> Result<Self, Error> {
        let target = target.into();
        let (port, address) = listener::keep_port().map_err(Error::when("no port for the proxy"))?;
        let shared = Arc::new(Shared::default());
        let accepts = thread::Builder::new().name("testbed-proxy".to_owned());
        let serves = Arc::clone(&shared);
        let accepts = accepts.spawn(move || listener::serve(&serves, address, &target));
        let accepts = Some(accepts.map_err(Error::when("no thread for the proxy"))?);
        let proxy = Self { address, shared, accepts, _port: port };
        proxy.wait_listening(true)?;
        Ok(proxy)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes all rules back, and lets pass what is held; all but what is stranded.
    ///
    /// # Errors
    ///
    /// The port can't be listened on again, after [`Proxy::refuse`].
    pub fn pass(&self) -> Result<(), Error> {
        self.shared.change(|plan| {
            (plan.delay, plan.rate, plan.hold, plan.hold_after) = Default::default();
            (plan.cut, plan.cut_each, plan.refusing) = (None, None, false);
        });
        self.wait_listening(true)
    }

    /// Passes each byte on this much later than it came, in order.
    pub fn delay(&self, direction: Direction, by: Duration) {
        self.shared.change(|plan| plan.delay[direction.at()] = by);
    }

    /// Passes so many bytes a second of this direction, over all connections together.
    pub fn slow(&self, direction: Direction, bytes_a_second: NonZeroU64) {
        self.shared.change(|plan| plan.rate[direction.at()] = Some(bytes_a_second));
    }

    /// Holds what comes from now on: it is read, and not passed on until [`Proxy::pass`]. The end of a
    /// connection is held too.
    pub fn hold(&self, direction: Direction) {
        self.shared.change(|plan| plan.hold[direction.at()] = true);
    }

    /// Passes `bytes` more of this direction, counted over all connections, and then does [`Proxy::hold`].
    pub fn hold_after(&self, direction: Direction, bytes: u64) {
        self.shared.change(|plan| plan.hold_after[direction.at()] = Some(bytes));
    }

    /// Takes [`Proxy::hold`] back for this direction, and what was held passes; all other rules stay.
    pub fn let_pass(&self, direction: Direction) {
        self.shared.change(|plan| {
            plan.hold[direction.at()] = false;
            plan.hold_after[direction.at()] = None;
        });
    }

    /// Holds both directions: connections are accepted and stay open, and nobody answers. It ends as a
    /// network's failure ends, when packets are sent again: with [`Proxy::pass`] everything arrives late.
    /// With [`Proxy::reset`] it never does.
    pub fn black_hole(&self) {
        self.shared.change(|plan| plan.hold = [true; 2]);
    }

    /// Refuses new connections until [`Proxy::pass`]; those that are open stay so.
    ///
    /// # Errors
    ///
    /// The proxy has failed.
    pub fn refuse(&self) -> Result<(), Error> {
        self.shared.change(|plan| plan.refusing = true);
        listener::wake(self.address);
        self.wait_listening(false)
    }

    /// Ends all connections, on both sides; what was held is lost.
    pub fn end_all(&self, ending: Ending) {
        self.shared.change(|plan| plan.end_all(ending));
    }

    /// [`Proxy::end_all`] by a reset.
    pub fn reset(&self) {
        self.end_all(Ending::Reset);
    }

    /// Passes `bytes` more of this direction, counted over all connections, and then ends the connection
    /// that the last of them was on, on both sides. With 0, the next byte isn't passed on. It happens once.
    pub fn cut_after(&self, direction: Direction, bytes: u64, ending: Ending) {
        self.shared.change(|plan| plan.cut = Some(Cut { direction, left: bytes, ending }));
    }

    /// The same for each connection, counted from its begin, until [`Proxy::pass`].
    pub fn cut_each_after(&self, direction: Direction, bytes: u64, ending: Ending) {
        self.shared.change(|plan| plan.cut_each = Some(Cut { direction, left: bytes, ending }));
    }

    /// Swallows requests: [`Proxy::hold`] of what goes to the server. With [`Proxy::strand`] their clients
    /// are gone, and with [`Proxy::deliver`] the server gets them late.
    pub fn swallow_requests(&self) {
        self.hold(Direction::ToServer);
    }

    /// Resets the client's side of each connection that holds a request, and keeps the request and the
    /// connection to the server; how many there were. What other clients send may pass meanwhile.
    pub fn strand(&self) -> usize {
        self.shared.change(plan::Plan::strand)
    }

    /// Sends what is stranded to the server, and returns when it was sent; then the server sees the end of
    /// the connection. Its answers are dropped.
    ///
    /// # Errors
    ///
    /// The server doesn't take it.
    pub fn deliver(&self) -> Result<(), Error> {
        self.shared.change(|plan| {
            for link in plan.links.values_mut().filter(|link| link.stranded == Stranded::Waiting) {
                link.stranded = Stranded::Delivered;
            }
        });
        let requests = Direction::ToServer.at();
        self.shared.wait_until("the delivery", |plan| {
            let late = plan.links.values().filter(|link| link.stranded == Stranded::Delivered);
            let lanes = late.map(|link| &link.lanes[requests]);
            match lanes.filter(|lane| lane.writing || !lane.queue.is_empty()).count() {
                0 => Ok(()),
                n => Err(format!("{n} connections with requests on them")),
            }
        })
    }

    /// How many bytes of this direction have come so far, passed on or not.
    #[must_use]
    pub fn seen(&self, direction: Direction) -> u64 {
        self.shared.plan().seen[direction.at()]
    }

    /// Waits until [`Proxy::seen`] is at least `bytes`.
    ///
    /// # Errors
    ///
    /// So many don't come.
    pub fn wait_seen(&self, direction: Direction, bytes: u64) -> Result<(), Error> {
        self.shared.wait_until(&format!("{bytes} bytes {direction:?}"), |plan| {
            let seen = plan.seen[direction.at()];
            if seen >= bytes { Ok(()) } else { Err(format!("{seen} bytes")) }
        })
    }

    /// How often a client waited for its server: requests that go out together are one.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.shared.plan().turns
    }

    /// How many connections were cut by [`Proxy::cut_after`] and [`Proxy::cut_each_after`].
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.shared.plan().cuts
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.plan().accepted
    }

    /// How many connections are open, at either side.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.plan().links.len()
    }

    fn wait_listening(&self, wanted: bool) -> Result<(), Error> {
        self.shared.wait_until("the proxy to listen or not", |plan| {
            if plan.listening == wanted { Ok(()) } else { Err(format!("listening: {}", plan.listening)) }
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|plan| {
            plan.closed = true;
            plan.end_all(Ending::Reset);
        });
        listener::wake(self.address);
        if let Some(accepts) = self.accepts.take() {
            // Its panic would be a fault of ours, and was printed.
            let _ = accepts.join();
        }
        // Whoever was accepted since.
        self.shared.change(|plan| plan.end_all(Ending::Reset));
    }
}
