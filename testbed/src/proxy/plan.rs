//! What is to happen to the bytes: all rules of a proxy and all its connections, in one place under one lock.
//!
//! Nothing here reads or writes: the threads of a connection ask [`Plan::step`] what to do next, so that a
//! rule's order in time is the order of the lock.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::stream::{Ending, Stream};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server: requests.
    ToServer,
    /// From the server to the client: answers.
    ToClient,
}

use Direction::{ToClient, ToServer};

impl Direction {
    /// Where it is in a pair.
    pub(super) fn at(self) -> usize {
        match self {
            ToServer => 0,
            ToClient => 1,
        }
    }
}

/// A cut when `left` more bytes have passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) direction: Direction,
    pub(super) left: u64,
    pub(super) ending: Ending,
}

/// The rules, what was counted, and the connections. [`Default`] lets everything pass.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) delay: [Duration; 2],
    /// Bytes a second, over all connections; none is as fast as can be.
    pub(super) rate: [Option<NonZeroU64>; 2],
    /// When what passed at that rate has passed.
    pub(super) clear_at: [Option<Instant>; 2],
    pub(super) hold: [bool; 2],
    /// How much passes before `hold`, counted from when it was set, over all connections.
    pub(super) hold_after: [Option<u64>; 2],
    /// Counted from when it was set, over all connections; it happens once.
    pub(super) cut: Option<Cut>,
    /// Counted from each connection's begin.
    pub(super) cut_each: Option<Cut>,
    pub(super) refusing: bool,
    pub(super) closed: bool,
    /// Whether somebody listens: it follows `refusing` a moment later.
    pub(super) listening: bool,
    /// Why nobody can.
    pub(super) failed: Option<String>,
    pub(super) seen: [u64; 2],
    /// How often a client spoke first, or after its server had.
    pub(super) turns: u64,
    pub(super) accepted: u64,
    pub(super) cuts: u64,
    pub(super) links: BTreeMap<u64, Link>,
}

/// One client's connection, and the one to the server that belongs to it.
#[derive(Debug)]
pub(super) struct Link {
    /// Where the bytes of each direction go: the server first. None once it was ended.
    pub(super) ends: [Option<Arc<Stream>>; 2],
    pub(super) lanes: [Lane; 2],
    /// Who spoke last.
    pub(super) last: Option<Direction>,
    pub(super) stranded: Stranded,
    /// It is being cut: nothing passes any more, so that no answer overtakes the cut.
    pub(super) cut: bool,
}

/// Whether a link's requests are held for themselves, whatever becomes of the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stranded {
    #[default]
    No,
    /// The client has gone, its requests haven't arrived.
    Waiting,
    /// They may, whatever is held besides.
    Delivered,
}

/// One direction of a link.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) queue: VecDeque<(Instant, Vec<u8>)>,
    /// Nothing more comes into the queue.
    pub(super) finished: bool,
    /// What was taken from the queue is being written.
    pub(super) writing: bool,
    /// Since the connection's begin.
    pub(super) forwarded: u64,
    /// Its end was passed on too.
    pub(super) over: bool,
}

/// What the thread that writes is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until something changes or this moment comes.
    Wait(Option<Instant>),
    /// Write this, and then perhaps cut the connection.
    Write(Vec<u8>, Option<Ending>),
    /// Say that nothing more comes.
    Finish,
    /// The connection has been ended.
    Gone,
}

