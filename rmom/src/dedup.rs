//! What a queue remembers of its pushes, so that one that is repeated makes no second message.
//!
//! A *pusher* numbers its pushes and says up to which number it has all its answers; what is remembered of it are the
//! numbers in between, so it costs memory by what is in flight, and nothing in the database: a message's id holds
//! pusher and number. (Kafka's idempotent producer has the same pair; it may rely on the order of one connection, which
//! single calls do not have.) A *key* is an id that the caller brought; it is remembered for a window of time.
//!
//! This is the memory of one ownership. A repeated push whose first attempt may have gone to an earlier owner, or to
//! this one before it forgot the pusher, is looked for in the database before it is taken for a new one. Pure but for
//! the clock that is passed in.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use storage::NewMessage;
use uuid::Uuid;

use crate::budget::Budget;
use crate::error::Error;
use crate::queue::Acknowledgement;

/// How far a pusher may be ahead of its oldest push without an answer.
pub const WINDOW: u32 = 1 << 18;

/// The most pushers that one queue remembers.
const MAX_PUSHERS: usize = 10_000;

/// After how long without a push a pusher may be forgotten. Nothing depends on it: one that comes back opens itself
/// again, and its repeats are looked for in the database.
const IDLE: Duration = Duration::from_mins(2);

/// How often idle pushers are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// What identifies a push, so that it is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing does: repeated, it is another message.
    Anonymous,
    /// A pusher's number.
    Pusher(Attempt),
    /// The id that the caller brought, and the hash of what it stands for.
    Key(u64),
}

/// One attempt at a push of a pusher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The pusher's id.
    pub pusher: Uuid,
    /// The push's number.
    pub number: u32,
    /// All pushes below have their answers.
    pub settled: u32,
    /// The term at which the pusher was opened.
    pub term: i64,
    /// Whether an earlier attempt may have been accepted.
    pub is_repeat: bool,
}

/// What to do with a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it: it is remembered from now on as one that waits.
    New,
    /// It waits already: its outcome is the answer to both.
    Waiting,
    /// It was committed at this sequence.
    Committed(i64),
    /// It has to be looked for in the database first.
    LookUp,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Dedup {
    pushers: HashMap<Uuid, Pusher>,
    next_term: i64,
    swept: Option<Instant>,
    keys: HashMap<Uuid, Key>,
    /// Committed keys, those first that are forgotten first.
    key_ages: VecDeque<(Instant, Uuid)>,
    /// Whether the keys of former owners are among them.
    keys_complete: bool,
    window: Duration,
    /// How many keys all queues may remember.
    budget: Arc<Budget>,
    hasher: RandomState,
    /// Further attempts at pushes that wait, by the message's id.
    followers: HashMap<Uuid, Vec<Acknowledgement>>,
}

/// What became of a push: 0 not seen, [`WAITING`], or its sequence.
type Slot = i64;
const UNSEEN: Slot = 0;
const WAITING: Slot = -1;

#[derive(Debug)]
struct Pusher {
    term: i64,
    /// The number of the first slot.
    settled: u32,
    slots: VecDeque<Slot>,
    waiting: usize,
    used: Instant,
}

#[derive(Debug)]
struct Key {
    state: Slot,
    hash: u64,
}

fn check(has_room: bool) -> Result<(), Error> {
    if has_room {
        Ok(())
    } else {
        Err(Error::Overloaded("too many messages wait to be committed"))
    }
}

/// The id of a pusher's message.
pub fn message_id(pusher: Uuid, number: u32) -> Uuid {
    Uuid::from_u128(pusher.as_u128() | u128::from(number))
}

/// The pusher and the number that a message's id is made of, if it is made so.
fn pusher_of(id: Uuid) -> (Uuid, u32) {
    let id = id.as_u128();
    (Uuid::from_u128(id & !u128::from(u32::MAX)), id as u32)
}

