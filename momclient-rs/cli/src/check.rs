//! `mom check`: whether everything can be reached from here, and what to do where it cannot.

use std::time::Duration;

use momclient::{Error, MoMClient, Mom};
use protos::HeartbeatRequest;
use protos::message_stream_client::MessageStreamClient;
use serde::Serialize;
use tokio::time::{Instant, timeout};
use tonic::transport::Endpoint;

use crate::output::{Output, print_json};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    what: String,
    is_fine: bool,
    found: String,
    /// What to do, where it is not fine.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

pub(crate) async fn run(urls: &[String], output: Output) -> anyhow::Result<()> {
    let mut findings = Vec::new();
    let mut reached = None;
    for url in urls {
        let one = MoMClient::builder([url.clone()])
            .connect_timeout(PATIENCE)
            .request_timeout(PATIENCE)
            .build();
        let finding = match one {
            Ok(client) => {
                let finding = manager(url, &client).await;
                if finding.is_fine {
                    reached.get_or_insert(client);
                }
                finding
            }
            Err(error) => wrong(
                format!("manager {url}"),
                error.to_string(),
                "give it as http://HOST:PORT, with --manager, MOM_MANAGER or `mom context add`",
            ),
        };
        findings.push(finding);
    }
    if let Some(client) = reached {
        match client.moms().await {
            Ok(moms) => {
                findings.push(enough(&moms));
                for mom in &moms {
                    findings.push(reach(mom).await);
                }
            }
            Err(error) => findings.push(wrong("list of MoMs".to_owned(), error.to_string(), "")),
        }
    }
    let is_fine = findings.iter().all(|finding| finding.is_fine);
    if output.is_json() {
        print_json(&findings)?;
    } else {
        for finding in &findings {
            let sign = if finding.is_fine { "ok " } else { "BAD" };
            println!("{sign}  {}: {}", finding.what, finding.found);
            if let Some(advice) = finding
                .advice
                .as_deref()
                .filter(|advice| !advice.is_empty())
            {
                println!("     {advice}");
            }
        }
    }
    if is_fine {
        Ok(())
    } else {
        anyhow::bail!("not everything is as it should be")
    }
}

async fn manager(url: &str, client: &MoMClient) -> Finding {
    let what = format!("manager {url}");
    let began = Instant::now();
    match client.ready().await {
        Ok(()) => fine(what, format!("ready, answered in {:.1?}", began.elapsed())),
        Err(error @ Error::ManagerUnreachable(_)) => wrong(
            what,
            error.detail().to_owned(),
            "is rmom-manager running, and does it listen on an address that this machine reaches? It binds to loopback \
             unless `address` in Rocket.toml says otherwise",
        ),
        Err(error) => wrong(
            what,
            error.to_string(),
            "the manager answers, but cannot work; its log says why, mostly that PostgreSQL cannot be reached: look at \
             databases.rmom_manager.url in its Rocket.toml",
        ),
    }
}

fn enough(moms: &[Mom]) -> Finding {
    let up = moms.iter().filter(|mom| mom.is_up).count();
    let found = format!("{up} of {} up", moms.len());
    let what = "MoMs".to_owned();
    if moms.is_empty() {
        return wrong(
            what,
            "none is registered".to_owned(),
            "list them under `moms` in the manager's Rocket.toml, or `mom add HOST PORT`",
        );
    }
    if up == 0 {
        return wrong(
            what,
            found,
            "start one: `rmom` with its configuration; queues wait until one is up",
        );
    }
    fine(what, found)
}

/// Whether the address that clients are given leads from here to the MoM that it is meant for.
async fn reach(mom: &Mom) -> Finding {
    let host = if mom.host.contains(':') {
        format!("[{}]", mom.host)
    } else {
        mom.host.clone()
    };
    let address = format!("{host}:{}", mom.port);
    let what = format!("MoM {address}");
    let began = Instant::now();
    let ask = async {
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let channel = endpoint.map_err(|error| chain(&error))?.connect().await;
        let mut client = MessageStreamClient::new(channel.map_err(|error| chain(&error))?);
        let answer = client.get_heartbeat(HeartbeatRequest::default()).await;
        answer.map_err(|status| status.message().to_owned())
    };
    match timeout(PATIENCE, ask).await {
        Ok(Ok(answer)) => {
            let answer = answer.into_inner();
            if (answer.host.as_str(), answer.port) == (mom.host.as_str(), u32::from(mom.port)) {
                return fine(what, format!("answered in {:.1?}", began.elapsed()));
            }
            let found = format!("{}:{} answers here", answer.host, answer.port);
            wrong(
                what,
                found,
                "external_host and external_port of a MoM must be the address that clients reach it by",
            )
        }
        Ok(Err(why)) => wrong(what, why, advice(mom)),
        Err(_) => wrong(what, format!("no answer within {PATIENCE:?}"), advice(mom)),
    }
}

fn advice(mom: &Mom) -> &'static str {
    if mom.is_up {
        "the managers reach it and this machine does not: external_host must be a name or address that clients can reach"
    } else {
        "the managers do not reach it either: start it, or `mom rm` it"
    }
}

fn fine(what: String, found: String) -> Finding {
    Finding {
        what,
        is_fine: true,
        found,
        advice: None,
    }
}

fn wrong(what: String, found: String, advice: &str) -> Finding {
    Finding {
        what,
        is_fine: false,
        found,
        advice: Some(advice.to_owned()),
    }
}

/// An error with its causes: the first words alone do not help.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
