//! MoMs and the system as a whole.

use std::collections::BTreeSet;
use std::time::Duration;

use momclient::{Event, MoMClient, Mom, Overview};
use uuid::Uuid;

use crate::output::{Output, Table, age, amount, bytes, print_json, print_json_line};
use crate::queues;

/// How often `events --follow` asks.
const FOLLOW_PERIOD: Duration = Duration::from_secs(1);

/// Neither the id nor the address of a MoM that the managers know.
#[derive(Debug)]
pub(crate) struct NoSuchMom {
    given: String,
    known: Vec<String>,
}

impl std::error::Error for NoSuchMom {}

impl std::fmt::Display for NoSuchMom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { given, known } = self;
        write!(
            f,
            "there is no MoM {given:?}; there are: {}",
            known.join(", ")
        )
    }
}

pub(crate) async fn status(client: &MoMClient, output: Output) -> anyhow::Result<()> {
    let overview = client.overview().await?;
    if output.is_json() {
        return print_json(&overview);
    }
    for line in summary(&overview) {
        println!("{line}");
    }
    println!();
    table(&overview.moms).print();
    let queues = client.queue_list().await?;
    if !queues.is_empty() {
        println!();
        queues::table(&queues).print();
    }
    Ok(())
}

/// The system in three lines.
pub(crate) fn summary(overview: &Overview) -> Vec<String> {
    let (totals, rates) = (&overview.totals, &overview.rates);
    let role = if overview.manager.leads {
        "leads"
    } else {
        "follows"
    };
    vec![
        format!(
            "rusty-mom {}; the manager that answers {role}, lease epoch {}",
            overview.version, overview.manager.lease_epoch
        ),
        format!(
            "MoMs up: {} of {}, queues: {}, channels: {}, subscriptions: {}; retained: {} messages, {}",
            totals.moms_up,
            totals.moms,
            totals.queues,
            totals.channels,
            amount(totals.subscriptions.map(|n| n as f64)),
            amount(Some(totals.messages as f64)),
            bytes(totals.bytes),
        ),
        format!(
            "{} pushed/s, {} delivered/s, of these {} caught up",
            amount(rates.pushed),
            amount(rates.delivered),
            amount(rates.caught_up),
        ),
    ]
}

/// MoMs with what is known of them.
pub(crate) fn table(moms: &[Mom]) -> Table {
    let heads = [
        "MOM",
        "STATE",
        "SINCE",
        "QUEUES",
        "PUSHED/S",
        "DELIVERED/S",
        "MEMORY",
        "CONNECTIONS",
        "ID",
    ];
    let mut table = Table::new(&heads);
    for mom in moms {
        let state = match (mom.is_up, mom.draining) {
            (true, false) => "up",
            (true, true) => "draining",
            (false, false) => "down",
            (false, true) => "down, draining",
        };
        let rates = mom.rates.unwrap_or_default();
        table.row([
            address(mom),
            state.to_owned(),
            age(Some(mom.since)),
            mom.queues.to_string(),
            amount(rates.pushed),
            amount(rates.delivered),
            bytes(mom.resident_bytes),
            amount(mom.connections.map(|n| n as f64)),
            mom.id.to_string(),
        ]);
    }
    table
}

pub(crate) async fn list(client: &MoMClient, output: Output) -> anyhow::Result<()> {
    let moms = client.overview().await?.moms;
    if output.is_json() {
        return print_json(&moms);
    }
    table(&moms).print();
    Ok(())
}

pub(crate) async fn add(
    client: &MoMClient,
    host: &str,
    port: u16,
    output: Output,
) -> anyhow::Result<()> {
    show(&client.add_mom(host, port).await?, output)
}

pub(crate) async fn remove(client: &MoMClient, given: &str) -> anyhow::Result<()> {
    Ok(client.remove_mom(&find(client, given).await?).await?)
}

pub(crate) async fn drain(
    client: &MoMClient,
    given: &str,
    draining: bool,
    output: Output,
) -> anyhow::Result<()> {
    let id = find(client, given).await?;
    let mom = if draining {
        client.drain(&id).await?
    } else {
        client.undrain(&id).await?
    };
    show(&mom, output)
}

fn show(mom: &Mom, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return print_json(mom);
    }
    table(std::slice::from_ref(mom)).print();
    Ok(())
}

/// The id of a MoM that was given by it, or by its address.
async fn find(client: &MoMClient, given: &str) -> anyhow::Result<Uuid> {
    if let Ok(id) = Uuid::parse_str(given) {
        return Ok(id);
    }
    let moms = client.moms().await?;
    match moms.iter().find(|mom| address(mom) == given) {
        Some(mom) => Ok(mom.id),
        None => Err(NoSuchMom {
            given: given.to_owned(),
            known: moms.iter().map(address).collect(),
        }
        .into()),
    }
}

fn address(mom: &Mom) -> String {
    if mom.host.contains(':') {
        format!("[{}]:{}", mom.host, mom.port)
    } else {
        format!("{}:{}", mom.host, mom.port)
    }
}

pub(crate) async fn events(
    client: &MoMClient,
    limit: u32,
    follow: bool,
    output: Output,
) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    let mut events = client.events(None, limit).await?;
    loop {
        // Those after an event come in their order, the newest ones do not.
        events.sort_unstable_by_key(|event| event.id);
        for event in &events {
            if seen.insert(event.id) {
                print(event, output)?;
            }
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_PERIOD).await;
        let last = seen.last().copied();
        seen.retain(|id| Some(*id) == last);
        events = client.events(Some(last.unwrap_or(0)), 1000).await?;
    }
}

fn print(event: &Event, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return print_json_line(event);
    }
    let at = event.at.format("%Y-%m-%d %H:%M:%S");
    println!(
        "{at}  {:<16}  {}  {}",
        event.kind, event.subject, event.text
    );
    Ok(())
}
