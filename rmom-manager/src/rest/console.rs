//! The web console: what `GET /` answers. Its files are part of the program, so that it needs no folder beside it and
//! no other server; it uses the REST surface as any client does.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Cursor;

use protos::codes;
use rocket::fairing::AdHoc;
use rocket::http::{ContentType, Header, Status};
use rocket::response::{Responder, Response, Result};
use rocket::shield::{Frame, NoSniff, Permission, Referrer, Shield};
use rocket::{Request, Route, get, routes};

use super::{Caller, Problem};

pub(super) fn routes() -> Vec<Route> {
    routes![page, file]
}

/// Only what the manager itself serves is run or loaded, nothing that stands in the page, no other site frames it, and
/// no text can be parsed as markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
    trusted-types 'none'";

/// Of an answer that is no page: whoever makes a browser show it as one gets nothing that runs.
const POLICY_ELSEWHERE: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

macro_rules! files {
    ($($name:literal: $kind:ident,)*) => {
        &[$((
            $name,
            ContentType::$kind,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/console/", $name)),
        )),*]
    };
}

/// Name, type and content of each file.
const FILES: &[(&str, ContentType, &str)] = files! {
    "index.html": HTML,
    "style.css": CSS,
    "views.css": CSS,
    "icon.svg": SVG,
    "theme.js": JavaScript,
    "main.js": JavaScript,
    "api.js": JavaScript,
    "chart.js": JavaScript,
    "dom.js": JavaScript,
    "eventlist.js": JavaScript,
    "events.js": JavaScript,
    "format.js": JavaScript,
    "live.js": JavaScript,
    "overview.js": JavaScript,
    "parts.js": JavaScript,
    "peek.js": JavaScript,
    "queue.js": JavaScript,
    "queues.js": JavaScript,
};

/// A file of the console.
struct File {
    kind: ContentType,
    content: &'static str,
}

#[get("/")]
fn page(_caller: Caller) -> std::result::Result<File, Problem> {
    find("index.html")
}

#[get("/console/<name>")]
fn file(_caller: Caller, name: &str) -> std::result::Result<File, Problem> {
    find(name)
}

fn find(name: &str) -> std::result::Result<File, Problem> {
    let file = FILES.iter().find(|(known, _, _)| *known == name);
    file.map(|(_, kind, content)| File {
        kind: kind.clone(),
        content,
    })
    .ok_or_else(|| {
        Problem::new(
            Status::NotFound,
            codes::ROUTE_NOT_FOUND,
            "the console has no such file; it begins at /",
        )
    })
}

impl<'r> Responder<'r, 'static> for File {
    fn respond_to(self, request: &'r Request<'_>) -> Result<'static> {
        let mut hasher = DefaultHasher::new();
        self.content.hash(&mut hasher);
        let tag = format!("\"{:016x}\"", hasher.finish());
        let mut response = Response::build();
        // Asked for each time, so that no browser mixes the files of two versions, and sent if it is another one.
        response
            .header(Header::new("Cache-Control", "no-cache"))
            .header(Header::new("Content-Security-Policy", POLICY));
        if request.headers().get_one("If-None-Match") == Some(tag.as_str()) {
            response.status(Status::NotModified);
        } else {
            response
                .header(self.kind)
                .sized_body(self.content.len(), Cursor::new(self.content));
        }
        response.header(Header::new("ETag", tag)).ok()
    }
}

/// Headers that tell browsers what not to do with any answer.
pub(super) fn shield() -> Shield {
    Shield::default()
        .enable(NoSniff::Enable)
        .enable(Frame::Deny)
        .enable(Referrer::NoReferrer)
        // Its default names a feature that browsers have dropped, and complain of.
        .disable::<Permission>()
}

/// The headers that [`Shield`] does not know.
pub(super) fn policy() -> AdHoc {
    AdHoc::on_response("policy", |_, response| {
        Box::pin(async move {
            if !response.headers().contains("Content-Security-Policy") {
                response.set_header(Header::new("Content-Security-Policy", POLICY_ELSEWHERE));
            }
            response.set_header(Header::new("Cross-Origin-Resource-Policy", "same-origin"));
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::FILES;

    #[test]
    fn every_file_of_the_folder_is_served_and_none_has_what_the_policy_forbids() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("console");
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut served: Vec<_> = FILES
            .iter()
            .map(|(name, _, _)| (*name).to_owned())
            .collect();
        served.sort();
        assert_eq!(served, names);

        for (name, _, content) in FILES {
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                " style=",
                "https://",
            ] {
                assert!(!content.contains(forbidden), "{name} has {forbidden}");
            }
        }
    }

    #[test]
    fn every_import_is_of_a_file_that_is_served() {
        let imports = |content: &'static str| {
            content
                .split("from \"./")
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap())
        };
        let mut count = 0;
        for (name, _, content) in FILES {
            for imported in imports(content) {
                count += 1;
                assert!(
                    FILES.iter().any(|(known, _, _)| known == &imported),
                    "{name} imports {imported}"
                );
            }
        }
        assert!(count > 20);
    }
}
