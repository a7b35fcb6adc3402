//! The limit under Redis: bare commands with the same bytes, through the client that ours uses, and no rules.

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, Cmd, IntoConnectionInfo, Script, Value};

use crate::load::{BODY_BYTES, Contestant, Failure, LEASE, RETENTION, key};

/// Compares what is there by its first bytes, and puts the answer in its place.
const SWAP: &str = "local value = redis.call('GET', KEYS[1]) \
    if not value or value:sub(1, 16) ~= ARGV[1] then return 0 end \
    redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL') return 1";

/// Bytes of a value beside the body, in ours.
const HEAD: usize = 150;

pub(crate) struct Bare {
    connection: MultiplexedConnection,
    swap: Script,
}

impl Bare {
    pub(crate) async fn connect(url: &str) -> Result<Self, Failure> {
        // As our store connects.
        let tcp = TcpSettings::default().set_nodelay(true);
        let client = Client::open(url.into_connection_info()?.set_tcp_settings(tcp))?;
        let connection = client.get_multiplexed_async_connection().await?;
        Ok(Self { connection, swap: Script::new(SWAP) })
    }
}

/// A key, and whose it will be.
pub(crate) struct Item {
    key: String,
    pending: Bytes,
    done: Bytes,
}

impl Contestant for Bare {
    type Item = Item;
    type Grant = ();

    fn prepare(n: u64) -> Result<Item, Failure> {
        let (mut pending, mut done) = (vec![b'p'; HEAD], vec![b'd'; HEAD + BODY_BYTES]);
        for value in [&mut pending, &mut done] {
            value[..8].copy_from_slice(&n.to_le_bytes());
        }
        // As long as ours, whose key is a digest.
        let key = format!("bare:{:0>64}", key(n));
        Ok(Item { key, pending: pending.into(), done: done.into() })
    }

    async fn reserve(&self, item: &Item) -> Result<(), Failure> {
        let ttl = u64::try_from((LEASE + RETENTION).as_millis())?;
        let mut cmd = Cmd::new();
        cmd.arg("SET").arg(&item.key).arg(&item.pending[..]).arg("NX").arg("GET").arg("PX").arg(ttl);
        match self.connection.clone().send_packed_command(&cmd).await? {
            Value::Nil => Ok(()),
            other => Err(format!("a fresh key answered {other:?}").into()),
        }
    }

    async fn complete(&self, item: &Item, (): ()) -> Result<(), Failure> {
        let mut call = self.swap.key(&item.key);
        call.arg(&item.pending[..16]).arg(&item.done[..]);
        match call.invoke_async(&mut self.connection.clone()).await? {
            1 => Ok(()),
            other => Err(format!("completing answered {other}").into()),
        }
    }

    async fn replay(&self, item: &Item) -> Result<usize, Failure> {
        let mut cmd = Cmd::new();
        cmd.arg("GET").arg(&item.key);
        match self.connection.clone().send_packed_command(&cmd).await? {
            Value::BulkString(bytes) => Ok(bytes.len() - HEAD),
            other => Err(format!("a completed key answered {other:?}").into()),
        }
    }
}
