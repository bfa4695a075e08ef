//! Each anomaly, made by hand, is found; a clean history has none.

use chaos::checker::{Anomaly, Verdict, check};
use chaos::history::{Digest, Event, Record};
use momclient::Uuid;

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn invoke(op: u64, name: &str, own: Option<Uuid>) -> Event {
    Event::Invoke {
        op,
        pusher: 0,
        once: own.is_none(),
        queue: 0,
        topic: None,
        id: own,
        digest: digest(name),
    }
}

fn ok(op: u64, seq: i64) -> Event {
    Event::Ok {
        op,
        id: id(seq as u128),
        seq,
        duplicate: false,
    }
}

fn row(seq: i64, name: &str) -> Event {
    Event::Row {
        queue: 0,
        seq,
        id: id(seq as u128),
        topic: None,
        digest: digest(name),
    }
}

fn subscribe(after: i64, topic: Option<&str>) -> Event {
    Event::Subscribe {
        subscription: 0,
        kind: "bare".to_owned(),
        queue: 0,
        topic: topic.map(str::to_owned),
        after,
    }
}

fn deliver(seq: i64, name: &str) -> Event {
    Event::Deliver {
        subscription: 0,
        id: id(seq as u128),
        seq,
        digest: digest(name),
    }
}

fn batch(first_seq: i64, count: i64, epoch: i64, committed: i64) -> Event {
    Event::Batch {
        queue: 0,
        first_seq,
        count,
        epoch,
        committed,
    }
}

fn takeover(old_epoch: i64, new_epoch: i64, committed: i64) -> Event {
    Event::Takeover {
        queue: 0,
        moved: true,
        old_epoch,
        new_epoch,
        committed,
    }
}

/// Three messages, acknowledged, stored and delivered, across a takeover.
fn clean() -> Vec<Event> {
    vec![
        subscribe(0, None),
        invoke(1, "a", None),
        ok(1, 1),
        invoke(2, "b", None),
        ok(2, 2),
        invoke(3, "c", None),
        Event::Unknown {
            op: 3,
            why: "silence".to_owned(),
        },
        deliver(1, "a"),
        deliver(2, "b"),
        deliver(3, "c"),
        invoke(4, "d", None),
        Event::Fail {
            op: 4,
            why: "overloaded".to_owned(),
        },
        Event::Healed,
        row(1, "a"),
        row(2, "b"),
        row(3, "c"),
        batch(1, 2, 1, 100),
        takeover(1, 2, 200),
        batch(3, 1, 2, 300),
    ]
}

fn verdict(events: Vec<Event>) -> Verdict {
    let events = events.into_iter().chain([Event::Told]);
    let records = (0..)
        .zip(events)
        .map(|(at, event)| Ok(Record { at, event }));
    check(records).unwrap()
}

fn anomalies(events: Vec<Event>) -> Vec<Anomaly> {
    verdict(events).anomalies.into_keys().collect()
}

/// The clean history with what matches `old` replaced, or taken out.
fn with(old: &Event, new: Option<Event>) -> Vec<Event> {
    let mut events = clean();
    let place = events.iter().position(|event| event == old).unwrap();
    events.splice(place..=place, new);
    events
}

fn and(new: Vec<Event>) -> Vec<Event> {
    let mut events = clean();
    events.extend(new);
    events
}

#[test]
fn a_clean_history_passes() {
    assert_eq!(anomalies(clean()), []);
    let verdict = verdict(clean());
    assert_eq!(
        (verdict.acknowledged, verdict.refused, verdict.unknown),
        (2, 1, 1)
    );
    assert_eq!(
        (verdict.stored, verdict.delivered, verdict.takeovers),
        (3, 3, 1)
    );
}

#[test]
fn an_acknowledged_message_that_is_not_in_the_table_is_lost() {
    let mut events = with(&row(2, "b"), None);
    events.retain(|event| *event != deliver(2, "b"));
    assert_eq!(anomalies(events), [Anomaly::Lost]);
    // Another one has its place.
    let mut events = with(&row(2, "b"), Some(row(2, "x")));
    events.retain(|event| *event != deliver(2, "b"));
    events.splice(0..0, [invoke(9, "x", None)]);
    assert!(anomalies(events).contains(&Anomaly::Lost));
}

