//! Messages: appended, found, read and swept.

use super::*;

#[tokio::test]
async fn messages_are_found_by_their_ids_behind_a_sequence() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let (_, other) = database.queue("other").await;
    let mut appender = database.store.appender();
    let (first, second, elsewhere) = (
        messages(&["1", "2", "3"]),
        messages(&["4"]),
        messages(&["5"]),
    );
    for batches in [
        vec![batch(&queue, 1, &first)],
        vec![batch(&queue, 4, &second), batch(&other, 1, &elsewhere)],
    ] {
        appender.append(mom, MINUTE, &batches).await.unwrap();
    }
    let find = async |after, ids: &[Uuid]| {
        let mut found = database
            .store
            .find_messages(queue.queue_id, after, ids)
            .await
            .unwrap();
        found.sort_unstable_by_key(|(_, seq)| *seq);
        found
    };
    let ids = [
        second.runs[0].id,
        Uuid::nil(),
        first.runs[1].id,
        elsewhere.runs[0].id,
    ];
    assert_eq!(
        find(0, &ids).await,
        [(first.runs[1].id, 2), (second.runs[0].id, 4)]
    );
    assert_eq!(
        find(1, &ids).await,
        [(first.runs[1].id, 2), (second.runs[0].id, 4)]
    );
    assert_eq!(find(2, &ids).await, [(second.runs[0].id, 4)]);
    assert_eq!(find(4, &ids).await, []);
}

#[tokio::test]
async fn messages_of_a_run_are_found_and_shown_each_by_its_id() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let (id, contents) = (0x1_0000_00ff, ["1", "", "333", "4"]);
    let stored = run(id, &contents);
    assert_eq!(stored.runs.len(), 1);
    let batches = [batch(&queue, 1, &stored)];
    let mut appender = database.store.appender();
    appender.append(mom, MINUTE, &batches).await.unwrap();

    let ids: Vec<Uuid> = [0, 1, 3, 4].map(|n| Uuid::from_u128(id + n)).into();
    let store = &database.store;
    let mut found = store.find_messages(queue.queue_id, 1, &ids).await.unwrap();
    found.sort_unstable();
    assert_eq!(found, [(ids[1], 2), (ids[2], 4)]);
    let shown: Vec<String> = (1..)
        .zip(contents)
        .map(|(seq, content)| {
            let id = Uuid::from_u128(id + seq - 1);
            format!("{seq}|{id}|{content}")
        })
        .collect();
    let message = "select seq, id, convert_from(content, 'utf8') from message order by seq";
    assert_eq!(database.psql(message).await, shown.join("\n"));
}

#[tokio::test]
async fn batches_stored_before_they_were_packed_are_kept() {
    let database = Database::empty().await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/sql");
    let mut migrations: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    migrations.sort();
    let place = migrations
        .iter()
        .position(|file| file.ends_with("20261124000011_pack_message_batch.sql"));
    let (before, after) = migrations.split_at(place.unwrap());
    for migration in before {
        database
            .psql(&std::fs::read_to_string(migration).unwrap())
            .await;
    }
    let stored = "insert into queue (id, label) values (gen_random_uuid(), 'old');
        insert into message_batch (queue_id, first_seq, count, size, epoch, ids, topics, contents, keyed, expires_at)
        select id, 5, 3, 303, 1, array[gen_random_uuid(), gen_random_uuid(), gen_random_uuid()], array[null, 't', null],
            array['one', '', convert_to(repeat('x', 300), 'utf8')]::bytea[], array[false, true, false], now() + '1 hour'
        from queue
        union all
        select id, 8, 1, 0, 1, '{}', null, '{}', null, now() - interval '1 hour' from queue";
    database.psql(stored).await;
    let message = "select seq, id, topic, content from message order by seq";
    let expected = database.psql(message).await;
    assert_eq!(expected.lines().count(), 3);
    for migration in after {
        database
            .psql(&std::fs::read_to_string(migration).unwrap())
            .await;
    }
    assert_eq!(database.psql(message).await, expected);
}

