//! What a purge says that was asked twice.

use oncekey_redis::{IdempotencyAdmin, IdempotencyStore, RedisStore};
use oncekey_testbed::proxy::Direction::ToClient;
use oncekey_testbed::proxy::{Ending, Proxy};
use oncekey_testbed::redis::Server;

use crate::kit::{reserve, slot};

/// Each try is a call (S6): false says that no record of that fence is there now, and not that none was.
#[tokio::test]
async fn a_purge_whose_answer_was_lost_has_deleted_and_says_false() {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(server.socket()).unwrap();
    let store = RedisStore::connect(&server.url_by(proxy.address(), 0)).await.unwrap();
    // The script is known from here on: what is lost is its answer.
    let grant = reserve(&store, "known").await;
    assert!(store.purge(&slot("known"), grant.fence).await.unwrap());
    assert!(!store.purge(&slot("known"), grant.fence).await.unwrap());
    let grant = reserve(&store, "lost").await;
    proxy.cut_after(ToClient, 0, Ending::Reset);
    assert!(!store.purge(&slot("lost"), grant.fence).await.unwrap());
    assert_eq!(proxy.cuts(), 1);
    assert!(store.lookup(&slot("lost")).await.unwrap().is_none());
}
