//! The manager's REST surface, asked at whichever of the given managers answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use protos::codes;
use reqwest::{Method, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::error::{Error, Problem, Reason};

/// An answer longer than this is refused. A list of a million channels fits.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// How long a manager may take to answer before the next one is asked as well.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Managers {
    urls: Vec<Url>,
    /// Index of the one that answered last, which is where the next request goes first.
    preferred: AtomicUsize,
    http: reqwest::Client,
}

/// What a manager is asked.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    method: Method,
    path: &'a [&'a str],
    query: Vec<(&'static str, String)>,
    body: Bytes,
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: Method, path: &'a [&'a str]) -> Self {
        Self {
            method,
            path,
            query: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn query(mut self, name: &'static str, value: &dyn ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    pub(crate) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string().into();
        self
    }

    /// Only reads: asked again at the next manager after any failure.
    fn is_safe(&self) -> bool {
        self.method == Method::GET
    }
}

/// How one manager disappointed.
enum Miss {
    /// It refused, or it has what we want: no other would say anything else.
    Answer(Error),
    /// Nothing was done there, so another may be asked whatever the request is.
    NotDone(Error),
    /// It may have been done there.
    Unknown(Error),
}

impl Managers {
    pub(crate) fn new(
        urls: &[String],
        connect_timeout: Duration,
        request_timeout: Duration,
    ) -> Result<Self, Error> {
        if urls.is_empty() {
            return Err(invalid_setting(
                "no manager url is given; expected something like http://127.0.0.1:8082",
            ));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(connect_timeout)
            .timeout(request_timeout)
            .tcp_nodelay(true)
            // Pushes and subscriptions go to the MoMs directly, so a proxy could carry only half of the traffic.
            .no_proxy()
            .build()
            .map_err(|error| {
                invalid_setting(format!("no HTTP client can be made: {}", chain(&error)))
            })?;
        let urls = urls
            .iter()
            .map(|url| parse(url))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            urls,
            preferred: AtomicUsize::new(0),
            http,
        })
    }

    /// Reads something: asked again at the next manager after any failure.
    pub(crate) async fn get(&self, path: &[&str]) -> Result<Bytes, Error> {
        self.send(Request::new(Method::GET, path)).await
    }

    pub(crate) async fn get_json<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Error> {
        decode(path, &self.get(path).await?)
    }

    /// Changes something: asked again at the next manager only if nothing was done, else the outcome is unknown.
    pub(crate) async fn change(&self, method: Method, path: &[&str]) -> Result<Bytes, Error> {
        self.send(Request::new(method, path)).await
    }

    /// Asks one manager after the other, the one first that answered last. What only reads is asked of the next one also
    /// when there has been no answer for a moment, and then the first to answer counts: a frozen manager breaks no
    /// connection.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Bytes, Error> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut left = (0..self.urls.len()).map(|turn| (first + turn) % self.urls.len());
        let mut asked = FuturesUnordered::new();
        let mut last = None;
        loop {
            if asked.is_empty() {
                let Some(index) = left.next() else { break };
                asked.push(self.ask_at(index, &request));
            }
            let patience = if request.is_safe() && left.len() > 0 {
                PATIENCE
            } else {
                Duration::MAX
            };
            let Ok(answered) = timeout(patience, asked.next()).await else {
                asked.extend(left.next().map(|index| self.ask_at(index, &request)));
                continue;
            };
            let (index, outcome) = answered.expect("somebody is being asked");
            let error = match outcome {
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Miss::Answer(error)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Err(error);
                }
                Err(Miss::Unknown(error)) if !request.is_safe() => return Err(error),
                Err(Miss::NotDone(error) | Miss::Unknown(error)) => error,
            };
            tracing::debug!(manager = %self.urls[index], %error, "a manager did not serve a request");
            // One that answered, though it could not serve, tells more than the silence of the others.
            if !matches!(last, Some(Error::Unavailable(_))) {
                last = Some(error);
            }
        }
        Err(match last.expect("there is at least one url") {
            error @ Error::Unavailable(_) => error,
            silence => {
                Error::ManagerUnreachable(Reason::new("manager_unreachable", silence.detail()))
            }
        })
    }

    async fn ask_at(&self, index: usize, request: &Request<'_>) -> (usize, Result<Bytes, Miss>) {
        (index, self.ask_one(&self.urls[index], request).await)
    }

    async fn ask_one(&self, base: &Url, request: &Request<'_>) -> Result<Bytes, Miss> {
        let mut url = resolve(base, request.path).map_err(Miss::Answer)?;
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let asked = format!("{} {url}", request.method);
        let sent = self
            .http
            .request(request.method.clone(), url)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(request.body.clone())
            .send()
            .await;
        let response = sent.map_err(|error| {
            let text = format!("{asked}: {}", chain(&error));
            if error.is_connect() {
                Miss::NotDone(unavailable(text))
            } else {
                Miss::Unknown(unknown(text))
            }
        })?;
        let status = response.status();
        let body = read(response).await.map_err(|text| {
            Miss::Unknown(unknown(format!("{asked}: the answer broke off: {text}")))
        })?;
        if status.is_success() {
            return Ok(body);
        }
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        let error = problem.into_error(status.as_u16(), &asked);
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => Miss::NotDone(error),
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                Miss::Unknown(unknown(error.detail()))
            }
            _ => Miss::Answer(error),
        })
    }
}

