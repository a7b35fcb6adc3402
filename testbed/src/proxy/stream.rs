//! The two kinds of connection that a proxy joins.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::SockRef;

/// What a proxy stands before.
#[derive(Clone, Debug)]
pub enum Target {
    /// A server at this address.
    Tcp(SocketAddr),
    /// A server at this socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<&Path> for Target {
    fn from(socket: &Path) -> Self {
        Self::Unix(socket.to_owned())
    }
}

impl From<PathBuf> for Target {
    fn from(socket: PathBuf) -> Self {
        Self::Unix(socket)
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At once, and what is under way is lost (RST): a peer that crashed, or a firewall's timeout. On a
    /// Unix socket, which knows no such thing, it is a close.
    Reset,
    /// In order (FIN): a peer that was shut down.
    Close,
}

/// A write that its peer doesn't take looks this often whether the connection was ended meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// One side of a connection through the proxy.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(super) fn connect(target: &Target) -> io::Result<Self> {
        match target {
            Target::Tcp(address) => Self::tcp(TcpStream::connect(address)?),
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(LOOK))?;
                Ok(Self::Unix(stream))
            }
        }
    }

    pub(super) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(LOOK))?;
        Ok(Self::Tcp(stream))
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(buffer),
            Self::Unix(stream) => (&*stream).read(buffer),
        }
    }

    /// Writes all of `bytes`, unless `ended` comes true before its peer has taken them.
    pub(super) fn write(&self, mut bytes: &[u8], ended: impl Fn() -> bool) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Tcp(stream) => (&*stream).write(bytes),
                Self::Unix(stream) => (&*stream).write(bytes),
            };
            match written {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !ended() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Says that nothing more comes; the other way stays open.
    pub(super) fn finish(&self) {
        self.shutdown(Shutdown::Write);
    }

    /// Begins to end the connection, and wakes who reads from it: it has ended when the last reference to
    /// this is gone.
    pub(super) fn end(&self, ending: Ending) {
        match (self, ending) {
            (Self::Tcp(stream), Ending::Reset) => {
                // With no time to linger the close is a reset; a shutdown of both ways would send a FIN first.
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                self.shutdown(Shutdown::Read);
            }
            _ => self.shutdown(Shutdown::Both),
        }
    }

    fn shutdown(&self, how: Shutdown) {
        // It fails where the peer has gone, and then it isn't needed.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }
}
