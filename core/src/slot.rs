//! Who asks, and under which key: [`Principal`] and [`Slot`].

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::InvalidInput;

/// The longest principal or key, in bytes of UTF-8.
pub const MAX_PART_BYTES: usize = 255;

/// Who asks: a tenant, an account, a service. Keys of different principals never meet.
///
/// A type of its own, so that principal and key can't be swapped in silence.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// # Errors
    /// [`InvalidInput`] when empty, over 255 bytes of UTF-8, or holding a control character (C0, DEL, C1).
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidInput> {
        validated("principal", "name who asks, such as a tenant's id", name.as_ref()).map(Self)
    }

    /// The slot of this principal's `key`.
    ///
    /// # Errors
    /// [`InvalidInput`] when the key is empty, over 255 bytes of UTF-8, or holds a control character.
    ///
    /// ```
    /// use oncekey_core::Principal;
    /// let shop = Principal::new("shop-17")?;
    /// let slot = shop.slot("order-4711/payment")?;
    /// assert_eq!(slot.key(), "order-4711/payment");
    /// # Ok::<(), oncekey_core::InvalidInput>(())
    /// ```
    pub fn slot(&self, key: impl AsRef<str>) -> Result<Slot, InvalidInput> {
        let key = validated("key", "let the client choose one per operation, such as a UUID", key.as_ref())?;
        let digest = SlotDigest::of([self.as_str(), &*key]);
        Ok(Slot { principal: self.clone(), key, digest })
    }

    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Principal").field(&&*self.0).finish()
    }
}

/// `(principal, key)`: the thing that at most one caller works on at a time.
///
/// Cheap to clone. Its `Debug` shows a digest, since a key may be a secret of the client's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    principal: Principal,
    key: Arc<str>,
    /// Of these two.
    digest: SlotDigest,
}

impl Slot {
    /// Who asks.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The idempotency key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// SHA-256 of the length-prefixed parts: two slots have the same digest only if they are the same
    /// (S5). Made with the slot: each call of a store asks for it, and so do logs.
    pub fn digest(&self) -> SlotDigest {
        self.digest
    }

    /// The slot as bytes that no other slot has, for stores whose keys are bytes: a length byte and the
    /// principal, then the key.
    ///
    /// ```
    /// use oncekey_core::{Principal, Slot};
    /// let slot = Principal::new("a")?.slot("b:c")?;
    /// assert_eq!(slot.to_bytes(), b"\x01ab:c");
    /// assert_eq!(Slot::from_bytes(&slot.to_bytes())?, slot);
    /// # Ok::<(), oncekey_core::InvalidInput>(())
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let principal = self.principal.as_str();
        let mut bytes = Vec::with_capacity(1 + principal.len() + self.key.len());
        // A part is at most 255 bytes, so one byte tells its length.
        bytes.push(u8::try_from(principal.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(principal.as_bytes());
        bytes.extend_from_slice(self.key.as_bytes());
        bytes
    }

    /// The slot whose [`Slot::to_bytes`] these are.
    ///
    /// # Errors
    /// [`InvalidInput`] when they are no slot's.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidInput> {
        let read = || {
            let (&length, rest) = bytes.split_first()?;
            let (principal, key) = rest.split_at_checked(usize::from(length))?;
            Some((std::str::from_utf8(principal).ok()?, std::str::from_utf8(key).ok()?))
        };
        let (principal, key) = read().ok_or_else(|| InvalidInput::new("these bytes are not a slot's"))?;
        Principal::new(principal)?.slot(key)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.digest().short())
    }
}

/// SHA-256 of a [`Slot`]. Logs name a slot by this, never by its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotDigest([u8; 32]);

impl SlotDigest {
    fn of(parts: [&str; 2]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"oncekey/slot/v1");
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 64 bits, which are its first 16 hex digits: enough to wake those who wait for the slot
    /// ([`Watchers::wake_prefix`](crate::Watchers::wake_prefix)), and too few to keep records by (S5).
    ///
    /// ```
    /// use oncekey_core::Principal;
    /// let digest = Principal::new("shop-17")?.slot("order-4711")?.digest();
    /// assert_eq!(format!("{:016x}", digest.prefix()), digest.to_string()[..16]);
    /// # Ok::<(), oncekey_core::InvalidInput>(())
    /// ```
    pub fn prefix(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first)
    }

    /// The first 12 hex digits: enough to find a record by, in a log.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for SlotDigest {
    /// 64 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for SlotDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotDigest({self})")
    }
}

pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn validated(what: &str, advice: &str, text: &str) -> Result<Arc<str>, InvalidInput> {
    if text.is_empty() {
        return Err(InvalidInput::new(format!("{what} is empty: {advice}")));
    }
    if text.len() > MAX_PART_BYTES {
        let (length, most) = (text.len(), MAX_PART_BYTES);
        return Err(InvalidInput::new(format!(
            "{what} has {length} bytes, and {most} is the most: hash a longer one yourself"
        )));
    }
    // `char::is_control` is Unicode's Cc: exactly C0, DEL and C1.
    if text.chars().any(char::is_control) {
        return Err(InvalidInput::new(format!(
            "{what} holds a control character: use printable text, or encode it"
        )));
    }
    Ok(Arc::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(principal: &str, key: &str) -> Slot {
        Principal::new(principal).unwrap().slot(key).unwrap()
    }

    #[test]
    fn parts_that_would_meet_when_joined_have_other_digests_and_bytes() {
        for (a, b) in [(slot("a:b", "c"), slot("a", "b:c")), (slot("ab", "c"), slot("a", "bc"))] {
            assert_ne!(a.digest(), b.digest());
            assert_ne!(a.to_bytes(), b.to_bytes());
        }
    }

    #[test]
    fn bounds_are_bytes_and_controls_are_refused() {
        let principal = Principal::new("p").unwrap();
        assert!(principal.slot("x".repeat(255)).is_ok());
        assert!(principal.slot("x".repeat(256)).is_err());
        assert!(principal.slot("é".repeat(128)).is_err(), "256 bytes in 128 characters");
        for bad in ["", "\0", "a\nb", "\u{7f}", "\u{80}", "\u{9f}"] {
            assert!(principal.slot(bad).is_err(), "{bad:?}");
        }
        assert!(principal.slot("\u{a0} ~ \u{10ffff}").is_ok());
    }

    #[test]
    fn a_longest_slot_survives_its_bytes() {
        let longest = slot(&"p".repeat(255), &"k".repeat(255));
        assert_eq!(Slot::from_bytes(&longest.to_bytes()).unwrap(), longest);
        assert!(Slot::from_bytes(b"").is_err());
        assert!(Slot::from_bytes(b"\x05ab").is_err());
        assert!(Slot::from_bytes(b"\x01a\xff").is_err());
    }

    #[test]
    fn debug_hides_the_key() {
        assert!(!format!("{:?}", slot("p", "secret")).contains("secret"));
    }
}
