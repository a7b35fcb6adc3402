//! Several hosts that share a server, and nothing else: a job of their cron runs once.
//!
//! A host is played by namespaces of the kernel: its own network, without a way to any other, its own name and
//! its own process numbers, which are the other's too. The server's socket is a file, which is reached from
//! every network. Killed, a host takes all its processes along.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use oncekey_testbed::postgres::Server;
use oncekey_testbed::proxy::Proxy;
use rustix::process::{Signal, kill_process_group};

use crate::kit::{Call, Ended, Place, Running, open_gate, pid};

/// In the namespaces. Stands at the barrier, and then does as told. It stays there, as cron does.
const CRON: &str = r#"
if [ -n "$NAMESPACES" ]; then
    hostname "$ONHOST" && [ "$(uname -n)" = "$ONHOST" ] && [ $$ = 1 ] || exit 99
fi
exec 3< "$1"
echo ready > "$2"
cat <&3 > /dev/null
exec 3<&-
shift 2
"$@"
exit $?
"#;

/// How `unshare` makes the namespaces here; none where the kernel lets nobody: a container that may not have
/// any. Hosts are then process groups, with homes of their own all the same.
#[allow(clippy::print_stderr, reason = "what the test is worth there is to be seen")]
fn namespaces() -> &'static [&'static str] {
    const ROOTS: [&str; 4] = ["--net", "--uts", "--pid", "--kill-child"];
    const ANYBODYS: [&str; 6] = ["--user", "--map-root-user", "--net", "--uts", "--pid", "--kill-child"];
    static FOUND: OnceLock<&[&str]> = OnceLock::new();
    FOUND.get_or_init(|| {
        let works = |flags: &[&str]| {
            let tried = Command::new("unshare").args(flags).args(["hostname", "a-host"]).output();
            match tried {
                Ok(output) => output.status.success(),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    panic!(
                        "`unshare` is not installed: install it with `apt-get install util-linux hostname`"
                    )
                }
                Err(error) => panic!("unshare: {error}"),
            }
        };
        let found = [&ROOTS[..], &ANYBODYS[..]].into_iter().find(|flags| works(flags));
        found.unwrap_or_else(|| {
            eprintln!("no namespaces may be made here: hosts have the same network and name");
            &[]
        })
    })
}

/// A host with a home, a working directory and a temporary folder of its own.
struct Host {
    name: &'static str,
    place: Place,
}

impl Host {
    fn new(name: &'static str, store: &str) -> Self {
        Self { name, place: Place::on(store) }
    }

    /// Its timer, which stands at the barrier and then makes the call.
    fn cron(&self, barrier: &Barrier, call: &Call) -> Running {
        let mut host = Command::new("sh");
        if !namespaces().is_empty() {
            host = Command::new("unshare");
            host.args(namespaces()).arg("sh");
            host.env("NAMESPACES", "yes");
        }
        let ready = self.place.path("ready");
        host.args(["-c", CRON, "cron"]).arg(&barrier.fifo).arg(&ready);
        host.arg(call.0.get_program()).args(call.0.get_args());
        for (variable, value) in call.0.get_envs() {
            match value {
                Some(value) => host.env(variable, value),
                None => host.env_remove(variable),
            };
        }
        host.env("ONHOST", self.name).current_dir(self.place.path("")).process_group(0);
        host.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = Call(host).start();
        self.place.line_in("ready");
        std::fs::remove_file(ready).unwrap();
        running
    }
}

/// Ends everything that runs on a host, as a power cut does.
fn cut_power(host: &mut Running) {
    kill_process_group(pid(host.child().id()), Signal::KILL).unwrap();
}

/// Whoever stands at it goes on in the moment in which all others do.
struct Barrier {
    fifo: PathBuf,
    /// Open for writing: its readers wait for the end.
    held: File,
}

impl Barrier {
    fn new(place: &Place, name: &str) -> Self {
        let fifo = place.fifo(name);
        let held = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        Self { fifo, held }
    }

    fn open(self) {
        drop(self.held);
    }
}

