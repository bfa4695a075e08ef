//! What Rocket itself refuses, in the form of all other errors.

use protos::codes;
use rocket::http::{Method, Status};
use rocket::{Catcher, Request, catch, catchers};

use super::Problem;
use super::caller::repeated;

pub(super) fn catchers() -> Vec<Catcher> {
    catchers![bad_request, not_found, any]
}

/// Rocket says "not found" as well where the path is there for another method only.
#[catch(404)]
fn not_found(request: &Request<'_>) -> Problem {
    if has_empty_part(request) {
        return bad_request(request);
    }
    let methods = methods(request);
    if methods.is_empty() {
        return Problem::new(
            Status::NotFound,
            codes::ROUTE_NOT_FOUND,
            format!("there is no path {:?}", shown(request)),
        );
    }
    let detail = format!(
        "{} is not possible on {:?}; possible are {methods}",
        request.method(),
        shown(request)
    );
    Problem::new(Status::MethodNotAllowed, codes::METHOD_NOT_ALLOWED, detail).allow(methods)
}

#[catch(400)]
fn bad_request(request: &Request<'_>) -> Problem {
    let detail = if has_empty_part(request) {
        format!(
            "the path {:?} has an empty part; labels, topics and ids have at least one character",
            shown(request)
        )
    } else if let Some(name) = repeated(request) {
        let name: String = name.chars().take(64).collect();
        format!("the parameter {name:?} is there more than once; give it once")
    } else {
        "the request cannot be understood; check its method, path and headers".to_owned()
    };
    Problem::new(Status::BadRequest, codes::MALFORMED_REQUEST, detail)
}

#[catch(default)]
fn any(status: Status, _: &Request<'_>) -> Problem {
    let (code, detail) = match status.code {
        413 => (codes::BODY_TOO_LARGE, "the body is larger than 1 MiB"),
        403 => (
            codes::CROSS_ORIGIN,
            "the browser says that a page of another origin asks; only pages of this manager may, and programs that \
             send neither Sec-Fetch-Site nor Origin",
        ),
        405 => (codes::METHOD_NOT_ALLOWED, "the method is not possible here"),
        400..=499 => (
            codes::MALFORMED_REQUEST,
            "the request cannot be met; check its method, path and headers",
        ),
        _ => (
            codes::INTERNAL,
            "the manager has a fault; its log has the cause",
        ),
    };
    Problem::new(status, code, detail)
}

/// The methods of the routes that this path would match.
fn methods(request: &Request<'_>) -> String {
    let path: Vec<&str> = request.uri().path().segments().collect();
    // That of the console, which has no parts.
    let path = if path.is_empty() { vec![""] } else { path };
    let mut methods: Vec<&str> = Vec::new();
    for route in request.rocket().routes() {
        let parts: Vec<&str> = route.uri.path().split('/').skip(1).collect();
        let fits = |(part, given): (&&str, &&str)| part.starts_with('<') || part == given;
        if parts.len() == path.len() && parts.iter().zip(&path).all(fits) {
            methods.push(route.method.as_str());
            if route.method == Method::Get {
                methods.push(Method::Head.as_str());
            }
        }
    }
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}

fn has_empty_part(request: &Request<'_>) -> bool {
    request.uri().path().as_str().contains("//")
}

/// Long nonsense is not sent back in full.
fn shown(request: &Request<'_>) -> String {
    request.uri().path().as_str().chars().take(256).collect()
}
