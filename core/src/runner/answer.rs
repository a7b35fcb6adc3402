//! What work may answer: [`Answer`], for raw bytes and, behind the feature `json`, for typed values.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::record::{Body, StoredResponse};

/// What is kept of an answer, and how it is read back.
///
/// Raw bytes (`Vec<u8>`, [`Bytes`]), nothing (`()`) and a whole [`StoredResponse`] are answers; behind the
/// feature `json`, so is `Json<T>`. Your own type says how:
///
/// ```
/// use oncekey_core::{Answer, AnswerError, StoredResponse};
/// use std::time::Duration;
///
/// struct Page { status: u16, html: String }
///
/// impl Answer for Page {
///     fn to_stored(&self) -> Result<StoredResponse, AnswerError> {
///         Ok(StoredResponse::new(self.status, "", self.html.clone()))
///     }
///     fn from_stored(stored: StoredResponse) -> Result<Self, AnswerError> {
///         let body = stored.body.bytes().map(|b| b.to_vec()).unwrap_or_default();
///         let html = String::from_utf8(body).map_err(AnswerError::new)?;
///         Ok(Page { status: stored.status, html })
///     }
///     /// A server's error is kept for a minute, everything else as the call says.
///     fn retention(&self) -> Option<Duration> {
///         (self.status >= 500).then_some(Duration::from_secs(60))
///     }
/// }
/// ```
pub trait Answer: Sized + Send + 'static {
    /// What to keep.
    ///
    /// # Errors
    /// [`AnswerError`] when it can't be written down. The work is done by then: the record says so,
    /// without a body, and the value still goes out ([`How::NotKept`](crate::How::NotKept)).
    fn to_stored(&self) -> Result<StoredResponse, AnswerError>;

    /// The answer that was kept. Its body is there: an answer that was not kept never comes here.
    ///
    /// # Errors
    /// [`AnswerError`] when it is no such value.
    fn from_stored(stored: StoredResponse) -> Result<Self, AnswerError>;

    /// How long to keep it, where not for the call's retention (C5); what the contract forbids (0, over
    /// 10 years) is taken as none.
    fn retention(&self) -> Option<Duration> {
        None
    }
}

/// An answer that can't be written down, or read back.
#[derive(Debug)]
pub struct AnswerError(Box<dyn Error + Send + Sync + 'static>);

impl AnswerError {
    /// Because of `cause`.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync + 'static>>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer is not of the type that this call expects")
    }
}

impl Error for AnswerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// The status of answers that have none of their own.
const OK: u16 = 200;

fn body_of(stored: StoredResponse) -> Result<Bytes, AnswerError> {
    match stored.body {
        Body::Kept(bytes) => Ok(bytes),
        Body::NotKept { len } => Err(AnswerError::new(format!("its {len} bytes were not kept"))),
    }
}

impl Answer for StoredResponse {
    fn to_stored(&self) -> Result<StoredResponse, AnswerError> {
        Ok(self.clone())
    }
    fn from_stored(stored: StoredResponse) -> Result<Self, AnswerError> {
        Ok(stored)
    }
}

impl Answer for Bytes {
    fn to_stored(&self) -> Result<StoredResponse, AnswerError> {
        Ok(StoredResponse::new(OK, "", self.clone()))
    }
    fn from_stored(stored: StoredResponse) -> Result<Self, AnswerError> {
        body_of(stored)
    }
}

impl Answer for Vec<u8> {
    fn to_stored(&self) -> Result<StoredResponse, AnswerError> {
        Ok(StoredResponse::new(OK, "", self.clone()))
    }
    fn from_stored(stored: StoredResponse) -> Result<Self, AnswerError> {
        body_of(stored).map(Vec::from)
    }
}

/// For work whose having been done is the whole answer.
impl Answer for () {
    fn to_stored(&self) -> Result<StoredResponse, AnswerError> {
        Ok(StoredResponse::new(OK, "", ""))
    }
    fn from_stored(stored: StoredResponse) -> Result<Self, AnswerError> {
        let bytes = body_of(stored)?;
        if bytes.is_empty() { Ok(()) } else { Err(AnswerError::new(format!("{} bytes", bytes.len()))) }
    }
}

/// A typed answer, kept as JSON.
///
/// ```
/// use oncekey_core::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, PartialEq, Debug)]
/// struct Receipt { payment: String, cents: u64 }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let idempotency = Idempotency::at_least_once(MemoryStore::new());
/// let slot = Principal::new("shop-17")?.slot("order-4711")?;
/// let call = || idempotency.call(&slot, Fingerprint::builder("pay/v1").part("9 EUR").finish());
///
/// let pay = async |_held: Held| Ok::<_, std::io::Error>(Json(Receipt { payment: "p-1".into(), cents: 900 }));
/// let first = call().run(pay).await?.into_value();
/// let again = call().run(pay).await?.into_value();
/// assert_eq!(first, again);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "json")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Json<T>(pub T);

#[cfg(feature = "json")]
impl<T> Answer for Json<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    fn to_stored(&self) -> Result<StoredResponse, AnswerError> {
        let body = serde_json::to_vec(&self.0).map_err(AnswerError::new)?;
        Ok(StoredResponse::new(OK, "", body))
    }
    fn from_stored(stored: StoredResponse) -> Result<Self, AnswerError> {
        serde_json::from_slice(&body_of(stored)?).map(Json).map_err(AnswerError::new)
    }
}
