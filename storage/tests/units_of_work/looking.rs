//! What operators look at: how full queues are and what was decided; and what they delete.

use storage::{Depth, EventRange};

use super::*;

async fn depth(database: &Database, label: &str) -> Depth {
    database.store.depth(label).await.unwrap()
}

#[tokio::test]
async fn a_purge_takes_what_was_committed_and_sequences_go_on() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let (_, other) = database.queue("other").await;
    let mut appender = database.store.appender();
    assert_eq!(depth(&database, "news").await.last_seq, 0);
    assert_eq!(database.store.purge("news").await.unwrap(), 0);
    let mut push = async |queue: &storage::Ownership, first_seq, contents: &[&str]| {
        let messages = messages(contents);
        let batches = [batch(queue, first_seq, &messages)];
        let fates = appender.append(mom, MINUTE, &batches).await.unwrap();
        assert_eq!(fates, [Appended::Committed]);
    };
    push(&queue, 1, &["1", "22"]).await;
    push(&queue, 3, &["333"]).await;
    push(&other, 1, &["o"]).await;
    let full = depth(&database, "news").await;
    assert_eq!((full.messages, full.bytes, full.last_seq), (3, 6, 3));
    assert!(full.oldest_at.is_some());

    assert_eq!(database.store.purge("news").await.unwrap(), 3);
    let empty = depth(&database, "news").await;
    assert_eq!((empty.messages, empty.bytes, empty.last_seq), (0, 0, 3));
    assert_eq!(empty.oldest_at, None);
    assert_eq!(database.store.next_seq(queue.queue_id).await.unwrap(), 4);
    let page = database.store.read_page(queue.queue_id, 0, 9, 999).await;
    assert!(page.unwrap().batches.is_empty());
    // Twice is the same, and a sweep finds nothing more to do.
    assert_eq!(database.store.purge("news").await.unwrap(), 0);
    assert_eq!(database.store.sweep_expired(9).await.unwrap().batches, 0);
    push(&queue, 4, &["4"]).await;
    let fresh = depth(&database, "news").await;
    assert_eq!((fresh.messages, fresh.bytes, fresh.last_seq), (1, 1, 4));
    assert_eq!(depth(&database, "other").await.messages, 1);
    let labels: Vec<String> = database
        .store
        .depths(None, 9)
        .await
        .unwrap()
        .into_iter()
        .map(|depth| depth.label)
        .collect();
    assert_eq!(labels, ["news", "other"]);
    assert_eq!(
        database.store.depths(Some("news"), 9).await.unwrap().len(),
        1
    );
    let none = database.store.purge("none").await;
    assert!(matches!(none, Err(Error::NotFound)));
}

#[tokio::test]
async fn each_decision_is_one_event_and_what_changes_nothing_is_none() {
    let database = Database::new().await;
    let store = &database.store;
    let (mom, queue) = database.queue("news").await;
    let kinds = async |after| {
        let events = store.events(EventRange::After(after), 100).await.unwrap();
        events
            .into_iter()
            .map(|event| event.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(0).await, ["mom_added", "queue_created"]);
    store.register_moms(&[address("mom", 1)]).await.unwrap();
    assert!(store.create_queue("news", mom).await.is_err());
    store.set_draining(mom, false).await.unwrap();
    assert_eq!(kinds(2).await, Vec::<String>::new());

    let holder = Uuid::now_v7();
    let storage::Leadership::Held(lease) = store.lead(holder, MINUTE).await.unwrap() else {
        panic!("somebody leads");
    };
    store.lead(holder, MINUTE).await.unwrap();
    for is_up in [true, true, false] {
        store.set_mom_up(&lease, mom, is_up).await.unwrap();
    }
    let other = store.register_mom(&address("::1", 2)).await.unwrap();
    for _ in 0..2 {
        store
            .take_over(&lease, queue.queue_id, 1, other.id)
            .await
            .unwrap();
    }
    store
        .record_fenced(mom, &[queue.queue_id], &[1])
        .await
        .unwrap();
    store
        .record_fenced(other.id, &[queue.queue_id], &[2])
        .await
        .unwrap();
    assert!(!store.remove_mom(other.id).await.unwrap());
    store.delete_queue("news").await.unwrap();
    assert!(store.remove_mom(other.id).await.unwrap());
    let last = kinds(2).await;
    assert_eq!(
        last,
        [
            "leader_changed",
            "mom_up",
            "mom_down",
            "mom_added",
            "queue_moved",
            "mom_fenced",
            "queue_deleted",
            "mom_removed",
        ]
    );
    assert!(
        last.iter()
            .all(|kind| storage::EVENT_KINDS.contains(&kind.as_str()))
    );

    let newest = store.events(EventRange::Newest, 2).await.unwrap();
    assert_eq!(
        (newest[0].kind.as_str(), newest[0].subject.as_str()),
        ("mom_removed", "[::1]:2")
    );
    let before = store
        .events(EventRange::Before(newest[1].id), 3)
        .await
        .unwrap();
    assert_eq!(before[0].kind, "mom_fenced");
    assert_eq!(before[1].text, "from mom:1 to [::1]:2, epoch 2");
    // The removal that was refused has used an id.
    store.sweep_events(3).await.unwrap();
    assert_eq!(kinds(0).await, last[6..]);
}
