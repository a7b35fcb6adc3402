use std::num::NonZeroU32;

use super::*;
use crate::{Fingerprint, MemoryStore, Principal, StoredResponse, Terms};

fn slot() -> Slot {
    Principal::new("p").unwrap().slot("k").unwrap()
}

fn request() -> ReserveRequest {
    ReserveRequest::new(Fingerprint::from_bytes([0; 32]), Terms::default())
}

fn done() -> Completion {
    Completion::new(StoredResponse::new(200, "", "done"))
}

async fn granted(store: &impl IdempotencyStore) -> Grant {
    match store.reserve_or_fetch(&slot(), Token::fresh(), &request()).await.unwrap() {
        ReservationOutcome::Reserved(grant) => grant,
        other => panic!("{other:?}"),
    }
}

async fn is_completed(store: &Faulty<MemoryStore>) -> bool {
    matches!(store.inner().lookup(&slot()).await.unwrap(), Some(Entry::Completed(_)))
}

#[tokio::test]
async fn a_refused_call_is_not_applied() {
    let store = Faulty::new(MemoryStore::new());
    let grant = granted(&store).await;
    store.next(Method::Complete, Fault::Refused(ErrorKind::Full));
    let error = store.complete(&slot(), &grant, &done()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Full, Effect::NotApplied));
    assert_eq!(error.operation(), "complete");
    assert!(!is_completed(&store).await);
}

#[tokio::test]
async fn a_lost_answer_was_applied() {
    let store = Faulty::new(MemoryStore::new());
    let grant = granted(&store).await;
    store.next(Method::Complete, Fault::AnswerLost);
    let error = store.complete(&slot(), &grant, &done()).await.unwrap_err();
    assert_eq!((error.is_retryable(), error.effect()), (true, Effect::Unknown));
    assert!(is_completed(&store).await);
}

#[tokio::test]
async fn a_late_call_is_applied_when_it_is_delivered() {
    let store = Faulty::new(MemoryStore::new());
    let grant = granted(&store).await;
    store.next(Method::Complete, Fault::Late);
    let error = store.complete(&slot(), &grant, &done()).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    assert!(!is_completed(&store).await);
    assert_eq!((store.undelivered(), store.deliver_late().await, store.undelivered()), (1, 1, 0));
    assert!(is_completed(&store).await);
}

#[tokio::test]
async fn a_ghost_is_applied_now_and_again_later() {
    let store = Faulty::new(MemoryStore::new());
    let token = Token::fresh();
    store.next(Method::Reserve, Fault::Ghost);
    let ReservationOutcome::Reserved(grant) =
        store.reserve_or_fetch(&slot(), token, &request()).await.unwrap()
    else {
        panic!("it was applied");
    };
    assert!(store.inner().purge(&slot(), grant.fence).await.unwrap());
    assert_eq!(store.deliver_late().await, 1);
    assert!(store.inner().lookup(&slot()).await.unwrap().is_some(), "it was applied again");
}

#[tokio::test(start_paused = true)]
async fn a_held_call_is_applied_once_its_gate_opens() {
    let store = Faulty::new(MemoryStore::new());
    let grant = granted(&store).await;
    for (gate, applied_first) in
        [(store.hold_next(Method::Complete), false), (store.hold_next_answer(Method::Complete), true)]
    {
        let call = tokio::spawn({
            let (store, grant) = (store.clone(), grant.clone());
            async move { store.complete(&slot(), &grant, &done()).await }
        });
        let limit = std::time::Duration::from_secs(60);
        tokio::time::timeout(limit, gate.reached()).await.expect("the call reaches its gate");
        assert_eq!(is_completed(&store).await, applied_first);
        assert!(!call.is_finished());
        gate.open();
        let _answer = call.await.unwrap().unwrap();
        assert!(is_completed(&store).await);
    }
}

#[tokio::test]
async fn a_script_is_followed_in_order_and_its_clones_share_it() {
    let store = Faulty::new(MemoryStore::new());
    store.next_passes(Method::Lookup);
    store.next(Method::Lookup, Fault::Refused(ErrorKind::Other));
    let clone = store.clone();
    assert!(clone.lookup(&slot()).await.is_ok());
    assert!(store.lookup(&slot()).await.is_err());
    assert!(clone.lookup(&slot()).await.is_ok());
    assert_eq!((store.calls(Method::Lookup), store.calls(Method::Reserve)), (3, 0));
}

#[tokio::test]
async fn every_method_can_fail_under_its_own_name() {
    let store = Faulty::new(MemoryStore::new());
    for method in Method::ALL {
        store.next(method, Fault::Late);
    }
    let grant = granted(store.inner()).await;
    let limit = NonZeroU32::MIN;
    let seen = Seen { fence: grant.fence, lease_expires_at: crate::Timestamp::ZERO };
    let request = request();
    let errors = [
        store.ensure_schema().await.unwrap_err(),
        store.reserve_or_fetch(&slot(), grant.token, &request).await.unwrap_err(),
        store.renew(&slot(), &grant, &Renewal::hand_over()).await.unwrap_err(),
        store.complete(&slot(), &grant, &done()).await.unwrap_err(),
        store.release(&slot(), &grant).await.unwrap_err(),
        store.lookup(&slot()).await.unwrap_err(),
        store.garbage_collect(limit).await.unwrap_err(),
        store.resolve(&slot(), seen, &Resolution::Release).await.unwrap_err(),
        store.purge(&slot(), grant.fence).await.unwrap_err(),
        store.scan(&ScanRequest::first(limit)).await.unwrap_err(),
        store.stats().await.unwrap_err(),
        store.assess().await.unwrap_err(),
    ];
    assert_eq!(errors.each_ref().map(StoreError::operation), Method::ALL.map(Method::name));
    assert_eq!(store.undelivered(), 8, "the four that only read are never delivered");
    assert_eq!(store.deliver_late().await, 8);
    assert_eq!(store.inner().lookup(&slot()).await.unwrap(), None, "in their order: the purge came last");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults() {
    let fates = async |seed| {
        let store = Faulty::seeded(MemoryStore::new(), seed);
        store.odds([Method::Lookup], Odds::none().refused(0.25).answer_lost(0.25));
        let mut fates = Vec::new();
        for _ in 0..200 {
            fates.push(store.lookup(&slot()).await.map_err(|e| e.effect()).err());
        }
        fates
    };
    let (first, again, other) = (fates(1).await, fates(1).await, fates(2).await);
    assert_eq!(first, again);
    assert_ne!(first, other);
    for fate in [None, Some(Effect::NotApplied), Some(Effect::Unknown)] {
        let often = first.iter().filter(|f| **f == fate).count();
        assert!((20..180).contains(&often), "{fate:?} {often} times of 200 with seed 1");
    }
    assert!(format!("{:?}", Faulty::seeded(MemoryStore::new(), 77)).contains("77"), "a failure can name it");
}