#[test]
fn what_a_subscription_did_not_get_is_skipped_or_lost() {
    let events = with(&deliver(2, "b"), None);
    assert_eq!(anomalies(events), [Anomaly::Lost, Anomaly::Skipped]);
    let events = with(&deliver(3, "c"), None);
    assert_eq!(anomalies(events), [Anomaly::Lost]);
    // Nothing of it was acknowledged, and yet it is there.
    let mut events = with(&deliver(2, "b"), None);
    events.retain(|event| *event != ok(2, 2));
    assert_eq!(anomalies(events), [Anomaly::Skipped]);
}

#[test]
fn a_subscription_need_not_get_what_it_does_not_cover() {
    let mut events = with(&subscribe(0, None), Some(subscribe(2, None)));
    events.retain(|event| *event != deliver(1, "a") && *event != deliver(2, "b"));
    assert_eq!(anomalies(events), []);
    let mut events = with(&subscribe(0, None), Some(subscribe(0, Some("red"))));
    events.retain(|event| !matches!(event, Event::Deliver { .. }));
    assert_eq!(anomalies(events), []);
}

#[test]
fn what_was_never_pushed_or_refused_or_not_stored_is_a_phantom() {
    let stored = and(vec![row(4, "never"), deliver(4, "never")]);
    assert_eq!(anomalies(stored), [Anomaly::Phantom]);
    let refused = and(vec![row(4, "d"), deliver(4, "d")]);
    assert_eq!(anomalies(refused), [Anomaly::Phantom]);
    let delivered = and(vec![deliver(4, "d")]);
    assert_eq!(anomalies(delivered), [Anomaly::Phantom]);
    let mut topic = clean();
    topic[0] = subscribe(0, Some("red"));
    assert_eq!(anomalies(topic), [Anomaly::Phantom]);
}

#[test]
fn a_refusal_after_an_unknown_attempt_proves_nothing() {
    let events = and(vec![
        invoke(5, "e", Some(id(4))),
        Event::Unknown {
            op: 5,
            why: "silence".to_owned(),
        },
        invoke(6, "e", Some(id(4))),
        Event::Fail {
            op: 6,
            why: "overloaded".to_owned(),
        },
        row(4, "e"),
        deliver(4, "e"),
    ]);
    assert_eq!(anomalies(events), []);
}

#[test]
fn one_content_or_one_id_at_two_sequences_is_a_duplicate() {
    let content = and(vec![row(4, "c"), deliver(4, "c")]);
    assert_eq!(anomalies(content), [Anomaly::Duplicate]);
    let mut same_id = row(4, "e");
    if let Event::Row { id: own, .. } = &mut same_id {
        *own = id(3);
    }
    let mut delivered = deliver(4, "e");
    if let Event::Deliver { id: own, .. } = &mut delivered {
        *own = id(3);
    }
    let one_id = and(vec![invoke(5, "e", None), same_id, delivered]);
    assert_eq!(anomalies(one_id), [Anomaly::Duplicate]);
}

#[test]
fn sequences_that_do_not_rise_are_reordered() {
    let again = with(&deliver(3, "c"), Some(deliver(2, "b")));
    assert_eq!(anomalies(again), [Anomaly::Lost, Anomaly::Reordered]);
    // The second was pushed after the first was acknowledged.
    let mut swapped = clean();
    for event in &mut swapped {
        *event = match &*event {
            Event::Ok { op: 1, .. } => ok(1, 2),
            Event::Ok { op: 2, .. } => ok(2, 1),
            Event::Row { seq: 1, .. } => row(1, "b"),
            Event::Row { seq: 2, .. } => row(2, "a"),
            Event::Deliver { seq: 1, .. } => deliver(1, "b"),
            Event::Deliver { seq: 2, .. } => deliver(2, "a"),
            other => other.clone(),
        };
    }
    assert_eq!(anomalies(swapped), [Anomaly::Reordered]);
}

