//! Looking at the system: what queues hold, what was decided, and all of it as it happens.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Cluster, wait_until};

use crate::support::{PATIENCE, Rest, labels, messages, queues_on_the_first, until_hosted};

/// Pushes a message over REST and returns its sequence.
async fn push(rest: &Rest, path: &str, content: impl Into<reqwest::Body>) -> i64 {
    let request = rest.request(Method::POST, path).body(content);
    let answer = Rest::read(request.send().await.unwrap()).await;
    assert_eq!(answer.status, 201, "{path}: {}", answer.json);
    answer.json["seq"].as_i64().unwrap()
}

/// A list, with the path of its next part.
async fn part(rest: &Rest, path: &str) -> (Vec<Value>, Option<String>) {
    let response = rest.request(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    let link = response.headers().get("link").map(|link| {
        let link = link.to_str().unwrap().strip_prefix('<').unwrap();
        link.strip_suffix(">; rel=\"next\"").unwrap().to_owned()
    });
    let items: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    (items.as_array().unwrap().clone(), link)
}

/// All parts of a list.
async fn parts(rest: &Rest, path: &str) -> Vec<Vec<Value>> {
    let mut parts = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let (items, link) = part(rest, &path).await;
        parts.push(items);
        next = link;
    }
    parts
}

fn seqs(peeked: &Value) -> Vec<i64> {
    let messages = peeked["messages"].as_array().unwrap().iter();
    messages
        .map(|message| message["seq"].as_i64().unwrap())
        .collect()
}

#[tokio::test]
async fn messages_are_pushed_looked_at_and_purged() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    lists_come_in_parts_that_name_the_next(&rest).await;
    says_ok(&rest).await;
    rest.create("news").await;
    let channel = rest.channel("news", "__none__").await;
    let path = "/queues/news/messages";
    let nothing = json!({ "messages": [], "next_after": null });
    assert_eq!(rest.get(path).await, nothing);

    assert_eq!(push(&rest, path, "plain").await, 1);
    assert_eq!(
        push(&rest, &format!("{path}?topic=Weather"), vec![0, 255, 7]).await,
        2
    );
    assert_eq!(push(&rest, path, "").await, 3);
    assert_eq!(
        push(&rest, &format!("{path}?topic=__none__"), "last").await,
        4
    );
    trace_goes_with_the_message(&rest).await;
    // A subscriber receives them as any others; so they are not consumed by looking at them.
    assert_eq!(messages(&cluster, 0, &channel, 1).await, ["plain"]);

    let all = rest.get(path).await;
    assert_eq!(seqs(&all), [1, 2, 3, 4]);
    assert_eq!(all["next_after"], Value::Null);
    let second = &all["messages"][1];
    assert_eq!(
        (&second["topic"], &second["size"], &second["content"]),
        (&json!("weather"), &json!(3), &json!("AP8H"))
    );
    assert_eq!(all["messages"][0]["topic"], "__none__");
    let at: chrono::DateTime<chrono::Utc> = second["at"].as_str().unwrap().parse().unwrap();
    assert!(at.timestamp() > 1_700_000_000);
    let some = rest.get(&format!("{path}?limit=2&after=1")).await;
    assert_eq!((seqs(&some), &some["next_after"]), (vec![2, 3], &json!(3)));
    let rest_of_them = rest.get(&format!("{path}?after=3")).await;
    assert_eq!(
        (seqs(&rest_of_them), &rest_of_them["next_after"]),
        (vec![4], &Value::Null)
    );
    for (topic, found) in [
        ("WEATHER", vec![2]),
        ("__none__", vec![1, 3, 4]),
        ("x", vec![]),
    ] {
        let some = rest.get(&format!("{path}?topic={topic}")).await;
        assert_eq!(seqs(&some), found, "{topic}");
    }

    let raw = rest
        .request(Method::GET, &format!("{path}/2"))
        .send()
        .await
        .unwrap();
    let header = |name: &str| raw.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(
        header("content-disposition"),
        "attachment; filename=\"news-2.bin\""
    );
    assert_eq!(header("rmom-message-id"), second["id"].as_str().unwrap());
    assert_eq!(header("rmom-topic"), "weather");
    assert_eq!(raw.bytes().await.unwrap()[..], [0, 255, 7]);

    refusals(&rest).await;

    let details = rest.get("/queues/news/details").await;
    assert_eq!(
        [
            &details["messages"],
            &details["bytes"],
            &details["last_seq"],
            &details["channels"]
        ],
        [&json!(4), &json!(12), &json!(4), &json!(1)]
    );
    assert_eq!(
        details["channel_list"],
        json!([{ "id": channel, "topic": "__none__" }])
    );
    assert_eq!(details["mom"]["port"], cluster.mom(0).port());
    assert_eq!(details["oldest_at"], all["messages"][0]["at"]);

    let purged = rest.ask(Method::DELETE, path).await;
    assert_eq!(
        (purged.status, &purged.json),
        (200, &json!({ "messages": 4 }))
    );
    assert_eq!(rest.get(path).await, nothing);
    let again = rest.ask(Method::DELETE, path).await;
    assert_eq!(again.json, json!({ "messages": 0 }));
    // Sequences go on, for the owner and, since the last one is known, for the next one too.
    assert_eq!(push(&rest, path, "fresh").await, 5);
    assert_eq!(
        rest.ask(Method::DELETE, path).await.json,
        json!({ "messages": 1 })
    );
    cluster.mom(0).restart().await.unwrap();
    until_hosted(&cluster, 0, "news").await;
    assert_eq!(push(&rest, path, "later").await, 6);
    assert_eq!(messages(&cluster, 0, &channel, 1).await, ["later"]);
    let details = rest.get("/queues/news/details").await;
    assert_eq!(
        [&details["messages"], &details["bytes"]],
        [&json!(1), &json!(5)]
    );
}

