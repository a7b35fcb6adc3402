//! Short names for tokens, fences and moments, so that a story of calls can be read.

use std::time::Duration;

use oncekey_core::state::{Answer, Operation};
use oncekey_core::{
    Body, Checkpoint, CompleteOutcome, Completion, Entry, Fence, Fingerprint, Grant, IdempotencyRecord,
    Policy, ReleaseOutcome, RenewOutcome, ReservationOutcome, Resolution, StoredResponse, Timestamp, Token,
};

use super::call::Call;

/// Names tokens `a`, `b`, .. in the order that it met them, and fences `#1`, `#2`, .. by their size.
#[derive(Clone, Default, Debug)]
pub(crate) struct Names {
    tokens: Vec<Token>,
    meanings: Vec<Fingerprint>,
    fences: Vec<Fence>,
    /// The earliest moment that an answer showed: the others are told from there.
    epoch: Option<Timestamp>,
}

impl Names {
    /// Of the calls of a history.
    pub(super) fn of(calls: &[Call]) -> Self {
        let mut by_sending: Vec<&Call> = calls.iter().collect();
        by_sending.sort_by_key(|call| call.called.order);
        let mut names = Self::default();
        for call in by_sending {
            names.meet(&call.operation, call.answered.as_ref().map(|(_, answer)| answer));
        }
        names
    }

    pub(crate) fn meet(&mut self, operation: &Operation, answer: Option<&Answer>) {
        match operation {
            Operation::Reserve { token, request } => {
                self.token(*token);
                if !self.meanings.contains(&request.fingerprint) {
                    self.meanings.push(request.fingerprint);
                }
            }
            Operation::Renew { grant, .. }
            | Operation::Complete { grant, .. }
            | Operation::Release { grant } => self.grant(grant),
            Operation::Resolve { seen, .. } => self.fence(seen.fence),
            Operation::Purge { fence } => self.fence(*fence),
            Operation::Lookup => {}
        }
        match answer {
            Some(Answer::Reserve(Ok(ReservationOutcome::Reserved(grant)))) => self.grant(grant),
            Some(Answer::Reserve(Ok(ReservationOutcome::Replay(record))))
            | Some(Answer::Complete(CompleteOutcome::AlreadyStored(record)))
            | Some(Answer::Lookup(Some(Entry::Completed(record)))) => {
                self.fence(record.fence);
                self.moment(record.created_at);
            }
            Some(Answer::Reserve(Ok(ReservationOutcome::Indeterminate(lapsed)))) => self.fence(lapsed.fence),
            Some(Answer::Lookup(Some(Entry::Pending(entry)))) => {
                self.fence(entry.fence);
                self.moment(entry.created_at);
            }
            _ => {}
        }
    }

    fn token(&mut self, token: Token) {
        if !self.tokens.contains(&token) {
            self.tokens.push(token);
        }
    }

    fn fence(&mut self, fence: Fence) {
        if let Err(place) = self.fences.binary_search(&fence) {
            self.fences.insert(place, fence);
        }
    }

    fn grant(&mut self, grant: &Grant) {
        self.token(grant.token);
        self.fence(grant.fence);
    }

    fn moment(&mut self, at: Timestamp) {
        self.epoch = Some(self.epoch.map_or(at, |epoch| epoch.min(at)));
    }

    pub(super) fn of_token(&self, token: Token) -> String {
        let place = self.tokens.iter().position(|known| *known == token);
        match place.and_then(|place| u8::try_from(place).ok()) {
            Some(place) if place < 26 => char::from(b'a' + place).to_string(),
            Some(place) => format!("t{place}"),
            None => "?".to_owned(),
        }
    }

    pub(super) fn of_fence(&self, fence: Fence) -> String {
        match self.fences.binary_search(&fence) {
            Ok(place) => format!("#{}", place + 1),
            Err(_) => format!("#{fence}"),
        }
    }

    fn of_grant(&self, grant: &Grant) -> String {
        self.of_token(grant.token) + &self.of_fence(grant.fence)
    }

    fn of_moment(&self, at: Timestamp) -> String {
        match (at, self.epoch) {
            (Timestamp::NEVER, _) => "never".to_owned(),
            (Timestamp::ZERO, _) => "zero".to_owned(),
            (at, Some(epoch)) if at >= epoch => format!("+{}", seconds(at - epoch)),
            (at, epoch) => format!("-{}", seconds(epoch.unwrap_or_default() - at)),
        }
    }

    /// `complete(a#1, "paid")`.
    pub(crate) fn operation(&self, operation: &Operation) -> String {
        match operation {
            Operation::Reserve { token, request } => {
                let terms = request.terms;
                let (lease, retention) = (seconds(terms.lease()), seconds(terms.retention()));
                let policy = if terms.policy() == Policy::Refuse { ", refuse" } else { "" };
                let meaning = self.meanings.iter().position(|known| *known == request.fingerprint);
                let other = match meaning {
                    Some(0) | None => String::new(),
                    Some(place) => format!(", meaning {}", place + 1),
                };
                format!("reserve({}, lease {lease}, keep {retention}{policy}{other})", self.of_token(*token))
            }
            Operation::Renew { grant, renewal } => {
                let saved = renewal.checkpoint().map_or(String::new(), |c| format!(", {}", checkpoint(c)));
                match renewal.lease() {
                    Some(lease) => format!("renew({}, {}{saved})", self.of_grant(grant), seconds(lease)),
                    None => format!("hand over({}{saved})", self.of_grant(grant)),
                }
            }
            Operation::Complete { grant, completion } => {
                format!("complete({}, {})", self.of_grant(grant), completing(completion))
            }
            Operation::Release { grant } => format!("release({})", self.of_grant(grant)),
            Operation::Lookup => "lookup".to_owned(),
            Operation::Resolve { seen, resolution } => {
                let how = match resolution {
                    Resolution::Complete(completion) => completing(completion),
                    Resolution::Release => "release".to_owned(),
                };
                let (fence, end) = (self.of_fence(seen.fence), self.of_moment(seen.lease_expires_at));
                format!("resolve({fence} ended {end}, {how})")
            }
            Operation::Purge { fence } => format!("purge({})", self.of_fence(*fence)),
        }
    }

