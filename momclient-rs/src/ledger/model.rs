//! The ledger against a model of the network, the MoM and the database behind it.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;
use protos::headers::Headers;
use protos::{Outcome as Told, codes};
use tonic::Code;

use super::tests::{answer, committed, messages, opened, refused};
use super::*;

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

/// What a push carries: some nothing, and some the same as those beside them.
fn headers(place: u64) -> Option<Headers> {
    let of = place / 2 % 3;
    Headers::new((of > 0).then(|| ("of", of.to_string()))).unwrap()
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
            headers: headers(place).map(Box::new),
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
                let place = u64::from_le_bytes(content[..].try_into().unwrap());
                assert_eq!(
                    run.headers,
                    headers(place).as_ref().map_or_else(Vec::new, Vec::from)
                );
                let place = place as usize;
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
