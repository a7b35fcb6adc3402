//! What a holder saves while it works: [`Checkpoint`].

use bytes::Bytes;

use crate::error::InvalidInput;

/// The largest checkpoint, in bytes.
pub const MAX_CHECKPOINT_BYTES: usize = 64 * 1024;

/// A small blob with a rising sequence number. A newer one replaces an older one, never the other way
/// round (W1); the next holder after a takeover receives it and goes on numbering from there.
///
/// ```
/// use oncekey_core::Checkpoint;
/// let inherited = Checkpoint::new(3, "charge-17")?;
/// let next = inherited.next("charge-18")?;
/// assert_eq!(next.sequence(), 4);
/// # Ok::<(), oncekey_core::InvalidInput>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Checkpoint {
    sequence: u64,
    data: Bytes,
}

impl Checkpoint {
    /// A checkpoint numbered `sequence`, which starts at 1.
    ///
    /// # Errors
    /// [`InvalidInput`] when the sequence is 0 or past `i64::MAX`, or the data is over 64 KiB.
    pub fn new(sequence: u64, data: impl Into<Bytes>) -> Result<Self, InvalidInput> {
        let data = data.into();
        if sequence == 0 || i64::try_from(sequence).is_err() {
            return Err(InvalidInput::new("a checkpoint's sequence starts at 1, and ends at i64::MAX"));
        }
        if data.len() > MAX_CHECKPOINT_BYTES {
            let length = data.len();
            return Err(InvalidInput::new(format!(
                "a checkpoint of {length} bytes is over 64 KiB: save a reference to the data instead"
            )));
        }
        Ok(Self { sequence, data })
    }

    /// The checkpoint that follows this one.
    ///
    /// # Errors
    /// As [`Checkpoint::new`].
    pub fn next(&self, data: impl Into<Bytes>) -> Result<Self, InvalidInput> {
        Self::new(self.sequence.saturating_add(1), data)
    }

    /// Its number, at least 1.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What was saved.
    pub fn data(&self) -> &Bytes {
        &self.data
    }
}