    /// `Reserved(a#1, attempt 1)`.
    pub(crate) fn answer(&self, answer: &Answer) -> String {
        use ReservationOutcome::{InFlight, Indeterminate, Replay, Reserved};
        match answer {
            Answer::Reserve(Ok(Reserved(grant))) => {
                let policy = if grant.policy == Policy::Refuse { ", refuse" } else { "" };
                let saved = saved(grant.checkpoint.as_ref());
                format!("Reserved({}, attempt {}{policy}{saved})", self.of_grant(grant), grant.attempt)
            }
            Answer::Reserve(Ok(Replay(record))) => format!("Replay({})", self.record(record)),
            Answer::Reserve(Ok(InFlight(busy))) => format!("InFlight({})", seconds(busy.retry_after)),
            Answer::Reserve(Ok(Indeterminate(lapsed))) => {
                let ago =
                    lapsed.lapsed_for.map_or("at once".to_owned(), |ago| format!("{} ago", seconds(ago)));
                let (fence, saved) = (self.of_fence(lapsed.fence), saved(lapsed.checkpoint.as_ref()));
                format!("Indeterminate({fence}, attempt {}, lapsed {ago}{saved})", lapsed.attempt)
            }
            Answer::Reserve(Ok(other)) => format!("{other:?}"),
            Answer::Reserve(Err(spent)) => format!("{spent:?}"),
            Answer::Complete(CompleteOutcome::AlreadyStored(record)) => {
                format!("AlreadyStored({})", self.record(record))
            }
            Answer::Complete(outcome) => format!("{outcome:?}"),
            Answer::Renew(RenewOutcome::Renewed(renewed)) => {
                let (left, sequence) = (seconds(renewed.lease_left), renewed.sequence);
                format!("Renewed({left} left, checkpoint {sequence})")
            }
            Answer::Renew(outcome) => format!("{outcome:?}"),
            Answer::Release(ReleaseOutcome::Released) => "Released".to_owned(),
            Answer::Release(outcome) => format!("{outcome:?}"),
            Answer::Lookup(None) => "none".to_owned(),
            Answer::Lookup(Some(Entry::Completed(record))) => format!("Completed({})", self.record(record)),
            Answer::Lookup(Some(Entry::Pending(entry))) => {
                let left =
                    entry.lease_left.map_or("lapsed".to_owned(), |left| format!("{} left", seconds(left)));
                let begun = if entry.begun { ", begun" } else { "" };
                let policy = if entry.policy == Policy::Refuse { ", refuse" } else { "" };
                format!(
                    "Pending({}, attempt {}, {left}{begun}{policy}{}, created {}, lease's end {}, expires {})",
                    self.of_fence(entry.fence),
                    entry.attempt,
                    saved(entry.checkpoint.as_ref()),
                    self.of_moment(entry.created_at),
                    self.of_moment(entry.lease_expires_at),
                    self.of_moment(entry.expires_at),
                )
            }
            Answer::Resolve(outcome) => format!("{outcome:?}"),
            Answer::Purge(deleted) => deleted.to_string(),
        }
    }

    fn record(&self, record: &IdempotencyRecord) -> String {
        format!(
            "{} of {}, attempt {}, created {}, completed {}, expires {}",
            response(&record.response),
            self.of_fence(record.fence),
            record.attempt,
            self.of_moment(record.created_at),
            self.of_moment(record.completed_at),
            self.of_moment(record.expires_at),
        )
    }
}

/// `20 s`, `1.5 s`; to the millisecond.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = (duration.as_secs_f64() * 1_000.0).round() / 1_000.0;
    format!("{seconds} s")
}

pub(crate) fn saved(checkpoint: Option<&Checkpoint>) -> String {
    checkpoint.map_or(String::new(), |c| format!(", {}", self::checkpoint(c)))
}

fn checkpoint(checkpoint: &Checkpoint) -> String {
    format!("checkpoint {} {:?}", checkpoint.sequence(), String::from_utf8_lossy(checkpoint.data()))
}

fn completing(completion: &Completion) -> String {
    let kept = completion.retention().map_or(String::new(), |keep| format!(", keep {}", seconds(keep)));
    response(completion.response()) + &kept
}

/// Its body where that is short, as the suite's own are.
pub(crate) fn response(response: &StoredResponse) -> String {
    match &response.body {
        Body::Kept(bytes) if bytes.len() <= 40 => format!("{:?}", String::from_utf8_lossy(bytes)),
        body => format!("{body:?}"),
    }
}