impl Dedup {
    /// The memory of the ownership `epoch`, of keys for `window` and as far as the `budget` of all queues goes.
    pub fn new(epoch: i64, window: Duration, budget: Arc<Budget>) -> Self {
        Self {
            pushers: HashMap::new(),
            // Terms are never given twice: not in one ownership, and not in two of one queue.
            next_term: epoch << 32,
            swept: None,
            keys: HashMap::new(),
            key_ages: VecDeque::new(),
            keys_complete: false,
            window,
            budget,
            hasher: RandomState::new(),
            followers: HashMap::new(),
        }
    }

    /// Makes a pusher known and returns its term; one that is known keeps it.
    pub fn open(&mut self, id: Uuid, settled: u32, now: Instant) -> Result<i64, Error> {
        if let Some(pusher) = self.pushers.get_mut(&id) {
            pusher.settle(settled);
            pusher.used = now;
            return Ok(pusher.term);
        }
        if self.pushers.len() >= MAX_PUSHERS || self.swept.is_none_or(|swept| now - swept > SWEEP) {
            self.swept = Some(now);
            self.pushers
                .retain(|_, pusher| pusher.waiting > 0 || now - pusher.used < IDLE);
        }
        if self.pushers.len() >= MAX_PUSHERS {
            return Err(Error::Overloaded(
                "this queue has as many pushers as it allows",
            ));
        }
        self.next_term += 1;
        let pusher = Pusher {
            term: self.next_term,
            settled: settled.max(1),
            slots: VecDeque::new(),
            waiting: 0,
            used: now,
        };
        self.pushers.insert(id, pusher);
        Ok(self.next_term)
    }

    /// The hash by which contents of one key are told apart.
    pub fn hash(&self, topic: Option<&str>, content: &[u8]) -> u64 {
        self.hasher.hash_one((topic, content))
    }

    /// Decides about a push. With `is_new`, it was looked for in the database and is not there. Without room for a new
    /// one only those are answered that are not new.
    pub fn admit(
        &mut self,
        id: Uuid,
        origin: Origin,
        is_new: bool,
        has_room: bool,
        now: Instant,
    ) -> Result<Verdict, Error> {
        match origin {
            Origin::Anonymous => check(has_room).map(|()| Verdict::New),
            Origin::Pusher(attempt) => self.admit_attempt(attempt, is_new, has_room, now),
            Origin::Key(hash) => self.admit_key(id, hash, has_room, now),
        }
    }

    fn admit_attempt(
        &mut self,
        attempt: Attempt,
        is_new: bool,
        has_room: bool,
        now: Instant,
    ) -> Result<Verdict, Error> {
        let pusher = self
            .pushers
            .get_mut(&attempt.pusher)
            .filter(|pusher| pusher.term == attempt.term)
            .ok_or(Error::PusherNotOpen)?;
        pusher.used = now;
        pusher.settle(attempt.settled);
        let place = attempt
            .number
            .checked_sub(pusher.settled)
            .filter(|place| *place < WINDOW)
            .ok_or(Error::OutOfRange {
                field: "origin.number",
                given: attempt.number.into(),
                legal: "at least origin.settled, and less than 262144 more",
            })? as usize;
        if pusher.slots.len() <= place {
            pusher.slots.resize(place + 1, UNSEEN);
        }
        match pusher.slots[place] {
            UNSEEN if attempt.is_repeat && !is_new => Ok(Verdict::LookUp),
            UNSEEN => {
                check(has_room)?;
                pusher.slots[place] = WAITING;
                pusher.waiting += 1;
                Ok(Verdict::New)
            }
            WAITING => Ok(Verdict::Waiting),
            seq => Ok(Verdict::Committed(seq)),
        }
    }

