//! Copy these. The store is the production one in memory, its clock is moved by hand, and its calls fail
//! when a test says so.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use oncekey_core::{Clock, ErrorKind, Fault, Faulty, Method, Terms};
use oncekey_sqlite::SqliteStore;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};

use super::*;

/// A payment provider that charges as often as it is told to, whatever the reference: a second charge is
/// ours to prevent, and the tests see it.
struct FakePsp {
    charges: watch::Sender<Vec<(String, u64)>>,
    script: Mutex<VecDeque<Says>>,
    may_answer: watch::Sender<bool>,
}

/// What the provider does with the next charge; it charges if it isn't told.
enum Says {
    Declined,
    Unreachable,
    /// Charges, and its answer is lost.
    NoAnswer,
    /// Charges, and answers when the test lets it.
    Later,
}

impl FakePsp {
    fn new() -> Arc<Self> {
        let (charges, _) = watch::channel(Vec::new());
        let (may_answer, _) = watch::channel(false);
        Arc::new(Self { charges, script: Mutex::default(), may_answer })
    }

    fn says(&self, says: Says) {
        self.script.lock().unwrap().push_back(says);
    }

    /// Waits until so many charges have been made.
    async fn charged(&self, times: usize) {
        self.charges.subscribe().wait_for(|charges| charges.len() >= times).await.unwrap();
    }

    /// How much was charged, charge by charge.
    fn charges(&self) -> Vec<u64> {
        self.charges.borrow().iter().map(|(_, cents)| *cents).collect()
    }
}

#[async_trait]
impl Psp for FakePsp {
    async fn charge(&self, reference: &str, order: &Order) -> Result<String, PspError> {
        let says = self.script.lock().unwrap().pop_front();
        match says {
            Some(Says::Declined) => return Err(PspError::Declined("expired".to_owned())),
            Some(Says::Unreachable) => return Err(PspError::Unreachable),
            _ => {}
        }
        self.charges.send_modify(|charges| charges.push((reference.to_owned(), order.cents)));
        let name = format!("charge-{}", self.charges.borrow().len());
        match says {
            Some(Says::NoAnswer) => return Err(PspError::NoAnswer),
            Some(Says::Later) => drop(self.may_answer.subscribe().wait_for(|may| *may).await),
            _ => {}
        }
        Ok(name)
    }

    async fn find(&self, reference: &str) -> Result<Option<String>, PspError> {
        let charges = self.charges.borrow();
        Ok(charges.iter().position(|(made, _)| made == reference).map(|n| format!("charge-{}", n + 1)))
    }
}

/// What a test has in its hands.
struct Desk {
    store: Faulty<SqliteStore>,
    clock: Clock,
    psp: Arc<FakePsp>,
    service: PaymentService,
}

impl Desk {
    fn new() -> Self {
        let clock = Clock::shiftable();
        let store = Faulty::new(SqliteStore::builder().clock(clock.clone()).in_memory().unwrap());
        let psp = FakePsp::new();
        let service = PaymentService::new(Arc::new(store.clone()), Arc::clone(&psp) as Arc<dyn Psp>);
        Self { store, clock, psp, service }
    }

    /// Pays 9 EUR under the one key that these tests have.
    async fn pay(&self) -> Result<Payment, PayError> {
        self.service.pay("shop-17", "key-1", order(900)).await
    }

    /// Begins to pay on a worker of its own, and ends the worker once it has charged: as a crash would, with
    /// no chance to say anything.
    async fn pay_and_crash(&self) {
        self.psp.says(Says::Later);
        let (worker, service) = (Runtime::new().unwrap(), self.service.clone());
        worker.spawn(async move { service.pay("shop-17", "key-1", order(900)).await });
        self.psp.charged(1).await;
        worker.shutdown_background();
    }
}

fn order(cents: u64) -> Order {
    Order { number: "4711".to_owned(), cents, card: "card-1".to_owned() }
}

fn paid(charge: &str) -> Payment {
    Payment::Paid { charge: charge.to_owned() }
}

#[tokio::test]
async fn a_retry_gets_the_first_answer() {
    let desk = Desk::new();
    let first = desk.pay().await.unwrap();
    let retry = desk.pay().await.unwrap();
    assert_eq!(first, paid("charge-1"));
    assert_eq!(retry, first);
    assert_eq!(desk.psp.charges(), [900]);
}

#[tokio::test]
async fn another_amount_under_the_same_key_is_refused() {
    let desk = Desk::new();
    desk.pay().await.unwrap();
    let other = desk.service.pay("shop-17", "key-1", order(901)).await;
    assert!(matches!(other, Err(PayError::KeyReused)), "{other:?}");
    assert_eq!(desk.psp.charges(), [900]);
}

#[tokio::test]
async fn the_same_key_of_another_shop_is_another_payment() {
    let desk = Desk::new();
    desk.pay().await.unwrap();
    let other = desk.service.pay("shop-18", "key-1", order(500)).await.unwrap();
    assert_eq!(other, paid("charge-2"));
    assert_eq!(desk.psp.charges(), [900, 500]);
}

