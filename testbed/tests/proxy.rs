//! The proxy before an echo: where it cuts, what it holds, and that nothing else is touched.
#![allow(clippy::unwrap_used, reason = "the tests' helpers are tests too")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use oncekey_testbed::proxy::Direction::{ToClient, ToServer};
use oncekey_testbed::proxy::{Ending, Proxy};
use oncekey_testbed::wait_until;

/// Answers each byte with itself, and keeps what it heard, of all clients together.
struct Echo {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let hears = Arc::clone(&hears);
                thread::spawn(move || {
                    let answers = client.try_clone().unwrap();
                    echo(client, answers, |bytes| hears.lock().unwrap().extend_from_slice(bytes));
                });
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> String {
        String::from_utf8(self.heard.lock().unwrap().clone()).unwrap()
    }

    fn wait_heard(&self, what: &str) {
        let heard = || if self.heard() == what { Ok(()) } else { Err(self.heard()) };
        wait_until(&format!("`{what}` at the server"), Duration::from_secs(30), heard).unwrap();
    }
}

fn echo(mut requests: impl Read, mut answers: impl Write, mut hear: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = requests.read(&mut buffer) {
        hear(&buffer[..n]);
        // A client that is gone is still heard to its end.
        let _ = answers.write_all(&buffer[..n]);
    }
}

fn client(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client
}

/// Sends `request`; the answer, up to the connection's end or the request's length, and how it ended.
fn ask(client: &mut TcpStream, request: &str) -> (String, io::Result<()>) {
    let mut answer = Vec::new();
    let mut result = client.write_all(request.as_bytes());
    let mut byte = [0];
    while result.is_ok() && answer.len() < request.len() {
        result = client.read_exact(&mut byte);
        if result.is_ok() {
            answer.push(byte[0]);
        }
    }
    (String::from_utf8(answer).unwrap(), result)
}

fn answer(client: &mut TcpStream, request: &str) -> String {
    let (answer, result) = ask(client, request);
    result.unwrap();
    answer
}

#[test]
fn everything_passes_at_first_and_is_counted() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let mut one = client(&proxy);
    assert_eq!(answer(&mut one, "hello"), "hello");
    assert_eq!(answer(&mut client(&proxy), "you"), "you");
    assert_eq!(proxy.round_trips(), 2);
    assert_eq!(answer(&mut one, "and"), "and");
    assert_eq!(proxy.round_trips(), 3);
    assert_eq!((proxy.seen(ToServer), proxy.seen(ToClient)), (11, 11));
    assert_eq!((proxy.accepted(), proxy.cuts()), (2, 0));
    // Half a close is passed on, and the other half answers it.
    one.shutdown(Shutdown::Write).unwrap();
    assert_eq!(one.read(&mut [0]).unwrap(), 0);
}

#[test]
fn much_passes_whole_and_in_order() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let mut reads = client(&proxy);
    let mut writes = reads.try_clone().unwrap();
    let bytes: Vec<u8> = (0..8_000_000_u32).map(|n| (n / 7 % 251) as u8).collect();
    let sent = bytes.clone();
    thread::spawn(move || writes.write_all(&sent).unwrap());
    let mut answer = vec![0; bytes.len()];
    reads.read_exact(&mut answer).unwrap();
    assert!(answer == bytes);
}

#[test]
fn an_exchange_is_cut_behind_each_of_its_bytes() {
    let request = "abcdef";
    for n in 0..=6 {
        let (echo, cut) = (Echo::start(), n as u64);
        let proxy = Proxy::before(echo.address).unwrap();
        let before = &request[..n];

        proxy.cut_after(ToServer, cut, Ending::Reset);
        let (_, result) = ask(&mut client(&proxy), request);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset, "{n}");
        echo.wait_heard(before);

        proxy.cut_after(ToClient, cut, Ending::Close);
        let mut cuts = client(&proxy);
        let (got, _) = ask(&mut cuts, request);
        assert_eq!(got, before);
        assert_eq!(cuts.read(&mut [0]).unwrap(), 0, "{n}");
        // The server had heard all of it.
        assert_eq!(echo.heard(), format!("{before}{request}"));

        assert_eq!(proxy.cuts(), 2);
        assert_eq!(answer(&mut client(&proxy), request), request, "once is once");
    }
}

#[test]
fn each_connection_is_cut_at_the_same_byte() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    proxy.cut_each_after(ToClient, 3, Ending::Reset);
    for _ in 0..3 {
        let mut client = client(&proxy);
        assert_eq!(answer(&mut client, "ab"), "ab");
        let (got, result) = ask(&mut client, "cdef");
        assert_eq!(got, "c");
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    proxy.pass().unwrap();
    assert_eq!(answer(&mut client(&proxy), "abcdef"), "abcdef");
}