async fn trace_goes_with_the_message(rest: &Rest) {
    rest.create("traced").await;
    let path = "/queues/traced/messages";
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = rest
        .request(Method::POST, path)
        .header("Traceparent", trace)
        .header("tracestate", "a=1")
        .header("x-other", "y")
        .body("traced");
    assert_eq!(Rest::read(traced.send().await.unwrap()).await.status, 201);
    assert_eq!(push(rest, path, "plain").await, 2);
    let found = rest.get(path).await;
    let headers = |index: usize| &found["messages"][index]["headers"];
    let expected = json!({ "traceparent": trace, "tracestate": "a=1" });
    assert_eq!((headers(0), headers(1)), (&expected, &json!({})));
    rest.ask(Method::DELETE, "/queues/traced").await;
}

async fn says_ok(rest: &Rest) {
    for path in ["/livez", "/readyz", "/status"] {
        let response = rest.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.text().await.unwrap(), "Ok");
    }
}

async fn refusals(rest: &Rest) {
    for (method, path, status, code) in [
        (Method::GET, "/queues/x/messages", 404, "queue_not_found"),
        (Method::POST, "/queues/x/messages", 404, "queue_not_found"),
        (Method::DELETE, "/queues/x/messages", 404, "queue_not_found"),
        (Method::GET, "/queues/x/details", 404, "queue_not_found"),
        (Method::GET, "/live?queue=x", 404, "queue_not_found"),
        (Method::GET, "/live?queue=", 400, "invalid_label"),
        (
            Method::GET,
            "/queues/news/messages/5",
            404,
            "message_not_found",
        ),
        (
            Method::GET,
            "/queues/news/messages/0",
            400,
            "invalid_argument",
        ),
        (
            Method::GET,
            "/queues/news/messages/x",
            400,
            "invalid_argument",
        ),
        (
            Method::GET,
            "/queues/news/messages?limit=101",
            400,
            "invalid_argument",
        ),
        (
            Method::GET,
            "/queues/news/messages?after=-1",
            400,
            "invalid_argument",
        ),
        (
            Method::GET,
            "/queues/news/messages?topic=a%20b",
            400,
            "invalid_topic",
        ),
        (
            Method::POST,
            "/queues/news/messages?topic=",
            400,
            "invalid_topic",
        ),
        (Method::GET, "/queues?details=1", 400, "invalid_argument"),
        (Method::GET, "/queues?limit=0", 400, "invalid_argument"),
        (Method::GET, "/queues?after=a%20b", 400, "invalid_label"),
        (Method::GET, "/channels?after=7", 400, "invalid_channel_id"),
        (Method::GET, "/events?after=x", 400, "invalid_argument"),
    ] {
        let refusal = rest.refusal(method, path).await;
        assert_eq!(refusal, (status, code.to_owned()), "{path}");
    }
    let large = rest.request(Method::POST, "/queues/news/messages");
    let large = large.body(vec![0; (1 << 20) + 1]).send().await.unwrap();
    let large = Rest::read(large).await;
    assert_eq!(
        (large.status, &large.json["code"]),
        (413, &json!("body_too_large"))
    );
}

