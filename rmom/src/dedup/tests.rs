//! The memory of pushes against every order of attempts, losses and moves.

use proptest::prelude::*;

use super::*;

const WINDOW_OF_KEYS: Duration = Duration::from_mins(2);

const PUSHER: Uuid = Uuid::from_u128(1 << 64);

fn dedup(epoch: i64) -> Dedup {
    Dedup::new(epoch, WINDOW_OF_KEYS, Arc::new(Budget::new(2)))
}

fn run(id: Uuid, count: u32, is_keyed: bool) -> Run {
    Run {
        id,
        count,
        topic: None,
        is_keyed,
        headers: None,
    }
}

#[test]
fn a_key_is_remembered_for_its_window_and_no_longer() {
    let (mut dedup, start) = (dedup(1), Instant::now());
    let (id, hash) = (Uuid::from_u128(1), 7);
    let mut admit = |hash, after: u64| {
        let now = start + Duration::from_secs(after);
        dedup.admit(id, 1, Origin::Key(hash), false, true, now)
    };
    assert_eq!(
        admit(hash, 0),
        Ok(Verdict::LookUp),
        "former owners may know it"
    );
    dedup.found_keys(Vec::new(), start);
    let mut admit = |hash, after: u64| {
        let now = start + Duration::from_secs(after);
        let verdict = dedup.admit(id, 1, Origin::Key(hash), false, true, now);
        if verdict == Ok(Verdict::New(1)) {
            dedup.committed(&[run(id, 1, true)], 1 + after as i64, now);
        }
        verdict
    };
    assert_eq!(admit(hash, 0), Ok(Verdict::New(1)));
    assert_eq!(admit(hash, 120), Ok(Verdict::Committed(1, 1)));
    assert_eq!(admit(hash + 1, 120), Err(Error::IdConflict(id)));
    assert_eq!(admit(hash, 121), Ok(Verdict::New(1)));
}

#[test]
fn keys_beyond_the_budget_are_refused_and_given_back_with_their_queue() {
    let budget = Arc::new(Budget::new(2));
    let mut dedup = Dedup::new(1, WINDOW_OF_KEYS, budget.clone());
    let now = Instant::now();
    dedup.found_keys(vec![(Uuid::from_u128(1), 1, 0, Duration::ZERO)], now);
    let mut admit = |id| dedup.admit(Uuid::from_u128(id), 1, Origin::Key(0), false, true, now);
    assert_eq!(admit(2), Ok(Verdict::New(1)));
    assert!(matches!(admit(3), Err(Error::Overloaded(_))));
    assert_eq!(admit(1), Ok(Verdict::Committed(1, 1)));
    drop(dedup);
    assert!(budget.has_room(2));
}

/// Decides about pushes of a pusher that has opened itself and has all answers below `settled`.
fn admit_from(
    dedup: &mut Dedup,
    settled: u32,
    numbers: (u32, u32),
    is_repeat: bool,
    is_new: bool,
) -> Result<Verdict, Error> {
    let (number, count) = numbers;
    let (pusher, now) = (PUSHER, Instant::now());
    let term = dedup.open(pusher, settled, now)?;
    let attempt = Attempt {
        pusher,
        number,
        settled,
        term,
        is_repeat,
    };
    let id = message_id(pusher, number);
    dedup.admit(id, count, Origin::Pusher(attempt), is_new, true, now)
}

#[test]
fn a_number_too_far_ahead_or_settled_is_refused() {
    let mut dedup = dedup(1);
    let mut admit = |number, count| admit_from(&mut dedup, 5, (number, count), false, false);
    assert_eq!(admit(5 + WINDOW - 2, 2), Ok(Verdict::New(2)));
    for (number, count) in [(4, 1), (5 + WINDOW, 1), (5 + WINDOW - 1, 2)] {
        assert!(matches!(
            admit(number, count),
            Err(Error::OutOfRange { .. })
        ));
    }
}

#[test]
fn a_run_is_decided_about_as_far_as_its_messages_have_the_same_fate() {
    let (mut dedup, now) = (dedup(1), Instant::now());
    let admit =
        |dedup: &mut Dedup, number, count| admit_from(dedup, 1, (number, count), false, false);
    assert_eq!(admit(&mut dedup, 1, 4), Ok(Verdict::New(4)));
    assert_eq!(admit(&mut dedup, 7, 2), Ok(Verdict::New(2)));
    dedup.committed(&[run(message_id(PUSHER, 1), 4, false)], 11, now);
    dedup.committed(&[run(message_id(PUSHER, 7), 1, false)], 20, now);
    assert_eq!(admit(&mut dedup, 2, 9), Ok(Verdict::Committed(3, 12)));
    assert_eq!(admit(&mut dedup, 5, 6), Ok(Verdict::New(2)));
    assert_eq!(admit(&mut dedup, 7, 4), Ok(Verdict::Committed(1, 20)));
    assert_eq!(admit(&mut dedup, 8, 3), Ok(Verdict::Waiting));
    assert_eq!(admit(&mut dedup, 9, 2), Ok(Verdict::New(2)));
}