#[tokio::test]
async fn messages_with_brought_ids_are_found_within_their_window() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let (_, other) = database.queue("other").await;
    let mut appender = database.store.appender();
    let (old, new, plain) = (
        messages(&["old!"]),
        messages(&["plain", "#keyed!", "too!"]),
        messages(&["nothing"]),
    );
    appender
        .append(mom, MINUTE, &[batch(&queue, 1, &old)])
        .await
        .unwrap();
    database
        .psql("update message_batch set pushed_at = pushed_at - interval '3 minutes'")
        .await;
    let batches = [batch(&queue, 2, &new), batch(&other, 1, &plain)];
    appender.append(mom, MINUTE, &batches).await.unwrap();
    assert_eq!(
        database
            .psql("select count(*) from message_batch where keyed is not null")
            .await,
        "2",
        "a batch without keys has none marked"
    );

    let keyed = async |window, limit| {
        let mut found = Vec::new();
        let visit = |message: storage::KeyedMessage| {
            assert_eq!(message.age > MINUTE, message.seq == 1);
            found.push((message.seq, message.id, message.topic, message.content));
        };
        let store = &database.store;
        store
            .keyed_messages(queue.queue_id, window, limit, visit)
            .await
            .unwrap();
        found
    };
    let expected = [
        (4, new.runs[2].id, None, b"too!".to_vec()),
        (
            3,
            new.runs[1].id,
            Some("keyed!".to_owned()),
            b"#keyed!".to_vec(),
        ),
    ];
    assert_eq!(keyed(2 * MINUTE, 10).await, expected);
    assert_eq!(keyed(2 * MINUTE, 1).await, expected[..1]);
    assert_eq!(keyed(4 * MINUTE, 10).await.len(), 3);
}

#[tokio::test]
async fn appended_messages_are_read_back_with_their_topics_and_shown_by_the_view() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let (_, other) = database.queue("other").await;
    let mut appender = database.store.appender();
    let (_, third) = database.queue("third").await;
    let written = [
        (&queue, messages(&["one", "#two"])),
        (&other, messages(&["#a", "~b", "elsewhere", "#there"])),
        (&third, messages(&["last"])),
    ];
    let batches = written.each_ref();
    let batches = batches.map(|(queue, messages)| batch(queue, 1, messages));
    assert_eq!(
        appender.append(mom, MINUTE, &batches).await.unwrap(),
        [Appended::Committed; 3]
    );

    for (queue, messages) in &written {
        let page = database.store.read_page(queue.queue_id, 0, 10, 1000).await;
        let page = page.unwrap();
        assert!(page.is_last);
        let read = &page.batches[0];
        assert_eq!((read.first_seq, &read.messages), (1, messages));
    }
    let shown = "select seq, topic, convert_from(content, 'utf8') from message where queue_label = 'news' order by seq";
    assert_eq!(database.psql(shown).await, "1||one\n2|two|#two");
    assert_eq!(database.store.next_seq(queue.queue_id).await.unwrap(), 3);
}

#[tokio::test]
async fn the_same_batch_appended_again_is_recognised_and_not_written_twice() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let mut appender = database.store.appender();
    let committed = messages(&["one"]);
    for _ in 0..2 {
        let fates = appender
            .append(mom, MINUTE, &[batch(&queue, 1, &committed)])
            .await
            .unwrap();
        assert_eq!(fates, [Appended::Committed]);
    }
    // Also after the queue has moved: what was committed stays committed, what was not is fenced for good.
    database
        .store
        .seize(queue.queue_id, queue.epoch, mom)
        .await
        .unwrap()
        .unwrap();
    let again = appender
        .append(mom, MINUTE, &[batch(&queue, 1, &committed)])
        .await
        .unwrap();
    assert_eq!(again, [Appended::Committed]);
    let late = messages(&["late"]);
    let fenced = appender
        .append(mom, MINUTE, &[batch(&queue, 2, &late)])
        .await
        .unwrap();
    assert_eq!(fenced, [Appended::Fenced]);
    assert_eq!(database.psql("select count(*) from message").await, "1");
}

