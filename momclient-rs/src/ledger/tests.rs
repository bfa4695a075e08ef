//! The ledger by itself.

use protos::{Outcome as Told, Refusal, codes};
use tonic::Code;

use super::*;

const TIME: Duration = Duration::from_secs(10);

pub(super) fn opened(seq: i64) -> PushAnswer {
    PushAnswer {
        outcomes: Vec::new(),
        window_messages: 100_000,
        window_bytes: 1 << 30,
        seq,
    }
}

pub(super) fn answer(outcomes: Vec<Told>) -> PushAnswer {
    PushAnswer {
        outcomes,
        ..PushAnswer::default()
    }
}

pub(super) fn committed(number: u32, count: u32, seq: i64) -> Told {
    Told {
        number,
        count,
        seq,
        ..Told::default()
    }
}

pub(super) fn refused(number: u32, count: u32, code: Code, stable: &str) -> Told {
    let refusal = Refusal {
        status: code as i32,
        code: stable.to_owned(),
        detail: "words".to_owned(),
    };
    Told {
        number,
        count,
        refusal: Some(refusal),
        ..Told::default()
    }
}

/// A ledger with an open link.
fn ledger(limit: usize) -> Ledger {
    let mut ledger = Ledger::new(limit, Duration::ZERO);
    ledger.begin();
    ledger.opened(&opened(0));
    ledger
}

fn push(ledger: &mut Ledger, contents: &[u8], topic: Option<&str>) -> oneshot::Receiver<Outcome> {
    let push = Push {
        contents: Bytes::copy_from_slice(contents),
        topic,
        headers: None,
        kind: Kind::Plain,
    };
    let (reply, outcome) = oneshot::channel();
    ledger.push(push, Instant::now() + TIME, reply);
    outcome
}

fn push_many(ledger: &mut Ledger, contents: &[&[u8]]) -> oneshot::Receiver<Outcome> {
    let mut all = Vec::new();
    for content in contents {
        let end = contents_len(&all) + content.len();
        ends::push(&mut all, end);
    }
    let push = Push {
        contents: contents.concat().into(),
        topic: None,
        headers: None,
        kind: Kind::Together(all.into()),
    };
    let (reply, outcome) = oneshot::channel();
    ledger.push(push, Instant::now() + TIME, reply);
    outcome
}

fn contents_len(all: &[u8]) -> usize {
    ends::iter(all).last().unwrap_or(0)
}

/// Enters an answer and hands out what came of it.
fn hear(ledger: &mut Ledger, outcomes: Vec<Told>) -> Step {
    let mut heard = Outcomes::new();
    let step = ledger.answer(answer(outcomes), &mut heard).unwrap();
    for (reply, outcome) in heard {
        reply.send(outcome).unwrap();
    }
    step
}

fn lose(ledger: &mut Ledger, at_fault: Option<&Error>) {
    let mut heard = Outcomes::new();
    ledger.lost(Reason::new("lost", "the link broke"), at_fault, &mut heard);
    for (reply, outcome) in heard {
        reply.send(outcome).unwrap();
    }
}

fn result(outcome: &mut oneshot::Receiver<Outcome>) -> Outcome {
    outcome.try_recv().expect("it has its outcome")
}

/// Number, topic and content of each message.
pub(super) fn messages(batch: &PushBatch) -> Vec<(u32, String, Vec<u8>)> {
    let mut ends = batch.ends.to_vec();
    if ends.is_empty() {
        ends::push(&mut ends, batch.contents.len());
    }
    assert!(ends::fit(&ends, batch.contents.len()));
    let (mut number, mut index) = (batch.number, 0);
    let mut messages = Vec::new();
    for run in &batch.runs {
        number += run.gap;
        for _ in 0..run.count {
            let content = batch.contents[ends::range(&ends, index)].to_vec();
            messages.push((number, run.topic.clone(), content));
            (number, index) = (number + 1, index + 1);
        }
    }
    assert_eq!(index, ends::count(&ends));
    messages
}

