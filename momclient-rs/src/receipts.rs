//! What those get who have pushed: [`Receipt`] for a message, [`Receipts`] for several that were pushed as one.

use uuid::Uuid;

/// What a committed message is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Receipt {
    /// Unique for ever.
    pub id: Uuid,
    /// Place in the queue.
    pub seq: i64,
    /// Whether the message had been committed before: by an earlier push with the same id, or by an attempt of this
    /// push whose answer was lost.
    pub duplicate: bool,
}

/// What messages are known by that were committed as one, in the order in which they were given: at least one, with
/// consecutive sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipts {
    first: Receipt,
    count: u32,
}

#[allow(clippy::len_without_is_empty, reason = "there is always one")]
impl Receipts {
    pub(crate) fn new(first: Receipt, count: usize) -> Self {
        let count = count as u32;
        Self { first, count }
    }

    /// How many messages, 1 to 1,024.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// The id of the first message. That of each further one is higher by one, as a number of 128 bits.
    pub fn first_id(&self) -> Uuid {
        self.first.id
    }

    /// The sequence of the first message.
    pub fn first_seq(&self) -> i64 {
        self.first.seq
    }

    /// The sequence of the last message.
    pub fn last_seq(&self) -> i64 {
        self.first.seq + i64::from(self.count) - 1
    }

    /// Whether an earlier attempt had committed them whose answer was lost.
    pub fn duplicate(&self) -> bool {
        self.first.duplicate
    }

    /// The receipt of each message.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Receipt> + use<> {
        let first = self.first;
        (0..self.count).map(move |place| Receipt {
            id: Uuid::from_u128(first.id.as_u128() + u128::from(place)),
            seq: first.seq + i64::from(place),
            duplicate: first.duplicate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_messages_has_its_receipt() {
        let first = Receipt {
            id: Uuid::from_u128(0xff),
            seq: 7,
            duplicate: false,
        };
        let receipts = Receipts::new(first, 3);
        let found: Vec<_> = receipts
            .iter()
            .map(|receipt| (receipt.id.as_u128(), receipt.seq))
            .collect();
        assert_eq!(found, [(0xff, 7), (0x100, 8), (0x101, 9)]);
        assert_eq!((receipts.len(), receipts.last_seq()), (3, 9));
    }
}
