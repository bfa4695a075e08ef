//! A process that can be started, killed, frozen, thawed and ended, and that never outlives this one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::account::Account;
use crate::{Error, try_wait_until};

/// How long a process may take to end after SIGTERM, and to stop or go after SIGKILL and SIGSTOP.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// How long a drop waits before it resorts to SIGKILL.
const DROP_ENDS_WITHIN: Duration = Duration::from_secs(10);
/// How much of a log an error message quotes.
const TAIL_LINES: usize = 25;

/// What to run, before it runs.
#[derive(Debug)]
pub struct ProcessBuilder {
    name: String,
    program: PathBuf,
    log: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
    inherited_env_dropped: Vec<&'static str>,
    directory: Option<PathBuf>,
    account: Option<Account>,
    death_signal: &'static str,
    end_signal: Signal,
}

impl ProcessBuilder {
    /// `program`, called `name` in messages, with all its output appended to the file `log`.
    pub fn new(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        log: impl Into<PathBuf>,
    ) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            log: log.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            inherited_env_dropped: Vec::new(),
            directory: None,
            account: None,
            death_signal: "KILL",
            end_signal: Signal::KILL,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Hides this process's variables that start with `prefix`, so that a developer's settings do not leak in.
    #[must_use]
    pub fn drop_env(mut self, prefix: &'static str) -> Self {
        self.inherited_env_dropped.push(prefix);
        self
    }

    /// The directory to run in; otherwise this process's own.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    pub(crate) fn account(mut self, account: Option<Account>) -> Self {
        self.account = account;
        self
    }

    /// What the kernel sends it when this process ends; SIGKILL if not set. A name that `setpriv` knows.
    pub(crate) fn death_signal(mut self, signal: &'static str) -> Self {
        self.death_signal = signal;
        self
    }

    /// What it is sent when the value is dropped; SIGKILL if not set, and after a while in any case.
    pub(crate) fn end_signal(mut self, signal: Signal) -> Self {
        self.end_signal = signal;
        self
    }

    /// The process, not started yet.
    pub fn build(self) -> Process {
        Process {
            launch: self,
            running: Mutex::new(Running {
                child: None,
                log_start: 0,
                next_env: BTreeMap::new(),
            }),
        }
    }

    /// `setpriv` puts itself in the program's place, so that the child's pid is the program's. It sets the
    /// parent-death signal after the change of account, which would clear it.
    fn command(&self) -> Result<Command, Error> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .map_err(Error::io(format!(
                "cannot open the log {}",
                self.log.display()
            )))?;
        let second = log
            .try_clone()
            .map_err(Error::io("cannot duplicate a log's descriptor"))?;

        let mut command = Command::new("setpriv");
        command.arg(format!("--pdeathsig={}", self.death_signal));
        if let Some(account) = &self.account {
            command.args(account.setpriv_options());
        }
        command.arg("--").arg(&self.program).args(&self.args);
        for (key, _) in std::env::vars_os() {
            let text = key.to_string_lossy();
            if self
                .inherited_env_dropped
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(&key);
            }
        }
        command
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(second);
        // A terminal's Ctrl-C is for this process, which then ends its children in good order.
        command.process_group(0);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        Ok(command)
    }
}

/// A process of one program, which may be started and ended many times.
///
/// It ends with this process even if that is killed with SIGKILL, by the kernel's parent-death signal. Dropping the
/// value kills it.
#[derive(Debug)]
pub struct Process {
    launch: ProcessBuilder,
    running: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    /// The latest child, also after it has ended.
    child: Option<Child>,
    /// Where in the log the latest run begins.
    log_start: u64,
    /// Variables of the next run's environment only.
    next_env: BTreeMap<String, String>,
}

impl Running {
    /// The child if it has not ended. As long as it has not been waited for, its pid cannot belong to anything else.
    fn alive(&mut self) -> Option<&mut Child> {
        let child = self.child.as_mut()?;
        matches!(child.try_wait(), Ok(None)).then_some(child)
    }
}

impl Process {
    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Sets a variable of its environment for its next start only, to arm something for one life.
    pub fn set_env_once(&self, key: impl Into<String>, value: impl Into<String>) {
        self.running().next_env.insert(key.into(), value.into());
    }

