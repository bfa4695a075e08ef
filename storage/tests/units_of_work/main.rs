//! The units of work against a real PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use protos::headers::Headers;
use storage::{Appended, Connect, Error, MomAddress, NewBatch, Packed, Run, Store};
use testkit::{Postgres, wait_until};
use tokio::sync::OnceCell;
use uuid::Uuid;

mod contents;
mod headers;
mod looking;
mod messages;
mod start;

const MINUTE: Duration = Duration::from_mins(1);

/// One server for all tests of this file, and a database for each.
struct Database {
    store: Store,
    name: String,
    server: &'static Postgres,
}

impl Database {
    async fn empty() -> Self {
        static SERVER: OnceCell<Postgres> = OnceCell::const_new();
        static DATABASES: AtomicUsize = AtomicUsize::new(0);
        let server = SERVER
            .get_or_init(async || Postgres::start_temporary().await.unwrap())
            .await;
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        server.create_database(&name).await.unwrap();
        let store = Store::open(&Connect::from_url(&server.url(&name)).unwrap());
        Self {
            store,
            name,
            server,
        }
    }

    async fn new() -> Self {
        let database = Self::empty().await;
        database.store.migrate().await.unwrap();
        database
    }

    async fn psql(&self, sql: &str) -> String {
        self.server
            .psql(&self.name, sql)
            .await
            .unwrap()
            .trim()
            .to_owned()
    }

    /// A MoM and a queue that it owns.
    async fn queue(&self, label: &str) -> (Uuid, storage::Ownership) {
        let address = address("mom", 1);
        self.store
            .register_moms(std::slice::from_ref(&address))
            .await
            .unwrap();
        let registration = self.store.registration(&address).await.unwrap();
        let mom = registration.unwrap().mom_id;
        (mom, self.store.create_queue(label, mom).await.unwrap())
    }
}

fn address(host: &str, port: u16) -> MomAddress {
    MomAddress {
        host: host.into(),
        port,
    }
}

/// A message of each content: with a topic where it has a `#`, with an id of the pusher's where it has a `!`, with
/// headers where it has a `~`.
fn messages(contents: &[&str]) -> Packed {
    let mut messages = Packed::default();
    for content in contents {
        let run = Run {
            id: Uuid::now_v7(),
            count: 1,
            topic: content
                .contains('#')
                .then(|| content.replace('#', "").into()),
            is_keyed: content.contains('!'),
            headers: headers_of(&[("of", &content[..1]), ("size", &content.len().to_string())])
                .filter(|_| content.contains('~')),
        };
        messages.add(&run, &[], 0, content.as_bytes());
    }
    messages
}

fn headers_of(of: &[(&str, &str)]) -> Option<Arc<Headers>> {
    Headers::new(of.iter().copied()).unwrap().map(Arc::new)
}

/// Messages of these contents that one pusher pushed one after the other, the first of them with this id.
fn run(id: u128, contents: &[&str]) -> Packed {
    let mut messages = Packed::default();
    for (id, content) in (id..).zip(contents) {
        let run = Run {
            id: Uuid::from_u128(id),
            count: 1,
            topic: None,
            is_keyed: false,
            headers: None,
        };
        messages.add(&run, &[], 0, content.as_bytes());
    }
    messages
}

fn batch<'a>(queue: &storage::Ownership, first_seq: i64, messages: &'a Packed) -> NewBatch<'a> {
    NewBatch {
        queue_id: queue.queue_id,
        epoch: queue.epoch,
        first_seq,
        messages,
    }
}

#[tokio::test]
async fn several_processes_may_migrate_an_empty_database_at_once() {
    let database = Database::empty().await;
    assert!(!database.store.schema_is_current().await.unwrap());
    let migrate = |_| {
        let store = database.store.clone();
        tokio::spawn(async move {
            while let Err(error) = store.migrate().await {
                assert!(
                    matches!(error, Error::Locked(_) | Error::Unavailable(_)),
                    "{error:?}"
                );
            }
        })
    };
    for task in (0..4).map(migrate).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert!(database.store.schema_is_current().await.unwrap());
}