    fn admit_key(
        &mut self,
        id: Uuid,
        hash: u64,
        has_room: bool,
        now: Instant,
    ) -> Result<Verdict, Error> {
        if !self.keys_complete {
            return Ok(Verdict::LookUp);
        }
        self.forget_old_keys(now);
        match self.keys.get(&id) {
            Some(key) if key.hash != hash => Err(Error::IdConflict(id)),
            Some(Key { state: WAITING, .. }) => Ok(Verdict::Waiting),
            Some(Key { state, .. }) => Ok(Verdict::Committed(*state)),
            None => {
                check(has_room)?;
                if !self.budget.take_within(1) {
                    return Err(Error::Overloaded(
                        "this MoM remembers as many messages' ids as it allows",
                    ));
                }
                let state = WAITING;
                self.keys.insert(id, Key { state, hash });
                Ok(Verdict::New)
            }
        }
    }

    /// The message with this id was found in the database.
    pub fn found(&mut self, id: Uuid, seq: i64) {
        let (pusher, number) = pusher_of(id);
        if let Some(slot) = self
            .pushers
            .get_mut(&pusher)
            .and_then(|pusher| pusher.slot(number))
            && *slot == UNSEEN
        {
            *slot = seq;
        }
    }

    /// The keys of former owners within the window were found in the database, the newest first: id, sequence, hash and
    /// age of each.
    pub fn found_keys(&mut self, found: Vec<(Uuid, i64, u64, Duration)>, now: Instant) {
        if std::mem::replace(&mut self.keys_complete, true) {
            return;
        }
        self.budget.take(found.len());
        for (id, seq, hash, age) in found {
            self.keys.insert(id, Key { state: seq, hash });
            if let Some(committed) = now.checked_sub(age) {
                self.key_ages.push_front((committed, id));
            }
        }
    }

    /// One more attempt at a push that waits.
    pub fn follow(&mut self, id: Uuid, acknowledgement: Acknowledgement) {
        self.followers.entry(id).or_default().push(acknowledgement);
    }

    /// Messages were committed, the first of them as `first_seq`. Returns the further attempts at them, with the
    /// sequence of each.
    pub fn committed(
        &mut self,
        messages: &[NewMessage],
        first_seq: i64,
        now: Instant,
    ) -> Vec<(i64, Acknowledgement)> {
        for (seq, message) in (first_seq..).zip(messages) {
            if message.is_keyed {
                if let Some(key) = self.keys.get_mut(&message.id) {
                    key.state = seq;
                    self.key_ages.push_back((now, message.id));
                }
            } else {
                self.settle_slot(message.id, seq);
            }
        }
        if self.followers.is_empty() {
            return Vec::new();
        }
        let attempts = (first_seq..)
            .zip(messages)
            .filter_map(|(seq, message)| Some((seq, self.followers.remove(&message.id)?)));
        attempts
            .flat_map(|(seq, attempts)| attempts.into_iter().map(move |attempt| (seq, attempt)))
            .collect()
    }

    /// Messages were not committed and never will be: pushed again, they are new. Returns the further attempts at them.
    pub fn refused(&mut self, messages: &[NewMessage]) -> Vec<Acknowledgement> {
        let mut attempts = Vec::new();
        for message in messages {
            if message.is_keyed {
                self.forget_key(message.id);
            } else {
                self.settle_slot(message.id, UNSEEN);
            }
            attempts.extend(self.followers.remove(&message.id).into_iter().flatten());
        }
        attempts
    }

    /// The further attempts at all pushes that wait; what they wait for stays.
    pub fn take_followers(&mut self) -> Vec<Acknowledgement> {
        self.followers
            .drain()
            .flat_map(|(_, attempts)| attempts)
            .collect()
    }

    fn settle_slot(&mut self, id: Uuid, state: Slot) {
        if self.pushers.is_empty() {
            return;
        }
        let (pusher, number) = pusher_of(id);
        let Some(pusher) = self.pushers.get_mut(&pusher) else {
            return;
        };
        // One whose pusher has given it up is not there any more.
        pusher.waiting = pusher.waiting.saturating_sub(1);
        if let Some(slot) = pusher.slot(number) {
            *slot = state;
        }
    }

    fn forget_old_keys(&mut self, now: Instant) {
        while let Some((committed, id)) = self.key_ages.front().copied()
            && now - committed > self.window
        {
            self.forget_key(id);
            self.key_ages.pop_front();
        }
    }

