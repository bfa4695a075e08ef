//! The surface without a database: what is refused before one is needed, and what happens when there is none.

use figment::providers::{Format, Toml};
use figment::{Figment, Profile};
use futures_util::future::join_all;
use protos::codes;
use rocket::http::uri::Host;
use rocket::http::{ContentType, Header, Method};
use rocket::local::asynchronous::{Client, LocalResponse};
use rocket::serde::json::Value;
use uuid::Uuid;

use super::*;

/// A surface whose database refuses connections: nothing listens on port 1.
async fn client() -> Client {
    let toml = "[default]\ncli_colors = false\nlog_level = \"off\"\n[default.databases.rmom_manager]\n\
        url = \"postgresql://nobody@127.0.0.1:1/x\"\nconnect_timeout = 1\n";
    let settings =
        Settings::read(Figment::from(Toml::string(toml).nested()), Profile::Default).unwrap();
    let manager = Arc::new(Manager::new(&settings));
    Client::untracked(build(&settings, manager)).await.unwrap()
}

async fn problem(response: LocalResponse<'_>, status: u16, code: &str) -> Value {
    let request = format!("{} {}", response.status(), code);
    assert_eq!(response.status().code, status, "{request}");
    let content_type = response.content_type().unwrap().to_string();
    assert_eq!(content_type, "application/problem+json", "{request}");
    let problem: Value = response.into_json().await.unwrap();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["type"], "about:blank");
    assert!(problem["title"].is_string() && problem["detail"].is_string());
    problem
}

#[rocket::async_test]
async fn status_needs_no_database() {
    let client = client().await;
    for path in ["/livez", "/openapi.json", "/docs"] {
        let response = client.get(path).dispatch().await;
        assert_eq!(response.status().code, 200, "{path}");
    }
    let response = client.get("/status").dispatch().await;
    assert_eq!(response.into_string().await.as_deref(), Some("Ok"));
    let response = client.head("/status").dispatch().await;
    assert_eq!(response.status().code, 200);
    assert!(
        response
            .into_string()
            .await
            .is_none_or(|body| body.is_empty())
    );
}

#[rocket::async_test]
async fn the_console_needs_no_database_and_runs_nothing_but_its_own_files() {
    let client = client().await;
    let page = client.get("/").dispatch().await;
    assert_eq!(page.status().code, 200);
    assert_eq!(page.content_type(), Some(ContentType::HTML));
    let header = |name| page.headers().get_one(name).unwrap_or_default().to_owned();
    let policy = header("Content-Security-Policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
    assert_eq!(header("X-Content-Type-Options"), "nosniff");
    assert_eq!(header("X-Frame-Options"), "DENY");
    assert_eq!(header("Referrer-Policy"), "no-referrer");
    assert_eq!(header("Cross-Origin-Resource-Policy"), "same-origin");
    let tag = Header::new("If-None-Match", header("ETag"));

    // All that it names is there, and what a browser has is not sent again.
    let html = page.into_string().await.unwrap();
    let files: Vec<&str> = html
        .split("\"/console/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let response = client.get(format!("/console/{file}")).dispatch().await;
        assert_eq!(response.status().code, 200, "{file}");
        let kind = response.content_type().unwrap().to_string();
        let ending = file.rsplit('.').next().unwrap();
        assert!(kind.contains(if ending == "js" { "javascript" } else { ending }));
        assert!(!response.into_bytes().await.unwrap().is_empty());
    }
    let again = client.get("/").header(tag).dispatch().await;
    assert_eq!(again.status().code, 304);
    assert!(again.into_bytes().await.is_none_or(|body| body.is_empty()));
}

#[rocket::async_test]
async fn what_is_no_page_cannot_be_made_one() {
    let client = client().await;
    let response = client.get("/status").dispatch().await;
    let policy = response.headers().get_one("Content-Security-Policy");
    assert_eq!(
        policy,
        Some("default-src 'none'; frame-ancestors 'none'; sandbox")
    );
    assert_eq!(
        response.headers().get_one("X-Content-Type-Options"),
        Some("nosniff")
    );
}

/// A request with these headers, of somebody who reached the manager as `manager:8080`.
async fn asked(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&'static str, &'static str)],
) -> u16 {
    let mut request = client.req(method, path);
    for (name, value) in headers {
        request.add_header(Header::new(*name, *value));
    }
    request
        .inner_mut()
        .set_host(Host::parse("manager:8080").unwrap());
    request.dispatch().await.status().code
}

