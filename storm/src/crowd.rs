//! [`Crowd`]: clients that do anything at all to a few slots, through whatever happens to their server.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use oncekey_conformance::history::Call;
use oncekey_core::state::{Answer, Operation};
use oncekey_core::{
    CompleteOutcome, Entry, Grant, IdempotencyAdmin, Principal, ReservationOutcome, Slot, Token,
};
use tokio::task::JoinSet;

use crate::deed::{complete_with, hand_over, release, renew_for, reserve_for};
use crate::ledger::{Client, Ledger, Tries};

/// Slots that are in use at a time: few, so that clients meet.
const SLOTS: usize = 3;

#[derive(Debug)]
pub struct Crowd {
    pub ledger: Ledger,
    lease: Duration,
    name: String,
    places: Mutex<Vec<Arc<Place>>>,
    next: AtomicU64,
    answers: AtomicU64,
    stop: AtomicBool,
}

/// Somebody of a crowd.
#[derive(Clone, Debug)]
pub struct Member {
    pub store: Arc<dyn IdempotencyAdmin>,
    /// The connections that it has made, where they are counted.
    pub connections: Option<Arc<AtomicU64>>,
}

impl Member {
    pub fn client(&self, number: usize) -> Client<'_> {
        let tries = self.connections.as_deref().map_or(Tries::InTrouble, Tries::Connections);
        Client { number, store: &*self.store, tries }
    }
}

impl<S: IdempotencyAdmin> From<S> for Member {
    fn from(store: S) -> Self {
        Self { store: Arc::new(store), connections: None }
    }
}

/// A slot and what its clients know of it.
#[derive(Debug)]
struct Place {
    slot: Slot,
    tokens: [Token; 3],
    grants: Mutex<Vec<Grant>>,
    calls: AtomicU64,
}

/// Calls for a slot, before another comes in its place: as many as the checker is quick with.
const CALLS: u64 = 24;

impl Crowd {
    /// On slots that begin with `name`.
    pub fn new(name: String, lease: Duration, ledger: Ledger) -> Arc<Self> {
        let (places, next, answers, stop) = Default::default();
        let crowd = Self { ledger, lease, name, places, next, answers, stop };
        crowd.places.lock().unwrap().extend((0..SLOTS).map(|_| crowd.fresh()));
        Arc::new(crowd)
    }

    fn fresh(&self) -> Arc<Place> {
        let number = self.next.fetch_add(1, SeqCst);
        let slot = Principal::new("crowd").unwrap().slot(format!("{}-{number}", self.name)).unwrap();
        Arc::new(Place {
            slot,
            tokens: std::array::from_fn(|_| Token::fresh()),
            grants: Mutex::default(),
            calls: AtomicU64::new(0),
        })
    }

    /// Answers that came so far.
    pub fn answers(&self) -> u64 {
        self.answers.load(SeqCst)
    }

    /// Lets each client finish the call that it makes.
    pub fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    /// All of `members` call, until [`Crowd::stop`].
    pub fn start(self: &Arc<Self>, members: &[Member], random: &mut Rng) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for (number, member) in members.iter().enumerate() {
            let (crowd, member, random) = (Arc::clone(self), member.clone(), random.fork());
            clients.spawn(async move { crowd.client(member.client(number), random).await });
        }
        clients
    }

    async fn client(&self, client: Client<'_>, mut random: Rng) {
        let mut done = 0;
        while !self.stop.load(SeqCst) {
            let at = random.usize(..SLOTS);
            let place = Arc::clone(&self.places()[at]);
            done += 1;
            let operation = place.draw(&mut random, self.lease, &format!("{}.{done}", client.number));
            if let Some(answer) = self.until_answered(client, &place.slot, &operation).await {
                self.answers.fetch_add(1, SeqCst);
                place.hear(&answer);
                // Little happens any more to what is completed.
                let enough = place.calls.fetch_add(1, SeqCst) >= CALLS;
                if enough || (is_done(&answer) && random.bool()) {
                    self.replace(at, &place);
                }
            }
        }
    }

    /// Makes the call until it is answered, as every caller has to; none at the end of it all.
    async fn until_answered(&self, client: Client<'_>, slot: &Slot, operation: &Operation) -> Option<Answer> {
        loop {
            match self.ledger.call(client, slot, operation).await {
                Ok(answer) => return Some(answer),
                Err(error) => assert!(error.is_retryable(), "a fault on the way may be retried: {error}"),
            }
            if self.stop.load(SeqCst) {
                return None;
            }
        }
    }

    fn places(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, at: usize, place: &Arc<Place>) {
        let fresh = self.fresh();
        let mut places = self.places();
        if Arc::ptr_eq(&places[at], place) {
            places[at] = fresh;
        }
    }
}

fn is_done(answer: &Answer) -> bool {
    match answer {
        Answer::Complete(outcome) => !matches!(outcome, CompleteOutcome::Lost(_)),
        Answer::Reserve(Ok(outcome)) => matches!(outcome, ReservationOutcome::Replay(_)),
        Answer::Lookup(entry) => matches!(entry, Some(Entry::Completed(_))),
        _ => false,
    }
}

impl Place {
    fn draw(&self, random: &mut Rng, lease: Duration, body: &str) -> Operation {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        // Mostly the latest grant, sometimes an old one; before there is any, somebody reserves.
        let latest = grants.len().saturating_sub(if random.u8(..3) == 0 { 3 } else { 1 });
        let grant = random.choice(&grants[latest..]);
        let sequence = random.u64(1..4);
        match (random.u8(..20), grant) {
            (0..2, _) => Operation::Lookup,
            (2..5, Some(grant)) => renew_for(2 * lease, grant, sequence),
            (5..8, Some(grant)) => hand_over(grant, sequence),
            (8..11, Some(grant)) => complete_with(grant, body),
            (11..13, Some(grant)) => release(grant),
            (13..15, _) => reserve_for(lease, Token::fresh()),
            _ => reserve_for(lease, self.tokens[random.usize(..self.tokens.len())]),
        }
    }

    fn hear(&self, answer: &Answer) {
        if let Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))) = answer {
            self.grants.lock().unwrap_or_else(PoisonError::into_inner).push(grant.clone());
        }
    }
}

/// What clients were told and may rely on.
#[derive(Default, Debug)]
pub struct Acknowledged {
    reserved: u64,
    stored: u64,
}

impl Acknowledged {
    /// Fails unless each answer that was Stored is what was found at last. What became of a Reserved is for the
    /// history to say: it may have been released since.
    pub fn count(&mut self, what: &str, slot: &Slot, calls: &[Call], found: &Answer) {
        for call in calls {
            match (&call.operation, call.answered.as_ref().map(|(_, answer)| answer)) {
                (_, Some(Answer::Reserve(Ok(ReservationOutcome::Reserved(_))))) => self.reserved += 1,
                (
                    Operation::Complete { grant, completion },
                    Some(Answer::Complete(CompleteOutcome::Stored)),
                ) => {
                    let is_there = matches!(found, Answer::Lookup(Some(Entry::Completed(record)))
                        if record.fence == grant.fence && record.response == *completion.response());
                    assert!(is_there, "{what}: {} was Stored, and is {found:?}", slot.key());
                    self.stored += 1;
                }
                _ => {}
            }
        }
    }
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Reserved and {} Stored acknowledged, none lost", self.reserved, self.stored)
    }
}