    fn forget_key(&mut self, id: Uuid) {
        if self.keys.remove(&id).is_some() {
            self.budget.give(1);
        }
    }
}

impl Drop for Dedup {
    fn drop(&mut self) {
        self.budget.give(self.keys.len());
    }
}

impl Pusher {
    /// Forgets what is below `settled`.
    fn settle(&mut self, settled: u32) {
        if settled > self.settled {
            let count = ((settled - self.settled) as usize).min(self.slots.len());
            self.slots.drain(..count);
            self.settled = settled;
            if self.slots.is_empty() && self.slots.capacity() > 4096 {
                self.slots = VecDeque::new();
            }
        }
    }

    fn slot(&mut self, number: u32) -> Option<&mut Slot> {
        let place = number.checked_sub(self.settled)?;
        self.slots.get_mut(place as usize)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const WINDOW_OF_KEYS: Duration = Duration::from_mins(2);

    fn dedup(epoch: i64) -> Dedup {
        Dedup::new(epoch, WINDOW_OF_KEYS, Arc::new(Budget::new(2)))
    }

    fn message(id: Uuid, is_keyed: bool) -> NewMessage {
        NewMessage {
            id,
            is_keyed,
            topic: None,
            content: Bytes::new(),
        }
    }

    #[test]
    fn a_key_is_remembered_for_its_window_and_no_longer() {
        let (mut dedup, start) = (dedup(1), Instant::now());
        let (id, hash) = (Uuid::from_u128(1), 7);
        let mut admit = |hash, after: u64| {
            let now = start + Duration::from_secs(after);
            dedup.admit(id, Origin::Key(hash), false, true, now)
        };
        assert_eq!(
            admit(hash, 0),
            Ok(Verdict::LookUp),
            "former owners may know it"
        );
        dedup.found_keys(Vec::new(), start);
        let mut admit = |hash, after: u64| {
            let now = start + Duration::from_secs(after);
            let verdict = dedup.admit(id, Origin::Key(hash), false, true, now);
            if verdict == Ok(Verdict::New) {
                dedup.committed(&[message(id, true)], 1 + after as i64, now);
            }
            verdict
        };
        assert_eq!(admit(hash, 0), Ok(Verdict::New));
        assert_eq!(admit(hash, 120), Ok(Verdict::Committed(1)));
        assert_eq!(admit(hash + 1, 120), Err(Error::IdConflict(id)));
        assert_eq!(admit(hash, 121), Ok(Verdict::New));
    }

    #[test]
    fn keys_beyond_the_budget_are_refused_and_given_back_with_their_queue() {
        let budget = Arc::new(Budget::new(2));
        let mut dedup = Dedup::new(1, WINDOW_OF_KEYS, budget.clone());
        let now = Instant::now();
        dedup.found_keys(vec![(Uuid::from_u128(1), 1, 0, Duration::ZERO)], now);
        let mut admit = |id| dedup.admit(Uuid::from_u128(id), Origin::Key(0), false, true, now);
        assert_eq!(admit(2), Ok(Verdict::New));
        assert!(matches!(admit(3), Err(Error::Overloaded(_))));
        assert_eq!(admit(1), Ok(Verdict::Committed(1)));
        drop(dedup);
        assert!(budget.has_room(2));
    }

    #[test]
    fn a_number_too_far_ahead_or_settled_is_refused() {
        let (mut dedup, now) = (dedup(1), Instant::now());
        let pusher = Uuid::from_u128(1 << 64);
        let term = dedup.open(pusher, 5, now).unwrap();
        let mut admit = |number| {
            let attempt = Attempt {
                pusher,
                number,
                settled: 5,
                term,
                is_repeat: false,
            };
            dedup.admit(
                message_id(pusher, number),
                Origin::Pusher(attempt),
                false,
                true,
                now,
            )
        };
        assert_eq!(admit(5 + WINDOW - 1), Ok(Verdict::New));
        for number in [4, 5 + WINDOW] {
            assert!(matches!(admit(number), Err(Error::OutOfRange { .. })));
        }
    }

    /// What can happen between a pusher and the owners of its queue, in any order.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// The pusher begins one more push.
        Begin,
        /// An attempt that is on its way arrives, at whoever owns the queue now.
        Arrive(prop::sample::Index),
        /// The pusher tries a push without an answer again. Earlier attempts may still be on their way.
        Repeat(prop::sample::Index),
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
            4 => Just(Event::Begin),
            8 => any::<prop::sample::Index>().prop_map(Event::Arrive),
            4 => any::<prop::sample::Index>().prop_map(Event::Repeat),
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
        on_their_way: Vec<(Attempt, i64)>,
        dedup: Dedup,
        epoch: i64,
        now: Instant,
        waiting: Vec<u32>,
        /// The numbers in the order of their sequences.
        committed: Vec<u32>,
    }

