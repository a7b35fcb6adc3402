//! Calls and answers of a [`Crowd`](crate::crowd::Crowd) as lines of text, from a process that is killed to the one
//! that kills it.

use std::fmt::Write as _;
use std::str::{FromStr, SplitWhitespace};
use std::time::Duration;

use oncekey_conformance::history::Moment;
use oncekey_core::state::{Answer, Operation, TokenSpent};
use oncekey_core::{
    Body, Checkpoint, CompleteOutcome, Completion, Entry, Fence, Grant, IdempotencyRecord, InFlight, Loss,
    PendingEntry, Policy, ReleaseOutcome, RenewOutcome, Renewed, ReservationOutcome, StoredResponse,
    Timestamp, Token,
};

use crate::deed::{checkpoint, complete_with, fingerprint, hand_over, release, renew, reserve, response};

/// The words of a line, to be read one after another. Whatever doesn't fit is a fault of the test's.
#[derive(Debug)]
pub(crate) struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    /// None where the line isn't whole, or isn't one of ours.
    pub(crate) fn of(line: &'a str) -> Option<Self> {
        // The first one stands behind the test's name.
        let (_, words) = line.split_once("broken: ")?;
        words.strip_suffix(" end").map(|words| Self(words.split_whitespace()))
    }

    pub(crate) fn word(&mut self) -> &'a str {
        self.0.next().expect("a word")
    }

    pub(crate) fn number<N: FromStr>(&mut self) -> N {
        self.word().parse().ok().expect("a number")
    }

    pub(crate) fn moment(&mut self) -> Moment {
        Moment { order: self.number(), time: self.duration() }
    }

    fn duration(&mut self) -> Duration {
        Duration::from_micros(self.number())
    }

    fn timestamp(&mut self) -> Timestamp {
        Timestamp::from_micros(self.number())
    }

    fn token(&mut self) -> Token {
        Token::from_bytes(u128::from_str_radix(self.word(), 16).unwrap().to_be_bytes())
    }

    fn saved(&mut self) -> Option<Checkpoint> {
        let sequence = self.number();
        (sequence > 0).then(|| checkpoint(sequence))
    }

    fn grant(&mut self) -> Grant {
        let (token, fence, attempt) = (self.token(), Fence::new(self.number()), self.number());
        Grant::new(token, fence, attempt, Policy::TakeOver, self.saved())
    }

    fn record(&mut self) -> IdempotencyRecord {
        let (fence, attempt, body) = (Fence::new(self.number()), self.number(), response(self.word()));
        let (created, completed, expires) = (self.timestamp(), self.timestamp(), self.timestamp());
        IdempotencyRecord::new(fingerprint(), fence, attempt, body, created, completed, expires)
    }

    fn loss(&mut self) -> Loss {
        match self.word() {
            "gone" => Loss::Gone,
            _ => Loss::TakenOver,
        }
    }

    pub(crate) fn operation(&mut self) -> Operation {
        match self.word() {
            "reserve" => reserve(self.token()),
            "renew" => renew(&self.grant(), self.number()),
            "hand_over" => hand_over(&self.grant(), self.number()),
            "complete" => complete_with(&self.grant(), self.word()),
            "release" => release(&self.grant()),
            "lookup" => Operation::Lookup,
            other => panic!("no operation: {other}"),
        }
    }

    pub(crate) fn answer(&mut self) -> Answer {
        use ReservationOutcome::{InFlight as Busy, Replay, Reserved};
        match self.word() {
            "reserved" => Answer::Reserve(Ok(Reserved(self.grant()))),
            "replay" => Answer::Reserve(Ok(Replay(self.record()))),
            "in_flight" => Answer::Reserve(Ok(Busy(InFlight::new(self.duration())))),
            "spent" => Answer::Reserve(Err(TokenSpent)),
            "renewed" => Answer::Renew(RenewOutcome::Renewed(Renewed::new(self.duration(), self.number()))),
            "renew_stored" => Answer::Renew(RenewOutcome::AlreadyStored),
            "renew_lost" => Answer::Renew(RenewOutcome::Lost(self.loss())),
            "stored" => Answer::Complete(CompleteOutcome::Stored),
            "already" => Answer::Complete(CompleteOutcome::AlreadyStored(self.record())),
            "complete_lost" => Answer::Complete(CompleteOutcome::Lost(self.loss())),
            "released" => Answer::Release(ReleaseOutcome::Released),
            "release_stored" => Answer::Release(ReleaseOutcome::AlreadyStored),
            "release_lost" => Answer::Release(ReleaseOutcome::Lost(self.loss())),
            "nothing" => Answer::Lookup(None),
            "completed" => Answer::Lookup(Some(Entry::Completed(self.record()))),
            "pending" => Answer::Lookup(Some(Entry::Pending(self.entry()))),
            other => panic!("no answer: {other}"),
        }
    }

    fn entry(&mut self) -> PendingEntry {
        let (fence, attempt, begun) = (Fence::new(self.number()), self.number(), self.number());
        let (saved, created) = (self.saved(), self.timestamp());
        let (lease, expires, now) = (self.timestamp(), self.timestamp(), self.timestamp());
        PendingEntry::new(
            fingerprint(),
            fence,
            attempt,
            Policy::TakeOver,
            begun,
            saved,
            created,
            lease,
            expires,
            now,
        )
    }
}

