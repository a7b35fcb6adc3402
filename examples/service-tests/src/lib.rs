//! A payment service whose retries pay once.
//!
//! A shop sends an order with an idempotency key of its choice, and sends it again when it heard no answer.
//! [`PaymentService::pay`] charges the card at a payment provider once, and gives every retry the first
//! answer. What a user would copy is `pay` and, beside it, `tests.rs`: unit tests that need no server, wait
//! for no lease, and make a worker crash in the middle of a payment.
//!
//! ```text
//! cargo test -p oncekey-example-service-tests
//! ```
//!
//! # What once means here
//!
//! A reservation promises one holder *at a time*; a holder that died may have charged before it did. So the
//! provider gets the same reference from every attempt, and a later attempt asks it first what became of the
//! earlier one. That closes the gap for a worker that crashed. For one that is merely slow, and charges after
//! somebody took over, the provider must refuse a second charge under one reference, as most do when that is
//! sent as *their* idempotency key. (With the payment in your own database there is no gap: see the example
//! `transfer`.)

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oncekey_core::{
    Fingerprint, Held, Idempotency, IdempotencyStore, InvalidInput, Json, OnError, Principal, RunError,
    RunOutcome, async_trait,
};
use serde::{Deserialize, Serialize};

/// What a shop asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The shop's own name for it.
    pub number: String,
    /// How much.
    pub cents: u64,
    /// From which card: a name that the payment provider gave it.
    pub card: String,
}

/// The answer to an order. It is kept, and every retry gets it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Payment {
    /// The money is on its way.
    Paid {
        /// The provider's name for the charge.
        charge: String,
    },
    /// The card was refused. A retry under the same key hears it again; another try has another key.
    Declined {
        /// In the provider's words.
        reason: String,
    },
}

/// Why there is no answer to an order.
#[derive(Debug)]
pub enum PayError {
    /// Principal or key are none (HTTP: 400).
    Invalid(InvalidInput),
    /// The key was used for another order (422).
    KeyReused,
    /// The same order is being paid just now (409, with `Retry-After`).
    InProgress {
        /// When to come back at the latest.
        retry_after: Duration,
    },
    /// Not now; the same order under the same key may be sent again, and pays at most once (503).
    Unavailable(String),
}

/// A payment provider.
#[async_trait]
pub trait Psp: Send + Sync + 'static {
    /// Charges the order's card. `reference` is our name for it, the same at every attempt.
    async fn charge(&self, reference: &str, order: &Order) -> Result<String, PspError>;
    /// The charge that was made under `reference`, if any was.
    async fn find(&self, reference: &str) -> Result<Option<String>, PspError>;
}

/// Why a provider did not say that it charged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PspError {
    /// It said no.
    Declined(String),
    /// It could not be reached: nothing was sent.
    Unreachable,
    /// It was asked, and didn't answer: it may have charged.
    NoAnswer,
}

/// Pays orders, each once.
#[derive(Clone)]
pub struct PaymentService {
    once: Idempotency,
    psp: Arc<dyn Psp>,
    patience: Duration,
}

impl PaymentService {
    /// Over a store that all instances of the service share.
    pub fn new(store: Arc<dyn IdempotencyStore>, psp: Arc<dyn Psp>) -> Self {
        // At least once: when a worker dies, the next retry finishes its payment. The lease of 30 s is
        // renewed while a payment takes longer; the answer is kept for a day.
        Self { once: Idempotency::at_least_once(store), psp, patience: Duration::ZERO }
    }

    /// A retry that comes while the first is being paid waits so long for its answer.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Pays `order` of `shop`, or gives the answer that it got before.
    ///
    /// # Errors
    /// [`PayError`]; none of them is kept, so the shop may always ask again.
    pub async fn pay(&self, shop: &str, key: &str, order: Order) -> Result<Payment, PayError> {
        let slot = Principal::new(shop)?.slot(key)?;
        // All that makes it this order and no other: an amount that is left out here would be paid wrong.
        let meaning = Fingerprint::builder("pay/v1")
            .part(&order.number)
            .part(order.cents.to_le_bytes())
            .part(&order.card)
            .finish();
        let (psp, reference) = (Arc::clone(&self.psp), slot.digest().to_string());

        let work = move |held: Held| async move {
            // Somebody before us may have charged, and died before it could say so.
            let before = if held.attempt() > 1 { psp.find(&reference).await? } else { None };
            let charge = match before {
                Some(charge) => charge,
                None => psp.charge(&reference, &order).await?,
            };
            Ok(Json(Payment::Paid { charge }))
        };
        let on_error = |error: &PspError| match error {
            // An answer like any other.
            PspError::Declined(reason) => OnError::Store(Json(Payment::Declined { reason: reason.clone() })),
            // Nothing was done: the next try begins anew.
            PspError::Unreachable => OnError::Release,
            // Something may have been done: the next try is a later attempt, which asks first.
            PspError::NoAnswer => OnError::HandOver,
        };
        let call = self.once.call(&slot, meaning).wait_up_to(self.patience).on_error(on_error);

        match call.run(work).await {
            Ok(RunOutcome::Done { value: Json(payment), .. }) => Ok(payment),
            Ok(RunOutcome::Conflict) => Err(PayError::KeyReused),
            Ok(RunOutcome::InFlight(busy)) => Err(PayError::InProgress { retry_after: busy.retry_after }),
            Ok(RunOutcome::NotKept(_) | RunOutcome::Indeterminate(_)) => {
                // Neither comes up: an answer of ours is short, and others take over. An operator looks.
                Err(PayError::Unavailable("the payment's record has no answer".to_owned()))
            }
            Err(RunError::Work(error)) => Err(PayError::Unavailable(format!("provider: {error:?}"))),
            Err(error) => Err(PayError::Unavailable(format!("{error:?}"))),
        }
    }
}

impl fmt::Debug for PaymentService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentService").field("once", &self.once).finish_non_exhaustive()
    }
}

impl From<InvalidInput> for PayError {
    fn from(invalid: InvalidInput) -> Self {
        Self::Invalid(invalid)
    }
}

#[cfg(test)]
mod tests;
