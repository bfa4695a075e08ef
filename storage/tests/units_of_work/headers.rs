//! Headers, which are stored only where there are any.

use super::*;

async fn read(database: &Database, queue: &storage::Ownership) -> Vec<Packed> {
    let page = database.store.read_page(queue.queue_id, 0, 10, 1 << 20);
    let batches = page.await.unwrap().batches.into_iter();
    batches.map(|batch| batch.messages).collect()
}

#[tokio::test]
async fn headers_are_read_back_however_their_batch_was_written() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let (_, other) = database.queue("other").await;
    let (_, third) = database.queue("third").await;
    let mut appender = database.store.appender();
    let large = "x".repeat(5_000);
    let one = messages(&["a", "b~", "#c~"]);
    let large_one = messages(&[&large, &format!("{large}~")]);
    let of_many = messages(&["d~", "e"]);
    let none = messages(&["f", "#g"]);
    let large_of_many = messages(&[&format!("#{large}~"), "h~"]);
    for (first_seq, batches) in [
        (1, vec![(&queue, &one)]),
        (4, vec![(&queue, &large_one)]),
        (
            6,
            vec![
                (&queue, &of_many),
                (&other, &none),
                (&third, &large_of_many),
            ],
        ),
    ] {
        let batches: Vec<_> = batches
            .into_iter()
            .map(|(queue, messages)| batch(queue, first_seq, messages))
            .collect();
        // Also one that is appended again is recognised.
        for _ in 0..2 {
            let fates = appender.append(mom, MINUTE, &batches).await.unwrap();
            assert_eq!(fates, vec![Appended::Committed; batches.len()]);
        }
    }
    assert!(one.runs[2].headers.is_some());
    let stored = [one, large_one.clone(), of_many];
    assert_eq!(read(&database, &queue).await, stored);
    assert_eq!(read(&database, &other).await, [none]);
    assert_eq!(read(&database, &third).await, [large_of_many]);

    let shown = "select seq, headers from message where queue_label = 'news' and headers is not null order by seq";
    let expected = [
        r#"2|{"of": "b", "size": "2"}"#,
        r##"3|{"of": "#", "size": "3"}"##,
        r#"5|{"of": "x", "size": "5001"}"#,
        r#"6|{"of": "d", "size": "2"}"#,
    ];
    assert_eq!(database.psql(shown).await, expected.join("\n"));
    let unused = "select count(*) from message_batch where headers is null";
    assert_eq!(
        database.psql(unused).await,
        "1",
        "a batch without any has none"
    );
    // A page is bounded by them as by contents.
    let size = "select size from message_batch where first_seq = 4";
    assert_eq!(database.psql(size).await, large_one.size().to_string());
}

#[tokio::test]
async fn headers_that_others_have_written_are_checked() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let mut appender = database.store.appender();
    let messages = messages(&["a", "b~"]);
    let batches = [batch(&queue, 1, &messages)];
    appender.append(mom, MINUTE, &batches).await.unwrap();
    for broken in ["[]", r#"{"a": 1}"#, r#"{"not legal": ""}"#] {
        let set = format!("update message_batch set headers[2] = '{broken}'");
        database.psql(&set).await;
        let page = database.store.read_page(queue.queue_id, 0, 10, 1000).await;
        let error = page.unwrap_err().to_string();
        assert!(error.contains("corrupt"), "{broken}: {error}");
    }
}
