//! A client of the REST surface, and ways to look behind it.

use std::time::Duration;

use protos::message_stream_client::MessageStreamClient;
use protos::{ListQueuesRequest, Message, Push, PushOkResponse, SubscriptionRequest};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use testkit::{Cluster, wait_until};
use tonic::transport::{Channel, Endpoint};

/// Longer than anything here takes on a busy machine: only a failure lasts that long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A manager's REST surface.
pub(crate) struct Rest {
    client: reqwest::Client,
    url: String,
}

/// An answer: the status and the JSON, `null` where there is no body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) json: Value,
    pub(crate) location: Option<String>,
}

impl Rest {
    pub(crate) fn of(cluster: &Cluster, manager: usize) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
        Self {
            client: client.build().unwrap(),
            url: cluster.manager_url(manager),
        }
    }

    /// A request that is still to be sent.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A request and its answer. An answer that is not a success must be a problem of the promised form.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> Answer {
        let response = self.request(method, path).send().await.unwrap();
        Self::read(response).await
    }

    pub(crate) async fn read(response: Response) -> Answer {
        let status = response.status().as_u16();
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let (content_type, location) = (header("content-type"), header("location"));
        let retry_after = header("retry-after");
        let body = response.text().await.unwrap();
        let json = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&body).unwrap()
        };
        if status >= 400 {
            assert_eq!(content_type.as_deref(), Some("application/problem+json"));
            assert_eq!(json["status"], status);
            assert!(json["code"].is_string() && json["detail"].is_string());
        }
        assert_eq!(retry_after.is_some(), status == 503, "{status} {body}");
        Answer {
            status,
            json,
            location,
        }
    }

    /// The JSON of a GET that succeeds.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.ask(Method::GET, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.json);
        answer.json
    }

    /// Creates a queue and returns where it is.
    pub(crate) async fn create(&self, label: &str) -> Value {
        let answer = self.ask(Method::POST, &format!("/queues/{label}")).await;
        assert_eq!(answer.status, 201, "{label}: {}", answer.json);
        answer.json
    }

    /// Creates a channel and returns its id.
    pub(crate) async fn channel(&self, label: &str, topic: &str) -> String {
        let path = format!("/queues/{label}/channels/{topic}");
        let answer = self.ask(Method::PUT, &path).await;
        assert_eq!(answer.status, 201, "{path}: {}", answer.json);
        answer.json["id"].as_str().unwrap().to_owned()
    }

    /// The status and the code of a request that is refused.
    pub(crate) async fn refusal(&self, method: Method, path: &str) -> (u16, String) {
        let answer = self.ask(method, path).await;
        let code = answer.json["code"].as_str();
        let code = code.unwrap_or_else(|| panic!("{path} was not refused: {answer:?}"));
        (answer.status, code.to_owned())
    }

    /// What the manager says of the MoM with this port.
    pub(crate) async fn mom(&self, port: u16) -> Value {
        let moms = self.get("/moms").await;
        let mut moms = moms.as_array().unwrap().iter();
        moms.find(|mom| mom["port"] == port).unwrap().clone()
    }

    /// Waits until the manager considers the MoM with this port to be up or down.
    pub(crate) async fn until_mom(&self, port: u16, is_up: bool) {
        let what = format!("the MoM on port {port} to be seen up: {is_up}");
        wait_until(&what, PATIENCE, async || {
            self.mom(port).await["is_up"] == is_up
        })
        .await;
    }

    /// Waits until each of these queues is on the MoM with this port.
    pub(crate) async fn until_all_on(&self, labels: &[String], port: u16) {
        for label in labels {
            let what = format!("{label} to be on the MoM on port {port}");
            wait_until(&what, PATIENCE, async || {
                let queue = self.get(&format!("/queues/{label}")).await;
                if queue["port"] == port {
                    Ok(())
                } else {
                    Err(queue.to_string())
                }
            })
            .await;
        }
    }
}

/// The gRPC surface of a MoM, at the address that clients know.
pub(crate) async fn mom(cluster: &Cluster, index: usize) -> MessageStreamClient<Channel> {
    let endpoint = Endpoint::from_shared(cluster.mom(index).url()).unwrap();
    MessageStreamClient::new(endpoint.connect().await.unwrap())
}

/// The labels that a MoM says it hosts.
pub(crate) async fn hosted(cluster: &Cluster, index: usize) -> Vec<String> {
    let mut mom = mom(cluster, index).await;
    let answer = mom.list_queues(ListQueuesRequest {}).await.unwrap();
    answer.into_inner().queues
}

/// Waits until a MoM hosts a queue.
pub(crate) async fn until_hosted(cluster: &Cluster, index: usize, label: &str) {
    let what = format!("MoM {index} to host {label}");
    wait_until(&what, PATIENCE, async || {
        let hosted = hosted(cluster, index).await;
        if hosted.iter().any(|queue| queue == label) {
            Ok(())
        } else {
            Err(format!("it hosts {hosted:?}"))
        }
    })
    .await;
}

/// Pushes until it succeeds: a queue that has just moved is hosted a moment later.
pub(crate) async fn push(cluster: &Cluster, index: usize, label: &str, content: &str) -> i64 {
    let what = format!("MoM {index} to take a push to {label}");
    let ok: PushOkResponse = wait_until(&what, PATIENCE, async || {
        let push = Push {
            content: content.to_owned().into(),
            topic: protos::NO_TOPIC.to_owned(),
            queue_label: label.to_owned(),
            ..Default::default()
        };
        mom(cluster, index).await.push_to_queue(push).await
    })
    .await
    .into_inner();
    ok.seq
}

/// The first `number` messages of a channel.
pub(crate) async fn messages(
    cluster: &Cluster,
    index: usize,
    channel: &str,
    number: usize,
) -> Vec<String> {
    let request = SubscriptionRequest {
        channel_id: channel.to_owned(),
        ..Default::default()
    };
    let what = format!("MoM {index} to serve the channel {channel}");
    let mut stream = wait_until(&what, PATIENCE, async || {
        let mut mom = mom(cluster, index).await;
        mom.subscribe_to_channel(request.clone()).await
    })
    .await
    .into_inner();
    let mut contents = Vec::new();
    while contents.len() < number {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let Message { content, .. } = next.expect("no message came").unwrap().unwrap();
        contents.push(String::from_utf8(content.to_vec()).unwrap());
    }
    contents
}

/// `prefix1`, `prefix2`, ...
pub(crate) fn labels(prefix: &str, number: usize) -> Vec<String> {
    (1..=number)
        .map(|index| format!("{prefix}{index}"))
        .collect()
}

/// Creates queues until the first MoM has `number` of them, and returns their labels.
pub(crate) async fn queues_on_the_first(
    cluster: &Cluster,
    rest: &Rest,
    number: usize,
) -> Vec<String> {
    let first = cluster.mom(0).port();
    let mut here = Vec::new();
    for label in labels(
        "queue",
        2 * number * rest.get("/moms").await.as_array().unwrap().len(),
    ) {
        if rest.create(&label).await["port"] == first {
            here.push(label);
        }
        if here.len() == number {
            return here;
        }
    }
    panic!("the first MoM has {here:?} only");
}
