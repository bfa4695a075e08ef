//! `mom`: see `--help`.

mod arguments;
mod bench;
mod channels;
mod check;
mod context;
mod exit;
mod explain;
mod moms;
mod output;
mod push;
mod queues;
mod sub;
mod top;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use momclient::MoMClient;

use crate::arguments::{Arguments, Command};
use crate::context::Contexts;
use crate::output::{Output, Unread};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    match run(arguments, output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is::<Unread>() => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            exit::code(&failure)
        }
    }
}

async fn run(arguments: Arguments, output: Output) -> anyhow::Result<()> {
    let (managers, context) = (arguments.manager, arguments.context);
    // Only what needs a system asks which one.
    let urls = || context::managers(&managers, context.as_deref());
    let client = || -> anyhow::Result<MoMClient> { Ok(MoMClient::new(urls()?)?) };
    match arguments.command {
        Command::Status => moms::status(&client()?, output).await,
        Command::Queue(command) => queues::run(&client()?, command, output).await,
        Command::Channel(command) => channels::run(&client()?, command, output).await,
        Command::Push(options) => push::run(&client()?, options, output).await,
        Command::Sub(options) => sub::run(&client()?, options, output).await,
        Command::Ls => moms::list(&client()?, output).await,
        Command::Add { host, port } => moms::add(&client()?, &host, port, output).await,
        Command::Rm { mom } => moms::remove(&client()?, &mom).await,
        Command::Drain { mom } => moms::drain(&client()?, &mom, true, output).await,
        Command::Undrain { mom } => moms::drain(&client()?, &mom, false, output).await,
        Command::Rebalance => Ok(client()?.rebalance().await?),
        Command::Events { limit, follow } => moms::events(&client()?, limit, follow, output).await,
        Command::Top => top::run(&client()?).await,
        Command::Bench(options) => bench::run(&client()?, options, output).await,
        Command::Check => check::run(&urls()?, output).await,
        Command::Errors { code, markdown } => explain::run(code.as_deref(), markdown, output),
        Command::Context(command) => Contexts::run(command, output),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "mom", &mut std::io::stdout());
            Ok(())
        }
    }
}