/// Such a line, from its first words.
pub(crate) fn line(words: &str) -> String {
    format!("broken: {words} end\n")
}

pub(crate) fn moment(at: Moment) -> String {
    format!("{} {}", at.order, at.time.as_micros())
}

fn token(token: Token) -> String {
    format!("{:032x}", u128::from_be_bytes(*token.as_bytes()))
}

fn sequence(saved: Option<&Checkpoint>) -> u64 {
    saved.map_or(0, Checkpoint::sequence)
}

fn grant(grant: &Grant) -> String {
    let Grant { fence, attempt, .. } = grant;
    format!("{} {} {attempt} {}", token(grant.token), fence.get(), sequence(grant.checkpoint.as_ref()))
}

fn body(response: &StoredResponse) -> &str {
    match &response.body {
        Body::Kept(bytes) => std::str::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn record(record: &IdempotencyRecord) -> String {
    let mut words = format!("{} {} {}", record.fence.get(), record.attempt, body(&record.response));
    for at in [record.created_at, record.completed_at, record.expires_at] {
        let _ = write!(words, " {}", at.as_micros());
    }
    words
}

fn loss(loss: Loss) -> &'static str {
    match loss {
        Loss::Gone => "gone",
        Loss::TakenOver => "taken_over",
    }
}

pub(crate) fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Reserve { token: own, .. } => format!("reserve {}", token(*own)),
        Operation::Renew { grant: own, renewal } => {
            let name = if renewal.lease().is_some() { "renew" } else { "hand_over" };
            format!("{name} {} {}", grant(own), sequence(renewal.checkpoint()))
        }
        Operation::Complete { grant: own, completion } => {
            format!("complete {} {}", grant(own), body(Completion::response(completion)))
        }
        Operation::Release { grant: own } => format!("release {}", grant(own)),
        Operation::Lookup => "lookup".to_owned(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn answer(answer: &Answer) -> String {
    use ReservationOutcome::{InFlight as Busy, Replay, Reserved};
    match answer {
        Answer::Reserve(Ok(Reserved(own))) => format!("reserved {}", grant(own)),
        Answer::Reserve(Ok(Replay(done))) => format!("replay {}", record(done)),
        Answer::Reserve(Ok(Busy(busy))) => format!("in_flight {}", busy.retry_after.as_micros()),
        Answer::Reserve(Err(TokenSpent)) => "spent".to_owned(),
        Answer::Renew(RenewOutcome::Renewed(renewed)) => {
            format!("renewed {} {}", renewed.lease_left.as_micros(), renewed.sequence)
        }
        Answer::Renew(RenewOutcome::AlreadyStored) => "renew_stored".to_owned(),
        Answer::Renew(RenewOutcome::Lost(why)) => format!("renew_lost {}", loss(*why)),
        Answer::Complete(CompleteOutcome::Stored) => "stored".to_owned(),
        Answer::Complete(CompleteOutcome::AlreadyStored(done)) => format!("already {}", record(done)),
        Answer::Complete(CompleteOutcome::Lost(why)) => format!("complete_lost {}", loss(*why)),
        Answer::Release(ReleaseOutcome::Released) => "released".to_owned(),
        Answer::Release(ReleaseOutcome::AlreadyStored) => "release_stored".to_owned(),
        Answer::Release(ReleaseOutcome::Lost(why)) => format!("release_lost {}", loss(*why)),
        Answer::Lookup(None) => "nothing".to_owned(),
        Answer::Lookup(Some(Entry::Completed(done))) => format!("completed {}", record(done)),
        Answer::Lookup(Some(Entry::Pending(entry))) => format!("pending {}", pending(entry)),
        other => panic!("{other:?}"),
    }
}

fn pending(entry: &PendingEntry) -> String {
    let mut words = format!(
        "{} {} {} {}",
        entry.fence.get(),
        entry.attempt,
        entry.begun,
        sequence(entry.checkpoint.as_ref())
    );
    // When it was looked at tells what is left.
    let end = entry.lease_expires_at;
    let now = entry
        .lease_left
        .map_or(end.as_micros(), |left| end.as_micros() - u64::try_from(left.as_micros()).unwrap());
    for at in [entry.created_at.as_micros(), end.as_micros(), entry.expires_at.as_micros(), now] {
        let _ = write!(words, " {at}");
    }
    words
}
