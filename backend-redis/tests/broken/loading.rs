//! A server that was started again, and reads its data: it answers each call with LOADING.

use std::sync::Arc;
use std::time::Duration;

use oncekey_redis::{Effect, ErrorKind, IdempotencyStore, ReserveRequest, Terms, Token};
use oncekey_storm::deed::{Stage as _, fingerprint, granted, reserve};
use oncekey_testbed::redis::Server;
use oncekey_testbed::wait_until;

use crate::bench::{Bench, is_answered};

/// How long it may take until something is so.
const SOON: Duration = Duration::from_secs(20);

/// Kills the server and starts it; returns when it reads its data, and it does that until [`end`]. `key` is one of those
/// that it has the hash slot of.
pub fn begin(server: &Server, key: &str) {
    // It looks at its connections now and then while it reads.
    let fill = "for n = 1, 5000 do redis.call('SET', '{' .. KEYS[1] .. '}' .. n, string.rep('x', 1000)) end";
    server.cli(["eval", fill, "1", key]).unwrap();
    server.cli(["config", "set", "key-load-delay", "5000"]).unwrap();
    server.cli(["config", "set", "loading-process-events-interval-bytes", "1024"]).unwrap();
    server.cli(["config", "rewrite"]).unwrap();
    // Commands it reads a thousand at a time.
    server.cli(["bgrewriteaof"]).unwrap();
    let rewritten = || match server.cli(["info", "persistence"]).map_err(|error| error.to_string())? {
        info if info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0") => {
            Ok(())
        }
        info => Err(info),
    };
    wait_until("the file to be rewritten", SOON, rewritten).unwrap();
    server.kill().unwrap();
    server.begin_start().unwrap();
    let loads = || match server.cli(["ping"]) {
        Err(error) if error.to_string().contains("LOADING") => Ok(()),
        said => Err(format!("{said:?}")),
    };
    wait_until("the server to say that it loads", SOON, loads).unwrap();
}

/// Lets it read the rest at once.
pub fn end(server: &Server) {
    server.cli(["config", "set", "key-load-delay", "0"]).unwrap();
    server.wait_ready().unwrap();
}

/// How often it said that.
fn said(server: &Server) -> u64 {
    let stats = server.cli(["info", "errorstats"]).unwrap();
    let count = stats.lines().find_map(|line| line.strip_prefix("errorstat_LOADING:count="));
    count.map_or(0, |count| count.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_loads_its_data_is_waited_for() {
    let server = Arc::new(Server::start().unwrap());
    let bench = Bench::before(Arc::clone(&server));
    let (store, hasty) = (bench.another(|b| b), bench.another(|b| b.call_deadline(Duration::from_secs(2))));
    let slot = bench.slot();
    granted(&bench.clean(&slot, &reserve(Token::fresh())).await);
    for store in [&store, &hasty] {
        is_answered(store, &slot).await;
    }
    begin(&server, "filler");
    let error = hasty.lookup(&slot).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotApplied), "{error}");
    assert!(error.to_string().contains("LOADING"), "{error}");
    let request = ReserveRequest::new(fingerprint(), Terms::default());
    let error = hasty.reserve_or_fetch(&bench.slot(), Token::fresh(), &request).await.unwrap_err();
    // Its last try may be without an answer still.
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("LOADING"), "{error}");
    // One that is open, and one that is opened.
    let before = said(&server);
    let (url, asked, builder) = (server.url(0), slot.clone(), bench.builder.clone());
    let open = tokio::spawn(async move { store.lookup(&asked).await });
    let opened = tokio::spawn(async move { builder.connect(&url).await.unwrap().lookup(&slot).await });
    let more = || match said(&server) {
        many if many > before + 4 => Ok(()),
        few => Err(format!("{few} after {before}")),
    };
    wait_until("both to be told that it loads", SOON, more).unwrap();
    assert!(!open.is_finished() && !opened.is_finished());
    end(&server);
    for asked in [open, opened] {
        assert!(asked.await.unwrap().unwrap().is_some(), "it was kept");
    }
}
