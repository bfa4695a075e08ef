//! Arrays of byte strings read from PostgreSQL without an allocation for each element.

use std::ops::Range;

use bytes::Bytes;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef, Postgres};
use sqlx::{Decode, Type};

/// A one-dimensional `bytea[]` or `text[]` as it came over the wire: one copy of the whole, and where each element
/// lies in it.
#[derive(Clone, Debug, Default)]
pub struct PackedArray {
    raw: Bytes,
    elements: Vec<Option<Range<u32>>>,
}

impl PackedArray {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The element at `index`, or `None` if it is null or there is none.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let range = self.elements.get(index)?.as_ref()?;
        Some(&self.raw[range.start as usize..range.end as usize])
    }

    /// Parses PostgreSQL's binary array format: dimensions, a flag, the element type, then for the one dimension its
    /// length and lower bound, then each element with its length, -1 for null.
    fn parse(raw: Bytes) -> Result<Self, BoxDynError> {
        let mut at = 0;
        match be_i32(&raw, &mut at)? {
            0 => return Ok(Self::default()),
            1 => {}
            dimensions => {
                return Err(
                    format!("an array of {dimensions} dimensions where one was expected").into(),
                );
            }
        }
        at += 8;
        let len = usize::try_from(be_i32(&raw, &mut at)?)?;
        at += 4;
        // Each element takes four bytes at least, so a wrong length cannot make us allocate more than we received.
        let mut elements = Vec::with_capacity(len.min(raw.len() / 4));
        for _ in 0..len {
            let size = be_i32(&raw, &mut at)?;
            elements.push(if size < 0 {
                None
            } else {
                let end = at + usize::try_from(size)?;
                if end > raw.len() {
                    return Err("an array that ends within an element".into());
                }
                let range = u32::try_from(at)?..u32::try_from(end)?;
                at = end;
                Some(range)
            });
        }
        Ok(Self { raw, elements })
    }
}

fn be_i32(raw: &[u8], at: &mut usize) -> Result<i32, BoxDynError> {
    let bytes = raw
        .get(*at..*at + 4)
        .ok_or("an array that ends too early")?;
    *at += 4;
    Ok(i32::from_be_bytes(
        bytes.try_into().expect("four bytes were taken"),
    ))
}

impl Type<Postgres> for PackedArray {
    fn type_info() -> PgTypeInfo {
        <Vec<Vec<u8>> as Type<Postgres>>::type_info()
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        <&[u8] as PgHasArrayType>::array_compatible(ty)
            || <&str as PgHasArrayType>::array_compatible(ty)
    }
}

impl<'r> Decode<'r, Postgres> for PackedArray {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => Self::parse(Bytes::copy_from_slice(value.as_bytes()?)),
            PgValueFormat::Text => Err("arrays are read in binary form only".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(elements: &[Option<&[u8]>]) -> Bytes {
        let mut raw = Vec::new();
        for header in [1, 0, 17, elements.len() as i32, 1] {
            raw.extend(i32::to_be_bytes(header));
        }
        for element in elements {
            raw.extend(i32::to_be_bytes(
                element.map_or(-1, |bytes| bytes.len() as i32),
            ));
            raw.extend(element.unwrap_or_default());
        }
        raw.into()
    }

    #[test]
    fn elements_nulls_and_empty_strings_are_told_apart() {
        let packed =
            PackedArray::parse(array(&[Some(b"one"), None, Some(b""), Some(b"four")])).unwrap();
        assert_eq!(packed.len(), 4);
        assert_eq!(packed.get(0), Some(&b"one"[..]));
        assert_eq!(packed.get(1), None);
        assert_eq!(packed.get(2), Some(&b""[..]));
        assert_eq!(packed.get(3), Some(&b"four"[..]));
        assert_eq!(packed.get(4), None);
    }

    #[test]
    fn a_cut_array_is_an_error_at_every_place() {
        let whole = array(&[Some(b"one"), Some(b"two")]);
        for end in 0..whole.len() {
            assert!(
                PackedArray::parse(whole.slice(..end)).is_err(),
                "cut at {end}"
            );
        }
    }
}
