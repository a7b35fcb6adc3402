//! Many processes at once.

use crate::kit::{Ended, Place, Running, open_gate, until};

const MANY: usize = 64;

#[test]
fn of_64_at_once_one_runs_and_all_print_its_output() {
    one_runs(&Place::new(), MANY);
}

/// Of so many calls at once.
pub(crate) fn one_runs(place: &Place, many: usize) {
    let call = || place.exec("k").with(["--wait", "30s"]).sh("echo line >> log; date +%N").start();
    let running: Vec<Running> = (0..many).map(|_| call()).collect();
    let ended: Vec<Ended> = running.into_iter().map(Running::end).collect();
    assert_eq!(place.lines("log"), ["line"]);
    assert_eq!(ended[0].out.len(), 10, "{:?}", ended[0]);
    for one in &ended {
        one.printed(ended[0].out());
    }
}

#[test]
fn of_64_at_once_who_does_not_wait_hears_in_flight() {
    let place = Place::new();
    let gate = place.fifo("gate");
    let call = || place.exec("k").sh("echo line >> log; cat gate").start();
    let mut running: Vec<Running> = (0..MANY).map(|_| call()).collect();
    // The command stands at the gate until all others have ended.
    let mut ended = Vec::new();
    until("all but one have ended", || {
        for mut one in std::mem::take(&mut running) {
            if one.child().try_wait().unwrap().is_some() { ended.push(one.end()) } else { running.push(one) }
        }
        if running.len() == 1 { Ok(()) } else { Err(running.len()) }
    });
    for one in &ended {
        one.refused(75, "in flight: somebody runs this key now");
    }
    open_gate(&gate);
    running.pop().unwrap().end().printed("go\n");
    assert_eq!(place.lines("log"), ["line"]);
}
