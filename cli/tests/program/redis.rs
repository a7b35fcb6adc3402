//! Records in Redis: what holds for a file holds there too, by each kind of URL.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oncekey_testbed::redis::{self, Cluster, Server, Watched};

use crate::kit::{Ended, Place};
use crate::postgres::with;
use crate::{death, races};

const MANY: usize = 32;

/// A prefix of its own on the server that tests share.
fn place() -> Place {
    let prefix = format!("oncekey_prefix=p{}", fastrand::u64(..));
    Place::on(with(redis::shared().unwrap().url(), &prefix))
}

fn conformance(place: &Place, options: &[&str]) -> Ended {
    Ended::of(place.program().arg("conformance").args(options).output().unwrap())
}

/// Both programs, there.
fn works_on(url: &str) {
    let place = Place::on(url);
    let call = || place.exec("k").sh("date +%N; echo line >> log; echo err >&2").run();
    let first = call();
    assert_eq!((first.code, first.err(), first.out.len()), (Some(0), "err\n", 10), "{first:?}");
    assert_eq!(call(), first);
    assert_eq!(place.lines("log"), ["line"]);
    place.exec("k").sh("another").run().refused(65, "another command");
    let ended = conformance(&place, &["--filter", "R1", "--filter", "Q2", "--filter", "O2"]);
    assert_eq!((ended.code, ended.err()), (Some(0), ""), "{}", ended.out());
    assert!(ended.out().contains(", 0 failed"), "{}", ended.out());
}

#[test]
fn a_server_by_tcp_and_by_its_socket() {
    let server = Server::builder().tcp().start().unwrap();
    let by_tcp = server.url_by(server.tcp_address().unwrap(), 2);
    works_on(&by_tcp);
    works_on(&with(&by_tcp, "protocol=resp3&oncekey_prefix=other"));
    works_on(&server.url(0));
    // One record each, and nothing of the suite's.
    let keys =
        |database| server.cli(["-n", database, "--scan"]).unwrap().lines().map(str::to_owned).collect();
    let (zero, two): (Vec<String>, Vec<String>) = (keys("0"), keys("2"));
    assert!(zero.len() == 1 && zero[0].starts_with("oncekey:"), "{zero:?}");
    assert!(two.len() == 2, "{two:?}");
}

/// Of a certificate that is signed by somebody whom the system trusts, here by its word alone.
fn signed() -> (tempfile::TempDir, [PathBuf; 3]) {
    let folder = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
    fs::write(&certificate, signed.cert.pem()).unwrap();
    fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    (folder, [certificate.clone(), key, certificate])
}

/// `records` says how many there are.
fn works_by_tls(url: &str, certificate: &Path, records: impl Fn() -> String) {
    let run = |words: &[&str], trusted: Option<&Path>| {
        let place = Place::on(url);
        let mut program = place.program();
        program.args(words);
        if let Some(trusted) = trusted {
            program.env("SSL_CERT_FILE", trusted);
        }
        Ended::of(program.output().unwrap())
    };
    let exec = ["exec", "--store", url, "--key", "k", "--", "echo", "ran"];
    run(&exec, Some(certificate)).printed("ran\n");
    run(&exec, Some(certificate)).printed("ran\n");
    // Who doesn't trust it doesn't talk to it.
    run(&exec, None).refused(69, "certificate isn't trusted");
    assert_eq!(records(), "1");
    let suite = run(&["conformance", "--store", url, "--filter", "R1"], Some(certificate));
    assert!(suite.code == Some(0) && suite.out().contains(", 0 failed"), "{}", suite.out());
}

#[test]
fn a_server_by_tls() {
    let (_folder, [certificate, key, by]) = signed();
    let server = Server::builder().tls(&certificate, &key, &by).start().unwrap();
    let url = format!("rediss://{}", server.tcp_address().unwrap());
    works_by_tls(&url, &certificate, || server.cli(["dbsize"]).unwrap());
}

#[test]
fn a_master_behind_sentinels_by_tls() {
    let (_folder, files) = signed();
    let watched = Watched::by_tls(&files).unwrap();
    let url = watched.url().replacen("redis+", "rediss+", 1);
    works_by_tls(&url, &files[0], || watched.master().unwrap().cli(["dbsize"]).unwrap());
}

#[test]
fn a_cluster_by_tls() {
    let (_folder, files) = signed();
    let cluster = Cluster::alone_by_tls(&files).unwrap();
    let url = cluster.url().replacen("redis+", "rediss+", 1);
    works_by_tls(&url, &files[0], || cluster.servers()[0].cli(["dbsize"]).unwrap());
}

#[test]
fn a_master_behind_sentinels() {
    works_on(&Watched::start().unwrap().url());
}

#[test]
fn a_cluster() {
    let cluster = Cluster::start().unwrap();
    works_on(&cluster.url());
    let left = cluster.servers().iter().flat_map(|server| {
        let keys = server.cli(["--scan"]).unwrap();
        keys.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let left: std::collections::BTreeSet<_> = left.collect();
    assert_eq!(left.len(), 1, "one record, on a master and its replica: {left:?}");
}

#[test]
fn of_32_at_once_one_runs_and_all_print_its_output() {
    races::one_runs(&place(), MANY);
}

#[test]
fn of_32_one_takes_over_from_the_killed_winner_as_attempt_2() {
    death::one_takes_over(&place(), MANY);
}

#[test]
fn of_32_none_takes_over_from_the_killed_winner_under_refuse() {
    death::none_takes_over(&place(), MANY);
}

#[test]
fn a_server_that_may_evict_is_refused_unless_it_is_accepted_in_words() {
    let server = Server::builder().setting("maxmemory-policy", "allkeys-lru").start().unwrap();
    let place = Place::on(server.url(0));
    place.exec("k").sh("echo ran").run().refused(69, "allkeys-lru");
    Place::on(with(&server.url(0), "oncekey_eviction=accepted"))
        .exec("k")
        .sh("echo ran")
        .run()
        .printed("ran\n");
}

/// The user has its prefix and INFO, and nothing else: no CONFIG, no other key or channel. Without INFO nobody knows
/// whether records are evicted.
#[test]
fn a_user_that_has_its_prefix_and_info_is_enough() {
    let server = Server::start().unwrap();
    server.cli("acl setuser app on >right ~oncekey* &oncekey* +@all -@dangerous".split(' ')).unwrap();
    let url = with(&server.url(0), "user=app&pass=right");
    Place::on(&url).exec("k").sh("echo ran").run().refused(69, "+info");
    works_on(&with(&url, "oncekey_prefix=oncekey-evicted&oncekey_eviction=accepted"));
    server.cli("acl setuser app +info".split(' ')).unwrap();
    works_on(&url);
}

#[test]
fn what_is_wrong_is_said_without_the_password() {
    let server = Server::start().unwrap();
    server.cli("acl setuser app on >right ~oncekey:* +@read".split(' ')).unwrap();
    for (url, words) in [
        (with(&server.url(0), "user=app&pass=secret"), "the password is another"),
        (with(&server.url(0), "user=app&pass=right"), "NOPERM"),
        ("redis://u:secret@127.0.0.1:1".to_owned(), "can't be reached"),
    ] {
        let ended = Place::on(&url).exec("k").sh("echo ran").run();
        ended.refused(69, words);
        assert!(!ended.err().contains("secret"), "{}", ended.err());
    }
}