impl Plan {
    /// What to do next with a link's bytes of this direction.
    pub(super) fn step(&mut self, link: u64, direction: Direction, now: Instant) -> Step {
        let link = self.links.get_mut(&link).filter(|link| !link.cut);
        let Some(link) = link else { return Step::Gone };
        let held = match link.stranded {
            Stranded::No => self.hold[direction.at()],
            Stranded::Waiting => direction == ToServer,
            Stranded::Delivered => false,
        };
        if held {
            return Step::Wait(None);
        }
        let lane = &mut link.lanes[direction.at()];
        let Some((arrived, bytes)) = lane.queue.front_mut() else {
            return if lane.finished { Step::Finish } else { Step::Wait(None) };
        };
        let due = *arrived + self.delay[direction.at()];
        let rate = self.rate[direction.at()];
        let due = due.max(self.clear_at[direction.at()].filter(|_| rate.is_some()).unwrap_or(due));
        if due > now {
            return Step::Wait(Some(due));
        }
        let room = self.hold_after[direction.at()].filter(|_| link.stranded == Stranded::No);
        if room == Some(0) {
            self.hold_after[direction.at()] = None;
            self.hold[direction.at()] = true;
            return Step::Wait(None);
        }
        let len = (bytes.len() as u64).min(room.unwrap_or(u64::MAX));
        let once = self.cut.filter(|cut| cut.direction == direction && cut.left <= len);
        let each = self.cut_each.filter(|cut| cut.direction == direction);
        let each = each.map(|cut| Cut { left: cut.left.saturating_sub(lane.forwarded), ..cut });
        let each = each.filter(|cut| cut.left <= len);
        let cut = [once, each].into_iter().flatten().min_by_key(|cut| cut.left);
        // No more than `len`, which is no more than a length.
        let passes = cut.map_or(len, |cut| cut.left) as usize;
        let rest = bytes.split_off(passes);
        let bytes = std::mem::replace(bytes, rest);
        if lane.queue.front().is_some_and(|(_, rest)| rest.is_empty()) {
            lane.queue.pop_front();
        }
        if let Some(room) = room {
            self.hold_after[direction.at()] = Some(room - passes as u64);
        }
        if let Some(rate) = rate {
            let takes = Duration::from_secs(passes as u64) / u32::try_from(rate.get()).unwrap_or(u32::MAX);
            self.clear_at[direction.at()] = Some(now + takes);
        }
        lane.forwarded += passes as u64;
        lane.writing = true;
        if cut.is_some() {
            link.cut = true;
            self.cuts += 1;
        }
        if once.is_some_and(|once| once.left == passes as u64) {
            self.cut = None;
        } else if let Some(cut) = self.cut.as_mut().filter(|cut| cut.direction == direction) {
            cut.left -= passes as u64;
        }
        Step::Write(bytes, cut.map(|cut| cut.ending))
    }

    /// Ends a link: its streams are gone when those who use them now have noticed.
    pub(super) fn end(&mut self, link: u64, ending: Ending) {
        for end in self.links.remove(&link).into_iter().flat_map(|link| link.ends).flatten() {
            end.end(ending);
        }
    }

