//! The threads of one connection: for each direction one that reads, always, and one that writes when the
//! plan says so. What is read and not yet written is in the plan.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::plan::Direction::{self, ToClient, ToServer};
use super::plan::{Link, Step};
use super::shared::Shared;
use super::stream::{Ending, Stream, Target};

/// What is read at once, at most.
const PIECE: usize = 64 * 1024;
/// So many pieces may wait to be written before reading pauses.
const PIECES: usize = 256;

/// Joins `client` with a new connection to `target`, in threads of their own.
pub(super) fn open(shared: &Arc<Shared>, client: TcpStream, target: &Target) -> io::Result<()> {
    let client = Arc::new(Stream::tcp(client)?);
    let id = shared.change(|plan| {
        plan.accepted += 1;
        let id = plan.accepted;
        let ends = [None, Some(Arc::clone(&client))];
        let (lanes, stranded) = Default::default();
        plan.links.insert(id, Link { ends, lanes, last: None, stranded, cut: false });
        id
    });
    let (shared, target) = (Arc::clone(shared), target.clone());
    // The server may take its time, and the next client need not wait for that.
    spawn(move || {
        let joined = Stream::connect(&target).and_then(|server| join(&shared, id, client, Arc::new(server)));
        if joined.is_err() {
            shared.change(|plan| plan.end(id, Ending::Reset));
        }
    })
}

fn join(shared: &Arc<Shared>, id: u64, client: Arc<Stream>, server: Arc<Stream>) -> io::Result<()> {
    shared.change(|plan| {
        if let Some(link) = plan.links.get_mut(&id) {
            link.ends[ToServer.at()] = Some(Arc::clone(&server));
        }
    });
    for (direction, source) in [(ToServer, client), (ToClient, server)] {
        let reads = Arc::clone(shared);
        spawn(move || read_all(&reads, id, direction, &source))?;
        let writes = Arc::clone(shared);
        spawn(move || write_all(&writes, id, direction))?;
    }
    Ok(())
}

fn spawn(body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("testbed-proxy".to_owned()).stack_size(256 * 1024).spawn(body).map(drop)
}

/// Reads until there is no more, whatever the plan is: what is held is out of the client's hands.
fn read_all(shared: &Shared, id: u64, direction: Direction, source: &Stream) {
    let mut buffer = vec![0; PIECE];
    loop {
        let read = match source.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            // A reset is an end too: what came before it is on its way.
            read => read.unwrap_or(0),
        };
        let mut plan = shared.plan();
        while plan.links.get(&id).is_some_and(|link| link.lanes[direction.at()].queue.len() >= PIECES) {
            plan = shared.wait(plan, None);
        }
        drop(plan);
        let goes_on = shared.change(|plan| {
            let Some(link) = plan.links.get_mut(&id) else { return false };
            let lane = &mut link.lanes[direction.at()];
            if read == 0 {
                lane.finished = true;
                return false;
            }
            lane.queue.push_back((Instant::now(), buffer[..read].to_vec()));
            plan.seen[direction.at()] += read as u64;
            let before = link.last.replace(direction);
            plan.turns += u64::from(direction == ToServer && before != Some(ToServer));
            true
        });
        if !goes_on {
            return;
        }
    }
}

/// Does what the plan says, until the direction or the link is over.
fn write_all(shared: &Shared, id: u64, direction: Direction) {
    let at = direction.at();
    loop {
        let mut plan = shared.plan();
        let step = loop {
            match plan.step(id, direction, Instant::now()) {
                Step::Wait(until) => plan = shared.wait(plan, until),
                step => break step,
            }
        };
        let end = plan.links.get(&id).and_then(|link| link.ends[at].clone());
        drop(plan);
        match step {
            Step::Write(bytes, ending) => {
                let is_gone = || shared.plan().links.get(&id).is_none_or(|link| link.ends[at].is_none());
                // With nobody to write to, it is read all the same, as a network would take it.
                let written = end.map(|end| end.write(&bytes, is_gone));
                shared.change(|plan| {
                    if let Some(ending) = ending {
                        plan.end(id, ending);
                    } else if let Some(link) = plan.links.get_mut(&id) {
                        link.lanes[at].writing = false;
                        if matches!(written, Some(Err(_))) {
                            link.ends[at] = None;
                        }
                    }
                });
            }
            Step::Finish => {
                if let Some(end) = end {
                    end.finish();
                }
                shared.change(|plan| plan.over(id, direction));
                return;
            }
            Step::Gone => return,
            // The loop above waits.
            Step::Wait(_) => {}
        }
    }
}
