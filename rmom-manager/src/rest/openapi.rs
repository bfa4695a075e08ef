//! The description of the surface for programs: OpenAPI, made of what stands beside each handler.
//!
//! A handler names the codes of the problems that it can answer, as `x-codes`; here they become the answers themselves.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use protos::codes;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, Ref, RefOr, Required};
use utoipa::{Modify, OpenApi as _};

use super::problem::{CONTENT_TYPE, status_of};
use super::{
    channels, details, docs, events, health, live, messages, metrics, moms, overview, queues,
};

/// The description, as `GET /openapi.json` answers it.
pub(super) static DESCRIPTION: LazyLock<String> = LazyLock::new(|| {
    let description = Surface::openapi();
    description
        .to_json()
        .expect("text and numbers are always JSON")
});

/// What every route can answer.
const ALWAYS: &[&str] = &[
    codes::MALFORMED_REQUEST,
    codes::BODY_TOO_LARGE,
    codes::CROSS_ORIGIN,
    codes::INTERNAL,
];

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "rusty-mom",
        description = "Durable queues and publish/subscribe on PostgreSQL: administration, at a manager. Pushing and \
            subscribing is done at the MoMs, over gRPC. Errors are `application/problem+json` with a stable `code`; a \
            path that is not there is a 404 `route_not_found`, a method that a path does not have a 405 \
            `method_not_allowed`."
    ),
    tags(
        (name = "queues"), (name = "messages"), (name = "channels"), (name = "moms"), (name = "system")
    ),
    paths(
        queues::create, queues::list, queues::show, queues::remove, queues::topics, queues::topics_singular,
        details::show,
        messages::peek, messages::show, messages::push, messages::purge,
        channels::create, channels::list, channels::show, channels::remove,
        moms::add, moms::list, moms::show, moms::remove, moms::drain, moms::undrain, moms::rebalance,
        overview::show, events::list, live::listen,
        health::status, health::livez, health::readyz, metrics::show,
        docs::description, docs::page,
    ),
    modifiers(&Problems)
)]
struct Surface;

/// Adds what is answered where a request is refused.
struct Problems;

impl Modify for Problems {
    fn modify(&self, description: &mut OpenApi) {
        for path in description.paths.paths.values_mut() {
            for operation in operations(path) {
                add_problems(operation);
                // Without a body a message is empty; the other one needs what is in it.
                if operation.operation_id.as_deref() == Some("pushMessage")
                    && let Some(RefOr::T(body)) = &mut operation.request_body
                {
                    body.required = Some(Required::False);
                }
            }
        }
        let components = description.components.get_or_insert_default();
        components
            .schemas
            .insert("Problem".to_owned(), problem().into());
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        ..
    } = path;
    [get, put, post, delete].into_iter().flatten()
}

fn add_problems(operation: &mut Operation) {
    let named = operation
        .extensions
        .as_ref()
        .and_then(|extensions| extensions.get("x-codes"))
        .and_then(|named| named.as_array())
        .map_or(&[][..], Vec::as_slice);
    let named: Vec<&str> = named.iter().filter_map(|code| code.as_str()).collect();
    let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for code in named.iter().chain(ALWAYS) {
        let codes = by_status.entry(status_of(code)).or_default();
        if !codes.contains(code) {
            codes.push(code);
        }
    }
    let answers: Vec<_> = by_status
        .into_iter()
        .map(|(status, codes)| {
            let content = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Problem")))
                .build();
            let response = ResponseBuilder::new()
                .description(format!("`{}`", codes.join("`, `")))
                .content(CONTENT_TYPE, content)
                .build();
            (status.to_string(), RefOr::T(response))
        })
        .collect();
    operation.responses.responses.extend(answers);
}

fn problem() -> ObjectBuilder {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let property = |object: ObjectBuilder, name: &str, of: ObjectBuilder| {
        object.property(name, of).required(name)
    };
    let object = ObjectBuilder::new().description(Some("Why a request is refused (RFC 9457)."));
    let object = property(object, "type", text());
    let object = property(object, "title", text());
    let object = property(
        object,
        "status",
        ObjectBuilder::new().schema_type(Type::Integer),
    );
    let code = text()
        .enum_values(Some(codes::ALL.iter().copied()))
        .description(Some("For programs."));
    let object = property(object, "code", code);
    property(object, "detail", text().description(Some("For people.")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rocket::Route;
    use rocket::serde::json::{Value, serde_json};

    use super::*;

    fn described() -> Value {
        serde_json::from_str(&DESCRIPTION).unwrap()
    }

    #[test]
    fn each_route_is_described_and_nothing_else() {
        let routes: Vec<Route> = super::super::routes();
        let mounted = routes
            .iter()
            .filter(|route| !is_for_people(route))
            .map(|route| {
                let path = route.uri.path().replace('<', "{").replace('>', "}");
                format!("{} {path}", route.method.as_str().to_lowercase())
            });
        let mounted: BTreeSet<String> = mounted.collect();
        let described = described();
        let paths = described["paths"].as_object().unwrap().iter();
        let described = paths.flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{method} {path}"))
        });
        assert_eq!(described.collect::<BTreeSet<_>>(), mounted);
    }

    #[test]
    fn each_parameter_of_a_route_is_described() {
        let described = described();
        for route in super::super::routes() {
            let path = route.uri.path().replace('<', "{").replace('>', "}");
            let operation =
                &described["paths"][path.as_str()][route.method.as_str().to_lowercase()];
            let parameters = operation["parameters"].as_array();
            let names: BTreeSet<&str> = parameters
                .into_iter()
                .flatten()
                // Headers are no part of the route.
                .filter(|parameter| parameter["in"] != "header")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let uri = route.uri.to_string();
            let parts = uri.split(['/', '?', '&']);
            let expected = parts.filter_map(|part| part.strip_prefix('<')?.strip_suffix('>'));
            if !is_for_people(&route) {
                assert_eq!(names, expected.collect(), "{} {uri}", route.method);
            }
        }
    }

    #[test]
    fn problems_are_told_by_status_with_their_codes() {
        let described = described();
        assert!(described["openapi"].as_str().unwrap().starts_with("3.1"));
        let answers = &described["paths"]["/queues/{label}"]["post"]["responses"];
        for (status, code) in [
            ("400", "invalid_label"),
            ("409", "queue_exists"),
            ("503", "no_mom_up"),
        ] {
            let description = answers[status]["description"].as_str().unwrap();
            assert!(description.contains(code), "{status}: {description}");
            assert!(answers[status]["content"]["application/problem+json"].is_object());
        }
        for item in described["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                for code in operation["x-codes"].as_array().into_iter().flatten() {
                    assert!(codes::ALL.contains(&code.as_str().unwrap()), "{code}");
                }
            }
        }
    }

    /// Pages and their parts are for browsers.
    fn is_for_people(route: &Route) -> bool {
        route.uri.path().starts_with("/console") || route.uri.path() == "/"
    }
}
