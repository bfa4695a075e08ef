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

use storage::Run;
use uuid::Uuid;

use crate::budget::Budget;
use crate::error::Error;
use crate::push::Answer;

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

impl Origin {
    /// That of the message so many places on in the same run.
    #[must_use]
    pub fn advance(self, places: u32) -> Self {
        match self {
            Self::Pusher(attempt) => Self::Pusher(Attempt {
                number: attempt.number + places,
                ..attempt
            }),
            Self::Anonymous | Self::Key(_) => self,
        }
    }
}

/// One attempt at a push of a pusher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The pusher's id.
    pub pusher: Uuid,
    /// The push's number; of a run, the first one's.
    pub number: u32,
    /// All pushes below have their answers.
    pub settled: u32,
    /// The term at which the pusher was opened.
    pub term: i64,
    /// Whether an earlier attempt may have been accepted.
    pub is_repeat: bool,
}

/// What to do with a push, or with the first messages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take so many: they are remembered from now on as some that wait.
    New(u32),
    /// One waits already: its outcome is the answer to both.
    Waiting,
    /// So many were committed, the first at this sequence and the others behind it.
    Committed(u32, i64),
    /// They have to be looked for in the database first.
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
    followers: HashMap<Uuid, Vec<Answer>>,
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

fn id_in_run(run: &Run, place: u32) -> Uuid {
    Uuid::from_u128(run.id.as_u128() + u128::from(place))
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

    /// Decides about a run of pushes, of which there is more than one only if they have numbers; about as many of the
    /// first as have the same in common. With `is_new`, they were looked for in the database and are not there. Without
    /// room for new ones only those are answered that are not new.
    pub fn admit(
        &mut self,
        id: Uuid,
        count: u32,
        origin: Origin,
        is_new: bool,
        has_room: bool,
        now: Instant,
    ) -> Result<Verdict, Error> {
        match origin {
            Origin::Anonymous => check(has_room).map(|()| Verdict::New(count)),
            Origin::Pusher(attempt) => self.admit_attempt(attempt, count, is_new, has_room, now),
            Origin::Key(hash) => self.admit_key(id, hash, has_room, now),
        }
    }

    fn admit_attempt(
        &mut self,
        attempt: Attempt,
        count: u32,
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
            .filter(|place| *place < WINDOW && count <= WINDOW - place)
            .ok_or(Error::OutOfRange {
                field: "origin.number",
                given: attempt.number.into(),
                legal: "at least origin.settled, and less than 262144 more",
            })? as usize;
        let slots = &mut pusher.slots;
        if slots.len() < place {
            slots.resize(place, UNSEEN);
        }
        let mut known = slots.range(place..slots.len().min(place + count as usize));
        match known.next().copied().unwrap_or(UNSEEN) {
            UNSEEN => {
                if attempt.is_repeat && !is_new {
                    // All of the run is looked for, so whatever is found has to have its slot.
                    let end = place + count as usize;
                    if slots.len() < end {
                        slots.resize(end, UNSEEN);
                    }
                    return Ok(Verdict::LookUp);
                }
                check(has_room)?;
                // What no slot is there for yet is new without a look: the usual case.
                let new = match known.position(|slot| *slot != UNSEEN) {
                    Some(seen) => seen as u32 + 1,
                    None => count,
                };
                let end = place + new as usize;
                let fresh = slots.len().min(end);
                slots
                    .range_mut(place..fresh)
                    .for_each(|slot| *slot = WAITING);
                if slots.len() < end {
                    slots.resize(end, WAITING);
                }
                pusher.waiting += new as usize;
                Ok(Verdict::New(new))
            }
            WAITING => Ok(Verdict::Waiting),
            seq => {
                let following = known.zip(seq + 1..).take_while(|(slot, seq)| *slot == seq);
                Ok(Verdict::Committed(1 + following.count() as u32, seq))
            }
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
            Some(Key { state, .. }) => Ok(Verdict::Committed(1, *state)),
            None => {
                check(has_room)?;
                if !self.budget.take_within(1) {
                    return Err(Error::Overloaded(
                        "this MoM remembers as many messages' ids as it allows",
                    ));
                }
                let state = WAITING;
                self.keys.insert(id, Key { state, hash });
                Ok(Verdict::New(1))
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
    pub fn follow(&mut self, id: Uuid, answer: Answer) {
        self.followers.entry(id).or_default().push(answer);
    }

    /// Messages were committed, the first of them as `first_seq`. Returns the further attempts at them, with the
    /// sequence of each.
    pub fn committed(&mut self, runs: &[Run], first_seq: i64, now: Instant) -> Vec<(i64, Answer)> {
        let mut attempts = Vec::new();
        let mut seq = first_seq;
        for run in runs {
            if run.is_keyed {
                if let Some(key) = self.keys.get_mut(&run.id) {
                    key.state = seq;
                    self.key_ages.push_back((now, run.id));
                }
            } else {
                self.settle(run, |place| seq + i64::from(place));
            }
            if !self.followers.is_empty() {
                for place in 0..run.count {
                    let those = self.followers.remove(&id_in_run(run, place));
                    let seq = seq + i64::from(place);
                    attempts.extend(those.into_iter().flatten().map(|answer| (seq, answer)));
                }
            }
            seq += i64::from(run.count);
        }
        attempts
    }

    /// Messages were not committed and never will be: pushed again, they are new. Returns the further attempts at them.
    pub fn refused(&mut self, run: &Run) -> Vec<Answer> {
        if run.is_keyed {
            self.forget_key(run.id);
        } else {
            self.settle(run, |_| UNSEEN);
        }
        if self.followers.is_empty() {
            return Vec::new();
        }
        let those =
            (0..run.count).filter_map(|place| self.followers.remove(&id_in_run(run, place)));
        those.flatten().collect()
    }

    /// The further attempts at all pushes that wait; what they wait for stays.
    pub fn take_followers(&mut self) -> Vec<Answer> {
        self.followers
            .drain()
            .flat_map(|(_, attempts)| attempts)
            .collect()
    }

    fn settle(&mut self, run: &Run, state: impl Fn(u32) -> Slot) {
        if self.pushers.is_empty() {
            return;
        }
        let (pusher, number) = pusher_of(run.id);
        let Some(pusher) = self.pushers.get_mut(&pusher) else {
            return;
        };
        // Some of which their pusher has given up are not there any more.
        pusher.waiting = pusher.waiting.saturating_sub(run.count as usize);
        let gone = pusher.settled.saturating_sub(number).min(run.count);
        let first = (number + gone).saturating_sub(pusher.settled) as usize;
        let slots = pusher.slots.range_mut(first.min(pusher.slots.len())..);
        for (slot, place) in slots.zip(gone..run.count) {
            *slot = state(place);
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
mod tests;