#[tokio::test]
async fn an_answer_is_kept_for_a_day() {
    let desk = Desk::new();
    desk.pay().await.unwrap();
    desk.clock.advance(Duration::from_secs(24 * 60 * 60 - 1));
    assert_eq!(desk.pay().await.unwrap(), paid("charge-1"));
    desk.clock.advance(Terms::default().lease() + Duration::from_secs(1));
    assert_eq!(desk.pay().await.unwrap(), paid("charge-2"), "after that, the key is free again");
}

#[tokio::test]
async fn a_declined_card_stays_declined() {
    let desk = Desk::new();
    desk.psp.says(Says::Declined);
    let declined = Payment::Declined { reason: "expired".to_owned() };
    assert_eq!(desk.pay().await.unwrap(), declined);
    assert_eq!(desk.pay().await.unwrap(), declined, "though the provider would charge now");
    assert_eq!(desk.psp.charges(), [0_u64; 0]);
}

#[tokio::test]
async fn an_unreachable_provider_leaves_the_key_free() {
    let desk = Desk::new();
    desk.psp.says(Says::Unreachable);
    let first = desk.pay().await;
    assert!(matches!(first, Err(PayError::Unavailable(_))), "{first:?}");
    assert_eq!(desk.pay().await.unwrap(), paid("charge-1"));
}

#[tokio::test]
async fn a_charge_whose_answer_was_lost_is_found_again() {
    let desk = Desk::new();
    desk.psp.says(Says::NoAnswer);
    let first = desk.pay().await;
    assert!(matches!(first, Err(PayError::Unavailable(_))), "{first:?}");
    assert_eq!(desk.pay().await.unwrap(), paid("charge-1"));
    assert_eq!(desk.psp.charges(), [900], "asked about, and not made again");
}

#[tokio::test]
async fn a_crashed_workers_payment_is_taken_over_after_its_lease() {
    let desk = Desk::new();
    desk.pay_and_crash().await;

    let early = desk.pay().await;
    let Err(PayError::InProgress { retry_after }) = early else {
        panic!("expected InProgress, saw {early:?}")
    };
    assert!(retry_after <= Terms::default().lease(), "{retry_after:?}");

    desk.clock.advance(retry_after);
    assert_eq!(desk.pay().await.unwrap(), paid("charge-1"));
    assert_eq!(desk.psp.charges(), [900]);
}

#[tokio::test]
async fn a_payment_goes_on_when_the_shop_hangs_up() {
    let desk = Desk::new();
    desk.psp.says(Says::Later);
    tokio::select! {
        answer = desk.pay() => panic!("the provider hasn't answered, and {answer:?}"),
        () = desk.psp.charged(1) => {} // and the request's future is dropped
    }
    desk.psp.may_answer.send_replace(true);
    let retry =
        desk.service.clone().patience(Duration::from_secs(10)).pay("shop-17", "key-1", order(900)).await;
    assert_eq!(retry.unwrap(), paid("charge-1"));
    assert_eq!(desk.psp.charges(), [900]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn retries_at_once_pay_once_and_hear_the_same() {
    const RETRIES: u64 = 16;
    let desk = Desk::new();
    desk.psp.says(Says::Later);
    let service = desk.service.clone().patience(Duration::from_secs(30));
    let mut retries = JoinSet::new();
    for _ in 0..RETRIES {
        let service = service.clone();
        retries.spawn(async move { service.pay("shop-17", "key-1", order(900)).await });
    }
    // The provider answers once all have asked.
    let begun = Instant::now();
    while desk.store.calls(Method::Reserve) < RETRIES {
        assert!(begun.elapsed() < Duration::from_secs(30), "{} reserves", desk.store.calls(Method::Reserve));
        yield_now().await;
    }
    desk.psp.may_answer.send_replace(true);
    while let Some(answer) = retries.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), paid("charge-1"));
    }
    assert_eq!(desk.psp.charges(), [900]);
}

#[tokio::test]
async fn lost_answers_of_the_store_are_not_noticed() {
    for method in [Method::Reserve, Method::Complete] {
        let desk = Desk::new();
        desk.store.next(method, Fault::AnswerLost);
        assert_eq!(desk.pay().await.unwrap(), paid("charge-1"), "{method:?}");
        assert_eq!(desk.pay().await.unwrap(), paid("charge-1"), "{method:?}");
        assert_eq!(desk.psp.charges(), [900], "{method:?}");
    }
}

#[tokio::test]
async fn without_a_reservation_nothing_is_charged() {
    let desk = Desk::new();
    desk.store.next(Method::Reserve, Fault::Refused(ErrorKind::Full));
    let answer = desk.pay().await;
    assert!(matches!(answer, Err(PayError::Unavailable(_))), "{answer:?}");
    assert_eq!(desk.psp.charges(), [0_u64; 0]);
}
