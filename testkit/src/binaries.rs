//! Where the programs are: PostgreSQL's, and this project's own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::Error;

/// Names the directory that holds `rmom` and `rmom-manager`, and so prevents that they are built.
const BIN_DIR: &str = "RMOM_BIN_DIR";
/// What a cluster runs.
const PROGRAMS: [&str; 2] = ["rmom", "rmom-manager"];
/// Where Debian and Ubuntu keep the servers, one folder for each major version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// The directory of the newest PostgreSQL server binaries, or of those of version `major`.
pub(crate) fn postgres(major: Option<u32>) -> Result<PathBuf, Error> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(DEBIAN_ROOT)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| has_server(bin))
        .collect();
    found.sort();
    let in_path = || {
        let path = std::env::var_os("PATH")?;
        let initdb = std::env::split_paths(&path)
            .map(|bin| bin.join("initdb"))
            .find(|file| file.is_file())?;
        // The other programs may be next to what a link points to only.
        let bin = initdb.canonicalize().ok()?.parent()?.to_path_buf();
        has_server(&bin).then_some(bin)
    };
    let chosen = match major {
        Some(major) => found.iter().find(|(version, _)| *version == major),
        None => found.last(),
    };
    chosen.map(|(_, bin)| bin.clone()).or_else(in_path).ok_or_else(|| {
        let version = major.map(|major| format!(" {major}")).unwrap_or_default();
        Error::Missing(format!(
            "the PostgreSQL{version} server is not installed (looked for initdb, postgres and psql in \
             {DEBIAN_ROOT}/*/bin and in the PATH): run ./first-time-install.sh"
        ))
    })
}

fn has_server(bin: &Path) -> bool {
    ["initdb", "postgres", "psql"]
        .iter()
        .all(|program| bin.join(program).is_file())
}

/// The directory of the binaries `rmom` and `rmom-manager`, built first if need be.
///
/// `cargo test -p X` does not build the binaries of other packages, so this does, in the profile of the running
/// program and once in its life. With the variable `RMOM_BIN_DIR` set, nothing is built and that directory is it;
/// likewise for a program that was moved away from the source tree, whose directory must hold the binaries.
pub async fn ensure_built() -> Result<PathBuf, Error> {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT.get_or_try_init(find_or_build).await.cloned()
}

/// The cargo profile in which the running program was built, by the name of its directory (`debug`, `release`, ...).
pub fn build_profile() -> Option<String> {
    Some(profile_dir().ok()?.file_name()?.to_str()?.to_owned())
}

async fn find_or_build() -> Result<PathBuf, Error> {
    if let Some(dir) = std::env::var_os(BIN_DIR) {
        let dir = std::path::absolute(&dir).map_err(Error::io(format!(
            "cannot resolve {BIN_DIR}={}",
            dir.to_string_lossy()
        )))?;
        return holding_programs(dir, &format!("the variable {BIN_DIR} names it"));
    }
    let dir = profile_dir()?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let profile = dir
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if !dir.join(".fingerprint").is_dir() || !workspace.join("Cargo.toml").is_file() {
        return holding_programs(
            dir.clone(),
            &format!("it is where this program is; {BIN_DIR} can name another"),
        );
    }
    // Cargo calls the directory of its profile `dev` by another name.
    let profile = if profile == "debug" { "dev" } else { profile };
    let target = dir.parent().unwrap_or(&dir);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(&workspace);
    for program in PROGRAMS {
        command.args(["-p", program]);
    }
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(Error::io(format!(
            "cannot run cargo to build {}",
            PROGRAMS.join(" and ")
        )))?;
    if !output.status.success() {
        return Err(Error::Failed(format!(
            "cannot build {} (`cargo build --profile {profile}` in {}):\n{}",
            PROGRAMS.join(" and "),
            workspace.display(),
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    holding_programs(dir, "cargo has just built into it")
}

/// `target/<profile>`: tests lie in its folder `deps`, examples in `examples`, programs in itself.
fn profile_dir() -> Result<PathBuf, Error> {
    let program =
        std::env::current_exe().map_err(Error::io("cannot tell where this program is"))?;
    let mut dir = program.parent().unwrap_or(Path::new("/"));
    if dir.ends_with("deps") || dir.ends_with("examples") {
        dir = dir.parent().unwrap_or(dir);
    }
    Ok(dir.to_path_buf())
}

fn holding_programs(dir: PathBuf, why: &str) -> Result<PathBuf, Error> {
    let missing: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|program| !dir.join(program).is_file())
        .collect();
    if missing.is_empty() {
        return Ok(dir);
    }
    Err(Error::Missing(format!(
        "{} has no {} ({why}): run `cargo build -p rmom -p rmom-manager` first",
        dir.display(),
        missing.join(" and no ")
    )))
}
