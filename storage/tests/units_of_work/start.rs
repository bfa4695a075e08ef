//! Where subscriptions start, and what channels may see.

use super::*;

/// A second of the year 2026 in microseconds.
fn at(second: i64) -> i64 {
    (1_767_225_600 + second) * 1_000_000
}

#[tokio::test]
async fn a_time_is_found_among_batches_of_any_size_and_in_their_holes() {
    let database = Database::new().await;
    let (mom, queue) = database.queue("news").await;
    let store = &database.store;
    assert_eq!(store.last_seq(queue.queue_id).await.unwrap(), 0);
    assert_eq!(store.seq_before(queue.queue_id, at(0)).await.unwrap(), 0);

    // Two seconds apart, and of 1 to 5 messages.
    let (mut first_seqs, mut next) = (Vec::new(), 1);
    let mut appender = store.appender();
    for n in 0..20 {
        let stored = messages(&["a", "b", "c", "d", "e"][..=n % 5]);
        let batches = [batch(&queue, next, &stored)];
        appender.append(mom, MINUTE, &batches).await.unwrap();
        first_seqs.push(next);
        next += stored.len() as i64;
    }
    let place_in_time = "update message_batch b
        set pushed_at = timestamptz '2026-01-01 00:00:00+00' + n * interval '2 seconds'
        from (select first_seq, row_number() over (order by first_seq) - 1 as n from message_batch) numbered
        where b.first_seq = numbered.first_seq";
    database.psql(place_in_time).await;

    assert_eq!(store.last_seq(queue.queue_id).await.unwrap(), next - 1);
    for hole in [None, Some(7), Some(0)] {
        if let Some(hole) = hole {
            let sql = format!(
                "delete from message_batch where first_seq = {}",
                first_seqs[hole]
            );
            database.psql(&sql).await;
            first_seqs.remove(hole);
        }
        let times = database
            .psql("select extract(epoch from pushed_at)::bigint - 1767225600 from message_batch order by first_seq")
            .await;
        let times: Vec<i64> = times.lines().map(|time| time.parse().unwrap()).collect();
        for second in -1..45 {
            let found = store.seq_before(queue.queue_id, at(second)).await.unwrap();
            let place = times.iter().position(|time| *time >= second);
            let expected = place.map_or(next, |place| first_seqs[place]);
            // What is missing before it makes no difference to who starts there.
            let before = place.unwrap_or(times.len()).checked_sub(1);
            let earliest = before.map_or(first_seqs[0], |before| first_seqs[before] + 1);
            assert!(
                (earliest - 1..expected).contains(&found)
                    && (hole.is_some() || found == expected - 1),
                "second {second}: {found} of {expected}, hole {hole:?}"
            );
        }
        // To the microsecond.
        let exact = store.seq_before(queue.queue_id, at(30)).await.unwrap();
        let later = store.seq_before(queue.queue_id, at(30) + 1).await.unwrap();
        assert!(exact < later);
    }
}

#[tokio::test]
async fn a_channel_takes_patterns_and_no_wildcard_that_means_nothing() {
    let database = Database::new().await;
    database.queue("news").await;
    let store = &database.store;
    for topic in ["news", "a..b.", "news.*", "*", ">", "*.eu.*.>", "..>"] {
        let channel = store.create_channel("news", Some(topic)).await.unwrap();
        assert_eq!(channel.topic.as_deref(), Some(topic));
    }
    for topic in ["news*", "a.**", ">.a", "a.>.b", ">>", "A.*", ""] {
        let refused = store.create_channel("news", Some(topic)).await;
        assert!(
            matches!(refused, Err(Error::Refused(_))),
            "{topic:?}: {refused:?}"
        );
    }
    store.create_channel("news", None).await.unwrap();
}