#[test]
fn all_of_a_repeated_run_is_known_when_it_was_looked_for_though_its_first_part_ends_early() {
    let mut dedup = dedup(1);
    let admit = |dedup: &mut Dedup, number, count, is_new| {
        admit_from(dedup, 1, (number, count), true, is_new)
    };
    // The second of three waits, the third was committed by an earlier owner.
    assert_eq!(admit(&mut dedup, 2, 1, true), Ok(Verdict::New(1)));
    assert_eq!(admit(&mut dedup, 1, 3, false), Ok(Verdict::LookUp));
    dedup.found(message_id(PUSHER, 3), 7);
    assert_eq!(admit(&mut dedup, 1, 3, true), Ok(Verdict::New(1)));
    assert_eq!(admit(&mut dedup, 2, 2, true), Ok(Verdict::Waiting));
    assert_eq!(admit(&mut dedup, 3, 1, true), Ok(Verdict::Committed(1, 7)));
}

/// What can happen between a pusher and the owners of its queue, in any order.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The pusher begins so many more pushes and sends them as one run.
    Begin(u32),
    /// An attempt that is on its way arrives, at whoever owns the queue now.
    Arrive(prop::sample::Index),
    /// The pusher tries so many pushes without an answer again. Earlier attempts may still be on their way.
    Repeat(prop::sample::Index, u32),
    /// What waits is committed; whether the pusher hears of it.
    Commit(bool),
    /// What waits is refused.
    Refuse,
    /// The queue gets another owner, which knows what is in the database.
    Move,
    /// The pusher is idle for long enough to be forgotten.
    Forget,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1u32..4).prop_map(Event::Begin),
        8 => any::<prop::sample::Index>().prop_map(Event::Arrive),
        4 => (any::<prop::sample::Index>(), 1u32..5).prop_map(|(index, count)| Event::Repeat(index, count)),
        4 => any::<bool>().prop_map(Event::Commit),
        1 => Just(Event::Refuse),
        1 => Just(Event::Move),
        1 => Just(Event::Forget),
    ];
    prop::collection::vec(event, 1..80)
}

