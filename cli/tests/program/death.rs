//! Holders that die.

use rustix::process::{Signal, kill_process};

use crate::kit::{Ended, Place, Running, is_alive, open_gate, pid, until};

const MANY: usize = 64;
/// The first attempt writes down its own pid and that of its `oncekey`, and stands still.
const STAND_STILL: &str = "echo $ONCEKEY_ATTEMPT >> log
    test $ONCEKEY_ATTEMPT != 1 || { echo $PPID $$ > pids; cat gate; }
    date +%N";

/// The pids of the standing `oncekey` and its command.
fn pids(place: &Place) -> (u32, u32) {
    let line = place.line_in("pids");
    let (holder, command) = line.split_once(' ').unwrap();
    (holder.parse().unwrap(), command.parse().unwrap())
}

/// So many calls at once, one of which is killed with its command while it runs; the others.
fn survivors(place: &Place, many: usize, policy: &str) -> Vec<Ended> {
    place.fifo("gate");
    let call = || {
        let options = ["--wait", "60s", "--lease", "1s", "--on-lapse", policy];
        place.exec("k").with(options).sh(STAND_STILL).start()
    };
    let running: Vec<Running> = (0..many).map(|_| call()).collect();
    let (holder, command) = pids(place);
    kill_process(pid(holder), Signal::KILL).unwrap();
    // It may have died with its holder already.
    let _ = kill_process(pid(command), Signal::KILL);
    let ended: Vec<Ended> = running.into_iter().map(Running::end).collect();
    let (killed, others): (Vec<_>, Vec<_>) = ended.into_iter().partition(|one| one.signal.is_some());
    assert_eq!(killed.len(), 1, "{killed:?}");
    others
}

#[test]
fn of_64_one_takes_over_from_the_killed_winner_as_attempt_2() {
    one_takes_over(&Place::new(), MANY);
}

/// Of so many calls, from the one that is killed.
pub(crate) fn one_takes_over(place: &Place, many: usize) {
    let others = survivors(place, many, "takeover");
    assert_eq!(place.lines("log"), ["1", "2"]);
    assert_eq!(others[0].out.len(), 10, "{:?}", others[0]);
    for one in &others {
        one.printed(others[0].out());
    }
}

#[test]
fn of_64_none_takes_over_from_the_killed_winner_under_refuse() {
    none_takes_over(&Place::new(), MANY);
}

/// Of so many calls, from the one that is killed.
pub(crate) fn none_takes_over(place: &Place, many: usize) {
    for one in survivors(place, many, "refuse") {
        one.refused(80, "indeterminate: attempt 1 began and fell silent");
    }
    assert_eq!(place.lines("log"), ["1"]);
    // Later callers hear the same, whatever they ask for themselves.
    place.exec("k").sh(STAND_STILL).run().refused(80, "indeterminate");
}

/// The orphan of a killed holder would run beside whoever takes over.
#[cfg(target_os = "linux")]
#[test]
fn a_command_dies_with_its_killed_holder() {
    let place = Place::new();
    place.fifo("gate");
    // A builtin waits, not a child: that the command dies is seen, and nothing is left behind.
    let mut running = place.exec("k").sh("echo $PPID $$ > pids; read line < gate").start();
    let (holder, command) = pids(&place);
    assert_eq!(holder, running.child().id(), "the command is the holder's own child");
    running.signal(Signal::KILL);
    until("the command's death", || if is_alive(command) { Err(command) } else { Ok(()) });
}

#[test]
fn a_lease_is_renewed_while_the_command_runs() {
    let place = Place::new();
    let gate = place.fifo("gate");
    let script = "echo x >> log; cat gate";
    let first = place.exec("k").with(["--lease", "1500ms"]).sh(script).start();
    place.line_in("log");
    let granted = place.pending("k").lease_expires_at;
    until("a renewal", || {
        let now = place.pending("k").lease_expires_at;
        if now > granted { Ok(()) } else { Err(now) }
    });
    place.exec("k").sh(script).run().refused(75, "in flight");
    open_gate(&gate);
    first.end().printed("go\n");
    assert_eq!(place.lines("log"), ["x"]);
}

#[test]
fn a_holder_that_stood_still_hears_that_it_lost_its_lease() {
    let place = Place::new();
    let gate = place.fifo("gate");
    let script = "echo $ONCEKEY_ATTEMPT >> log; test $ONCEKEY_ATTEMPT = 2 || cat gate; echo $ONCEKEY_ATTEMPT";
    let mut first = place.exec("k").with(["--lease", "100ms"]).sh(script).start();
    place.line_in("log");
    first.signal(Signal::STOP);
    place.exec("k").with(["--wait", "30s"]).sh(script).run().printed("2\n");
    first.signal(Signal::CONT);
    open_gate(&gate);
    let first = first.end();
    assert_eq!((first.code, first.out()), (Some(81), "go\n1\n"), "{first:?}");
    assert!(first.err().lines().any(|line| line.contains("later calls replay that")), "{first:?}");
    place.exec("k").sh(script).run().printed("2\n");
    assert_eq!(place.lines("log"), ["1", "2"]);
}