    impl Model {
        fn new() -> Self {
            let mut model = Self {
                pusher: Uuid::from_u128(1 << 64),
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

        fn send(&mut self, number: u32, is_repeat: bool) {
            let attempt = Attempt {
                pusher: self.pusher,
                number,
                settled: self.settled(),
                term: self.term,
                is_repeat,
            };
            self.on_their_way.push((attempt, self.open[&number]));
        }

        fn begin(&mut self) {
            self.begun += 1;
            self.open.insert(self.begun, self.reached);
            self.send(self.begun, false);
        }

        fn repeat(&mut self, number: u32) {
            self.open();
            self.send(number, true);
        }

        fn answer(&mut self, number: u32, seq: i64) {
            if self.open.remove(&number).is_some() {
                self.answered.insert(number, seq);
                self.reached = self.reached.max(seq);
            }
        }

        fn arrive(&mut self, (attempt, after): (Attempt, i64)) {
            let number = attempt.number;
            let id = message_id(self.pusher, number);
            let origin = Origin::Pusher(attempt);
            let mut verdict = self.dedup.admit(id, origin, false, true, self.now);
            if verdict == Ok(Verdict::LookUp) {
                let place = self.committed.iter().position(|found| *found == number);
                if let Some(seq) = place.map(|place| place as i64 + 1)
                    && seq > after
                {
                    self.dedup.found(id, seq);
                }
                verdict = self.dedup.admit(id, origin, true, true, self.now);
            }
            match verdict {
                Ok(Verdict::New) => self.waiting.push(number),
                Ok(Verdict::Committed(seq)) => self.answer(number, seq),
                Ok(Verdict::Waiting) | Err(Error::PusherNotOpen | Error::OutOfRange { .. }) => {}
                other => panic!("{other:?}"),
            }
        }

        fn take_waiting(&mut self) -> (Vec<u32>, Vec<NewMessage>) {
            let numbers = std::mem::take(&mut self.waiting);
            let messages = numbers
                .iter()
                .map(|number| message(message_id(self.pusher, *number), false));
            let messages = messages.collect();
            (numbers, messages)
        }

        fn commit(&mut self, is_heard: bool) {
            let (numbers, messages) = self.take_waiting();
            let first_seq = self.committed.len() as i64 + 1;
            self.committed.extend(&numbers);
            self.dedup.committed(&messages, first_seq, self.now);
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
                    Event::Begin => model.begin(),
                    Event::Arrive(index) if !model.on_their_way.is_empty() => {
                        let place = index.index(model.on_their_way.len());
                        let attempt = model.on_their_way.remove(place);
                        model.arrive(attempt);
                    }
                    Event::Repeat(index) if !model.open.is_empty() => {
                        let place = index.index(model.open.len());
                        let number = *model.open.keys().nth(place).unwrap();
                        model.repeat(number);
                    }
                    Event::Arrive(_) | Event::Repeat(_) => {}
                    Event::Commit(is_heard) => model.commit(is_heard),
                    Event::Refuse => {
                        let (_, messages) = model.take_waiting();
                        model.dedup.refused(&messages);
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
                model.repeat(number);
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
}