    /// Starts it and returns at once; whether it gets ready is another question.
    pub fn spawn(&self) -> Result<(), Error> {
        let mut running = self.running();
        if let Some(child) = running.alive() {
            return Err(Error::Failed(format!(
                "{} runs already (pid {})",
                self.name(),
                child.id()
            )));
        }
        if !self.launch.program.is_file() {
            return Err(Error::Missing(format!(
                "{} is not there, so {} cannot be started",
                self.launch.program.display(),
                self.name()
            )));
        }
        let mut command = self.launch.command()?;
        command.envs(std::mem::take(&mut running.next_env));
        running.log_start = fs::metadata(&self.launch.log).map_or(0, |metadata| metadata.len());
        let child = spawn_for_good(command).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                Error::Missing(format!(
                    "cannot start {}: `setpriv` is not in the PATH; it is part of util-linux",
                    self.name()
                ))
            } else {
                Error::Io(format!("cannot start {}", self.name()), error)
            }
        })?;
        running.child = Some(child);
        Ok(())
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running().alive().map(|child| child.id())
    }

    /// Whether it runs. A frozen process does.
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// How it ended, if it was started and has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.running().child.as_mut()?.try_wait().ok()?
    }

    /// An error that tells how it ended and quotes its log, unless it runs.
    pub fn ensure_running(&self) -> Result<(), Error> {
        if self.is_running() {
            return Ok(());
        }
        let log = self.log_of_this_run();
        let ended = match self.exit_status() {
            Some(status) => format!("{} ended ({status})", self.name()),
            None => format!("{} was not started", self.name()),
        };
        let text = format!(
            "{ended}; the end of {}:\n{}",
            self.launch.log.display(),
            tail(&log)
        );
        let port_taken = log.to_ascii_lowercase().contains("address already in use");
        Err(if port_taken {
            Error::PortTaken(text)
        } else {
            Error::Failed(text)
        })
    }

    /// Kills it with SIGKILL and waits until it is gone. Does nothing if it is not running.
    pub async fn kill(&self) {
        if self.signal(Signal::KILL).is_ok()
            && let Err(error) = self.ended(ENDS_WITHIN).await
        {
            // Only a process that hangs in the kernel resists SIGKILL.
            panic!("{error}");
        }
    }

    /// Stops it with SIGSTOP: it keeps its memory, sockets and locks, and does nothing. Returns when every thread of
    /// it has stopped.
    pub async fn freeze(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)?;
        self.reaches_state("stop", |states| states.iter().all(|state| *state == 'T'))
            .await
    }

    /// Lets it go on with SIGCONT after [`Process::freeze`].
    pub async fn thaw(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)?;
        self.reaches_state("go on", |states| !states.contains(&'T'))
            .await
    }

    /// Ends it with SIGTERM and returns its exit status.
    pub async fn terminate(&self) -> Result<ExitStatus, Error> {
        self.signal(Signal::TERM)?;
        self.ended(ENDS_WITHIN).await
    }

    /// Waits until it has ended.
    pub async fn ended(&self, deadline: Duration) -> Result<ExitStatus, Error> {
        let what = format!("{} to end", self.name());
        try_wait_until(&what, deadline, async || self.exit_status()).await
    }

    /// Sends it `signal`; an error if it is not running.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        let mut running = self.running();
        let Some(child) = running.alive() else {
            return Err(Error::Failed(format!("{} is not running", self.name())));
        };
        let pid = Pid::from_child(child);
        kill_process(pid, signal)
            .map_err(|errno| Error::Io(format!("cannot signal {}", self.name()), errno.into()))
    }

    /// Where its output goes.
    pub fn log_path(&self) -> &Path {
        &self.launch.log
    }

    /// Everything it has written, in all its runs.
    pub fn log(&self) -> String {
        read_from(&self.launch.log, 0)
    }

    /// What it has written since it was started last.
    pub fn log_of_this_run(&self) -> String {
        let start = self.running().log_start;
        read_from(&self.launch.log, start)
    }

    /// The last lines that it has written.
    pub fn log_tail(&self) -> String {
        tail(&self.log())
    }

    async fn reaches_state(&self, verb: &str, reached: fn(&[char]) -> bool) -> Result<(), Error> {
        let what = format!("{} to {verb}", self.name());
        try_wait_until(&what, ENDS_WITHIN, async || match self.pid() {
            Some(pid) => {
                let states = thread_states(pid);
                if reached(&states) {
                    Ok(())
                } else {
                    Err(format!("threads are in the states {states:?}"))
                }
            }
            None => Err("it has ended".to_owned()),
        })
        .await
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A frozen process would not act on anything but SIGKILL.
        if self.signal(self.launch.end_signal).is_err() || self.signal(Signal::CONT).is_err() {
            return;
        }
        let end = Instant::now() + DROP_ENDS_WITHIN;
        while self.is_running() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(child) = self.running().alive() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts `command` from a thread that lives as long as this process.
///
/// The kernel sends the parent-death signal when the *thread* that started the child ends, not when the process does.
/// Threads of a test harness and of a runtime's blocking pool come and go, so none of them may start a child.
fn spawn_for_good(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::SyncSender<io::Result<Child>>);
    static STARTER: LazyLock<mpsc::SyncSender<Order>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::sync_channel::<Order>(16);
        std::thread::Builder::new()
            .name("process-starter".to_owned())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a process that can start children can start a thread");
        orders
    });

    let (answer, child) = mpsc::sync_channel(1);
    STARTER
        .send((command, answer))
        .expect("the starter lives as long as the process");
    child.recv().expect("the starter answers every order")
}

/// The state letter of each thread of `pid`, as `/proc` tells it.
fn thread_states(pid: u32) -> Vec<char> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
            // The program's name stands in parentheses and may itself contain some.
            stat.rsplit_once(')')?.1.trim_start().chars().next()
        })
        .collect()
}

fn read_from(path: &Path, start: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(cannot read {}: {error})", path.display()),
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let start = lines.len().saturating_sub(TAIL_LINES);
    if lines.is_empty() {
        "(it is empty)".to_owned()
    } else {
        lines[start..].join("\n")
    }
}
