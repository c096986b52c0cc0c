//! Bringing services up and down. One xtask at a time: a lock file is held throughout.

use super::state::{Running, write_env};
use super::{Server, Service, all};
use crate::command::{Interrupt, Interrupted, log_file, run_logged, tail};
use crate::folders::{Folders, lock, write_whole};
use crate::process::{Identity, POLL};
use crate::terminal::err;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a started server may take to answer, on a machine that is busy.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Another program can take the free port between our look and the server's start.
const START_TRIES: usize = 3;
/// How long `--version` may take.
const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// What `up` achieved.
#[derive(Default)]
pub struct Up {
    /// The variables of all that is installed and running, not only of what was asked for.
    pub variables: BTreeMap<String, String>,
    /// The servers that this call started.
    pub started: Vec<&'static dyn Service>,
    /// What cannot be had on this machine, and why.
    pub failed: Vec<(&'static str, String)>,
}

/// Installs and starts; what cannot be had is named in the result and the others go on. Errors: interrupted, or the
/// target folder cannot be written. On an error nothing that this call started runs on.
pub fn up(services: &[&'static dyn Service], folders: &Folders, interrupt: &Interrupt) -> Result<Up> {
    let _lock = lock(&folders.services().join("lock"), "the services")?;
    let mut up = Up::default();
    for service in services {
        match bring_up(*service, folders, interrupt) {
            Ok(true) => up.started.push(*service),
            Ok(false) => (),
            Err(error) if error.is::<Interrupted>() => {
                end_all(&up.started, folders)?;
                return Err(error);
            }
            Err(error) => up.failed.push((service.name(), format!("{error:#}"))),
        }
    }
    up.variables = refresh_env(folders)?;
    Ok(up)
}

/// Ends servers that are recorded as running, and deletes their data.
pub fn down(services: &[&'static dyn Service], folders: &Folders) -> Result<()> {
    let _lock = lock(&folders.services().join("lock"), "the services")?;
    end_all(services, folders)
}

/// Whether the stamp says that exactly this package was installed and answered, and its program is there.
pub fn is_installed(service: &dyn Service, folders: &Folders) -> bool {
    let stamp = std::fs::read_to_string(folders.stamp(service.name()));
    stamp.is_ok_and(|text| text == service.package()) && service.binary(folders).is_file()
}

/// Whether a server was started.
fn bring_up(service: &dyn Service, folders: &Folders, interrupt: &Interrupt) -> Result<bool> {
    interrupt.check()?;
    if !is_installed(service, folders) {
        // One of another version may run.
        end(service, folders)?;
        install(service, folders, interrupt)?;
    }
    let Some(server) = service.server() else { return Ok(false) };
    if let Some(running) = Running::read(folders, service.name())? {
        if running.identity.runs() && server.answers(running.port) {
            return Ok(false);
        }
        end(service, folders)?;
    }
    start(service, server, folders, interrupt)?;
    Ok(true)
}

fn install(service: &dyn Service, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
    let since = Instant::now();
    err!("installing {} ({})", service.name(), service.package());
    std::fs::create_dir_all(folders.bin()).with_context(|| format!("create {}", folders.bin().display()))?;
    service.install(folders, interrupt)?;
    let mut check = crate::command::program(service.binary(folders));
    check.args(service.version_arguments());
    let log = folders.log(&format!("{}-check", service.name()));
    run_logged(&mut check, &log, CHECK_LIMIT, interrupt).context("it was installed but does not run")?;
    write_whole(&folders.stamp(service.name()), service.package())?;
    err!("installed {} in {:.0} s", service.name(), since.elapsed().as_secs_f64());
    Ok(())
}

fn start(service: &dyn Service, server: &dyn Server, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
    let mut tries = 1;
    loop {
        match start_once(service, server, folders, interrupt) {
            Err(error) if tries < START_TRIES && !error.is::<Interrupted>() => {
                err!("starting {} again: {error:#}", service.name());
                tries += 1;
            }
            result => return result,
        }
    }
}

fn start_once(service: &dyn Service, server: &dyn Server, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
    // What a crash left behind must not be served again.
    remove_data(service, folders)?;
    let data = folders.data(service.name());
    std::fs::create_dir_all(&data).with_context(|| format!("create {}", data.display()))?;
    server.prepare(&data)?;
    let port = free_port()?;
    let log = folders.log(service.name());
    let out = log_file(&log)?;
    let err = out.try_clone().context("share the log")?;
    let mut command = server.command(&service.binary(folders), port, &data);
    // A group of its own: Ctrl-C at the terminal is for xtask, which ends the server in order.
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {}", service.name()))?;
    let recorded = Identity::of(child.id()).and_then(|identity| {
        Running { identity: identity.clone(), port }.write(folders, service.name()).map(|()| identity)
    });
    let identity = match recorded {
        Ok(identity) => identity,
        Err(error) => {
            // Nobody could end it later. An error means that it has ended already.
            let _ = child.kill();
            return Err(error);
        }
    };
    let ready = wait_until_ready(server, &identity, port, interrupt);
    if ready.is_err() {
        end(service, folders)?;
    }
    ready.map_err(|error| match error.is::<Interrupted>() {
        true => error,
        false => error.context(format!("{}\n{}", log.display(), tail(&log))),
    })
}

fn wait_until_ready(server: &dyn Server, identity: &Identity, port: u16, interrupt: &Interrupt) -> Result<()> {
    let until = Instant::now() + READY_LIMIT;
    while Instant::now() < until {
        interrupt.check()?;
        if !identity.runs() {
            bail!("it ended at once");
        }
        if server.answers(port) {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    bail!("it did not answer within {} s", READY_LIMIT.as_secs())
}

fn end_all(services: &[&'static dyn Service], folders: &Folders) -> Result<()> {
    for service in services {
        end(*service, folders)?;
    }
    refresh_env(folders).map(|_| ())
}

/// Ends the recorded process, then forgets it: a crash in between finds the record and goes on.
fn end(service: &dyn Service, folders: &Folders) -> Result<()> {
    if let Some(running) = Running::read(folders, service.name())? {
        running.identity.end().with_context(|| format!("end {}", service.name()))?;
    }
    remove_data(service, folders)
}

fn remove_data(service: &dyn Service, folders: &Folders) -> Result<()> {
    let folder = folders.run(service.name());
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("delete {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The variables of all that is installed and running, also written to the env file.
fn refresh_env(folders: &Folders) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for service in all() {
        if is_installed(service, folders) {
            variables.insert(service.variable().to_owned(), service.binary(folders).display().to_string());
        }
        let running = Running::read(folders, service.name())?.filter(|running| running.identity.runs());
        if let (Some(server), Some(running)) = (service.server(), running) {
            let of_server = server.variables(running.port, &folders.data(service.name()));
            variables.extend(of_server.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
    }
    write_env(folders, &variables)?;
    Ok(variables)
}

/// `NAME key=value ...`: the program, and what a user of a server must know.
pub fn line(service: &dyn Service, folders: &Folders) -> Result<String> {
    let mut line = format!("{} binary={}", service.name(), service.binary(folders).display());
    if let (Some(server), Some(running)) = (service.server(), Running::read(folders, service.name())?) {
        line += &format!(" pid={}", running.identity.pid);
        for (name, value) in server.variables(running.port, &folders.data(service.name())) {
            line += &format!(" {name}={value}");
        }
    }
    Ok(line)
}

/// A loopback port that nothing listens on now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}
