//! Who asks.

use std::collections::HashSet;

use rocket::Request;
use rocket::http::{Method, Status};
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
        if is_foreign(request) && !is_visit(request) {
            return Outcome::Error((Status::Forbidden, ()));
        }
        if repeated(request).is_some() {
            return Outcome::Error((Status::BadRequest, ()));
        }
        Outcome::Success(Self::Anonymous)
    }
}

/// Whether a browser says that a page of another origin has made it ask. Whoever can open the console can also open
/// other pages, and these could otherwise delete queues without being able to read a single answer. Other clients say
/// nothing of the kind and are believed.
fn is_foreign(request: &Request<'_>) -> bool {
    let headers = request.headers();
    if let Some(site) = headers.get_one("Sec-Fetch-Site") {
        return !matches!(site, "same-origin" | "none");
    }
    // Browsers leave that out for addresses that are neither https nor this machine, and old ones always.
    let Some(origin) = headers.get_one("Origin") else {
        return false;
    };
    let asked = origin.split_once("://").map(|(_, asked)| asked);
    let here = request.host().map(ToString::to_string);
    !asked
        .zip(here)
        .is_some_and(|(asked, here)| asked.eq_ignore_ascii_case(&here))
}

/// Whether somebody follows a link to here, which changes nothing and shows the other page nothing.
fn is_visit(request: &Request<'_>) -> bool {
    matches!(request.method(), Method::Get | Method::Head)
        && request.headers().get_one("Sec-Fetch-Mode") == Some("navigate")
}

/// A parameter that is there more than once: which of them counts would be a guess.
pub(super) fn repeated<'r>(request: &'r Request<'_>) -> Option<&'r str> {
    let mut seen = HashSet::new();
    let mut names = request.uri().query()?.segments().map(|(name, _)| name);
    names.find(|name| !seen.insert(*name))
}