#[rocket::async_test]
async fn a_page_of_another_origin_can_do_nothing() {
    let client = client().await;
    let site = "Sec-Fetch-Site";
    for foreign in [
        [(site, "cross-site"), ("Sec-Fetch-Mode", "cors")],
        [(site, "same-site"), ("Sec-Fetch-Mode", "no-cors")],
        [(site, "cross-site"), ("Origin", "http://manager:8080")],
        [("Origin", "http://elsewhere.example"), ("Accept", "*/*")],
        [("Origin", "http://manager:8081"), ("Accept", "*/*")],
        [("Origin", "null"), ("Accept", "*/*")],
    ] {
        for (method, path) in [
            (Method::Delete, "/queues/a"),
            (Method::Post, "/queues/a"),
            (Method::Post, "/rebalance"),
            (Method::Get, "/status"),
        ] {
            let status = asked(&client, method, path, &foreign).await;
            assert_eq!(status, 403, "{method} {path} {foreign:?}");
        }
    }
    for own in [
        &[(site, "same-origin"), ("Sec-Fetch-Mode", "cors")][..],
        &[(site, "none"), ("Sec-Fetch-Mode", "navigate")],
        &[("Origin", "http://manager:8080")],
        &[("Origin", "https://Manager:8080")],
        &[],
    ] {
        // It is let through, and told that there can be no such label.
        assert_eq!(asked(&client, Method::Post, "/queues/%25", own).await, 400);
        assert_eq!(asked(&client, Method::Get, "/status", own).await, 200);
    }
    // A link to here may be followed, but no form is sent by one.
    let visit = [(site, "cross-site"), ("Sec-Fetch-Mode", "navigate")];
    assert_eq!(asked(&client, Method::Get, "/", &visit).await, 200);
    assert_eq!(asked(&client, Method::Post, "/queues/a", &visit).await, 403);

    let mut request = client.delete("/queues/a");
    request.add_header(Header::new(site, "cross-site"));
    problem(request.dispatch().await, 403, codes::CROSS_ORIGIN).await;
}

#[rocket::async_test]
async fn a_label_that_is_not_legal_is_told_what_is() {
    let client = client().await;
    let long = format!("/queues/{}", "x".repeat(256));
    for (method, path) in [
        (Method::Post, "/queues/a%20b"),
        (Method::Get, "/queues/a%00b"),
        (Method::Get, "/queues/a%FFb"),
        (Method::Get, "/queues/%"),
        (Method::Get, "/queues/a%2Fb"),
        (Method::Get, "/queues/a%0Ab"),
        (Method::Delete, "/queues/caf%C3%A9"),
        (Method::Post, "/queues/__NONE__"),
        (Method::Get, "/queues/%25/topics"),
        (Method::Get, "/queue/%25/topics"),
        (Method::Put, "/queues/%25/channels/x"),
        (Method::Post, long.as_str()),
    ] {
        let response = client.req(method, path).dispatch().await;
        let problem = problem(response, 400, codes::INVALID_LABEL).await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("legal are 1 to 255"), "{path}: {detail}");
    }
}

#[rocket::async_test]
async fn a_topic_that_is_not_legal_is_told_what_is() {
    let client = client().await;
    for path in ["/queues/a/channels/b%20c", "/queues/a/channels/%00"] {
        let response = client.put(path).dispatch().await;
        problem(response, 400, codes::INVALID_TOPIC).await;
    }
}

#[rocket::async_test]
async fn a_channel_id_that_is_no_uuid_is_told_so() {
    let client = client().await;
    let long = format!("/channels/{}", "x".repeat(10_000));
    for path in ["/channels/7", "/channels/%FF", long.as_str()] {
        for method in [Method::Get, Method::Delete] {
            let response = client.req(method, path).dispatch().await;
            let problem = problem(response, 400, codes::INVALID_CHANNEL_ID).await;
            assert!(problem["detail"].as_str().unwrap().len() < 300);
        }
    }
}

#[rocket::async_test]
async fn an_empty_part_is_not_skipped() {
    let client = client().await;
    for (method, path) in [
        (Method::Get, "/queues//topics"),
        (Method::Get, "/queue//topics"),
        (Method::Delete, "/queues//a"),
        (Method::Put, "/queues//channels/x"),
    ] {
        let response = client.req(method, path).dispatch().await;
        let problem = problem(response, 400, codes::MALFORMED_REQUEST).await;
        assert!(problem["detail"].as_str().unwrap().contains("empty part"));
    }
}

