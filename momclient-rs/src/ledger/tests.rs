//! The ledger alone, and against a model of MoM, network and database.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;
use protos::{Outcome as Told, Refusal, codes};
use tonic::Code;

use super::*;

const TIME: Duration = Duration::from_secs(10);

fn opened(seq: i64) -> PushAnswer {
    PushAnswer {
        outcomes: Vec::new(),
        window_messages: 100_000,
        window_bytes: 1 << 30,
        seq,
    }
}

fn answer(outcomes: Vec<Told>) -> PushAnswer {
    PushAnswer {
        outcomes,
        ..PushAnswer::default()
    }
}

fn committed(number: u32, count: u32, seq: i64) -> Told {
    Told {
        number,
        count,
        seq,
        ..Told::default()
    }
}

fn refused(number: u32, count: u32, code: Code, stable: &str) -> Told {
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

/// Number, topic and content of each message, keyed and together ones too.
fn messages(batch: &PushBatch) -> Vec<(u32, String, Vec<u8>)> {
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

/// The topic of messages that are refused for good.
const ILLEGAL: &str = "a b";

/// What happens to pushes, between their being made and their outcome.
#[derive(Clone, Debug)]
enum Event {
    Push {
        messages: u8,
        topic: Option<&'static str>,
    },
    PushKeyed,
    Abandon(usize),
    /// Whatever may leave does.
    Send,
    /// The MoM takes the oldest batch that is on its way.
    Serve(Vec<Fate>),
    /// The oldest answer on its way arrives.
    Hear,
    /// The link breaks, after so many of the batches on their way arrived.
    Break {
        arrive: usize,
    },
    /// The deadlines come of this many pushes.
    Expire(u64),
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Commit,
    Full,
    Away,
    Unknown { committed: bool },
    Invalid,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Commit),
        1 => Just(Fate::Full),
        1 => Just(Fate::Away),
        1 => any::<bool>().prop_map(|committed| Fate::Unknown { committed }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let topic = prop_oneof![2 => Just(None), 2 => Just(Some("a")), 1 => Just(Some(ILLEGAL))];
    prop_oneof![
        6 => (1_u8..4, topic).prop_map(|(messages, topic)| Event::Push { messages, topic }),
        1 => Just(Event::PushKeyed),
        1 => (0_usize..20).prop_map(Event::Abandon),
        6 => Just(Event::Send),
        6 => prop::collection::vec(fate(), 1..6).prop_map(Event::Serve),
        6 => Just(Event::Hear),
        1 => (0_usize..4).prop_map(|arrive| Event::Break { arrive }),
        1 => (0_u64..4).prop_map(Event::Expire),
    ]
}

/// A lane with its MoM. Contents are the place of their push, so that everything can be told from them.
struct Model {
    ledger: Ledger,
    start: Instant,
    now: Instant,
    pushes: Vec<Made>,
    to_mom: VecDeque<PushBatch>,
    from_mom: VecDeque<PushAnswer>,
    /// What is committed, by sequence: id and content.
    log: Vec<(Uuid, usize)>,
    seqs: HashMap<Uuid, i64>,
    pusher: Uuid,
    /// The MoM refuses what comes after this number.
    held: Option<u32>,
}

struct Made {
    ticket: u64,
    messages: u32,
    outcome: Option<oneshot::Receiver<Outcome>>,
    told: Option<Outcome>,
}

impl Model {
    fn new() -> Self {
        let start = Instant::now();
        let mut model = Self {
            // So few numbers that identities change.
            ledger: Ledger::with_numbers(4, Duration::ZERO, MAX_PUSH_MESSAGES as u32 + 12),
            start,
            now: start,
            pushes: Vec::new(),
            to_mom: VecDeque::new(),
            from_mom: VecDeque::new(),
            log: Vec::new(),
            seqs: HashMap::new(),
            pusher: Uuid::nil(),
            held: None,
        };
        model.open();
        model
    }

    fn open(&mut self) {
        (self.pusher, _) = self.ledger.begin();
        self.held = None;
        let mut opened = opened(self.log.len() as i64);
        opened.window_messages = 3;
        self.ledger.opened(&opened);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Push { messages: 1, topic } => self.push(Kind::Plain, 1, topic),
            Event::Push { messages, topic } => {
                let mut all = Vec::new();
                for n in 1..=messages {
                    ends::push(&mut all, usize::from(n) * 8);
                }
                self.push(Kind::Together(all.into()), messages.into(), topic);
            }
            Event::PushKeyed => {
                let id = Uuid::from_u128(self.pushes.len() as u128 + 1);
                self.push(Kind::Keyed(id), 1, None);
            }
            Event::Abandon(place) => {
                if let Some(made) = self.pushes.get_mut(place) {
                    made.outcome = None;
                    self.ledger.abandon(made.ticket);
                }
            }
            Event::Send => self.to_mom.extend(self.ledger.next_batch()),
            Event::Serve(fates) => {
                if let Some(batch) = self.to_mom.pop_front() {
                    let outcomes = self.serve(&batch, &fates);
                    self.from_mom.push_back(answer(outcomes));
                }
            }
            Event::Hear => self.hear(),
            Event::Break { arrive } => self.lose(arrive),
            Event::Expire(pushes) => {
                self.now += Duration::from_secs(pushes);
                let mut heard = Outcomes::new();
                self.ledger.expire(self.now, &mut heard);
                self.tell(heard);
            }
        }
    }

    fn push(&mut self, kind: Kind, messages: u32, topic: Option<&str>) {
        let place = self.pushes.len() as u64;
        let (reply, outcome) = oneshot::channel();
        let push = Push {
            contents: place.to_le_bytes().repeat(messages as usize).into(),
            topic,
            kind,
        };
        let deadline = self.start + Duration::from_secs(20 + place);
        self.pushes.push(Made {
            ticket: self.ledger.push(push, deadline, reply),
            messages,
            outcome: Some(outcome),
            told: None,
        });
    }

    fn serve(&mut self, batch: &PushBatch, fates: &[Fate]) -> Vec<Told> {
        let messages = messages(batch);
        assert!(batch.settled <= batch.number);
        if self
            .held
            .is_some_and(|held| held == batch.number || held < batch.settled)
        {
            self.held = None;
        }
        let mut fates = fates.iter().copied().cycle();
        let (mut outcomes, mut index) = (Vec::<Told>::new(), 0);
        for run in &batch.runs {
            let parts = if run.together { 1 } else { run.count };
            for _ in 0..parts {
                let count = run.count / parts;
                let (number, ref topic, ref content) = messages[index];
                assert_eq!(*topic, run.topic);
                let place = u64::from_le_bytes(content[..].try_into().unwrap()) as usize;
                let id = if run.id.is_empty() {
                    Uuid::from_u128(self.pusher.as_u128() | u128::from(number))
                } else {
                    Uuid::from_slice(&run.id).unwrap()
                };
                index += count as usize;
                let held = self.held.is_some_and(|held| number > held);
                let fate = if topic == ILLEGAL {
                    Fate::Invalid
                } else if held {
                    Fate::Full
                } else {
                    fates.next().unwrap()
                };
                outcomes.push(self.decide(fate, batch, (number, count), id, place));
            }
        }
        outcomes
    }

    fn decide(
        &mut self,
        fate: Fate,
        batch: &PushBatch,
        (number, count): (u32, u32),
        id: Uuid,
        place: usize,
    ) -> Told {
        let (code, stable) = match fate {
            Fate::Commit | Fate::Unknown { committed: true } => {
                let duplicate = self.seqs.contains_key(&id);
                let seq = self.commit(batch, id, count, place);
                if matches!(fate, Fate::Commit) {
                    let told = committed(number, count, seq);
                    return Told { duplicate, ..told };
                }
                (Code::Unavailable, codes::OUTCOME_UNKNOWN)
            }
            Fate::Unknown { committed: false } => (Code::Unavailable, codes::OUTCOME_UNKNOWN),
            Fate::Full => (Code::ResourceExhausted, codes::OVERLOADED),
            Fate::Away => (Code::Unavailable, codes::DATABASE_UNAVAILABLE),
            Fate::Invalid => (Code::InvalidArgument, codes::INVALID_TOPIC),
        };
        if !matches!(fate, Fate::Invalid) {
            self.held.get_or_insert(number);
        }
        refused(number, count, code, stable)
    }

    fn commit(&mut self, batch: &PushBatch, id: Uuid, count: u32, place: usize) -> i64 {
        if let Some(seq) = self.seqs.get(&id) {
            let after = batch.after_seq.expect("a repeat says that it is one");
            assert!(
                after < *seq,
                "it is looked for behind {after}, and is at {seq}"
            );
            return *seq;
        }
        let seq = self.log.len() as i64 + 1;
        for part in 0..count {
            let id = Uuid::from_u128(id.as_u128() + u128::from(part));
            self.log.push((id, place));
        }
        self.seqs.insert(id, seq);
        seq
    }

    fn hear(&mut self) {
        let Some(answer) = self.from_mom.pop_front() else {
            return;
        };
        let mut heard = Outcomes::new();
        let step = self.ledger.answer(answer, &mut heard).unwrap();
        self.tell(heard);
        match step {
            Step::GoOn => {}
            Step::Pause => {
                assert!(self.to_mom.is_empty() && self.from_mom.is_empty());
                self.ledger.resume();
            }
            Step::Leave | Step::Renumber => {
                assert!(self.to_mom.is_empty() && self.from_mom.is_empty());
                self.lose(0);
            }
        }
    }

    fn lose(&mut self, arrive: usize) {
        for batch in std::mem::take(&mut self.to_mom).into_iter().take(arrive) {
            self.serve(&batch, &[Fate::Commit]);
        }
        self.from_mom.clear();
        let mut heard = Outcomes::new();
        let reason = Reason::new("lost", "the link broke");
        self.ledger.lost(reason, None, &mut heard);
        self.tell(heard);
        self.open();
    }

    fn tell(&mut self, heard: Outcomes) {
        for (reply, outcome) in heard {
            let _ = reply.send(outcome);
        }
        for made in &mut self.pushes {
            if let Some(outcome) = &mut made.outcome
                && let Ok(outcome) = outcome.try_recv()
            {
                assert!(made.told.replace(outcome).is_none(), "two outcomes");
            }
        }
    }

    /// Nothing fails any more.
    fn settle(&mut self) {
        // Each turn some outcome comes, so this is far more than enough.
        for _ in 0..20 * (self.pushes.len() + 1) {
            self.happen(Event::Send);
            if self.to_mom.is_empty() && self.from_mom.is_empty() {
                // What waits for another identity, after nobody wanted any more what bore the numbers before.
                self.lose(0);
            }
            self.happen(Event::Serve(vec![Fate::Commit]));
            self.happen(Event::Hear);
        }
    }

    fn check(&self) {
        let places: Vec<_> = self.log.iter().map(|(_, place)| *place).collect();
        assert!(places.is_sorted(), "not in the order of the pushes");
        for (place, made) in self.pushes.iter().enumerate() {
            let found: Vec<_> = (1..)
                .zip(&self.log)
                .filter(|(_, (_, at))| *at == place)
                .map(|(seq, (id, _))| (seq, *id))
                .collect();
            assert!(found.is_empty() || found.len() == made.messages as usize);
            match &made.told {
                Some(Ok(receipt)) => assert_eq!(found.first(), Some(&(receipt.seq, receipt.id))),
                Some(Err(Error::OutcomeUnknown(_))) => {}
                Some(Err(error)) => assert!(found.is_empty(), "{error}, and it is there"),
                None => assert!(made.outcome.is_none(), "{place} has no outcome"),
            }
        }
        assert!(self.ledger.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_each_push_is_committed_once_and_in_order_or_told_the_truth(
        events in prop::collection::vec(event(), 0..120)
    ) {
        let mut model = Model::new();
        for event in events {
            model.happen(event);
        }
        model.settle();
        model.check();
    }
}