#[test]
fn a_job_that_two_hosts_cron_fires_at_once_runs_once() {
    let server = Server::start().unwrap();
    let url = server.url("postgres");
    let hosts = [Host::new("host-a", &url), Host::new("host-b", &url)];
    // The world that the job changes.
    let world = Place::on(&url);
    let job = format!("echo $ONHOST >> {}; date +%N", world.path("ledger").display());
    let nights: Vec<String> = (1..=10).map(|night| format!("nightly-{night}")).collect();
    for (done, night) in nights.iter().enumerate() {
        let barrier = Barrier::new(&world, night);
        let timers = hosts
            .each_ref()
            .map(|host| host.cron(&barrier, &host.place.exec(night).with(["--wait", "30s"]).sh(&job)));
        assert_eq!(world.lines("ledger").len(), done, "nobody runs before the barrier opens");
        barrier.open();
        let [a, b] = timers.map(Running::end);
        a.printed(b.out());
        b.printed(a.out());
        assert_eq!(a.out.len(), 10, "{a:?}");
    }
    let ledger = world.lines("ledger");
    assert_eq!(ledger.len(), nights.len(), "{ledger:?}");
    assert!(ledger.iter().all(|host| ["host-a", "host-b"].contains(&host.as_str())), "{ledger:?}");
}

#[test]
fn when_the_host_that_runs_the_job_loses_its_power_the_other_takes_over() {
    let server = Server::start().unwrap();
    let url = server.url("postgres");
    let hosts = [Host::new("host-a", &url), Host::new("host-b", &url)];
    let world = Place::on(&url);
    let gate = world.fifo("gate");
    let job = format!(
        "echo $ONCEKEY_ATTEMPT $ONHOST >> {}; test $ONCEKEY_ATTEMPT != 1 || cat {}; date +%N",
        world.path("ledger").display(),
        gate.display(),
    );
    let call = |host: &Host| host.place.exec("nightly").with(["--wait", "60s", "--lease", "1s"]).sh(&job);
    let barrier = Barrier::new(&world, "night");
    let [mut a, mut b] = hosts.each_ref().map(|host| host.cron(&barrier, &call(host)));
    barrier.open();
    let first = world.line_in("ledger");
    let (holder, other, heir) = match &*first {
        "1 host-a" => (&mut a, b, "2 host-b"),
        "1 host-b" => (&mut b, a, "2 host-a"),
        line => panic!("the ledger begins with {line}"),
    };
    cut_power(holder);
    let taken = other.end();
    taken.printed(taken.out());
    assert_eq!(taken.out.len(), 10, "{taken:?}");
    assert_eq!(world.lines("ledger"), [&*first, heir]);
    // It is up again, and its cron makes up for what it missed.
    for host in &hosts {
        let barrier = Barrier::new(&world, host.name);
        let again = host.cron(&barrier, &call(host));
        barrier.open();
        again.end().printed(taken.out());
    }
    assert_eq!(world.lines("ledger").len(), 2);
}

#[test]
fn a_host_that_was_cut_off_hears_that_another_has_done_its_job() {
    let server = Server::start().unwrap();
    let line = Proxy::before(server.socket()).unwrap();
    let (far, near) =
        (Place::on(server.url_by(line.address(), "postgres")), Place::on(server.url("postgres")));
    let world = Place::new();
    let gate = world.fifo("gate");
    let job = format!(
        "echo $ONCEKEY_ATTEMPT >> {}; test $ONCEKEY_ATTEMPT != 1 || cat {}; echo $ONCEKEY_ATTEMPT",
        world.path("ledger").display(),
        gate.display(),
    );
    let cut_off = far.exec("nightly").with(["--lease", "1s"]).sh(&job).start();
    world.line_in("ledger");
    line.refuse().unwrap();
    line.reset();
    near.exec("nightly").with(["--wait", "30s"]).sh(&job).run().printed("2\n");
    line.pass().unwrap();
    open_gate(&gate);
    let cut_off: Ended = cut_off.end();
    assert_eq!((cut_off.code, cut_off.out()), (Some(81), "go\n1\n"), "{cut_off:?}");
    assert!(cut_off.err().contains("later calls replay that"), "{cut_off:?}");
    assert_eq!(world.lines("ledger"), ["1", "2"]);
    // Whichever way is taken to the store.
    far.exec("nightly").sh(&job).run().printed("2\n");
}