#[test]
fn what_waits_leaves_at_once_with_a_run_for_each_change_of_topic() {
    let mut ledger = ledger(100);
    let mut outcomes: Vec<_> = [("a", None), ("b", None), ("c", Some("t")), ("d", None)]
        .into_iter()
        .map(|(content, topic)| push(&mut ledger, content.as_bytes(), topic))
        .collect();
    let batch = ledger.next_batch().unwrap();
    let counts: Vec<_> = batch.runs.iter().map(|run| run.count).collect();
    assert_eq!(counts, [2, 1, 1]);
    assert_eq!((batch.number, batch.settled, batch.after_seq), (1, 1, None));
    let found: Vec<_> = messages(&batch)
        .into_iter()
        .map(|(number, topic, content)| (number, topic, String::from_utf8(content).unwrap()))
        .collect();
    let expected = [(1, "", "a"), (2, "", "b"), (3, "t", "c"), (4, "", "d")]
        .map(|(number, topic, content)| (number, topic.to_owned(), content.to_owned()));
    assert_eq!(found, expected);
    assert!(ledger.next_batch().is_none());

    // One of them is refused for good, which is its affair alone.
    let step = hear(
        &mut ledger,
        vec![
            committed(1, 2, 5),
            refused(3, 1, Code::InvalidArgument, codes::INVALID_TOPIC),
            committed(4, 1, 7),
        ],
    );
    assert_eq!(step, Step::GoOn);
    assert!(ledger.is_empty());
    let seqs: Vec<_> = outcomes.iter_mut().map(result).collect();
    assert_eq!(seqs[0].as_ref().unwrap().seq, 5);
    assert_eq!(seqs[1].as_ref().unwrap().seq, 6);
    assert!(matches!(seqs[2], Err(Error::InvalidArgument(_))));
    assert_eq!(seqs[3].as_ref().unwrap().seq, 7);
}

#[test]
fn a_batch_has_no_more_than_a_mom_takes() {
    let mut ledger = ledger(10_000);
    for _ in 0..=MAX_PUSH_MESSAGES {
        drop(push(&mut ledger, b"x", None));
    }
    assert_eq!(messages(&ledger.next_batch().unwrap()).len(), 1024);
    assert_eq!(messages(&ledger.next_batch().unwrap()).len(), 1);
    let half = vec![0; MAX_PUSH_BYTES / 2];
    for size in [half.len(), half.len(), 1] {
        drop(push(&mut ledger, &half[..size], None));
    }
    assert_eq!(messages(&ledger.next_batch().unwrap()).len(), 2);
    assert_eq!(messages(&ledger.next_batch().unwrap()).len(), 1);
}

#[test]
fn a_push_that_is_larger_than_usual_travels_alone_and_is_the_one_at_fault() {
    let mut ledger = ledger(100);
    let mut before = push(&mut ledger, b"before", None);
    let mut large = push(&mut ledger, &vec![0; MAX_PUSH_BYTES + 1], None);
    let mut after = push(&mut ledger, b"after", None);
    assert_eq!(messages(&ledger.next_batch().unwrap()).len(), 1);
    assert!(ledger.next_batch().is_none());
    hear(&mut ledger, vec![committed(1, 1, 1)]);
    result(&mut before).unwrap();
    assert_eq!(ledger.next_batch().unwrap().number, 2);
    assert!(ledger.next_batch().is_none(), "the next waits too");

    let too_large = Reason::new("out_of_range", "decoded message length too large");
    lose(&mut ledger, Some(&Error::InvalidArgument(too_large)));
    assert!(matches!(result(&mut large), Err(Error::InvalidArgument(_))));
    ledger.begin();
    ledger.opened(&opened(1));
    let batch = ledger.next_batch().unwrap();
    assert_eq!((batch.number, batch.after_seq), (3, None));
    hear(&mut ledger, vec![committed(3, 1, 2)]);
    result(&mut after).unwrap();
}

#[test]
fn messages_that_are_pushed_together_have_one_outcome_and_wait_until_they_may_leave() {
    let mut ledger = ledger(2);
    let mut single = push(&mut ledger, b"0", None);
    let mut many = push_many(&mut ledger, &[b"1", b"", b"33"]);
    let mut last = push(&mut ledger, b"4", None);
    assert_eq!(messages(&ledger.next_batch().unwrap()).len(), 1);
    hear(&mut ledger, vec![committed(1, 1, 1)]);
    let batch = ledger.next_batch().unwrap();
    assert!(batch.runs[0].together);
    let contents: Vec<_> = messages(&batch).into_iter().map(|(_, _, c)| c).collect();
    assert_eq!(contents, [&b"1"[..], b"", b"33"]);
    assert!(ledger.next_batch().is_none());

    let half = ledger.answer(answer(vec![committed(2, 2, 2)]), &mut Outcomes::new());
    assert_eq!(half.unwrap_err().code(), "unexpected_answer");
    hear(&mut ledger, vec![committed(2, 3, 2)]);
    assert_eq!(ledger.next_batch().unwrap().number, 5);
    hear(&mut ledger, vec![committed(5, 1, 5)]);
    let seqs = [&mut single, &mut many, &mut last].map(|outcome| result(outcome).unwrap().seq);
    assert_eq!(seqs, [1, 2, 5]);
}