#[rocket::async_test]
async fn a_parameter_that_is_repeated_is_refused() {
    let client = client().await;
    for path in ["/queues?limit=1&limit=2", "/events?x&x"] {
        let response = client.get(path).dispatch().await;
        let problem = problem(response, 400, codes::MALFORMED_REQUEST).await;
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("more than once")
        );
    }
}

#[rocket::async_test]
async fn unknown_paths_are_not_found() {
    let client = client().await;
    for path in [
        "/nope",
        "/queues/a/b",
        "/queue/a",
        "/channels/1/2",
        "/console/x",
    ] {
        let response = client.get(path).dispatch().await;
        problem(response, 404, codes::ROUTE_NOT_FOUND).await;
    }
}

#[rocket::async_test]
async fn a_method_that_a_path_does_not_have_is_told_those_that_it_has() {
    let client = client().await;
    for (method, path, allowed) in [
        (Method::Post, "/", "GET, HEAD"),
        (Method::Post, "/queues", "GET, HEAD"),
        (Method::Patch, "/queues/a", "DELETE, GET, HEAD, POST"),
        (Method::Put, "/queue/a/topics", "GET, HEAD"),
        (Method::Get, "/queues/a/channels/b", "PUT"),
        (Method::Options, "/channels/x", "DELETE, GET, HEAD"),
        (Method::Delete, "/status", "GET, HEAD"),
        (Method::Put, "/moms", "GET, HEAD, POST"),
        (Method::Get, "/rebalance", "POST"),
    ] {
        let response = client.req(method, path).dispatch().await;
        let allow = response.headers().get_one("Allow").map(str::to_owned);
        assert_eq!(allow.as_deref(), Some(allowed), "{method} {path}");
        problem(response, 405, codes::METHOD_NOT_ALLOWED).await;
    }
}

#[rocket::async_test]
async fn a_mom_that_cannot_be_registered_is_told_what_is_wrong_with_it() {
    let client = client().await;
    for (body, code, part) in [
        ("", codes::MALFORMED_REQUEST, "EOF"),
        ("host=a&port=1", codes::MALFORMED_REQUEST, "line 1"),
        ("{\"host\":\"a\",", codes::MALFORMED_REQUEST, "line 1"),
        ("7", codes::INVALID_ARGUMENT, "\"host\""),
        ("{\"port\":1}", codes::INVALID_ARGUMENT, "\"host\""),
        (
            "{\"host\":7,\"port\":1}",
            codes::INVALID_ARGUMENT,
            "\"host\"",
        ),
        (
            "{\"host\":\"a b\",\"port\":1}",
            codes::INVALID_ARGUMENT,
            "\"host\"",
        ),
        (
            "{\"host\":\"\",\"port\":1}",
            codes::INVALID_ARGUMENT,
            "\"host\"",
        ),
        ("{\"host\":\"a\"}", codes::INVALID_ARGUMENT, "\"port\""),
        (
            "{\"host\":\"a\",\"port\":0}",
            codes::INVALID_ARGUMENT,
            "\"port\"",
        ),
        (
            "{\"host\":\"a\",\"port\":70000}",
            codes::INVALID_ARGUMENT,
            "\"port\"",
        ),
        (
            "{\"host\":\"a\",\"port\":\"1\"}",
            codes::INVALID_ARGUMENT,
            "\"port\"",
        ),
    ] {
        let response = client.post("/moms").body(body).dispatch().await;
        let problem = problem(response, 400, code).await;
        assert!(
            problem["detail"].as_str().unwrap().contains(part),
            "{body}: {problem}"
        );
    }
    for (method, path) in [
        (Method::Get, "/moms/7"),
        (Method::Delete, "/moms/7"),
        (Method::Post, "/moms/7/drain"),
        (Method::Post, "/moms/7/undrain"),
    ] {
        let response = client.req(method, path).dispatch().await;
        problem(response, 400, codes::INVALID_ARGUMENT).await;
    }
    // Not announced, and so found out while it is read.
    let large = format!("[{}1]", "1,".repeat(1 << 20));
    let response = client.post("/moms").body(large).dispatch().await;
    problem(response, 413, codes::BODY_TOO_LARGE).await;
}

