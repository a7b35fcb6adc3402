//! Other layouts of a slot in Redis, by scripts with the rules that a reserve, a completion and a replay come by.

use bytes::Bytes;
use oncekey_core::Token;
use redis::aio::MultiplexedConnection;
use redis::{Client, Script, Value};

use crate::load::{BODY_BYTES, Contestant, Failure, LEASE, RETENTION, fingerprint, key, principal};

/// How a slot lies in the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    /// A hash, a field for each part of a record.
    Hash,
    /// A hash of two fields: what precedes the body, packed, and the body.
    Split,
}

pub(crate) struct Laid {
    layout: Layout,
    connection: MultiplexedConnection,
    reserve: Script,
    complete: Script,
    body: Bytes,
}

impl Laid {
    pub(crate) async fn connect(url: &str, layout: Layout) -> Result<Self, Failure> {
        let (reserve, complete) = match layout {
            Layout::Hash => {
                (include_str!("../../lua/hash_reserve.lua"), include_str!("../../lua/hash_complete.lua"))
            }
            Layout::Split => {
                (include_str!("../../lua/split_reserve.lua"), include_str!("../../lua/split_complete.lua"))
            }
        };
        let connection = Client::open(url)?.get_multiplexed_async_connection().await?;
        let (reserve, complete) = (Script::new(reserve), Script::new(complete));
        Ok(Self { layout, connection, reserve, complete, body: Bytes::new() }.with_body(BODY_BYTES))
    }

    /// With responses of this size.
    pub(crate) fn with_body(self, bytes: usize) -> Self {
        Self { body: vec![b'x'; bytes].into(), ..self }
    }
}

/// A slot, whose it is, and what is asked for.
pub(crate) struct Item {
    key: String,
    slot: Vec<u8>,
    fingerprint: [u8; 32],
}

/// As our store begins its records: mark, policy, begun, retention, checkpoint's number, slot.
fn terms(slot: &[u8]) -> Vec<u8> {
    let retention = RETENTION.as_micros() as u64;
    [b"ET\0".as_slice(), &retention.to_le_bytes(), &[0; 8], &(slot.len() as u16).to_le_bytes(), slot].concat()
}

impl Contestant for Laid {
    type Item = Item;
    /// Fence and token.
    type Grant = (i64, Token);

    fn prepare(n: u64) -> Result<Item, Failure> {
        let (principal, key) = (principal(n), key(n));
        let slot = [&[principal.len() as u8], principal.as_bytes(), key.as_bytes()].concat();
        // As long as ours, whose key is a digest.
        Ok(Item { key: format!("laid:{key:0>64}"), slot, fingerprint: fingerprint(n) })
    }

    async fn reserve(&self, item: &Item) -> Result<(i64, Token), Failure> {
        let token = Token::fresh();
        match self.ask(item, token).await? {
            Value::Int(fence) => Ok((fence, token)),
            other => Err(format!("a fresh slot answered {other:?}").into()),
        }
    }

    async fn complete(&self, item: &Item, (fence, token): (i64, Token)) -> Result<(), Failure> {
        let mut call = self.complete.key(&item.key);
        match self.layout {
            Layout::Hash => call.arg(fence).arg(&token.as_bytes()[..]).arg(200).arg("").arg(&self.body[..]),
            Layout::Split => {
                let (length, slot) = (self.body.len() as u64, &item.slot);
                let rest = [
                    &200_u16.to_le_bytes()[..],
                    &[1, 0, 0, 0, 0],
                    &length.to_le_bytes(),
                    &(slot.len() as u16).to_le_bytes(),
                    slot,
                ];
                let own = [&fence.to_le_bytes()[..], &token.as_bytes()[..]].concat();
                call.arg(own).arg(rest.concat()).arg(&self.body[..])
            }
        };
        match call.invoke_async(&mut self.connection.clone()).await? {
            1 => Ok(()),
            other => Err(format!("completing answered {other}").into()),
        }
    }

    async fn replay(&self, item: &Item) -> Result<usize, Failure> {
        match self.ask(item, Token::fresh()).await? {
            Value::Array(fields) => match fields.last() {
                Some(Value::BulkString(body)) => Ok(body.len()),
                _ => Err(format!("a completed slot answered {fields:?}").into()),
            },
            other => Err(format!("a completed slot answered {other:?}").into()),
        }
    }
}

impl Laid {
    async fn ask(&self, item: &Item, token: Token) -> Result<Value, Failure> {
        let (lease, life) = (LEASE.as_micros() as u64, (LEASE + RETENTION).as_micros() as u64);
        let mut call = self.reserve.key(&item.key);
        match self.layout {
            Layout::Hash => call
                .arg(&token.as_bytes()[..])
                .arg(&item.fingerprint[..])
                .arg(lease)
                .arg(life)
                .arg("T")
                .arg(&item.slot[..]),
            Layout::Split => {
                let new =
                    [&token.as_bytes()[..], &item.fingerprint, &1_u32.to_le_bytes(), &terms(&item.slot)];
                call.arg(new.concat()).arg([lease.to_le_bytes(), life.to_le_bytes()].concat())
            }
        };
        Ok(call.invoke_async(&mut self.connection.clone()).await?)
    }
}