#[test]
fn what_is_refused_for_now_goes_again_with_all_that_came_after_it() {
    let mut ledger = ledger(100);
    let mut outcomes: Vec<_> = (0..3).map(|_| push(&mut ledger, b"x", None)).collect();
    ledger.next_batch().unwrap();
    outcomes.push(push(&mut ledger, b"x", None));
    let full = |number, count| refused(number, count, Code::ResourceExhausted, codes::OVERLOADED);
    let step = hear(&mut ledger, vec![committed(1, 1, 1), full(2, 1)]);
    assert_eq!(step, Step::GoOn, "the third has no outcome");
    assert!(ledger.next_batch().is_none());
    assert_eq!(hear(&mut ledger, vec![full(3, 1)]), Step::Pause);
    assert!(ledger.next_batch().is_none());

    ledger.resume();
    let batch = ledger.next_batch().unwrap();
    assert_eq!((batch.settled, batch.after_seq), (2, None));
    let numbers: Vec<_> = messages(&batch).into_iter().map(|(n, _, _)| n).collect();
    assert_eq!(numbers, [2, 3, 4]);
    hear(&mut ledger, vec![committed(2, 3, 2)]);
    for outcome in &mut outcomes {
        result(outcome).unwrap();
    }
}

#[test]
fn at_its_deadline_a_push_is_told_what_is_certain() {
    let mut ledger = ledger(1);
    let late = Instant::now() + 2 * TIME;
    let expire = |ledger: &mut Ledger, now| {
        let mut heard = Outcomes::new();
        let next = ledger.expire(now, &mut heard);
        for (reply, outcome) in heard {
            reply.send(outcome).unwrap();
        }
        next
    };
    let mut sent = push(&mut ledger, b"sent", None);
    let mut waits = push(&mut ledger, b"waits", None);
    ledger.next_batch().unwrap();
    assert!(expire(&mut ledger, Instant::now()).is_some());
    assert!(sent.try_recv().is_err());
    assert_eq!(expire(&mut ledger, late), None);
    let error = result(&mut sent).unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
    assert_eq!(result(&mut waits).unwrap_err().code(), "in_flight_limit");
    // The answer comes after all, and finds nobody.
    hear(&mut ledger, vec![committed(1, 1, 1)]);
    assert!(ledger.is_empty());

    let mut full = push(&mut ledger, b"full", None);
    ledger.next_batch().unwrap();
    let full_up = refused(2, 1, Code::ResourceExhausted, codes::OVERLOADED);
    assert_eq!(hear(&mut ledger, vec![full_up]), Step::Pause);
    expire(&mut ledger, late);
    let error = result(&mut full).unwrap_err();
    assert!(matches!(error, Error::Overloaded(_)), "{error}");

    ledger.resume();
    let mut unreachable = push(&mut ledger, b"unreachable", None);
    lose(&mut ledger, None);
    ledger.set_back(Error::ManagerUnreachable(Reason::new("manager", "gone")));
    expire(&mut ledger, late);
    let error = result(&mut unreachable).unwrap_err();
    assert!(matches!(error, Error::ManagerUnreachable(_)), "{error}");
}

#[test]
fn deadlines_may_be_out_of_order() {
    let mut ledger = Ledger::new(1, TIME);
    let start = Instant::now();
    let mut enter = |seconds| {
        let (reply, outcome) = oneshot::channel();
        let push = Push {
            contents: Bytes::new(),
            topic: None,
            headers: None,
            kind: Kind::Plain,
        };
        let deadline = start + Duration::from_secs(seconds);
        ledger.push(push, deadline, reply);
        outcome
    };
    let mut outcomes = [enter(20), enter(12), enter(22)];
    let mut heard = Outcomes::new();
    let (mut now, mut ended) = (start, Vec::new());
    while let Some(next) = ledger.expire(now, &mut heard) {
        assert!(next > now);
        now = next;
        for (reply, outcome) in heard.drain(..) {
            reply.send(outcome).unwrap();
        }
        ended.extend((0..3).filter(|n| outcomes[*n].try_recv().is_ok()));
    }
    assert_eq!((ended, now), (vec![1, 0], start + Duration::from_secs(22)));
}

#[test]
fn an_outcome_of_what_was_never_sent_changes_nothing() {
    let mut ledger = ledger(10);
    let mut outcome = push(&mut ledger, b"x", None);
    assert_eq!(hear(&mut ledger, vec![committed(1, 5, 1)]), Step::GoOn);
    assert!(outcome.try_recv().is_err());
    ledger.next_batch().unwrap();
    for odd in [
        committed(1, 1, i64::MAX),
        committed(1, 1, -1),
        committed(1, 1, 0),
    ] {
        let odd = ledger.answer(answer(vec![odd]), &mut Outcomes::new());
        assert_eq!(odd.unwrap_err().code(), "unexpected_answer");
    }
}