#[tokio::test]
async fn nothing_is_appended_by_another_mom_under_another_epoch_or_to_a_deleted_queue() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let (_, healthy) = database.queue("healthy").await;
    let mut appender = database.store.appender();
    let pushed = messages(&["x"]);
    let fates = appender
        .append(Uuid::now_v7(), MINUTE, &[batch(&queue, 1, &pushed)])
        .await
        .unwrap();
    assert_eq!(fates, [Appended::Fenced], "another MoM");
    let mut old = queue.clone();
    old.epoch -= 1;
    let fates = appender
        .append(
            mom,
            MINUTE,
            &[batch(&old, 1, &pushed), batch(&healthy, 1, &pushed)],
        )
        .await
        .unwrap();
    assert_eq!(
        fates,
        [Appended::Fenced, Appended::Committed],
        "an older epoch, beside a queue that is well"
    );
    database.store.delete_queue("news").await.unwrap();
    let fates = appender
        .append(mom, MINUTE, &[batch(&queue, 1, &pushed)])
        .await
        .unwrap();
    assert_eq!(fates, [Appended::Fenced], "a deleted queue");
    // Two processes that take each other's place at the same epoch cannot both have a sequence.
    let foreign = messages(&["foreign"]);
    let fates = appender
        .append(mom, MINUTE, &[batch(&healthy, 1, &foreign)])
        .await
        .unwrap();
    assert_eq!(fates, [Appended::Fenced], "a sequence that is taken");
}

#[tokio::test]
async fn a_batch_of_the_next_owner_is_not_taken_for_ones_own_although_it_begins_with_the_same_push()
{
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let here = messages(&["a", "b"]);
    let mut there = Packed::default();
    there.add(&here.runs[0], &[], 0, b"a");
    there.add(&messages(&["c"]).runs[0], &[], 0, b"c");
    let taken = database.store.seize(queue.queue_id, queue.epoch, mom).await;
    let mut next = queue.clone();
    next.epoch = taken.unwrap().unwrap().epoch;
    let mut appender = database.store.appender();
    let fates = appender
        .append(mom, MINUTE, &[batch(&next, 1, &there)])
        .await;
    assert_eq!(fates.unwrap(), [Appended::Committed]);
    let fates = appender
        .append(mom, MINUTE, &[batch(&queue, 1, &here)])
        .await;
    assert_eq!(fates.unwrap(), [Appended::Fenced]);
    let fates = appender
        .append(mom, MINUTE, &[batch(&next, 1, &there)])
        .await;
    assert_eq!(fates.unwrap(), [Appended::Committed], "the same again");
}

#[tokio::test]
async fn an_append_passes_over_a_queue_whose_row_is_held_and_can_be_repeated() {
    let database = Database::new().await;
    let (mom, held) = database.queue("held").await;
    let (_, free) = database.queue("free").await;
    let session = "begin; select from queue where label = 'held' for update; select pg_sleep(60)";
    let (server, name) = (database.server, database.name.clone());
    let holding = tokio::spawn(async move { server.psql(&name, session).await });
    let sleeps = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event = 'PgSleep'";
    wait_until("the row to be held", MINUTE, async || {
        database.psql(sleeps).await == "1"
    })
    .await;
    let (first, second) = (messages(&["one"]), messages(&["two"]));
    let batches = [batch(&held, 1, &first), batch(&free, 1, &second)];
    let mut appender = database.store.appender();
    let fates = appender.append(mom, MINUTE, &batches).await.unwrap();
    assert_eq!(fates, [Appended::Locked, Appended::Committed]);
    let alone = appender.append(mom, MINUTE, &batches[..1]).await.unwrap();
    assert_eq!(alone, [Appended::Locked]);
    // One that is not owned any more is fenced, held or not.
    let mut stale = batches[0];
    stale.epoch += 1;
    let fates = appender.append(mom, MINUTE, &[stale]).await.unwrap();
    assert_eq!(fates, [Appended::Fenced]);
    database
        .psql(
            "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and query like '%pg_sleep(60)'",
        )
        .await;
    holding.await.unwrap().unwrap_err();
    let fates = appender.append(mom, MINUTE, &batches).await.unwrap();
    assert_eq!(fates, [Appended::Committed; 2]);
}

