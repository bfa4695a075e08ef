//! What managers decide, against a real PostgreSQL: under a lease, and whatever stands in the way.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use storage::{Connect, Decision, Error, Leadership, Lease, MomAddress, Store, Takeover};
use testkit::{Direction, Postgres, Proxy, wait_until};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Far less than a session idles before the server ends it by itself.
const SOON: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_mins(1);

/// A database of its own with a MoM and a queue that it owns, on one server for all tests of this file.
struct Database {
    store: Store,
    name: String,
    server: Arc<Postgres>,
    mom: Uuid,
    queue: storage::Ownership,
}

impl Database {
    async fn new() -> Self {
        static SERVER: OnceCell<Arc<Postgres>> = OnceCell::const_new();
        let start = async || Arc::new(Postgres::start_temporary().await.unwrap());
        Self::on(SERVER.get_or_init(start).await.clone()).await
    }

    async fn on(server: Arc<Postgres>) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        server.create_database(&name).await.unwrap();
        let store = Store::open(&Connect::from_url(&server.url(&name)).unwrap());
        store.migrate().await.unwrap();
        let mom = store.register_mom(&address(1)).await.unwrap().id;
        let queue = store.create_queue("news", mom).await.unwrap();
        Self {
            store,
            name,
            server,
            mom,
            queue,
        }
    }

    async fn psql(&self, sql: &str) -> String {
        let answer = self.server.psql(&self.name, sql).await.unwrap();
        answer.trim().to_owned()
    }

    async fn lead(&self, holder: u128, length: Duration) -> Leadership {
        let holder = Uuid::from_u128(holder);
        self.store.lead(holder, length).await.unwrap()
    }

    async fn lease(&self) -> Lease {
        held(self.lead(1, MINUTE).await)
    }

    async fn take_over(&self, lease: &Lease) -> storage::Result<Decision<Option<Takeover>>> {
        let (queue, epoch) = (self.queue.queue_id, self.queue.epoch);
        self.store.take_over(lease, queue, epoch, self.mom).await
    }

    async fn epoch(&self) -> i64 {
        self.store.queue("news").await.unwrap().epoch
    }

    /// Waits until as many sessions as that match a condition on `pg_stat_activity`.
    async fn until_sessions(&self, number: usize, condition: &str) {
        let sql = format!(
            "select count(*) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid() and {condition}"
        );
        wait_until(condition, MINUTE, async || {
            self.psql(&sql).await == number.to_string()
        })
        .await;
    }
}

fn address(port: u16) -> MomAddress {
    MomAddress {
        host: "mom".into(),
        port,
    }
}

fn held(leadership: Leadership) -> Lease {
    match leadership {
        Leadership::Held(lease) => lease,
        Leadership::Elsewhere(left) => panic!("somebody else holds it for {left:?}"),
    }
}

