//! [`Deed`]: each kind of call, a slot where it has something to do, and what it answers there.

use std::time::Duration;

use oncekey_core::state::{Answer, Operation};
use oncekey_core::{
    Checkpoint, CompleteOutcome, Completion, Entry, Fence, Fingerprint, Grant, Policy, ReleaseOutcome,
    RenewOutcome, Renewal, ReservationOutcome, ReserveRequest, Resolution, ResolveOutcome, Slot,
    StoredResponse, Terms, Token,
};

use crate::ledger::Ledger;

pub const LEASE: Duration = Duration::from_secs(30);
pub const EXPIRED: Duration = Duration::from_secs(3);
const RETENTION: Duration = Duration::from_secs(30 * 86_400);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Reserve where nothing is.
    Fresh,
    /// Reserve what is completed.
    Replay,
    /// Reserve what somebody let lapse.
    TakeOver,
    /// Reserve with the holder's own token.
    Retry,
    /// Reserve over a row that has expired.
    Again,
    Complete,
    Renew,
    HandOver,
    Release,
    ResolveComplete,
    ResolveRelease,
    Purge,
    Lookup,
}

/// Where deeds are done.
pub trait Stage: Sync {
    /// Makes a call over connections that nobody touches.
    fn clean(&self, slot: &Slot, operation: &Operation) -> impl Future<Output = Answer> + Send;

    /// Where it is written down.
    fn ledger(&self) -> &Ledger;
}

/// Where a call is made.
#[derive(Debug)]
pub struct Staged {
    pub operation: Operation,
    /// Who held the slot last.
    pub holder: Option<Grant>,
}

impl Deed {
    pub const ALL: [Self; 13] = [
        Self::Fresh,
        Self::Replay,
        Self::TakeOver,
        Self::Retry,
        Self::Again,
        Self::Complete,
        Self::Renew,
        Self::HandOver,
        Self::Release,
        Self::ResolveComplete,
        Self::ResolveRelease,
        Self::Purge,
        Self::Lookup,
    ];

    /// Brings `slot` to where the call has something to do.
    pub async fn stage(self, bench: &impl Stage, slot: &Slot) -> Staged {
        let token = Token::fresh();
        if self == Self::Fresh {
            return Staged { operation: reserve(token), holder: None };
        }
        if self == Self::Again {
            granted(&bench.clean(slot, &brief(Token::fresh())).await);
            bench.ledger().advance(EXPIRED);
            return Staged { operation: reserve(token), holder: None };
        }
        let grant = granted(&bench.clean(slot, &reserve(token)).await);
        let holder = Some(grant.clone());
        let operation = match self {
            Self::Fresh | Self::Again => unreachable!(),
            Self::Retry => reserve(token),
            Self::Replay => {
                let done = bench.clean(slot, &complete(&grant)).await;
                assert_eq!(done, Answer::Complete(CompleteOutcome::Stored));
                reserve(Token::fresh())
            }
            Self::TakeOver => {
                bench.ledger().advance(2 * LEASE);
                reserve(Token::fresh())
            }
            Self::Complete => complete(&grant),
            Self::Renew => renew(&grant, 1),
            Self::HandOver => hand_over(&grant, 1),
            Self::Release => Operation::Release { grant },
            Self::ResolveComplete | Self::ResolveRelease => {
                bench.ledger().advance(2 * LEASE);
                let Answer::Lookup(Some(Entry::Pending(entry))) = bench.clean(slot, &Operation::Lookup).await
                else {
                    panic!("the slot is reserved")
                };
                let resolution = match self {
                    Self::ResolveComplete => Resolution::Complete(Completion::new(paid())),
                    _ => Resolution::Release,
                };
                Operation::Resolve { seen: entry.seen(), resolution }
            }
            Self::Purge => Operation::Purge { fence: grant.fence },
            Self::Lookup => Operation::Lookup,
        };
        Staged { operation, holder }
    }