/// A pusher, the network, the owner and the database.
struct Model {
    pusher: Uuid,
    term: i64,
    begun: u32,
    /// By number, the sequence behind which an attempt may have been committed, of pushes without an answer.
    open: std::collections::BTreeMap<u32, i64>,
    answered: HashMap<u32, i64>,
    reached: i64,
    on_their_way: Vec<(Attempt, u32, i64)>,
    dedup: Dedup,
    epoch: i64,
    now: Instant,
    /// The first number and the count of each run.
    waiting: Vec<(u32, u32)>,
    /// The numbers in the order of their sequences.
    committed: Vec<u32>,
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            pusher: PUSHER,
            term: 0,
            begun: 0,
            open: std::collections::BTreeMap::new(),
            answered: HashMap::new(),
            reached: 0,
            on_their_way: Vec::new(),
            dedup: dedup(1),
            epoch: 1,
            now: Instant::now(),
            waiting: Vec::new(),
            committed: Vec::new(),
        };
        model.open();
        model
    }

    fn settled(&self) -> u32 {
        self.open.keys().next().copied().unwrap_or(self.begun + 1)
    }

    fn open(&mut self) {
        let settled = self.settled();
        self.term = self.dedup.open(self.pusher, settled, self.now).unwrap();
        self.reached = self.reached.max(self.committed.len() as i64);
    }

    fn send(&mut self, number: u32, count: u32, is_repeat: bool) {
        let attempt = Attempt {
            pusher: self.pusher,
            number,
            settled: self.settled(),
            term: self.term,
            is_repeat,
        };
        let numbers = number..number + count;
        let after = numbers.map(|number| self.open[&number]).min().unwrap();
        self.on_their_way.push((attempt, count, after));
    }

    fn begin(&mut self, count: u32) {
        let first = self.begun + 1;
        self.begun += count;
        let numbers = first..=self.begun;
        self.open
            .extend(numbers.map(|number| (number, self.reached)));
        self.send(first, count, false);
    }

    /// As many as are open of the numbers from this one on.
    fn repeat(&mut self, number: u32, most: u32) {
        self.open();
        let numbers = number..number + most;
        let open = numbers.take_while(|number| self.open.contains_key(number));
        self.send(number, open.count() as u32, true);
    }

    fn answer(&mut self, number: u32, seq: i64) {
        if self.open.remove(&number).is_some() {
            self.answered.insert(number, seq);
            self.reached = self.reached.max(seq);
        }
    }

    fn arrive(&mut self, (attempt, count, after): (Attempt, u32, i64)) {
        let (mut number, end) = (attempt.number, attempt.number + count);
        let mut is_new = false;
        while number < end {
            let id = message_id(self.pusher, number);
            let origin = Origin::Pusher(Attempt { number, ..attempt });
            let admitted = self
                .dedup
                .admit(id, end - number, origin, is_new, true, self.now);
            number += match admitted {
                Ok(Verdict::LookUp) => {
                    for (place, found) in self.committed.iter().enumerate() {
                        let seq = place as i64 + 1;
                        if (number..end).contains(found) && seq > after {
                            self.dedup.found(message_id(self.pusher, *found), seq);
                        }
                    }
                    is_new = true;
                    0
                }
                Ok(Verdict::New(count)) => {
                    self.waiting.push((number, count));
                    count
                }
                Ok(Verdict::Committed(count, seq)) => {
                    for place in 0..count {
                        self.answer(number + place, seq + i64::from(place));
                    }
                    count
                }
                Ok(Verdict::Waiting) => 1,
                Err(Error::PusherNotOpen | Error::OutOfRange { .. }) => break,
                Err(other) => panic!("{other:?}"),
            };
        }
    }

    fn take_waiting(&mut self) -> (Vec<u32>, Vec<Run>) {
        let waiting = std::mem::take(&mut self.waiting);
        let runs = waiting
            .iter()
            .map(|(number, count)| run(message_id(self.pusher, *number), *count, false));
        let numbers = waiting
            .iter()
            .flat_map(|(number, count)| *number..number + count);
        (numbers.collect(), runs.collect())
    }

    fn commit(&mut self, is_heard: bool) {
        let (numbers, runs) = self.take_waiting();
        let first_seq = self.committed.len() as i64 + 1;
        self.committed.extend(&numbers);
        self.dedup.committed(&runs, first_seq, self.now);
        for (number, seq) in numbers.into_iter().zip(first_seq..) {
            if is_heard {
                self.answer(number, seq);
            }
        }
    }
}

proptest! {
    #[test]
    fn each_push_makes_one_message_however_it_is_repeated_delayed_and_moved(events in events()) {
        let mut model = Model::new();
        for event in events {
            match event {
                Event::Begin(count) => model.begin(count),
                Event::Arrive(index) if !model.on_their_way.is_empty() => {
                    let place = index.index(model.on_their_way.len());
                    let attempt = model.on_their_way.remove(place);
                    model.arrive(attempt);
                }
                Event::Repeat(index, count) if !model.open.is_empty() => {
                    let place = index.index(model.open.len());
                    let number = *model.open.keys().nth(place).unwrap();
                    model.repeat(number, count);
                }
                Event::Arrive(_) | Event::Repeat(..) => {}
                Event::Commit(is_heard) => model.commit(is_heard),
                Event::Refuse => {
                    let (_, runs) = model.take_waiting();
                    for run in &runs {
                        model.dedup.refused(run);
                    }
                }
                Event::Move => {
                    model.waiting.clear();
                    model.epoch += 1;
                    model.dedup = dedup(model.epoch);
                }
                Event::Forget => {
                    model.now += IDLE + SWEEP;
                    model.dedup.open(Uuid::from_u128(2 << 64), 1, model.now).unwrap();
                }
            }
        }
        // The pusher goes on until it has all its answers, while late attempts still come in.
        while let Some(number) = model.open.keys().next().copied() {
            model.repeat(number, 3);
            let attempt = model.on_their_way.pop().unwrap();
            model.arrive(attempt);
            model.commit(true);
        }
        for attempt in std::mem::take(&mut model.on_their_way) {
            model.arrive(attempt);
            model.commit(true);
        }
        let mut numbers = model.committed.clone();
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (1..=model.begun).collect::<Vec<_>>());
        for (number, seq) in &model.answered {
            prop_assert_eq!(model.committed[*seq as usize - 1], *number);
        }
    }
}
