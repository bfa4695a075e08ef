//! Where each of many contents ends in the bytes that hold them all: the form of [`PushBatch::ends`] and
//! [`MessageBatch::ends`](crate::MessageBatch::ends), in which nothing has to be decoded to find one content.
//!
//! [`PushBatch::ends`]: crate::PushBatch::ends

use std::ops::Range;

/// Bytes of one end.
pub const SIZE: usize = 4;

/// How many contents there are.
pub fn count(ends: &[u8]) -> usize {
    ends.len() / SIZE
}

/// Where the content at `index` ends.
///
/// # Panics
/// If there is no such content.
#[inline]
pub fn end(ends: &[u8], index: usize) -> usize {
    let bytes = &ends[index * SIZE..][..SIZE];
    u32::from_le_bytes(bytes.try_into().expect("there are four")) as usize
}

/// Where the content at `index` is.
///
/// # Panics
/// If there is no such content.
#[inline]
pub fn range(ends: &[u8], index: usize) -> Range<usize> {
    let start = index.checked_sub(1).map_or(0, |before| end(ends, before));
    start..end(ends, index)
}

/// All ends.
pub fn iter(ends: &[u8]) -> impl ExactSizeIterator<Item = usize> + '_ {
    let (ends, _) = ends.as_chunks::<SIZE>();
    ends.iter().map(|end| u32::from_le_bytes(*end) as usize)
}

/// Whether these are ends of contents in `len` bytes with nothing left over, so that every [`range`] of them is one in
/// the bytes.
pub fn fit(ends: &[u8], len: usize) -> bool {
    ends.len().is_multiple_of(SIZE)
        && iter(ends).is_sorted()
        && iter(ends).last().unwrap_or(0) == len
}

/// Adds an end.
///
/// # Panics
/// If it is beyond 4 GiB.
#[inline]
pub fn push(ends: &mut impl bytes::BufMut, end: usize) {
    ends.put_u32_le(u32::try_from(end).expect("batches are far smaller than 4 GiB"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(of: &[usize]) -> Vec<u8> {
        let mut ends = Vec::new();
        for end in of {
            push(&mut ends, *end);
        }
        ends
    }

    #[test]
    fn each_content_is_found_also_an_empty_one() {
        let ends = ends(&[3, 3, 10]);
        assert_eq!(count(&ends), 3);
        assert_eq!(
            [0, 1, 2].map(|index| range(&ends, index)),
            [0..3, 3..3, 3..10]
        );
        assert_eq!(iter(&ends).collect::<Vec<_>>(), [3, 3, 10]);
    }

    #[test]
    fn only_ends_that_rise_to_the_length_fit() {
        assert!(fit(&ends(&[3, 3, 10]), 10));
        assert!(fit(&[], 0));
        assert!(!fit(&[], 1), "bytes of no content");
        assert!(!fit(&ends(&[3, 2, 10]), 10), "an end before the one before");
        assert!(!fit(&ends(&[3, 10]), 11), "bytes after the last");
        assert!(!fit(&ends(&[3, 10]), 9), "an end beyond the bytes");
        assert!(!fit(&ends(&[10])[..3], 10), "half an end");
    }
}