#[test]
fn another_content_or_id_at_a_sequence_is_divergent() {
    let content = with(&deliver(2, "b"), Some(deliver(2, "x")));
    assert_eq!(anomalies(content), [Anomaly::Divergent]);
    let mut other_id = ok(2, 2);
    if let Event::Ok { id: own, .. } = &mut other_id {
        *own = id(77);
    }
    let acknowledged = with(&ok(2, 2), Some(other_id));
    assert_eq!(anomalies(acknowledged), [Anomaly::Divergent]);
    let stored = and(vec![row(3, "c")]);
    assert!(anomalies(stored).contains(&Anomaly::Divergent));
}

#[test]
fn a_repeat_has_the_answer_of_the_first_and_nothing_else_is_a_repeat() {
    let push = |op, duplicate| {
        let mut answer = ok(op, 4);
        if let Event::Ok { duplicate: own, .. } = &mut answer {
            *own = duplicate;
        }
        [invoke(op, "e", Some(id(4))), answer]
    };
    let rest = [row(4, "e"), deliver(4, "e")];
    let repeated = |duplicate| {
        let pushes = [push(5, false), push(6, duplicate)];
        and(pushes.into_iter().flatten().chain(rest.clone()).collect())
    };
    assert_eq!(anomalies(repeated(true)), []);
    assert_eq!(anomalies(repeated(false)), [Anomaly::FalseDuplicate]);

    let mut pushed_once = ok(2, 2);
    if let Event::Ok { duplicate, .. } = &mut pushed_once {
        *duplicate = true;
    }
    let pushed_once = with(&ok(2, 2), Some(pushed_once));
    assert_eq!(anomalies(pushed_once), [Anomaly::FalseDuplicate]);

    // Another content under the same id was called the same message.
    let [_, answer] = push(6, true);
    let mut conflict: Vec<Event> = push(5, false).into();
    conflict.extend([invoke(6, "f", Some(id(4))), answer]);
    conflict.extend(rest);
    assert_eq!(anomalies(and(conflict)), [Anomaly::FalseDuplicate]);
}

#[test]
fn epochs_and_sequences_of_batches_are_looked_at() {
    let back = and(vec![batch(4, 1, 1, 150)]);
    assert_eq!(anomalies(back), [Anomaly::EpochWentBack]);
    let hole = and(vec![batch(5, 1, 2, 400)]);
    assert_eq!(anomalies(hole), [Anomaly::Hole]);
    let overlap = and(vec![batch(2, 2, 1, 150)]);
    assert_eq!(anomalies(overlap), [Anomaly::Hole]);
}

#[test]
fn a_batch_of_an_old_epoch_after_a_takeover_is_found() {
    let late = with(&batch(1, 2, 1, 100), Some(batch(1, 2, 1, 250)));
    assert_eq!(anomalies(late), [Anomaly::CommittedAfterTakeover]);
}

#[test]
fn a_takeover_that_does_not_raise_the_epoch_is_found() {
    let events = and(vec![takeover(2, 2, 400)]);
    assert_eq!(anomalies(events), [Anomaly::TakeoverWithoutEpoch]);
}

#[test]
fn what_ends_or_stands_still_or_panics_is_found() {
    let why = "the end".to_owned();
    for (event, anomaly) in [
        (
            Event::End {
                subscription: 0,
                why: why.clone(),
            },
            Anomaly::Ended,
        ),
        (Event::Stuck { what: why.clone() }, Anomaly::Stuck),
        (Event::Panicked { what: why }, Anomaly::Panicked),
    ] {
        assert_eq!(anomalies(and(vec![event])), [anomaly]);
    }
}

#[test]
fn a_record_reads_as_it_was_written() {
    for event in clean() {
        let record = Record { at: 7, event };
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }
}

#[test]
fn a_history_that_was_broken_off_proves_nothing() {
    let records = clean().into_iter().map(|event| Ok(Record { at: 0, event }));
    assert!(check(records).is_err());
}