    /// Ends all links.
    pub(super) fn end_all(&mut self, ending: Ending) {
        let links: Vec<u64> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.end(link, ending));
    }

    /// A direction's end was passed on; with both, nobody needs the link.
    pub(super) fn over(&mut self, link: u64, direction: Direction) {
        if let Some(at) = self.links.get_mut(&link) {
            at.lanes[direction.at()].over = true;
            if at.lanes.iter().all(|lane| lane.over) {
                self.links.remove(&link);
            }
        }
    }

    /// Ends the client's side where a request is held, and keeps the request; how many there are.
    pub(super) fn strand(&mut self) -> usize {
        let mut stranded = 0;
        for link in self.links.values_mut() {
            if link.stranded == Stranded::No && !link.lanes[ToServer.at()].queue.is_empty() {
                link.stranded = Stranded::Waiting;
                if let Some(client) = link.ends[ToClient.at()].take() {
                    client.end(Ending::Reset);
                }
                stranded += 1;
            }
        }
        stranded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan with the link 0, which has these bytes to the client.
    fn with(pieces: &[&str]) -> Plan {
        let (lanes, stranded) = Default::default();
        let mut link = Link { ends: [None, None], lanes, last: None, stranded, cut: false };
        let pieces = pieces.iter().map(|piece| (Instant::now(), piece.as_bytes().to_vec()));
        link.lanes[ToClient.at()].queue.extend(pieces);
        Plan { links: [(0, link)].into(), ..Plan::default() }
    }

    /// Takes steps until one isn't a write: what was written, in pieces, and the ending, if it came to one.
    fn written(plan: &mut Plan) -> (Vec<String>, Option<Ending>) {
        let mut all = Vec::new();
        while let Step::Write(bytes, ending) = plan.step(0, ToClient, Instant::now()) {
            all.push(String::from_utf8(bytes).unwrap());
            if ending.is_some() {
                assert_eq!(plan.step(0, ToServer, Instant::now()), Step::Gone);
                return (all, ending);
            }
        }
        (all, None)
    }

    fn cut(left: u64) -> Option<Cut> {
        Some(Cut { direction: ToClient, left, ending: Ending::Reset })
    }

    #[test]
    fn a_cut_comes_right_behind_its_byte_wherever_the_pieces_end() {
        let text = "abcde";
        for n in 0..=5 {
            for set in [|plan: &mut Plan, n| plan.cut = cut(n), |plan: &mut Plan, n| plan.cut_each = cut(n)] {
                let mut plan = with(&["ab", "c", "de"]);
                set(&mut plan, n);
                let (pieces, ending) = written(&mut plan);
                assert_eq!(pieces.concat(), text[..n as usize]);
                assert_eq!(ending, Some(Ending::Reset), "{n}");
                assert_eq!(plan.cuts, 1);
                assert!(plan.cut.is_none());
            }
        }
        let mut plan = with(&["abcde"]);
        plan.cut = cut(6);
        assert_eq!(written(&mut plan), (vec!["abcde".to_owned()], None));
        assert_eq!(plan.cut.unwrap().left, 1);
    }

    #[test]
    fn of_two_cuts_the_nearer_one_comes_and_the_other_goes_on_counting() {
        let mut plan = with(&["abcde"]);
        (plan.cut, plan.cut_each) = (cut(4), cut(1));
        assert_eq!(written(&mut plan), (vec!["a".to_owned()], Some(Ending::Reset)));
        assert_eq!(plan.cut.unwrap().left, 3);
    }

    #[test]
    fn a_cut_counts_its_own_direction_alone() {
        let mut plan = with(&["abc"]);
        plan.cut = Some(Cut { direction: ToServer, left: 0, ending: Ending::Reset });
        assert_eq!(written(&mut plan), (vec!["abc".to_owned()], None));
        assert_eq!(plan.cut.unwrap().left, 0);
    }

    #[test]
    fn a_hold_comes_right_behind_its_byte_wherever_the_pieces_end() {
        for n in 0..=5 {
            let mut plan = with(&["ab", "c", "de"]);
            plan.hold_after[ToClient.at()] = Some(n);
            let (before, _) = written(&mut plan);
            assert_eq!(before.concat(), "abcde"[..n as usize]);
            // Once it has all gone, there is nothing to hold until more comes.
            assert_eq!(plan.hold[ToClient.at()], n < 5, "{n}");
            plan.hold = [false; 2];
            let (after, _) = written(&mut plan);
            assert_eq!(after.concat(), "abcde"[n as usize..]);
        }
    }

    #[test]
    fn of_a_slow_direction_the_next_piece_is_due_when_the_last_has_passed() {
        let mut plan = with(&["abc", "d"]);
        plan.rate[ToClient.at()] = NonZeroU64::new(2);
        let now = plan.links[&0].lanes[1].queue[1].0;
        assert_eq!(plan.step(0, ToClient, now), Step::Write(b"abc".to_vec(), None));
        let due = now + Duration::from_millis(1_500);
        assert_eq!(plan.step(0, ToClient, now), Step::Wait(Some(due)));
        assert_eq!(plan.step(0, ToClient, due), Step::Write(b"d".to_vec(), None));
    }

    #[test]
    fn what_is_delayed_is_due_when_the_delay_has_passed_and_at_once_without_it() {
        let mut plan = with(&["abc"]);
        plan.delay[ToClient.at()] = Duration::from_secs(60);
        let arrived = plan.links[&0].lanes[1].queue[0].0;
        let due = arrived + Duration::from_secs(60);
        assert_eq!(plan.step(0, ToClient, arrived), Step::Wait(Some(due)));
        assert_eq!(plan.step(0, ToClient, due), Step::Write(b"abc".to_vec(), None));
        let mut plan = with(&["abc"]);
        plan.hold[ToClient.at()] = true;
        assert_eq!(plan.step(0, ToClient, due), Step::Wait(None));
        plan.hold[ToClient.at()] = false;
        assert_eq!(plan.step(0, ToClient, due), Step::Write(b"abc".to_vec(), None));
    }
}