/// Reads an answer that should be JSON of a certain shape.
pub(crate) fn decode<T: DeserializeOwned>(path: &[&str], body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!(
            "the manager's answer about /{} has another shape: {error}",
            path.join("/")
        );
        Error::Unexpected(Reason::new("unexpected_answer", detail))
    })
}

pub(crate) fn invalid_setting(detail: impl Into<String>) -> Error {
    Error::InvalidArgument(Reason::new("invalid_setting", detail))
}

fn parse(url: &str) -> Result<Url, Error> {
    let parsed = Url::parse(url).map_err(|error| {
        invalid_setting(format!(
            "manager url {url:?}: {error}; expected http://HOST:PORT"
        ))
    })?;
    if parsed.scheme() == "http" && parsed.has_host() {
        Ok(parsed)
    } else {
        Err(invalid_setting(format!(
            "manager url {url:?}: expected http://HOST:PORT; other schemes are not supported"
        )))
    }
}

/// Appends path segments, each escaped, so that no label can reach another route.
fn resolve(base: &Url, path: &[&str]) -> Result<Url, Error> {
    // Every HTTP client and server takes these for steps in the path, escaped or not.
    let step = |segment: &&str| matches!(*segment, "" | "." | "..");
    if let Some(place) = path.iter().position(step) {
        // `/queues/LABEL` and `/queues/LABEL/channels/TOPIC` are the only routes with names in them.
        let (code, what) = if place == 1 {
            (codes::INVALID_LABEL, "label")
        } else {
            (codes::INVALID_TOPIC, "topic")
        };
        let detail = format!(
            "{:?} is not legal as a {what} in the manager's routes",
            path[place]
        );
        return Err(Error::InvalidArgument(Reason::new(code, detail)));
    }
    let mut url = base.clone();
    url.path_segments_mut()
        .expect("an http url with a host has a path")
        .pop_if_empty()
        .extend(path);
    Ok(url)
}

async fn read(mut response: Response) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(format!("it is longer than {ANSWER_LIMIT} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn unavailable(detail: String) -> Error {
    Error::ManagerUnreachable(Reason::new("manager_unreachable", detail))
}

fn unknown(detail: impl Into<String>) -> Error {
    Error::OutcomeUnknown(Reason::new("outcome_unknown", detail))
}

/// An error with its causes: reqwest's own text leaves out the one that helps.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_stays_one_segment_of_the_path() {
        let base = Url::parse("http://127.0.0.1:8082/mom/").unwrap();
        let url = resolve(&base, &["queues", "a/../b?c#d e"]).unwrap();
        assert_eq!(
            url.as_str(),
            "http://127.0.0.1:8082/mom/queues/a%2F..%2Fb%3Fc%23d%20e"
        );
        for step in ["", ".", ".."] {
            assert!(
                matches!(
                    resolve(&base, &["queues", step]),
                    Err(Error::InvalidArgument(_))
                ),
                "{step:?}"
            );
        }
    }

    #[test]
    fn an_unusable_manager_url_is_named() {
        for url in ["", "127.0.0.1:8082", "https://127.0.0.1", "unix:/tmp/x"] {
            let error = parse(url).unwrap_err();
            assert!(error.detail().contains(&format!("{url:?}")), "{error}");
        }
    }
}