/// On a cluster that was just made.
async fn lists_come_in_parts_that_name_the_next(rest: &Rest) {
    let all = labels("queue", 5);
    for label in &all {
        rest.create(label).await;
        rest.channel(label, "__none__").await;
    }
    let plain = rest.get("/queues").await;
    assert_eq!(plain, json!(all));
    for (path, sizes) in [
        ("/queues?limit=2", vec![2, 2, 1]),
        ("/queues?limit=5", vec![5]),
        ("/queues?after=queue3", vec![2]),
    ] {
        let parts = parts(rest, path).await;
        assert_eq!(
            parts.iter().map(Vec::len).collect::<Vec<_>>(),
            sizes,
            "{path}"
        );
        let labels = parts.concat();
        assert!(
            plain.as_array().unwrap().ends_with(&labels),
            "{path}: {labels:?}"
        );
    }
    let details = parts(rest, "/queues?details=true&limit=3").await;
    assert_eq!(details.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2]);
    let details = details.concat();
    let found: Vec<&Value> = details.iter().map(|queue| &queue["label"]).collect();
    assert_eq!(json!(found), plain);
    assert_eq!(
        [
            &details[0]["messages"],
            &details[0]["oldest_at"],
            &details[0]["epoch"]
        ],
        [&json!(0), &Value::Null, &json!(1)]
    );
    let channels = parts(rest, "/channels?limit=2").await.concat();
    assert_eq!(json!(channels), rest.get("/channels").await);
    // Events go backwards, or on from one; a MoM may just have been found up meanwhile.
    wait_until(
        "the events to be the same both ways",
        PATIENCE,
        async || {
            let events = parts(rest, "/events?limit=3").await.concat();
            let (newest, _) = part(rest, "/events").await;
            let mut onwards = parts(rest, "/events?after=0&limit=4").await.concat();
            onwards.reverse();
            events.len() >= 6 && events == newest && events == onwards
        },
    )
    .await;
}

/// Events as a listener receives them: name and data.
struct Listening {
    response: reqwest::Response,
    received: String,
}

impl Listening {
    async fn start(rest: &Rest, path: &str, last: Option<&str>) -> Self {
        // However long the test takes.
        let request = rest.request(Method::GET, path).timeout(60 * PATIENCE);
        let request = match last {
            Some(last) => request.header("Last-Event-ID", last),
            None => request,
        };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self {
            response,
            received: String::new(),
        }
    }

    /// `None`: it has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some(end) = self.received.find("\n\n") {
                let event: String = self.received.drain(..end + 2).collect();
                let field = |name: &str| {
                    let mut lines = event.lines();
                    lines
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::to_owned)
                };
                let found = field("event:").zip(field("data:"));
                if let Some((name, data)) = found {
                    return Some((name, serde_json::from_str(&data).unwrap()));
                }
            }
            let more = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let more = more.expect("nothing came").ok()??;
            self.received.push_str(std::str::from_utf8(&more).unwrap());
        }
    }

    async fn until(&mut self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (found, data) = self.next().await.expect("it has ended");
            if found == name && is_it(&data) {
                return data;
            }
        }
    }
}