#[test]
fn a_black_hole_says_nothing_until_it_passes_again() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let mut open = client(&proxy);
    assert_eq!(answer(&mut open, "a"), "a");
    proxy.black_hole();
    let mut new = client(&proxy);
    for client in [&mut open, &mut new] {
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (got, result) = ask(client, "bc");
        assert_eq!(got, "");
        assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    proxy.wait_seen(ToServer, 5).unwrap();
    assert_eq!(echo.heard(), "a");
    proxy.pass().unwrap();
    echo.wait_heard("abcbc");
    let mut late = [0; 2];
    new.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    new.read_exact(&mut late).unwrap();
    assert_eq!(&late, b"bc");
}

#[test]
fn what_was_held_passes_under_the_rules_that_stay() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    for held in [ToServer, ToClient] {
        let mut client = client(&proxy);
        proxy.hold_after(held, 2);
        proxy.cut_after(ToClient, 5, Ending::Reset);
        client.write_all(b"abcdefg").unwrap();
        let mut got = [0; 2];
        client.read_exact(&mut got).unwrap();
        assert_eq!((&got, proxy.cuts()), (b"ab", u64::from(held == ToClient)), "{held:?}");
        proxy.let_pass(held);
        let mut rest = Vec::new();
        assert_eq!(client.read_to_end(&mut rest).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(b"cde".starts_with(&rest), "{rest:?}");
    }
    assert_eq!(proxy.cuts(), 2);
}

#[test]
fn what_a_black_hole_held_is_lost_with_a_reset() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    proxy.black_hole();
    let mut lost = client(&proxy);
    lost.write_all(b"lost").unwrap();
    proxy.wait_seen(ToServer, 4).unwrap();
    proxy.reset();
    assert_eq!(lost.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.pass().unwrap();
    assert_eq!(answer(&mut client(&proxy), "b"), "b");
    assert_eq!(echo.heard(), "b");
}

#[test]
fn it_refuses_new_connections_at_its_port_and_accepts_them_there_again() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let mut open = client(&proxy);
    assert_eq!(answer(&mut open, "a"), "a");
    for _ in 0..10 {
        proxy.refuse().unwrap();
        let refused = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(answer(&mut open, "b"), "b");
        proxy.pass().unwrap();
        assert_eq!(answer(&mut client(&proxy), "c"), "c");
    }
}

#[test]
fn a_swallowed_request_arrives_behind_those_that_came_after_it() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let mut idle = client(&proxy);
    assert_eq!(answer(&mut idle, "i"), "i");
    proxy.swallow_requests();
    let mut gives_up = client(&proxy);
    let long = "x".repeat(300_000);
    gives_up.write_all(long.as_bytes()).unwrap();
    proxy.wait_seen(ToServer, 300_001).unwrap();
    assert_eq!(proxy.strand(), 1);
    assert_eq!(gives_up.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.pass().unwrap();
    assert_eq!(answer(&mut client(&proxy), "retry"), "retry");
    assert_eq!(answer(&mut idle, "i"), "i");
    assert_eq!(echo.heard(), "iretryi");
    proxy.deliver().unwrap();
    echo.wait_heard(&format!("iretryi{long}"));
}

#[test]
fn an_answer_is_delayed_and_in_order() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let by = Duration::from_millis(80);
    proxy.delay(ToClient, by);
    let mut client = client(&proxy);
    let begun = Instant::now();
    assert_eq!(answer(&mut client, "abc"), "abc");
    assert!(begun.elapsed() >= by, "{:?}", begun.elapsed());
    proxy.delay(ToClient, Duration::from_secs(3600));
    client.write_all(b"def").unwrap();
    proxy.wait_seen(ToClient, 6).unwrap();
    proxy.pass().unwrap();
    let mut late = [0; 3];
    client.read_exact(&mut late).unwrap();
    assert_eq!(&late, b"def");
}

#[test]
fn clients_of_a_server_that_is_not_there_are_reset() {
    // It refuses, and nobody else is given its port.
    let nobody = Proxy::before(Echo::start().address).unwrap();
    nobody.refuse().unwrap();
    let proxy = Proxy::before(nobody.address()).unwrap();
    assert_eq!(client(&proxy).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.open(), 0);
}

#[test]
fn a_server_may_listen_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            echo(client.try_clone().unwrap(), client, |_| ());
        }
    });
    let proxy = Proxy::before(path).unwrap();
    assert_eq!(answer(&mut client(&proxy), "hello"), "hello");
    proxy.cut_after(ToClient, 2, Ending::Reset);
    assert_eq!(ask(&mut client(&proxy), "hello").0, "he");
}

#[test]
fn a_dropped_proxy_takes_its_connections_with_it() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let mut open = client(&proxy);
    assert_eq!(answer(&mut open, "a"), "a");
    drop(proxy);
    assert_eq!(open.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}
