//! Parts of lists: what a client may ask for, and how it is told of the next part.

use rocket::Request;
use rocket::http::Header;
use rocket::response::{Responder, Result as Response};
use rocket::serde::json::Json;
use serde::Serialize;

use crate::error::Error;

/// The largest number that every program reads exactly from JSON, and far more than any queue has messages.
pub(super) const MAX_NUMBER: i64 = (1 << 53) - 1;

/// How many items a list may have at once, unless it says otherwise.
pub(super) const MAX_LIMIT: i64 = 1000;

/// How many it has where a client does not say.
pub(super) const USUAL_LIMIT: i64 = 100;

/// The parameter `limit` of a list.
pub(super) fn limit(given: Option<&str>) -> Result<i64, Error> {
    let limit = given.map_or(Ok(USUAL_LIMIT), str::parse);
    in_range(limit, 1..=MAX_LIMIT, "limit", "a number from 1 to 1000")
}

/// A parameter that is a sequence or an id that counts up.
pub(super) fn number(field: &'static str, given: Option<&str>) -> Result<Option<i64>, Error> {
    let legal = "a number from 0 to 9007199254740991";
    given
        .map(|given| in_range(given.parse(), 0..=MAX_NUMBER, field, legal))
        .transpose()
}

/// A parameter that is yes or no; no where it is left out.
pub(super) fn flag(field: &'static str, given: Option<&str>) -> Result<bool, Error> {
    let legal = "true or false";
    match given {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Error::InvalidArgument { field, legal }),
    }
}

/// A number out of a text, if it is in its range.
pub(super) fn in_range<E>(
    given: Result<i64, E>,
    range: std::ops::RangeInclusive<i64>,
    field: &'static str,
    legal: &'static str,
) -> Result<i64, Error> {
    given
        .ok()
        .filter(|number| range.contains(number))
        .ok_or(Error::InvalidArgument { field, legal })
}

/// Part of a list, and where the next one is.
pub(super) struct Paged<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl<T> Paged<T> {
    /// All there is.
    pub(super) fn all(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// The first `limit` of items of which one more was looked for; `next` says where the others are, given the last.
    pub(super) fn part(mut items: Vec<T>, limit: i64, next: impl FnOnce(&T) -> String) -> Self {
        let is_more = items.len() as i64 > limit;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| is_more).map(next);
        Self { items, next }
    }
}

impl<'r, T: Serialize> Responder<'r, 'static> for Paged<T> {
    fn respond_to(self, request: &'r Request<'_>) -> Response<'static> {
        let mut response = Json(self.items).respond_to(request)?;
        if let Some(next) = self.next {
            response.set_header(Header::new("Link", format!("<{next}>; rel=\"next\"")));
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_bounded_and_told_so() {
        assert_eq!(limit(None).unwrap(), USUAL_LIMIT);
        assert_eq!(limit(Some("1000")).unwrap(), 1000);
        for wrong in ["0", "1001", "-1", "x", "", "1.0", "99999999999999999999"] {
            let error = limit(Some(wrong)).unwrap_err().to_string();
            assert!(
                error.contains("limit") && error.contains("1 to 1000"),
                "{error}"
            );
        }
        assert_eq!(number("after", Some("0")).unwrap(), Some(0));
        assert!(number("after", Some("9007199254740992")).is_err());
        assert!(flag("details", Some("yes")).is_err());
    }

    #[test]
    fn a_part_tells_of_the_next_only_if_there_is_one() {
        let next = |last: &i32| format!("/list?after={last}");
        let part = Paged::part(vec![1, 2, 3], 2, next);
        assert_eq!(
            (part.items, part.next.as_deref()),
            (vec![1, 2], Some("/list?after=2"))
        );
        assert_eq!(Paged::part(vec![1, 2], 2, next).next, None);
        assert_eq!(Paged::part(Vec::new(), 2, next).next, None);
    }
}