#[tokio::test]
async fn a_failover_is_told_as_events_and_live_by_each_manager() {
    let cluster = Cluster::start(2, 2).await.unwrap();
    let (rest, other) = (Rest::of(&cluster, 0), Rest::of(&cluster, 1));
    let here = queues_on_the_first(&cluster, &rest, 2).await;
    rest.channel(&here[0], "__none__").await;
    push(&rest, &format!("/queues/{}/messages", here[0]), "hello").await;
    let first = format!("127.0.0.1:{}", cluster.mom(0).port());
    let mut listening = Listening::start(&other, &format!("/live?queue={}", here[0]), None).await;

    let overview = listening.until("overview", |_| true).await;
    let queues = rest.get("/queues").await.as_array().unwrap().len();
    let totals = &overview["totals"];
    assert_eq!(
        [
            &totals["queues"],
            &totals["moms"],
            &totals["moms_up"],
            &totals["channels"]
        ],
        [&json!(queues), &json!(2), &json!(2), &json!(1)]
    );
    assert_eq!(
        [&totals["messages"], &totals["bytes"]],
        [&json!(1), &json!(5)]
    );
    assert!(
        overview["moms"][0]["heartbeat_at"].is_string(),
        "{overview}"
    );
    let queue = listening.until("queue", |_| true).await;
    assert_eq!(
        (&queue["label"], &queue["messages"]),
        (&json!(here[0]), &json!(1))
    );
    assert_eq!(queue["channel_list"].as_array().unwrap().len(), 1);
    let all = listening.until("queues", |_| true).await;
    assert_eq!(all.as_array().unwrap().len(), queues);
    // The same, of both; one of them leads.
    let mut leads = HashSet::new();
    for rest in [&rest, &other] {
        let overview = rest.get("/overview").await;
        assert_eq!(&overview["totals"]["queues"], &json!(queues));
        assert!(overview["manager"]["lease_epoch"].as_i64().unwrap() > 0);
        leads.insert(overview["manager"]["leads"].as_bool().unwrap());
    }
    assert_eq!(leads, HashSet::from([true, false]));

    cluster.mom(0).freeze().await.unwrap();
    let down = listening
        .until("event", |event| event["kind"] == "mom_down")
        .await;
    assert_eq!(down["subject"], json!(first));
    let moved = listening
        .until("event", |event| {
            event["kind"] == "queue_moved" && event["subject"] == json!(here[0])
        })
        .await;
    let text = format!(
        "from {first} to 127.0.0.1:{}, epoch 2",
        cluster.mom(1).port()
    );
    assert_eq!(moved["text"], json!(text));
    let down_at = down["id"].to_string();
    cluster.mom(0).thaw().await.unwrap();
    let fenced = listening
        .until("event", |event| event["kind"] == "mom_fenced")
        .await;
    assert_eq!(fenced["subject"], json!(first));
    let is_up = |overview: &Value| overview["totals"]["moms_up"] == 2;
    listening.until("overview", is_up).await;

    // Whoever was away is told what they have missed.
    let mut back = Listening::start(&other, "/live", Some(&down_at)).await;
    back.until("event", |event| event["id"] == moved["id"])
        .await;

    rest.ask(Method::DELETE, &format!("/queues/{}/messages", here[0]))
        .await;
    rest.ask(Method::DELETE, &format!("/queues/{}", here[1]))
        .await;
    listening
        .until("event", |event| event["kind"] == "queue_deleted")
        .await;
    let id = rest.mom(cluster.mom(1).port()).await["id"].clone();
    let id = id.as_str().unwrap();
    rest.ask(Method::POST, &format!("/moms/{id}/drain")).await;
    rest.ask(Method::POST, &format!("/moms/{id}/undrain")).await;
    rest.ask(Method::POST, "/rebalance").await;
    listening
        .until("event", |event| event["kind"] == "rebalanced")
        .await;
    let kinds = part(&rest, "/events?limit=1000").await.0;
    let kinds: HashSet<&str> = kinds
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    for kind in storage::EVENT_KINDS
        .iter()
        .filter(|kind| **kind != "mom_removed")
    {
        assert!(kinds.contains(kind), "{kind}: {kinds:?}");
    }

    // An orderly stop ends the listening.
    let mut ended = listening;
    let stopping = async { cluster.manager(1).terminate().await.unwrap() };
    let ending = async { while ended.next().await.is_some() {} };
    tokio::join!(stopping, ending);
}

#[tokio::test]
async fn there_are_only_so_many_listeners() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let mut listening = Vec::new();
    for _ in 0..64 {
        listening.push(Listening::start(&rest, "/live", None).await);
    }
    let refused = rest.refusal(Method::GET, "/live").await;
    assert_eq!(refused, (429, "overloaded".to_owned()));
    // Whoever leaves makes room.
    listening.pop();
    wait_until("room for another listener", PATIENCE, async || {
        let response = rest.request(Method::GET, "/live").send().await.unwrap();
        response.status() == 200
    })
    .await;
}
