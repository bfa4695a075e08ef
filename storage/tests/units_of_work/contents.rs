//! Contents that are kept apart from the row of their batch, and how they go.

use sqlx::{Connection, PgConnection};

use super::*;

/// Contents that do not stay in the row of their batch.
fn large(letter: &str) -> String {
    letter.repeat(5_000)
}

async fn read(database: &Database, queue: &storage::Ownership) -> Vec<(i64, Packed)> {
    let page = database.store.read_page(queue.queue_id, 0, 10, 1 << 20);
    let page = page.await.unwrap();
    assert!(page.is_last);
    let batches = page.batches.into_iter();
    batches
        .map(|batch| (batch.first_seq, batch.messages))
        .collect()
}

/// Slots, each with how many batches' contents it holds.
async fn slots(database: &Database) -> String {
    let sql = "select string_agg(n::text, ' ' order by slot)
        from (select slot, count(*) as n from message_content group by slot) s";
    database.psql(sql).await
}

#[tokio::test]
async fn large_contents_are_read_found_and_fenced_as_small_ones_are() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let (_, other) = database.queue("other").await;
    let mut appender = database.store.appender();
    let alone = messages(&[&large("a"), "#b"]);
    let beside = messages(&[&format!("!{}", large("c"))]);
    let small = messages(&["small"]);
    for _ in 0..2 {
        let fates = appender
            .append(mom, MINUTE, &[batch(&queue, 1, &alone)])
            .await
            .unwrap();
        assert_eq!(fates, [Appended::Committed]);
        let batches = [batch(&queue, 3, &beside), batch(&other, 1, &small)];
        let fates = appender.append(mom, MINUTE, &batches).await.unwrap();
        assert_eq!(fates, [Appended::Committed; 2]);
    }
    let large_ones = database.psql("select count(*) from message_content").await;
    assert_eq!(large_ones, "2");
    assert_eq!(read(&database, &other).await, [(1, small)]);
    let mut unkeyed = beside.clone();
    // Readers of pages have no use for it.
    unkeyed.runs[0].is_keyed = false;
    let stored = [(1, alone.clone()), (3, unkeyed)];
    assert_eq!(read(&database, &queue).await, stored);
    let shown =
        "select seq, topic, length(content) from message where queue_label = 'news' order by seq";
    let lengths = format!("1||5000\n2|{}|2\n3||5001", "b");
    assert_eq!(database.psql(shown).await, lengths);
    let mut keyed = Vec::new();
    let store = &database.store;
    store
        .keyed_messages(queue.queue_id, MINUTE, 10, |message| keyed.push(message))
        .await
        .unwrap();
    assert_eq!(keyed.len(), 1);
    assert_eq!((keyed[0].seq, &keyed[0].content), (3, &beside.contents));

    // A batch that is refused leaves nothing behind, alone or among others.
    let (late, there) = (messages(&[&large("d")]), messages(&[&large("e")]));
    let taken = appender
        .append(mom, MINUTE, &[batch(&queue, 1, &late)])
        .await
        .unwrap();
    assert_eq!(taken, [Appended::Fenced]);
    let batches = [batch(&queue, 1, &late), batch(&other, 2, &there)];
    let one = appender.append(mom, MINUTE, &batches).await.unwrap();
    assert_eq!(one, [Appended::Fenced, Appended::Committed]);
    let moved = store.seize(other.queue_id, other.epoch, mom).await.unwrap();
    assert!(moved.is_some());
    let fenced = appender
        .append(mom, MINUTE, &[batch(&other, 3, &late)])
        .await
        .unwrap();
    assert_eq!(fenced, [Appended::Fenced]);
    let large_ones = database.psql("select count(*) from message_content").await;
    assert_eq!(large_ones, "3");
}

#[tokio::test]
async fn a_slot_is_emptied_when_all_in_it_has_expired_and_nobody_uses_it() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let mut appender = database.store.appender();
    let pushed = messages(&[&large("a")]);
    for (first_seq, ttl) in [(1, Duration::ZERO), (2, MINUTE)] {
        let fates = appender
            .append(mom, ttl, &[batch(&queue, first_seq, &pushed)])
            .await
            .unwrap();
        assert_eq!(fates, [Appended::Committed]);
    }
    // Which slots they are in is a matter of the clock; here they share one.
    database
        .psql(
            "update message_content set slot = 3;
            update message_batch set slot = 3",
        )
        .await;
    assert_eq!(database.store.empty_expired_content().await.unwrap(), 0);
    assert_eq!(slots(&database).await, "2");
    assert_eq!(read(&database, &queue).await, [(2, pushed.clone())]);

    database
        .psql("update message_content set expires_at = now(); update message_batch set expires_at = now()")
        .await;
    // Somebody who uses the slot keeps it, and does not have to wait.
    let url = database.server.url(&database.name);
    let mut user = PgConnection::connect(&url).await.unwrap();
    let using = "begin; select from message_content_3";
    sqlx::raw_sql(using).execute(&mut user).await.unwrap();
    assert_eq!(database.store.empty_expired_content().await.unwrap(), 0);
    sqlx::raw_sql("commit").execute(&mut user).await.unwrap();

    assert_eq!(database.store.empty_expired_content().await.unwrap(), 1);
    assert_eq!(slots(&database).await, "");
    assert_eq!(database.store.empty_expired_content().await.unwrap(), 0);
    // The sweep need not have come to the batches, nor has a clock to agree: what has no content is not delivered.
    database
        .psql("update message_batch set expires_at = now() + interval '1 minute'")
        .await;
    assert_eq!(read(&database, &queue).await, []);
    assert_eq!(database.psql("select count(*) from message").await, "0");
    assert_eq!(database.store.next_seq(queue.queue_id).await.unwrap(), 3);
}