#[tokio::test]
async fn one_holder_at_a_time_has_the_lease_and_its_epoch_rises_when_that_changes() {
    let database = Database::new().await;
    let first = held(database.lead(1, MINUTE).await);
    assert_eq!(held(database.lead(1, MINUTE).await), first, "a renewal");
    match database.lead(2, MINUTE).await {
        Leadership::Elsewhere(left) => {
            assert!(left > MINUTE / 2 && left <= MINUTE, "{left:?}");
        }
        Leadership::Held(lease) => panic!("{lease:?}"),
    }

    database.store.give_back(&first).await.unwrap();
    let second = held(database.lead(2, MINUTE).await);
    assert_eq!(second.epoch, first.epoch + 1);
    // What it gave back it cannot give back again.
    database.store.give_back(&first).await.unwrap();
    assert!(matches!(
        database.lead(1, MINUTE).await,
        Leadership::Elsewhere(_)
    ));

    database
        .psql("update lease set expires_at = clock_timestamp()")
        .await;
    let third = held(database.lead(1, MINUTE).await);
    assert_eq!(third.epoch, second.epoch + 1);
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_leads() {
    let database = Database::new().await;
    for round in 0..5 {
        let asked = (0..8).map(|holder| {
            let store = database.store.clone();
            let holder = Uuid::from_u128(100 * round + holder);
            tokio::spawn(async move { store.lead(holder, MINUTE).await.unwrap() })
        });
        let mut leaders = Vec::new();
        for asked in asked.collect::<Vec<_>>() {
            if let Leadership::Held(lease) = asked.await.unwrap() {
                leaders.push(lease);
            }
        }
        assert_eq!(leaders.len(), 1, "{leaders:?}");
        assert_eq!(leaders[0].epoch, round as i64 + 1);
        database.store.give_back(&leaders[0]).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_decided_under_a_lease_that_has_ended() {
    let database = Database::new().await;
    let requests = [database.store.request_rebalance().await.unwrap().id];
    let expired = database.lease().await;
    database
        .psql("update lease set expires_at = clock_timestamp()")
        .await;
    let nothing_of = async |lease: &Lease| {
        assert_eq!(
            database.take_over(lease).await.unwrap(),
            Decision::LeaseEnded
        );
        let marked = database.store.set_mom_up(lease, database.mom, true);
        assert_eq!(marked.await.unwrap(), Decision::LeaseEnded);
        let met = database.store.requests_are_met(lease, &requests);
        assert_eq!(met.await.unwrap(), Decision::LeaseEnded);
        assert_eq!(database.epoch().await, 1);
        assert!(!database.store.mom(database.mom).await.unwrap().is_up);
        assert_eq!(database.store.rebalances().await.unwrap(), requests);
    };
    nothing_of(&expired).await;
    let current = held(database.lead(2, MINUTE).await);
    nothing_of(&expired).await;
    // The holder alone does not do, nor the epoch.
    let mut forged = current;
    forged.epoch = expired.epoch;
    nothing_of(&forged).await;
    forged = current;
    forged.holder = expired.holder;
    nothing_of(&forged).await;

    let marked = database.store.set_mom_up(&current, database.mom, true);
    assert_eq!(marked.await.unwrap(), Decision::Made(true));
    let marked = database.store.set_mom_up(&current, database.mom, true);
    assert_eq!(marked.await.unwrap(), Decision::Made(false), "no news");
    let met = database.store.requests_are_met(&current, &requests);
    assert_eq!(met.await.unwrap(), Decision::Made(()));
    assert_eq!(
        database.store.rebalances().await.unwrap(),
        Vec::<Uuid>::new()
    );
}

#[tokio::test]
async fn a_takeover_succeeds_once_for_an_epoch() {
    let database = Database::new().await;
    let lease = database.lease().await;
    let second = database.store.register_mom(&address(2)).await.unwrap().id;
    let (queue, epoch) = (database.queue.queue_id, database.queue.epoch);
    let try_it = async || {
        let taken = database.store.take_over(&lease, queue, epoch, second);
        taken.await.unwrap()
    };
    let takeover = Takeover {
        queue_id: queue,
        epoch: epoch + 1,
    };
    assert_eq!(try_it().await, Decision::Made(Some(takeover)));
    assert_eq!(try_it().await, Decision::Made(None));
    let now = database.store.queue("news").await.unwrap();
    assert_eq!(
        (now.epoch, now.owner),
        (epoch + 1, Some((second, address(2))))
    );
    // Nor does one to a MoM that is gone.
    let gone = database
        .store
        .take_over(&lease, queue, epoch + 1, Uuid::nil());
    assert_eq!(gone.await.unwrap(), Decision::Made(None));
}

/// Holds the queue's row as an append does, and goes on as `then` says.
fn hold_the_queue(
    database: &Database,
    then: &str,
) -> tokio::task::JoinHandle<Result<String, testkit::Error>> {
    let (server, name) = (database.server.clone(), database.name.clone());
    let sql = format!("begin; select from queue for share; {then}");
    tokio::spawn(async move { server.psql(&name, &sql).await })
}

#[tokio::test]
async fn a_takeover_waits_for_a_session_that_works_and_ends_nobody() {
    let database = Database::new().await;
    let lease = database.lease().await;
    let working = hold_the_queue(&database, "select pg_sleep(60)");
    database
        .until_sessions(1, "wait_event = 'PgSleep' and state = 'active'")
        .await;
    let error = database.take_over(&lease).await.unwrap_err();
    assert!(matches!(error, Error::Locked(_)), "{error:?}");
    database.until_sessions(1, "wait_event = 'PgSleep'").await;
    // While it waits, the lease is renewed: it is locked last.
    let (store, queue, mom) = (database.store.clone(), database.queue.clone(), database.mom);
    let taking = tokio::spawn(async move {
        let taken = store.take_over(&lease, queue.queue_id, queue.epoch, mom);
        taken.await
    });
    database
        .until_sessions(
            1,
            "wait_event_type = 'Lock' and query like '%update queue%'",
        )
        .await;
    let renewed = tokio::time::timeout(Duration::from_millis(250), database.lead(1, MINUTE));
    assert_eq!(held(renewed.await.unwrap()), lease);
    database
        .psql(
            "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and wait_event = 'PgSleep'",
        )
        .await;
    working.await.unwrap().unwrap_err();
    let taken = taking.await.unwrap().unwrap();
    assert!(matches!(taken, Decision::Made(Some(_))), "{taken:?}");
}

/// A client that has begun a transaction, locked a row of a table, and does nothing more.
async fn idle_holder(database: &Database, table: &str) -> PgConnection {
    let url = database.server.url(&database.name);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let sql = format!("begin; select from {table} for share");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
    connection
}

#[tokio::test]
async fn a_session_that_idles_in_a_transaction_does_not_hold_a_takeover_up() {
    let database = Database::new().await;
    let lease = database.lease().await;
    let mut idle = idle_holder(&database, "queue").await;
    // Nor does another one that waits for it, and is in the way for that reason only.
    let (server, name) = (database.server.clone(), database.name.clone());
    let waiting = tokio::spawn(async move {
        let sql = "update queue set label = label where label = 'news'";
        server.psql(&name, sql).await
    });
    database
        .until_sessions(1, "wait_event_type = 'Lock' and query like 'update queue%'")
        .await;
    let taken = tokio::time::timeout(SOON, database.take_over(&lease)).await;
    let taken = taken.unwrap().unwrap();
    assert!(matches!(taken, Decision::Made(Some(_))), "{taken:?}");
    waiting.await.unwrap().unwrap();
    // It was ended: its program hears so when it goes on.
    idle.ping().await.unwrap_err();
}

#[tokio::test]
async fn a_session_that_idles_in_a_transaction_does_not_hold_the_lease_up() {
    let database = Database::new().await;
    let lease = database.lease().await;
    let mut idle = idle_holder(&database, "lease").await;
    let renewed = tokio::time::timeout(SOON, database.lead(1, MINUTE)).await;
    assert_eq!(held(renewed.unwrap()), lease);
    idle.ping().await.unwrap_err();
}

#[tokio::test]
async fn a_session_that_is_stalled_in_mid_answer_does_not_hold_a_takeover_up() {
    let database = Database::new().await;
    let lease = database.lease().await;
    let server = ([127, 0, 0, 1], database.server.port()).into();
    let proxy = Proxy::start(server).await.unwrap();
    let url = database.server.url_through(proxy.port(), &database.name);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    // More than fits between the two: the server waits for a client that does not read, in no transaction of its own.
    proxy.blackhole(Direction::FromTarget);
    let stalled = tokio::spawn(async move {
        let sql =
            "select repeat('x', 1000000) from queue, generate_series(1, 100) for share of queue";
        sqlx::raw_sql(sql).execute(&mut connection).await
    });
    database
        .until_sessions(1, "wait_event = 'ClientWrite' and state = 'active'")
        .await;
    let taken = tokio::time::timeout(SOON, database.take_over(&lease)).await;
    let taken = taken.unwrap().unwrap();
    assert!(matches!(taken, Decision::Made(Some(_))), "{taken:?}");
    proxy.cut().await;
    stalled.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_mom_is_removed_only_without_queues_and_its_place_is_never_left_empty() {
    let database = Database::new().await;
    let (store, mom) = (&database.store, database.mom);
    assert!(!store.remove_mom(mom).await.unwrap());
    assert!(matches!(
        store.register_mom(&address(1)).await,
        Err(Error::AlreadyExists)
    ));

    // A queue that is being placed when the removal begins, and is committed after it.
    let second = store.register_mom(&address(2)).await.unwrap().id;
    let url = database.server.url(&database.name);
    let mut placing = PgConnection::connect(&url).await.unwrap();
    let sql = format!(
        "begin; insert into queue (id, label, mom_id) values (gen_random_uuid(), 'late', '{second}')"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut placing)
        .await
        .unwrap();
    let removing = {
        let store = store.clone();
        tokio::spawn(async move { store.remove_mom(second).await })
    };
    database
        .until_sessions(
            1,
            "wait_event_type = 'Lock' and query like '%delete from mom%'",
        )
        .await;
    sqlx::raw_sql("commit").execute(&mut placing).await.unwrap();
    assert!(!removing.await.unwrap().unwrap());
    assert!(store.queue("late").await.unwrap().owner.is_some());

    store.delete_queue("late").await.unwrap();
    assert!(store.remove_mom(second).await.unwrap());
    assert!(matches!(
        store.remove_mom(second).await,
        Err(Error::NotFound)
    ));
    assert!(matches!(
        store.set_draining(second, true).await,
        Err(Error::NotFound)
    ));
    assert!(matches!(
        store.create_queue("later", second).await,
        Err(Error::NotFound)
    ));
    assert!(store.set_draining(mom, true).await.unwrap().draining);
}

#[tokio::test]
async fn a_creation_is_taken_back_only_while_nobody_uses_the_queue() {
    let database = Database::new().await;
    let (store, queue) = (&database.store, &database.queue);
    let take_back = async |epoch| store.delete_queue_at(queue.queue_id, epoch).await.unwrap();
    assert!(!take_back(queue.epoch + 1).await, "another epoch");
    let channel = store.create_channel("news", None).await.unwrap();
    assert!(!take_back(queue.epoch).await, "it has a channel");
    store.delete_channel(channel.id).await.unwrap();
    assert!(take_back(queue.epoch).await);
}