#[rocket::async_test]
async fn an_announced_body_that_is_too_large_is_refused() {
    let client = client().await;
    let request = client.post("/queues/a");
    let request = request.header(Header::new("Content-Length", "1048577"));
    problem(request.dispatch().await, 413, codes::BODY_TOO_LARGE).await;
}

#[rocket::async_test]
async fn without_a_database_all_else_is_unavailable() {
    let client = client().await;
    let id = Uuid::nil();
    let requests = [
        (Method::Get, "/queues".to_owned()),
        (Method::Get, "/queues/a".to_owned()),
        (Method::Post, "/queues/a".to_owned()),
        (Method::Delete, "/queues/a".to_owned()),
        (Method::Get, "/queue/a/topics".to_owned()),
        (Method::Put, "/queues/a/channels/__none__".to_owned()),
        (Method::Get, "/channels".to_owned()),
        (Method::Get, format!("/channels/{id}")),
        (Method::Delete, format!("/channels/{id}")),
        (Method::Get, "/moms".to_owned()),
        (Method::Get, format!("/moms/{id}")),
        (Method::Delete, format!("/moms/{id}")),
        (Method::Post, format!("/moms/{id}/drain")),
        (Method::Post, format!("/moms/{id}/undrain")),
        (Method::Post, "/rebalance".to_owned()),
        (Method::Get, "/readyz".to_owned()),
        (Method::Get, "/queues?details=true".to_owned()),
        (Method::Get, "/queues/a/details".to_owned()),
        (Method::Get, "/queues/a/messages".to_owned()),
        (Method::Get, "/queues/a/messages/1".to_owned()),
        (Method::Post, "/queues/a/messages".to_owned()),
        (Method::Delete, "/queues/a/messages".to_owned()),
        (Method::Get, "/events".to_owned()),
        (Method::Get, "/live?queue=a".to_owned()),
    ];
    // At once, since each has to find out for itself.
    let answers = requests.map(async |(method, path)| {
        let response = client.req(method, path.clone()).dispatch().await;
        let retry = response.headers().get_one("Retry-After");
        assert!(retry.is_some(), "{path}");
        problem(response, 503, codes::DATABASE_UNAVAILABLE).await;
    });
    join_all(answers).await;
}

#[rocket::async_test]
async fn what_is_a_fault_of_ours_says_no_more_than_that() {
    let refused = || crate::database::DatabaseError::Answered(storage::Error::AlreadyExists);
    let problem =
        rocket::serde::json::serde_json::to_value(Problem::from(&Error::Database(refused())))
            .unwrap();
    assert_eq!(problem["status"], 500);
    assert_eq!(problem["code"], codes::INTERNAL);
    assert_eq!(
        problem["detail"],
        "the manager has a fault; its log has the cause"
    );
}

#[rocket::async_test]
async fn the_page_to_try_things_needs_nothing_from_elsewhere() {
    let client = client().await;
    let response = client.get("/docs").dispatch().await;
    let policy = response.headers().get_one("Content-Security-Policy");
    assert!(policy.unwrap().starts_with("default-src 'none'"));
    let page = response.into_string().await.unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"));
}

#[test]
fn the_status_of_a_code_is_the_one_that_its_errors_have() {
    let errors = [
        Error::InvalidChannelId(String::new()),
        Error::QueueNotFound(String::new()),
        Error::ChannelNotFound(Uuid::nil()),
        Error::MomNotFound(Uuid::nil()),
        Error::MessageNotFound(String::new(), 1),
        Error::MomNotEmpty(Uuid::nil()),
        Error::QueueExists(String::new()),
        Error::MessageTooLarge(String::new()),
        Error::MalformedBody(String::new()),
        Error::BodyTooLarge,
        Error::Overloaded(String::new()),
        Error::TooManyListeners(1),
        Error::OutcomeUnknown(Uuid::nil(), String::new()),
        Error::SchemaOutdated,
        Error::Refused,
        Error::NoMomUp,
        Error::NoFigures { is_outage: true },
    ];
    for error in errors {
        let problem = Problem::from(&error);
        let problem = rocket::serde::json::serde_json::to_value(problem).unwrap();
        let code = problem["code"].as_str().unwrap();
        assert_eq!(problem["status"], problem::status_of(code), "{code}");
    }
}
