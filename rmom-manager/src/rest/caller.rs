//! Who asks.

use std::collections::HashSet;

use rocket::Request;
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome};

/// Bytes that a body may be announced with. Few routes read one, but clients may send what they like.
const MAX_BODY: u64 = 1 << 20;

/// Who asks. Every handler receives it, and a request that is refused for what it is, whatever it is for, is refused
/// here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody has said who they are; there is no way to do so.
    Anonymous,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Caller {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let announced = request.headers().get_one("Content-Length");
        if announced.is_some_and(|length| length.parse().is_ok_and(|length: u64| length > MAX_BODY))
        {
            return Outcome::Error((Status::PayloadTooLarge, ()));
        }
        // Rocket reads "/queues//x" as "/queues/x", where somebody has put an empty label between the slashes.
        if request.uri().path().as_str().contains("//") {
            return Outcome::Error((Status::BadRequest, ()));
        }
        if repeated(request).is_some() {
            return Outcome::Error((Status::BadRequest, ()));
        }
        Outcome::Success(Self::Anonymous)
    }
}

/// A parameter that is there more than once: which of them counts would be a guess.
pub(super) fn repeated<'r>(request: &'r Request<'_>) -> Option<&'r str> {
    let mut seen = HashSet::new();
    let mut names = request.uri().query()?.segments().map(|(name, _)| name);
    names.find(|name| !seen.insert(*name))
}