#[tokio::test]
async fn a_deleted_queue_takes_its_batches_along_also_that_of_an_append_under_way() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let mut appender = database.store.appender();
    appender
        .append(mom, MINUTE, &[batch(&queue, 1, &messages(&["early"]))])
        .await
        .unwrap();
    // An append that is between its proof and its commit when the deletion begins.
    let append = "begin;
        insert into message_batch
            (queue_id, first_seq, count, size, epoch, ids, counts, ends, contents, expires_at)
        select id, 2, 1, 4, epoch, array[gen_random_uuid()], array[1], '\\x04000000', 'late', now() + '1 minute'
        from queue for share;
        select pg_advisory_lock(1);
        commit";
    let (server, name) = (database.server, database.name.clone());
    let held = "select pg_advisory_lock(1); select pg_sleep(60)";
    let holder = tokio::spawn(async move { server.psql(&name, held).await });
    let granted = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
        where d.datname = current_database() and locktype = 'advisory' and granted";
    wait_until("the commit to be held up", MINUTE, async || {
        database.psql(granted).await == "1"
    })
    .await;
    let name = database.name.clone();
    let appending = tokio::spawn(async move { server.psql(&name, append).await });
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    wait_until(
        "the append to have proven its ownership",
        MINUTE,
        async || database.psql(waiting).await == "1",
    )
    .await;
    let store = database.store.clone();
    let deletion = tokio::spawn(async move { store.delete_queue("news").await });
    wait_until("the deletion to wait for the append", MINUTE, async || {
        database.psql(waiting).await == "2"
    })
    .await;
    database
        .psql(
            "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and query like '%pg_sleep(60)'",
        )
        .await;
    holder.await.unwrap().unwrap_err();
    appending.await.unwrap().unwrap();
    deletion.await.unwrap().unwrap();
    assert_eq!(
        database.psql("select count(*) from message_batch").await,
        "0"
    );
}

#[tokio::test]
async fn pages_are_bounded_by_rows_and_bytes_and_together_give_everything_once() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let mut appender = database.store.appender();
    let pushed = messages(&["aaaa", "bbbb", "cccc"]);
    for index in 0..5 {
        appender
            .append(mom, MINUTE, &[batch(&queue, 1 + index * 3, &pushed)])
            .await
            .unwrap();
    }
    for (rows, bytes, expected) in [(2, 1000, 2), (10, 13, 2), (10, 1, 1), (10, 1000, 5)] {
        let (mut after, mut first, mut seen) = (0, None, Vec::new());
        loop {
            let page = database
                .store
                .read_page(queue.queue_id, after, rows, bytes)
                .await
                .unwrap();
            first.get_or_insert(page.batches.len());
            seen.extend(
                page.batches
                    .iter()
                    .flat_map(|b| b.first_seq..b.first_seq + b.messages.len() as i64),
            );
            after = seen.last().copied().unwrap_or(0);
            if page.is_last {
                break;
            }
        }
        assert_eq!(first, Some(expected), "{rows} rows, {bytes} bytes");
        assert_eq!(seen, (1..=15).collect::<Vec<_>>());
    }
    // A reader that left off within a batch gets that batch.
    let page = database
        .store
        .read_page(queue.queue_id, 7, 10, 1000)
        .await
        .unwrap();
    assert_eq!(
        page.batches.iter().map(|b| b.first_seq).collect::<Vec<_>>(),
        [7, 10, 13]
    );
    let page = database
        .store
        .read_page(queue.queue_id, 15, 10, 1000)
        .await
        .unwrap();
    assert!(page.batches.is_empty() && page.is_last);
}

#[tokio::test]
async fn the_sweep_deletes_what_expired_and_the_sequence_goes_on() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let (_, kept) = database.queue("kept").await;
    let mut appender = database.store.appender();
    let pushed = messages(&["x", "y"]);
    for first_seq in [1, 3, 5] {
        appender
            .append(mom, Duration::ZERO, &[batch(&queue, first_seq, &pushed)])
            .await
            .unwrap();
    }
    appender
        .append(mom, MINUTE, &[batch(&kept, 1, &pushed)])
        .await
        .unwrap();
    assert!(
        database
            .store
            .read_page(queue.queue_id, 0, 10, 1000)
            .await
            .unwrap()
            .batches
            .is_empty()
    );

    let mut swept = 0;
    loop {
        let one = database.store.sweep_expired(2).await.unwrap();
        assert!(one.batches <= 2);
        swept += one.messages;
        if one.batches == 0 {
            break;
        }
    }
    assert_eq!(swept, 6);
    let left = "select q.label, b.first_seq, cardinality(ids) from message_batch b join queue q on q.id = b.queue_id order by 1";
    assert_eq!(database.psql(left).await, "kept|1|2\nnews|5|0");
    assert_eq!(database.store.next_seq(queue.queue_id).await.unwrap(), 7);
    // The emptied batch goes once it is not the newest any more.
    appender
        .append(mom, MINUTE, &[batch(&queue, 7, &pushed)])
        .await
        .unwrap();
    assert_eq!(database.store.sweep_expired(10).await.unwrap().batches, 1);
    assert_eq!(database.psql(left).await, "kept|1|2\nnews|7|2");
}
