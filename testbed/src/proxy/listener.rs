//! A port that is either listened on or refuses.
//!
//! While nobody listens, a second socket keeps the port bound, so that nobody else is given it.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use socket2::{Domain, SockRef, Socket, Type};

use super::link;
use super::shared::Shared;
use super::stream::Target;

/// A free port of 127.0.0.1, kept for as long as the socket lives.
pub(super) fn keep_port() -> io::Result<(Socket, SocketAddr)> {
    let kept = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = kept.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((kept, address))
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Both sockets say so, and one of them at most listens.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Listens at `address` whenever the plan allows it, until the proxy is closed.
pub(super) fn serve(shared: &Arc<Shared>, address: SocketAddr, target: &Target) {
    if let Err(why) = try_serve(shared, address, target) {
        shared.change(|plan| plan.failed = Some(format!("{address}: {why}")));
    }
}

fn try_serve(shared: &Arc<Shared>, address: SocketAddr, target: &Target) -> io::Result<()> {
    loop {
        let mut plan = shared.plan();
        while plan.refusing && !plan.closed {
            plan = shared.wait(plan, None);
        }
        if plan.closed {
            return Ok(());
        }
        drop(plan);
        let socket = bound(address)?;
        socket.listen(128)?;
        let listener = TcpListener::from(socket);
        shared.change(|plan| plan.listening = true);
        loop {
            let accepted = listener.accept();
            let plan = shared.plan();
            if plan.refusing || plan.closed {
                break;
            }
            drop(plan);
            match accepted {
                // A client that has gone already is no reason to end.
                Ok((client, _)) => drop(link::open(shared, client, target)),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        end(listener)?;
        shared.change(|plan| plan.listening = false);
    }
}

/// Nobody listens from now on. To close it would not be enough: a program that is being started has a copy until it runs,
/// and that would go on listening.
fn end(listener: TcpListener) -> io::Result<()> {
    SockRef::from(&listener).shutdown(Shutdown::Both)?;
    drop(listener);
    Ok(())
}

/// Makes [`serve`], which waits for a client, look at the plan.
pub(super) fn wake(address: SocketAddr) {
    // Where it is refused, nobody waits for a client.
    let _ = TcpStream::connect(address);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_can_be_listened_on_again_while_a_copy_of_its_listener_is_open() {
        let (_port, address) = keep_port().unwrap();
        let listen = || {
            let socket = bound(address).unwrap();
            socket.listen(1).map(|()| TcpListener::from(socket))
        };
        let first = listen().unwrap();
        let _copy = first.try_clone().unwrap();
        end(first).unwrap();
        listen().unwrap();
    }
}