#[tokio::test]
async fn channels_belong_to_their_queue() {
    let database = Database::new().await;
    let (mom, _) = database.queue("news").await;
    let (_, _) = database.queue("other").await;
    let all = database.store.create_channel("news", None).await.unwrap();
    let sports = database
        .store
        .create_channel("news", Some("sports"))
        .await
        .unwrap();
    let other = database
        .store
        .create_channel("other", Some("x"))
        .await
        .unwrap();
    assert_eq!(database.store.channel(sports.id).await.unwrap(), sports);
    assert_eq!(sports.owner, Some((mom, address("mom", 1))));
    assert_eq!(database.store.topics("news").await.unwrap(), ["sports"]);
    assert_eq!(database.store.channel_ids_of(mom).await.unwrap().len(), 3);
    assert!(matches!(
        database.store.create_channel("nowhere", None).await,
        Err(Error::NotFound)
    ));
    assert!(matches!(
        database.store.topics("nowhere").await,
        Err(Error::NotFound)
    ));

    database.store.delete_queue("news").await.unwrap();
    assert_eq!(database.store.channel_ids().await.unwrap(), [other.id]);
    assert_eq!(
        database
            .store
            .existing_channels(&[all.id, other.id])
            .await
            .unwrap(),
        [other.id]
    );
    database.store.delete_channel(other.id).await.unwrap();
    assert!(matches!(
        database.store.delete_channel(other.id).await,
        Err(Error::NotFound)
    ));
    assert_eq!(
        database.store.topics("other").await.unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_label_and_an_address_are_taken_once() {
    let database = Database::new().await;
    let (mom, _) = database.queue("news").await;
    assert!(matches!(
        database.store.create_queue("news", mom).await,
        Err(Error::AlreadyExists)
    ));
    let two_on_a_host = [address("mom", 1), address("mom", 2)];
    database.store.register_moms(&two_on_a_host).await.unwrap();
    database.store.register_moms(&two_on_a_host).await.unwrap();
    let moms = database.store.moms().await.unwrap();
    assert_eq!(
        moms.iter()
            .map(|mom| (mom.address.port, mom.queues))
            .collect::<Vec<_>>(),
        [(1, 1), (2, 0)]
    );
}

#[tokio::test]
async fn a_database_that_is_not_durable_or_takes_no_writes_is_refused() {
    let database = Database::new().await;
    let name = &database.name;
    let connect = Connect::from_url(&database.server.url(name)).unwrap();
    let mut lax = connect.clone();
    lax.require_durable = false;

    database
        .psql(&format!(
            "alter database {name} set synchronous_commit = off"
        ))
        .await;
    let error = Store::open(&connect)
        .appender()
        .connect()
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::NotDurable(text) if text.contains("synchronous_commit")),
        "{error}"
    );
    Store::open(&lax).appender().connect().await.unwrap();

    database
        .psql(&format!("alter database {name} reset synchronous_commit"))
        .await;
    database
        .psql(&format!(
            "alter database {name} set default_transaction_read_only = on"
        ))
        .await;
    let error = Store::open(&connect)
        .appender()
        .connect()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_pool_leaves_a_server_that_takes_no_writes_and_finds_it_when_it_does_again() {
    // One of its own: the setting is the whole server's.
    let server = Postgres::start_temporary().await.unwrap();
    server.create_database("turns").await.unwrap();
    let mut connect = Connect::from_url(&server.url("turns")).unwrap();
    connect.acquire_timeout = Duration::from_secs(1);
    connect.max_connections = 2;
    let store = Store::open(&connect);
    store.migrate().await.unwrap();
    let turn = async |setting: &str| {
        // Two calls, since it is one that may be in no transaction.
        let set = format!("alter system set default_transaction_read_only = {setting}");
        server.psql("turns", &set).await.unwrap();
        server
            .psql("turns", "select pg_reload_conf()")
            .await
            .unwrap();
        let shown = "show default_transaction_read_only";
        wait_until("the server to have turned", MINUTE, async || {
            server.psql("turns", shown).await.unwrap() == setting
        })
        .await;
    };
    for round in 1..=2 {
        store.register_moms(&[address("mom", round)]).await.unwrap();
        turn("on").await;
        // Reads as well: what a standby tells may be out of date.
        let error = store.moms().await.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
        turn("off").await;
    }
    assert_eq!(store.moms().await.unwrap().len(), 2);
}
