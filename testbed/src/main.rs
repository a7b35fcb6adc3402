//! A throwaway server at hand: `cargo run -p oncekey-testbed -- postgres` prints its URL and its process, and
//! the server is there until the standard input ends or the program dies.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program whose output is its purpose")]

use std::env;
use std::io;
use std::process::ExitCode;

use oncekey_testbed::pgbouncer::{Bouncer, PoolMode};
use oncekey_testbed::{Error, postgres, redis};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    match env::args().nth(1).as_deref() {
        Some("postgres") => {
            let server = postgres::Server::builder().tcp().start()?;
            serve(&server.url("postgres"), server.pid());
        }
        Some("redis") => {
            let server = redis::Server::builder().tcp().start()?;
            serve(&server.url(0), server.pid());
        }
        Some("redis-sentinel") => {
            let watched = redis::Watched::start()?;
            serve(&watched.url(), watched.master()?.pid());
        }
        Some("redis-cluster") => {
            let cluster = redis::Cluster::start()?;
            serve(&cluster.url(), cluster.servers()[0].pid());
        }
        Some("pgbouncer") => {
            let server = postgres::Server::start()?;
            let bouncer = Bouncer::before(&server, PoolMode::Transaction).tcp().start()?;
            serve(&bouncer.url("postgres"), bouncer.pid());
        }
        _ => println!("which server? postgres, redis, redis-sentinel, redis-cluster, pgbouncer"),
    }
    Ok(())
}

/// Says where the server is, and keeps it until the input ends.
fn serve(url: &str, pid: u32) {
    println!("{url}\n{pid}");
    // Nothing is expected on it.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
}