    /// Whether it writes, where nobody was before.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Replay | Self::Lookup)
    }

    /// Whether the slot's holder is one that anybody may take over from.
    pub fn has_lapsed(self) -> bool {
        matches!(self, Self::TakeOver | Self::ResolveComplete | Self::ResolveRelease)
    }

    /// Fails unless this is what the call may answer, made once, or again because it was not heard. Whether
    /// it is right beside all else that was heard is for the checker.
    #[track_caller]
    pub fn right(self, answer: &Answer) {
        use ReservationOutcome::{Replay, Reserved};
        let holds = match (self, answer) {
            (Self::Fresh | Self::Retry | Self::Again, Answer::Reserve(Ok(Reserved(grant)))) => {
                grant.attempt == 1
            }
            (Self::TakeOver, Answer::Reserve(Ok(Reserved(grant)))) => grant.attempt == 2,
            (Self::Replay, Answer::Reserve(Ok(Replay(record)))) => record.response == paid(),
            (Self::Complete, Answer::Complete(CompleteOutcome::Stored)) => true,
            (Self::Complete, Answer::Complete(CompleteOutcome::AlreadyStored(record))) => {
                record.response == paid()
            }
            (Self::Renew, Answer::Renew(RenewOutcome::Renewed(renewed))) => {
                renewed.sequence == 1 && renewed.lease_left > LEASE
            }
            (Self::HandOver, Answer::Renew(RenewOutcome::Renewed(renewed))) => {
                renewed.sequence == 1 && renewed.lease_left.is_zero()
            }
            (Self::Release, Answer::Release(ReleaseOutcome::Released)) => true,
            (Self::ResolveComplete | Self::ResolveRelease, Answer::Resolve(outcome)) => {
                matches!(outcome, ResolveOutcome::Resolved | ResolveOutcome::AlreadyDone)
            }
            // Asked again, the record is gone.
            (Self::Purge, Answer::Purge(_)) => true,
            (Self::Lookup, Answer::Lookup(Some(Entry::Pending(entry)))) => entry.attempt == 1,
            _ => false,
        };
        assert!(holds, "{self:?} answered {answer:?}");
    }
}

pub fn fingerprint() -> Fingerprint {
    Fingerprint::from_bytes([7; 32])
}

pub fn reserve(token: Token) -> Operation {
    reserve_for(LEASE, token)
}

pub fn reserve_for(lease: Duration, token: Token) -> Operation {
    let terms = Terms::new(Policy::TakeOver, lease, RETENTION).unwrap();
    Operation::Reserve { token, request: ReserveRequest::new(fingerprint(), terms) }
}

/// What has expired once time has moved by [`EXPIRED`].
pub fn brief(token: Token) -> Operation {
    let terms = Terms::new(Policy::TakeOver, Duration::from_secs(1), Duration::from_secs(1)).unwrap();
    Operation::Reserve { token, request: ReserveRequest::new(fingerprint(), terms) }
}

pub fn complete(grant: &Grant) -> Operation {
    complete_with(grant, "paid")
}

pub fn complete_with(grant: &Grant, body: &str) -> Operation {
    Operation::Complete { grant: grant.clone(), completion: Completion::new(response(body)) }
}

/// For twice the usual lease, with the checkpoint of this number.
pub fn renew(grant: &Grant, sequence: u64) -> Operation {
    renew_for(2 * LEASE, grant, sequence)
}

pub fn renew_for(lease: Duration, grant: &Grant, sequence: u64) -> Operation {
    let renewal = Renewal::extend(lease).unwrap().with_checkpoint(checkpoint(sequence));
    Operation::Renew { grant: grant.clone(), renewal }
}

pub fn hand_over(grant: &Grant, sequence: u64) -> Operation {
    let renewal = Renewal::hand_over().with_checkpoint(checkpoint(sequence));
    Operation::Renew { grant: grant.clone(), renewal }
}

pub fn release(grant: &Grant) -> Operation {
    Operation::Release { grant: grant.clone() }
}

pub fn response(body: &str) -> StoredResponse {
    StoredResponse::new(201, "content-type: text/plain", body.to_owned())
}

fn paid() -> StoredResponse {
    response("paid")
}

pub fn checkpoint(sequence: u64) -> Checkpoint {
    Checkpoint::new(sequence, format!("at {sequence}")).unwrap()
}

#[track_caller]
pub fn granted(answer: &Answer) -> Grant {
    match answer {
        Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))) => grant.clone(),
        other => panic!("expected Reserved, saw {other:?}"),
    }
}

/// The fence of a grant, if this is one.
pub fn fence(answer: &Answer) -> Option<Fence> {
    match answer {
        Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))) => Some(grant.fence),
        _ => None,
    }
}
