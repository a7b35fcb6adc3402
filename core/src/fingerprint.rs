//! What a request means, in 32 bytes: [`Fingerprint`].

use std::fmt;

use sha2::{Digest, Sha256};

use crate::slot::write_hex;

/// SHA-256 of a request's meaning. The same slot with another fingerprint is the client's mistake (R2).
///
/// ```
/// use oncekey_core::Fingerprint;
///
/// let transfer = |from: &str, to: &str, cents: u64| {
///     Fingerprint::builder("transfer/v1").part(from).part(to).part(cents.to_le_bytes()).finish()
/// };
/// assert_eq!(transfer("ann", "bob", 5), transfer("ann", "bob", 5));
/// assert_ne!(transfer("ann", "bob", 5), transfer("an", "nbob", 5));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Begins a fingerprint in a domain: a name and version for what the parts mean, so that two kinds
    /// of request with the same parts differ.
    pub fn builder(domain: &str) -> FingerprintBuilder {
        let mut hash = Sha256::new();
        hash.update(b"oncekey/fingerprint/v1");
        FingerprintBuilder(hash).part(domain)
    }

    /// From 32 bytes that are a digest already.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(")?;
        write_hex(f, &self.0[..6])?;
        f.write_str(")")
    }
}

impl fmt::Display for Fingerprint {
    /// 64 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// Collects the parts of a [`Fingerprint`], each with its length, so that no two lists of parts meet.
#[derive(Clone, Debug)]
#[must_use = "a fingerprint is made by finish()"]
pub struct FingerprintBuilder(Sha256);

impl FingerprintBuilder {
    /// Adds a part. An empty part counts too.
    pub fn part(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// The fingerprint of the parts so far.
    pub fn finish(self) -> Fingerprint {
        Fingerprint(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_parts_and_their_number_all_count() {
        let f = |domain: &str, parts: &[&str]| {
            parts.iter().fold(Fingerprint::builder(domain), |b, p| b.part(p)).finish()
        };
        let all =
            [f("d", &[]), f("d", &[""]), f("d", &["", ""]), f("d", &["a"]), f("da", &[]), f("", &["d"])];
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                assert_ne!(a, b);
            }
        }
    }
}
